//! The stand-in of a guest's first process, and the keeper of its machine: it makes the machine, has the first process
//! started in it, relays that, and takes the machine down when it has ended.

use std::{
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            net::{UnixListener, UnixStream},
            process::CommandExt,
        },
    },
    path::{Path, PathBuf},
    process::{Child, ExitCode},
    thread,
    time::{Duration, Instant},
};

use hypercore_model::machine::MachineSpec;
use hypercore_wire::{
    Flags, StreamId,
    message::{Adopt, Exec, Exit, PowerOff},
};
use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    libc,
    sys::{
        prctl,
        resource::{Resource, setrlimit},
    },
};

use super::{
    boot,
    disks::{self, Held},
    end_note::EndNote,
    exchange::Exchange,
    firecracker, network, peer,
    relay::Relay,
    shares::Shares,
    signals::Signals,
    snapshot, standin,
    streams::{self, Streams},
    vmm::{self, Place, Vmm},
};
use crate::{
    engine::{
        self, Container,
        cgroup::{Cgroup, CgroupError},
        engine_failure,
        report_fd::ReportFd,
    },
    report::{Failure, Report},
};

/// The machine's specification in its directory.
const SPEC_FILE: &str = "machine.json";
/// The note of which cgroup a machine is in, for a delete after everything else is gone.
const CGROUP_FILE: &str = "cgroup";
/// How long a guest may take to power off before its machine is ended.
const POWER_OFF_TIME_MAX: Duration = Duration::from_secs(3);
/// How often is looked whether it has.
const POWER_OFF_INTERVAL: Duration = Duration::from_millis(1);

/// Why something of a machine may be left.
#[derive(Debug, thiserror::Error)]
pub(super) enum DeleteError {
    /// Processes or cgroups are left.
    #[error("the machine's cgroup is left")]
    Cgroup(#[from] CgroupError),
    /// Its directory is left.
    #[error("{} can't be removed", path.display())]
    Directory {
        /// Which directory.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// A machine that runs, with its guest prepared.
struct Machine<'a> {
    spec: &'a MachineSpec,
    process: Child,
    guest: peer::Sender,
    exchange: Exchange,
    shares: Shares,
    _disks: Held,
}

/// Where stand-ins reach a machine.
pub(super) fn socket(container: &Container) -> PathBuf {
    container.directory().join("machine.sock")
}

/// Makes the machine that is specified in its directory, reports, and stands in for its first process.
pub(super) fn run(container: &Container, report_fd: i32, console_socket: Option<&Path>) -> ExitCode {
    let report = match ReportFd::take(report_fd) {
        Ok(report) => report,
        Err(error) => return engine::complain(2, &error),
    };
    let spec = match read(&container.directory()) {
        Ok(spec) => spec,
        Err(failure) => return refuse(report, failure),
    };
    let begun = Signals::block().map_err(|error| engine_failure("signals can't be taken", &error)).and_then(
        |signals| {
            let streams = Streams::open(console_socket)
                .map_err(|error| engine_failure("its streams can't be opened", &error))?;
            Ok((signals, streams))
        },
    );
    let (signals, streams) = match begun {
        Ok(begun) => begun,
        Err(failure) => return refuse(report, failure),
    };
    match Machine::begin(container, &spec) {
        Ok(machine) => machine.live(report, streams, signals),
        Err(failure) => refuse(report, failure),
    }
}

/// Ends what is left of a machine. Fine if there is none.
pub(super) fn delete(container: &Container) -> Result<(), DeleteError> {
    let directory = container.directory();
    if let Ok(path) = fs::read_to_string(directory.join(CGROUP_FILE)) {
        Cgroup::at(Path::new(&path))?.remove()?;
    }
    let cleared = firecracker::clear(&directory).and_then(|()| fs::remove_dir_all(&directory));
    match cleared {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(DeleteError::Directory { path: directory, source })
        }
        _ => Ok(()),
    }
}

pub(super) fn read(directory: &Path) -> Result<MachineSpec, Failure> {
    let bytes = fs::read(directory.join(SPEC_FILE));
    let bytes = bytes.map_err(|error| engine_failure("machine.json can't be read", &error))?;
    serde_json::from_slice(&bytes).map_err(|error| engine_failure("machine.json can't be read", &error))
}

fn refuse(report: ReportFd, failure: Failure) -> ExitCode {
    match report.write(&Report::Error(failure)) {
        Ok(()) => ExitCode::FAILURE,
        Err(error) => engine::complain(1, &error),
    }
}

impl<'a> Machine<'a> {
    /// From nothing to a prepared guest. What was begun is undone when a step fails.
    fn begin(container: &Container, spec: &'a MachineSpec) -> Result<Self, Failure> {
        let listener = settle(container, spec)?;
        let disks = disks::hold(spec).map_err(|error| engine_failure("its disks can't be taken", &error))?;
        let mut shares = Shares::serve(spec, &container.directory())
            .map_err(|error| engine_failure("the machine can't be begun", &error))?;
        let vmm = vmm::of(spec.monitor);
        let tap = take_network(spec, vmm)
            .map_err(|error| engine_failure("the machine's network can't be entered", &error))?;
        let place = Place::within(container.directory());
        let mut process = start(spec, vmm, &place, tap.as_ref())?;
        // Ours was only to be inherited.
        drop(tap);
        let reached = boot::reach(spec, vmm, &place, &mut process);
        let (guest, from_guest) = match reached {
            Ok(reached) => reached,
            Err(error) => {
                let console = boot::console_tail(&spec.console_log);
                end_now(&mut process);
                let mut failure = engine_failure("the machine can't be booted", &error);
                if let Some(status) = shares.ended() {
                    failure.message = format!("{}; virtiofsd ended ({status})", failure.message);
                }
                if !console.is_empty() {
                    failure.message = format!("{}; its console ends with: {console}", failure.message);
                }
                return Err(failure);
            }
        };
        // The first process's relay notices by itself when nothing more comes.
        let exchange = Exchange::open(guest.clone(), from_guest, snapshot::keeper(spec, vmm, place));
        exchange.serve(listener);
        let hangs_up = guest.clone();
        shares.watch(move || hangs_up.close());
        Ok(Self { spec, process, guest, exchange, _disks: disks, shares })
    }

