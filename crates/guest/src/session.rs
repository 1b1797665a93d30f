//! A conversation with the host: which message does what. It refuses nothing silently: whatever can't be done is
//! answered on its stream, and what breaks the protocol ends the conversation.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use hypercore_wire::{
    ErrorCode, Flags, Message, StreamId,
    message::{CopyFiles, DecodeError, Done, Exec, Hello, Prepare, Release},
    negotiate,
    negotiation::greeting,
};
use nix::sys::reboot::{RebootMode, reboot};

use crate::{
    RELEASE, boot, cgroup,
    copy::{self, Copying},
    execution::{self, Execution},
    freeze, hints,
    link::{Gone, Link, Sender},
    oneshot, prepare,
    reaper::Reaper,
    stats,
};

/// Most executions and copies at once, over all connections.
const EXECUTIONS_MAX: usize = 128;

mod rest;

use self::rest::Rest;

/// The machine as a whole: what all conversations share.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) reaper: Arc<Reaper>,
    /// What a conversation at rest leads; whoever comes next may take over from it.
    rest: Mutex<Option<Rest>>,
    /// The first process, whose conversation was left in a snapshot; it waits for who adopts it.
    kept: Mutex<Option<Execution>>,
    /// How many executions and copies there are.
    executions: Arc<Mutex<usize>>,
    /// Whether the root is mounted.
    is_prepared: Mutex<bool>,
}

/// One conversation.
struct Session<'a> {
    machine: &'a Arc<Machine>,
    sender: Sender,
    executions: BTreeMap<StreamId, Execution>,
    copies: BTreeMap<StreamId, Copying>,
    /// A snapshot is being taken, or was: nothing is done until the host says how it goes on.
    is_at_rest: bool,
}

/// How a conversation ended.
enum End {
    /// The host hung up.
    Closed,
    /// It broke the protocol, in this way.
    Broken(String),
    /// The machine went on from a snapshot, whose host it was; the new one may have said hello already.
    Left(Option<Hello>),
}

impl Machine {
    /// A machine that has only just booted.
    pub(crate) fn new(reaper: Arc<Reaper>) -> Self {
        Self {
            reaper,
            rest: Mutex::default(),
            kept: Mutex::default(),
            executions: Arc::default(),
            is_prepared: Mutex::new(false),
        }
    }

    /// Speaks with the host until it hangs up. The first byte says which language: `{` is never the beginning of a
    /// frame, because no frame is that long.
    pub(crate) fn converse(self: &Arc<Self>, mut link: Link) {
        match link.first_byte() {
            Ok(b'{') => oneshot::answer(self, link.into_file()),
            Ok(_) => self.converse_in_frames(link),
            Err(_) => {}
        }
    }

    fn converse_in_frames(self: &Arc<Self>, mut link: Link) {
        let mut hello = None;
        loop {
            let mut session = Session {
                machine: self,
                sender: link.sender(),
                executions: BTreeMap::new(),
                copies: BTreeMap::new(),
                is_at_rest: false,
            };
            match session.run(&mut link, hello.take()) {
                End::Left(next) => {
                    session.break_off_copies();
                    let is_greeted = next.is_some();
                    hello = next;
                    let goes_on = link.begin_anew(is_greeted);
                    self.take_over();
                    if !goes_on {
                        return;
                    }
                }
                End::Closed => {
                    session.abandon();
                    return session.sender.close();
                }
                End::Broken(reason) => {
                    session.abandon();
                    session.sender.refuse(StreamId::CONNECTION, ErrorCode::PROTOCOL, reason);
                    link.drain();
                    return session.sender.close();
                }
            }
        }
    }

    /// Whether the workload's root is there.
    pub(crate) fn is_prepared(&self) -> bool {
        *lock(&self.is_prepared)
    }

    /// Counts an execution in, unless there are too many. It counts itself out when it is dropped.
    pub(crate) fn admit(&self) -> Option<Admission> {
        let mut count = lock(&self.executions);
        if *count >= EXECUTIONS_MAX {
            return None;
        }
        *count += 1;
        Some(Admission(Arc::clone(&self.executions)))
    }

