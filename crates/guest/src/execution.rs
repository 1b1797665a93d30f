//! One process that the host asked for: its streams, its signals, its end. It refuses to outlive its usefulness: when
//! the process has ended and its output is sent, so have its threads.

use std::{
    fs::File,
    io::Write,
    os::fd::{AsRawFd, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
};

use hypercore_wire::{
    Credit, Flags, StreamId,
    credit::CreditError,
    message::{Exec, ExecExited, ExecStarted, Fault, Size, Stderr, Stdout, Window},
};
use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

use crate::{
    link::Sender,
    outlet::Outlet,
    output::{self, Allowance},
    process::{self, Ends, First},
    reaper::{Ending, Reaper},
    session::Admission,
};

/// Input that may be on its way to a process, in bytes.
const INPUT_CREDIT: u32 = 32 * 1024;
/// What a terminal takes for the end of input (termios(3), VEOF).
const END_OF_TRANSMISSION: u8 = 4;

/// The workload's first process, which all others join.
static FIRST: Mutex<Option<First>> = Mutex::new(None);

/// A process and what leads to it.
#[derive(Debug)]
pub(crate) struct Execution {
    pid: Pid,
    ending: Arc<Ending>,
    is_over: Arc<AtomicBool>,
    allowance: Arc<Allowance>,
    terminal: Option<OwnedFd>,
    input: Option<mpsc::Sender<Vec<u8>>>,
    /// What the host may still send; shared with the thread that gives it back.
    input_credit: Arc<Mutex<Credit>>,
    has_terminal: bool,
    /// Where its threads tell what it does.
    outlet: Outlet,
    /// It is the workload's first process.
    pub(crate) is_first: bool,
}

/// A process that was started.
pub(crate) struct Started {
    pid: Pid,
    pub(crate) ending: Arc<Ending>,
    pub(crate) ends: Ends,
    is_first: bool,
}

/// Puts a command together and starts it, as the workload's first process or joining that.
pub(crate) fn spawn(reaper: &Reaper, exec: &Exec) -> Result<Started, Fault> {
    let mut first = FIRST.lock().unwrap_or_else(PoisonError::into_inner);
    let (command, ends) = process::command(exec, first.as_ref())?;
    let program = exec.argv.first().map_or("", String::as_str);
    let (child, ending) = reaper.start(command).map_err(|error| process::start_fault(program, &error))?;
    let is_first = first.is_none();
    first.get_or_insert_with(|| First::of(exec, child.id()));
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    Ok(Started { pid, ending, ends, is_first })
}

/// Where the workload's files are; `None` before its first process runs.
pub(crate) fn root() -> Option<OwnedFd> {
    FIRST.lock().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(First::root)
}

/// Starts what the host asks for.
pub(crate) fn start(
    reaper: &Reaper,
    exec: Exec,
    stream: StreamId,
    sender: &Sender,
    admission: Admission,
) -> Result<Execution, Fault> {
    let Started { pid, ending, ends, is_first } = spawn(reaper, &exec)?;
    sender.send(stream, Flags::NONE, ExecStarted { pid: pid.as_raw() });
    let mut execution = Execution {
        pid,
        ending,
        is_over: Arc::default(),
        allowance: Arc::new(Allowance::by_credit()),
        terminal: None,
        input: None,
        input_credit: Arc::default(),
        has_terminal: exec.tty,
        outlet: Outlet::over(sender.clone(), stream),
        is_first,
    };
    execution.connect(ends, exec.stdin, admission);
    Ok(execution)
}

impl Execution {
    fn connect(&mut self, ends: Ends, wants_input: bool, admission: Admission) {
        self.terminal = ends.terminal;
        if let Some(stdin) = ends.stdin.filter(|_| wants_input) {
            self.input = Some(self.feed(stdin));
        }
        let outputs: Vec<_> = [(ends.stdout, false), (ends.stderr, true)]
            .into_iter()
            .filter_map(|(end, is_stderr)| Some((File::from(end?), is_stderr)))
            .map(|(output, is_stderr)| self.read(output, is_stderr))
            .collect();
        let (ending, is_over, outlet) =
            (Arc::clone(&self.ending), Arc::clone(&self.is_over), self.outlet.clone());
        thread::spawn(move || {
            for output in outputs {
                // A thread that panicked took the machine with it.
                let _ = output.join();
            }
            let exit = ending.wait();
            is_over.store(true, Ordering::Release);
            drop(admission);
            outlet.finish(ExecExited { exit });
        });
    }

    fn read(&self, output: File, is_stderr: bool) -> thread::JoinHandle<()> {
        let (ending, allowance) = (Arc::clone(&self.ending), Arc::clone(&self.allowance));
        let (has_terminal, outlet) = (self.has_terminal, self.outlet.clone());
        thread::spawn(move || {
            output::pump(output, has_terminal, &ending, &allowance, |data| match is_stderr {
                false => outlet.send(Flags::NONE, Stdout { data: data.to_vec() }),
                true => outlet.send(Flags::NONE, Stderr { data: data.to_vec() }),
            });
        })
    }

    /// Starts the thread that writes to the process's input, and lets the host send.
    fn feed(&self, stdin: OwnedFd) -> mpsc::Sender<Vec<u8>> {
        let (input, pieces) = mpsc::channel::<Vec<u8>>();
        let (credit, outlet) = (Arc::clone(&self.input_credit), self.outlet.clone());
        let give_back = move |bytes: u32| {
            let route = {
                let mut credit = credit.lock().unwrap_or_else(PoisonError::into_inner);
                credit.grant(bytes).expect("what is given back was granted before");
                // Under the same lock as an adoption, which tells all that there is: never both.
                outlet.route()
            };
            route.send(Window { bytes });
        };
        give_back(INPUT_CREDIT);
        let has_terminal = self.has_terminal;
        thread::spawn(move || {
            let mut stdin = Some(File::from(stdin));
            for data in pieces {
                // A process that closed its input makes writing fail: what comes is dropped then.
                if stdin.as_mut().is_some_and(|stdin| stdin.write_all(&data).is_err()) {
                    stdin = None;
                }
                give_back(u32::try_from(data.len()).unwrap_or(u32::MAX));
            }
            if let Some(stdin) = stdin.as_mut().filter(|_| has_terminal) {
                let _ = stdin.write_all(&[END_OF_TRANSMISSION]);
            }
        });
        input
    }

    /// Takes input from the host.
    pub(crate) fn take_input(&mut self, data: Vec<u8>, is_end: bool) -> Result<(), CreditError> {
        self.input_credit.lock().unwrap_or_else(PoisonError::into_inner).spend(data.len())?;
        if let Some(input) = self.input.as_ref().filter(|_| !data.is_empty()) {
            // The thread that writes is gone only when the machine is.
            let _ = input.send(data);
        }
        if is_end {
            self.input = None;
        }
        Ok(())
    }

    /// Lets more output be sent.
    pub(crate) fn grant(&self, bytes: u32) -> Result<(), CreditError> {
        self.allowance.grant(bytes)
    }

    /// Sends a signal. It may have ended just now, which is said anyway.
    pub(crate) fn signal(&self, number: i32) {
        if self.ending.exit().is_none()
            && let Ok(signal) = Signal::try_from(number)
        {
            let _ = kill(self.pid, signal);
        }
    }

    /// Sets the size of its terminal, if it has one.
    #[allow(unsafe_code, reason = "a terminal takes its size by ioctl alone")]
    pub(crate) fn resize(&self, size: Size) {
        let Some(terminal) = &self.terminal else { return };
        let size = process::window_size(size);
        // SAFETY: TIOCSWINSZ reads one `winsize`, which is ours.
        unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    }

    /// Whether it has ended and all of its output was sent.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Goes on with another host, on a stream of its own: both credits begin anew.
    pub(crate) fn adopt(&self, sender: &Sender, stream: StreamId) {
        self.allowance.renew();
        sender.send(stream, Flags::NONE, ExecStarted { pid: self.pid.as_raw() });
        let bytes = {
            let mut credit = self.input_credit.lock().unwrap_or_else(PoisonError::into_inner);
            self.outlet.move_to(sender.clone(), stream);
            let bytes = u32::try_from(credit.available()).unwrap_or(u32::MAX).min(INPUT_CREDIT);
            // A host that only dials again may have as much under way by the credit that it had.
            *credit = Credit::default();
            credit.grant(bytes + INPUT_CREDIT).expect("twice the credit is not too much");
            bytes
        };
        if self.input.is_some() && bytes > 0 {
            sender.send(stream, Flags::NONE, Window { bytes });
        }
    }

    /// The host is gone; a terminal that nobody can ever see again is hung up.
    pub(crate) fn abandon(mut self) {
        self.input = None;
        self.allowance.abandon();
        self.outlet.abandon();
        if self.has_terminal {
            self.signal(libc::SIGHUP);
        }
    }

    /// Ends it and all that it leads: who asked for it is the host of another machine.
    pub(crate) fn end(self) {
        // Each was made the leader of a group of its own; one that has ended leads nothing.
        let _ = killpg(self.pid, Signal::SIGKILL);
        self.signal(libc::SIGKILL);
        self.abandon();
    }
}