    /// Starts the first process, relays it to its end, and ends the machine.
    fn live(mut self, report: ReportFd, streams: Streams, signals: Signals) -> ExitCode {
        let relay = match self.first_process(&streams) {
            Ok(relay) => relay,
            Err(failure) => {
                self.end();
                return refuse(report, failure);
            }
        };
        let pid = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
        if let Err(error) = report.write(&Report::Pid(pid)) {
            self.end();
            return engine::complain(1, &error);
        }
        // Without the note, its end is told by its status alone.
        let note = EndNote::begin(self.spec).ok();
        let exit = match relay.run(streams, signals) {
            Ok(exit) => {
                if let Some(note) = note {
                    note.forget();
                }
                exit
            }
            // A machine that went away took its process along, as by SIGKILL.
            Err(_) => {
                let status = boot::wait_for_end(&mut self.process);
                let console = boot::console_tail(&self.spec.console_log);
                if let Some(note) = note {
                    note.tell(self.spec.monitor, status, self.shares.ended(), &console);
                }
                Exit::Signal(libc::SIGKILL as u8)
            }
        };
        if exit == Exit::OutOfMemory {
            // Without the count, it looks like any kill.
            let _ = fs::write(&self.spec.oom_events, "oom_kill 1\n");
        }
        self.end();
        standin::end(exit)
    }

    fn first_process(&self, streams: &Streams) -> Result<Relay, Failure> {
        let failed = |error: &dyn std::error::Error| engine_failure("the guest can't be spoken with", error);
        let (ours, theirs) = UnixStream::pair().map_err(|error| failed(&error))?;
        self.exchange.join_first(theirs).map_err(|error| failed(&error))?;
        let (sender, mut receiver) = peer::split(ours).map_err(|error| failed(&error))?;
        peer::greet(&sender, &mut receiver).map_err(|error| failed(&error))?;
        let mut relay = Relay::new(sender, receiver);
        let started = match self.spec.resume {
            Some(_) => relay.start(Adopt {}),
            None => relay.start(self.exec(streams)),
        };
        started.map_err(standin::failure)?;
        Ok(relay)
    }

