//! What systemd does for a unit of `Type=notify` with a file descriptor store, done by the test: a notification socket,
//! descriptors received and kept, and passed to the next start (sd_notify(3), sd_listen_fds(3)).

use std::{
    io::IoSliceMut,
    mem::MaybeUninit,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::net::UnixDatagram,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use rustix::{
    io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd},
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
};

use crate::program::until;

/// Descriptors that are passed on are duplicated beyond this number, out of the way of those they become.
const SPARE_FD_MIN: i32 = 200;

/// The stand-in for the service manager.
pub(crate) struct Systemd {
    socket: PathBuf,
    heard: Arc<Mutex<Heard>>,
}

#[derive(Default)]
struct Heard {
    /// Every message, in order.
    said: Vec<String>,
    store: Vec<(String, OwnedFd)>,
}

impl Systemd {
    /// Listens in this directory until the test's process ends.
    pub(crate) fn listen(directory: &Path) -> Self {
        let socket = directory.join("notify.sock");
        let receiver = UnixDatagram::bind(&socket).unwrap();
        let heard: Arc<Mutex<Heard>> = Arc::default();
        let told = Arc::clone(&heard);
        thread::spawn(move || while receive(&receiver, &told).is_some() {});
        Self { socket, heard }
    }

    /// Starts the program as the unit's main process, with everything that is in the store.
    pub(crate) fn start(&self, program: &Command, log: Stdio) -> Child {
        let heard = self.heard.lock().unwrap();
        let names: Vec<&str> = heard.store.iter().map(|(name, _)| name.as_str()).collect();
        let passed: Vec<OwnedFd> =
            heard.store.iter().map(|(_, fd)| fcntl_dupfd_cloexec(fd, SPARE_FD_MIN).unwrap()).collect();
        let redirections: String = passed
            .iter()
            .enumerate()
            .map(|(index, fd)| {
                fcntl_setfd(fd, FdFlags::empty()).unwrap();
                let fd = fd.as_raw_fd();
                format!("exec {target}<&{fd} {fd}<&-; ", target = index + 3)
            })
            .collect();
        // A shell, because LISTEN_PID is the pid of the process that reads it.
        let mut command = Command::new("bash");
        command.arg("-c").arg(format!("{redirections} LISTEN_PID=$$ exec \"$@\"")).arg("sh");
        command.arg(program.get_program()).args(program.get_args());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.env("NOTIFY_SOCKET", &self.socket);
        command.env("LISTEN_FDS", passed.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    /// How many messages of this kind came until now.
    pub(crate) fn count(&self, line: &str) -> usize {
        self.heard.lock().unwrap().said.iter().filter(|said| said.lines().any(|said| said == line)).count()
    }

    /// Waits until this was said more often than `before`.
    #[track_caller]
    pub(crate) fn wait_for(&self, line: &str, before: usize) {
        let is_said = until(|| (self.count(line) > before).then_some(()));
        assert!(is_said.is_some(), "{line} was not said: {:?}", self.heard.lock().unwrap().said);
    }

    /// What is in the store.
    pub(crate) fn stored(&self) -> Vec<String> {
        let mut names: Vec<_> =
            self.heard.lock().unwrap().store.iter().map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }

    /// What a stopped unit loses.
    pub(crate) fn release_store(&self) {
        self.heard.lock().unwrap().store.clear();
    }
}

/// Takes one message. `None` when the socket is gone.
fn receive(socket: &UnixDatagram, heard: &Mutex<Heard>) -> Option<()> {
    let mut buffer = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut buffer)], &mut ancillary, flags).ok()?;
    let mut descriptors: Vec<OwnedFd> = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    let said = String::from_utf8_lossy(&buffer[..received.bytes]).into_owned();
    let name = said.lines().find_map(|line| line.strip_prefix("FDNAME=")).unwrap_or("stored").to_owned();
    let mut heard = heard.lock().unwrap();
    if said.lines().any(|line| line == "FDSTORE=1") {
        heard.store.extend(descriptors.into_iter().map(|fd| (name.clone(), fd)));
    } else if said.lines().any(|line| line == "FDSTOREREMOVE=1") {
        heard.store.retain(|(stored, _)| *stored != name);
    }
    // The descriptor of a barrier is closed here: its sender was heard.
    heard.said.push(said);
    Some(())
}
