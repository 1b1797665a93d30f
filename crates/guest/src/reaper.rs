//! Starting processes and learning how they end. It refuses to lose an end: nothing is reaped while a process is being
//! started, so an end can't come before whoever waits for it is known.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, BorrowedFd},
    process::{Child, Command, ExitCode},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
};

use hypercore_wire::message::Exit;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, unshare},
    sys::{
        eventfd::{EfdFlags, EventFd},
        wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid},
    },
    unistd::Pid,
};

use crate::stats;

/// How a process ended, for those who wait for it.
#[derive(Debug)]
pub(crate) struct Ending {
    exit: Mutex<Option<Exit>>,
    /// Readable once it has ended.
    signal: EventFd,
}

impl Ending {
    fn new() -> io::Result<Self> {
        Ok(Self { exit: Mutex::default(), signal: EventFd::from_flags(EfdFlags::EFD_CLOEXEC)? })
    }

    /// How, once that is known.
    pub(crate) fn exit(&self) -> Option<Exit> {
        *lock(&self.exit)
    }

    /// Waits for it.
    pub(crate) fn wait(&self) -> Exit {
        loop {
            if let Some(exit) = self.exit() {
                return exit;
            }
            let mut fds = [PollFd::new(self.signal.as_fd(), PollFlags::POLLIN)];
            // Interrupted or ready: the loop looks again.
            let _ = poll(&mut fds, PollTimeout::NONE);
        }
    }

    fn set(&self, exit: Exit) {
        *lock(&self.exit) = Some(exit);
        // A counter that was never written to has room.
        let _ = self.signal.write(1);
    }
}

impl AsFd for Ending {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signal.as_fd()
    }
}

/// A command on its way to the thread that starts it.
type Order = (Command, mpsc::SyncSender<io::Result<Child>>);

/// Starts processes and reaps them.
#[derive(Debug)]
pub(crate) struct Reaper {
    /// Held while a process is started.
    awaited: Mutex<BTreeMap<i32, Awaited>>,
    has_children: Condvar,
    orders: Mutex<mpsc::SyncSender<Order>>,
}

#[derive(Debug)]
struct Awaited {
    ending: Arc<Ending>,
    /// What the kernel had killed for lack of memory when the process was started.
    oom_kills_before: u64,
}

impl Default for Reaper {
    fn default() -> Self {
        let (orders, arriving) = mpsc::sync_channel(0);
        thread::spawn(move || start_forever(&arriving));
        Self { awaited: Mutex::default(), has_children: Condvar::new(), orders: Mutex::new(orders) }
    }
}

/// Starts what is ordered. The pid namespace of children is a property of the thread that splits them off, so one
/// thread does it for all: the first process it starts is the first of the workload's namespace.
fn start_forever(orders: &mpsc::Receiver<Order>) {
    let entered = unshare(CloneFlags::CLONE_NEWPID).map_err(io::Error::from);
    for (mut command, answer) in orders {
        let started = match &entered {
            Ok(()) => command.spawn(),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        };
        // Whoever ordered it waits.
        let _ = answer.send(started);
    }
}

impl Reaper {
    /// Starts a process.
    ///
    /// # Errors
    /// What the kernel said to a step between the fork and the program, or to the program.
    pub(crate) fn start(&self, command: Command) -> io::Result<(Child, Arc<Ending>)> {
        let ending = Arc::new(Ending::new()?);
        let mut awaited = lock(&self.awaited);
        let (answer, answered) = mpsc::sync_channel(1);
        let gone = || io::Error::other("the thread that starts processes is gone");
        lock(&self.orders).send((command, answer)).map_err(|_| gone())?;
        let child = answered.recv().map_err(|_| gone())??;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        let oom_kills_before = stats::oom_kills();
        awaited.insert(pid, Awaited { ending: Arc::clone(&ending), oom_kills_before });
        self.has_children.notify_all();
        Ok((child, ending))
    }

    /// Reaps, as long as the machine runs.
    pub(crate) fn reap_forever(&self) -> ExitCode {
        loop {
            let ended = waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
            let mut awaited = lock(&self.awaited);
            match ended {
                Ok(status) => {
                    if let Some(pid) = status.pid() {
                        reap(pid, &mut awaited);
                    }
                }
                Err(Errno::ECHILD) => {
                    while awaited.is_empty() {
                        awaited = self.has_children.wait(awaited).unwrap_or_else(PoisonError::into_inner);
                    }
                }
                Err(_) => {}
            }
        }
    }
}

fn reap(pid: Pid, awaited: &mut BTreeMap<i32, Awaited>) {
    let exit = match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::Exited(_, code)) => Exit::Code(u8::try_from(code & 0xff).unwrap_or(u8::MAX)),
        Ok(WaitStatus::Signaled(_, signal, _)) => Exit::Signal(u8::try_from(signal as i32).unwrap_or(0)),
        // One that could not execute its program was reaped by whoever started it.
        _ => return,
    };
    let Some(Awaited { ending, oom_kills_before }) = awaited.remove(&pid.as_raw()) else { return };
    let was_killed = matches!(exit, Exit::Signal(9));
    let is_oom = was_killed && stats::oom_kills() > oom_kills_before;
    ending.set(if is_oom { Exit::OutOfMemory } else { exit });
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