    fn exec(&self, streams: &Streams) -> Exec {
        let process = &self.spec.process;
        Exec {
            argv: process.argv.clone(),
            env: process.env.clone(),
            cwd: Some(process.workdir.clone()),
            user: Some(process.user.clone()),
            tty: process.tty,
            stdin: process.stdin_open,
            size: streams.terminal.as_ref().and_then(streams::size),
        }
    }

    /// Has the guest power off, and ends the machine if it doesn't.
    fn end(&mut self) {
        // A save of a machine that is gone fails at once, and removes what it has written.
        self.exchange.wait_for_keeper();
        // Everything but this machine's stream 0 goes through the exchange; its number is nobody else's.
        let asked = self.guest.send(StreamId(u32::MAX - 1), Flags::NONE, PowerOff {});
        let deadline = Instant::now() + POWER_OFF_TIME_MAX;
        while asked.is_ok() && Instant::now() < deadline {
            if matches!(self.process.try_wait(), Ok(Some(_))) {
                return;
            }
            thread::sleep(POWER_OFF_INTERVAL);
        }
        end_now(&mut self.process);
    }
}

/// Makes what the machine needs on the host: its directory, its socket, its cgroup, in which everything from here on is.
fn settle(container: &Container, spec: &MachineSpec) -> Result<UnixListener, Failure> {
    let made = || {
        let directory = container.directory();
        fs::create_dir_all(&directory)?;
        fs::write(directory.join(CGROUP_FILE), spec.cgroup.as_os_str().as_encoded_bytes())?;
        UnixListener::bind(socket(container))
    };
    let listener = made().map_err(|error| engine_failure("the machine's directory can't be made", &error))?;
    let cgroup = Cgroup::at(&spec.cgroup).and_then(|cgroup| cgroup.make().map(|()| cgroup));
    let cgroup = cgroup.map_err(|error| engine_failure("the cgroup can't be made", &error))?;
    cgroup.enter_whole().map_err(|error| engine_failure("the cgroup can't be entered", &error))?;
    cgroup.limit_cpu(spec.cpu_millis).map_err(|error| engine_failure("the CPU can't be limited", &error))?;
    Ok(listener)
}

/// The machine's network, for an engine that is given it open.
fn take_network(spec: &MachineSpec, vmm: &dyn Vmm) -> io::Result<Option<OwnedFd>> {
    match (&spec.network, spec.monitor_id) {
        (Some(network), Some(owner)) if vmm.opens_tap() => network::give(network, owner).map(|()| None),
        (Some(network), _) if !vmm.opens_tap() => network::enter(network).map(Some),
        _ => Ok(None),
    }
}

#[allow(unsafe_code, reason = "what a child does between fork and exec can't be said safely")]
pub(super) fn start(
    spec: &MachineSpec,
    vmm: &dyn Vmm,
    place: &Place,
    tap: Option<&OwnedFd>,
) -> Result<Child, Failure> {
    let command = vmm.command(spec, place, tap.map(AsFd::as_fd));
    let mut command = command.map_err(|error| engine_failure("the machine can't be begun", &error))?;
    if let Some(tap) = tap {
        fcntl(tap, FcntlArg::F_SETFD(FdFlag::empty()))
            .map_err(|error| engine_failure("the machine's network can't be handed over", &error))?;
    }
    let parent = nix::unistd::getpid();
    // SAFETY: all are plain system calls, which allocate nothing and take no lock.
    unsafe {
        command.pre_exec(move || {
            // A core dump would be the guest's memory, on the host's disk.
            setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
            prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
            nix::sys::signal::SigSet::empty().thread_set_mask()?;
            // A parent that died in between would never be missed.
            if nix::unistd::getppid() == parent { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
        });
    }
    command
        .spawn()
        .map_err(|error| engine_failure(&format!("{} can't be started", spec.program.display()), &error))
}

pub(super) fn end_now(process: &mut Child) {
    // It may have ended by itself just now.
    let _ = process.kill();
    let _ = process.wait();
}