    fn prepare(&self, wanted: &Prepare) -> Result<(), prepare::PrepareError> {
        self.take_over();
        let mut is_prepared = lock(&self.is_prepared);
        prepare::apply(wanted, *is_prepared)?;
        *is_prepared = true;
        // Of a machine that goes on from a snapshot, which is another one only now.
        cgroup::thaw().map_err(prepare::PrepareError::Thaw)
    }
}

/// An execution's place among those that may run at once.
#[derive(Debug)]
pub(crate) struct Admission(Arc<Mutex<usize>>);

impl Drop for Admission {
    fn drop(&mut self) {
        *lock(&self.0) -= 1;
    }
}

impl Session<'_> {
    /// Runs until the host hangs up, or breaks the protocol, or is another one. `hello` has come already.
    fn run(&mut self, link: &mut Link, hello: Option<Hello>) -> End {
        let mut is_greeted = false;
        if let Some(hello) = hello {
            if let Err(error) = self.greet(hello) {
                return End::Broken(error);
            }
            is_greeted = true;
        }
        loop {
            let frame = match link.next_frame() {
                Ok(frame) => frame,
                Err(Gone::Closed) if self.is_at_rest => return End::Left(None),
                Err(Gone::Closed) => return End::Closed,
                Err(Gone::Frame(error)) => return self.broken(error.to_string()),
            };
            let taken = match Message::decode(&frame.payload) {
                Ok(message) if self.is_at_rest => match self.take_at_rest(message) {
                    Ok(None) => Ok(()),
                    Ok(Some(hello)) => return End::Left(Some(hello)),
                    Err(error) => Err(error),
                },
                Ok(Message::Hello(hello)) if frame.stream == StreamId::CONNECTION && !is_greeted => {
                    is_greeted = true;
                    self.greet(hello)
                }
                Ok(_) if !is_greeted => Err("the first message must be a greeting".to_owned()),
                Ok(_) if frame.stream == StreamId::CONNECTION => {
                    Err("nothing but greetings goes over stream 0".to_owned())
                }
                Ok(message) => self.take(frame.stream, frame.flags, message),
                Err(DecodeError::UnknownType { number }) => {
                    let message = format!("messages of type {number} are not known to this guest");
                    self.sender.refuse(frame.stream, ErrorCode::UNSUPPORTED, message);
                    Ok(())
                }
                Err(error @ DecodeError::Malformed(_)) => Err(error.to_string()),
            };
            if let Err(reason) = taken {
                return self.broken(reason);
            }
        }
    }

    /// A host that can't be understood is still told so, past what is held back.
    fn broken(&mut self, reason: String) -> End {
        if self.is_at_rest {
            self.thaw();
        }
        End::Broken(reason)
    }

    fn greet(&self, theirs: Hello) -> Result<(), String> {
        self.sender.send(StreamId::CONNECTION, Flags::NONE, greeting());
        negotiate(greeting(), theirs).map(drop).map_err(|error| error.to_string())
    }

    /// Does what a message asks for. The error is a breach of the protocol.
    fn take(&mut self, stream: StreamId, flags: Flags, message: Message) -> Result<(), String> {
        match message {
            Message::Prepare(wanted) => self.prepare(stream, &wanted),
            Message::Exec(exec) => return self.exec(stream, exec),
            Message::CopyFiles(asked) => return self.copy(stream, asked),
            Message::AskStats(_) => drop(self.sender.send(stream, Flags::END_STREAM, stats::read())),
            Message::AskRelease(_) => {
                let release = Release { release: RELEASE.to_owned() };
                self.sender.send(stream, Flags::END_STREAM, release);
            }
            Message::PowerOff(_) => power_off(),
            Message::Quiesce(_) => self.quiesce(stream),
            Message::Thaw(_) => self.thaw(),
            Message::Adopt(_) => return self.adopt(stream),
            // Of an execution that has just ended: nobody waits for an answer.
            Message::Stdin(stdin) => {
                let taken = if let Some(execution) = self.executions.get_mut(&stream) {
                    execution.take_input(stdin.data, flags.is_end())
                } else if let Some(copying) = self.copies.get_mut(&stream) {
                    copying.take_input(stdin.data, flags.is_end())
                } else {
                    Ok(())
                };
                return taken.map_err(|error| error.to_string());
            }
            Message::Window(window) => {
                let granted = if let Some(execution) = self.executions.get(&stream) {
                    execution.grant(window.bytes)
                } else if let Some(copying) = self.copies.get(&stream) {
                    copying.grant(window.bytes)
                } else {
                    Ok(())
                };
                return granted.map_err(|error| error.to_string());
            }
            Message::ExecSignal(signal) => match self.copies.get_mut(&stream) {
                Some(copying) => copying.break_off(),
                None => self.tell(stream, |execution| execution.signal(signal.number)),
            },
            Message::ExecResize(resize) => self.tell(stream, |execution| execution.resize(resize.size)),
            other => {
                let message = format!("messages of type {} are not for a guest", other.number());
                self.sender.refuse(stream, ErrorCode::UNSUPPORTED, message);
            }
        }
        Ok(())
    }

    fn tell(&self, stream: StreamId, tell: impl FnOnce(&Execution)) {
        if let Some(execution) = self.executions.get(&stream) {
            tell(execution);
        }
    }

    fn prepare(&self, stream: StreamId, wanted: &Prepare) {
        match self.machine.prepare(wanted) {
            Ok(()) => drop(self.sender.send(stream, Flags::END_STREAM, Done {})),
            Err(error) => {
                boot::complain(&error.to_string());
                self.sender.refuse(stream, ErrorCode::INTERNAL, error.to_string());
            }
        }
    }

    fn exec(&mut self, stream: StreamId, exec: Exec) -> Result<(), String> {
        let Some(admission) = self.admit(stream)? else { return Ok(()) };
        match execution::start(&self.machine.reaper, exec, stream, &self.sender, admission) {
            Ok(execution) => drop(self.executions.insert(stream, execution)),
            Err(fault) => drop(self.sender.send(stream, Flags::END_STREAM, fault)),
        }
        Ok(())
    }

    fn copy(&mut self, stream: StreamId, asked: CopyFiles) -> Result<(), String> {
        let Some(admission) = self.admit(stream)? else { return Ok(()) };
        match execution::root() {
            Some(root) => {
                let copying = copy::start(asked, root, stream, &self.sender, admission);
                self.copies.insert(stream, copying);
            }
            None => drop(self.sender.send(stream, Flags::END_STREAM, copy::no_root())),
        }
        Ok(())
    }

    /// A place for one more execution or copy; without one, that was said. The error is a breach of the protocol.
    fn admit(&mut self, stream: StreamId) -> Result<Option<Admission>, String> {
        self.executions.retain(|_, execution| !execution.is_over());
        self.copies.retain(|_, copying| !copying.is_over());
        if self.executions.contains_key(&stream) || self.copies.contains_key(&stream) {
            return Err("the stream is in use".to_owned());
        }
        if !self.machine.is_prepared() {
            self.sender.refuse(stream, ErrorCode::NOT_RUNNING, "the machine is not prepared yet");
            return Ok(None);
        }
        let admission = self.machine.admit();
        if admission.is_none() {
            let message = format!("{EXECUTIONS_MAX} executions and copies run already");
            self.sender.refuse(stream, ErrorCode::TOO_MANY, message);
        }
        Ok(admission)
    }

    /// The host is gone: executions go on, but nobody will ever read what they write.
    fn abandon(&mut self) {
        for (_, execution) in std::mem::take(&mut self.executions) {
            execution.abandon();
        }
        self.break_off_copies();
    }

    fn break_off_copies(&mut self) {
        for copying in self.copies.values_mut() {
            copying.break_off();
        }
    }
}

/// Ends the machine. What is not on a disk by now is lost, as with any plug that is pulled: the workload was given its
/// time to end before.
fn power_off() -> ! {
    nix::unistd::sync();
    // A volume must be clean for whoever reads it next.
    freeze::disks();
    // It only returns when it failed; then the end of this process is a panic of the kernel, which ends the machine too.
    let how = if hints::ends_by_reset() { RebootMode::RB_AUTOBOOT } else { RebootMode::RB_POWER_OFF };
    let _ = reboot(how);
    loop {
        thread::park();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
