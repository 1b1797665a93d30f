//! What every engine of microVMs can do, whatever its interface: begin a machine, lead to its guest, hold it, save it.
//! One file each. It refuses to know of guests: whoever saves a machine has brought its guest to rest before.

use std::{
    fmt, io,
    os::{fd::BorrowedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Instant,
};

use hypercore_model::machine::{MachineSpec, Monitor};

use super::{cloud_hypervisor::CloudHypervisor, firecracker::Firecracker, qemu::Qemu};

/// The state of a machine, in a snapshot's directory.
pub(super) const STATE_FILE: &str = "state";
/// Its memory, unless that is within the state.
pub(super) const MEMORY_FILE: &str = "memory";

/// The kernel's command line on every engine: a console to log to, and an end instead of a wait when it panics. Nothing
/// of the workload.
pub(super) const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet panic=-1 reboot=t random.trust_cpu=on";

/// A machine's own directory, and its sockets in it.
#[derive(Debug, Clone)]
pub(super) struct Place(PathBuf);

/// What was saved of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Saved {
    /// Its memory is a file of its own, which machines that resume can map; else it is within the state.
    pub(super) is_mapped: bool,
}

/// Why an engine did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub(super) enum VmmError {
    /// It can't at all.
    #[error("{} can't {what}", monitor.as_str())]
    Unsupported {
        /// Which engine.
        monitor: Monitor,
        /// What.
        what: &'static str,
    },
    /// A file or socket on the host.
    #[error("{} can't be used", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The connection to it broke.
    #[error("the engine can't be told to {step}")]
    Channel {
        /// What it was to do.
        step: &'static str,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// It said no.
    #[error("the engine refused to {step}: {reason}")]
    Refused {
        /// What it was to do.
        step: &'static str,
        /// In its words.
        reason: String,
    },
    /// It said nothing in time.
    #[error("the engine did not {step} in time")]
    Late {
        /// What it was to do.
        step: &'static str,
    },
    /// It said what it must not.
    #[error("the engine answered {step} with something else: {problem}")]
    Garbled {
        /// What it was to do.
        step: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

/// An engine of microVMs.
pub(super) trait Vmm: fmt::Debug + Sync {
    /// Whether the program opens the machine's network by its name, which it can on the host's network alone. Else it is
    /// given one that is open, and a network namespace with nothing in it.
    fn opens_tap(&self) -> bool {
        false
    }

    /// Whether a machine that was saved still has its connection to the guest. Else it is dialled anew.
    fn keeps_connection(&self) -> bool {
        true
    }

    /// The program that runs the machine, in the foreground. `tap` is the machine's network, left open for it.
    ///
    /// # Errors
    /// What of the machine the engine can't give.
    fn command(
        &self,
        spec: &MachineSpec,
        place: &Place,
        tap: Option<BorrowedFd<'_>>,
    ) -> Result<Command, VmmError>;

    /// Tells the program, which was just started, whatever it needs to boot, or to go on from `spec.resume`.
    ///
    /// # Errors
    /// What it can't do, or did not until the deadline.
    fn begin(
        &self,
        spec: &MachineSpec,
        place: &Place,
        process: &mut Child,
        deadline: Instant,
    ) -> Result<(), VmmError>;

    /// Connects to the guest's agent. An error is final only for who has no more time: the machine may be too young.
    ///
    /// # Errors
    /// Nobody listens, or not yet.
    fn dial(&self, place: &Place) -> io::Result<UnixStream>;

    /// Stops the machine's processors.
    ///
    /// # Errors
    /// [`VmmError`].
    fn pause(&self, place: &Place) -> Result<(), VmmError>;

    /// Lets them go on.
    ///
    /// # Errors
    /// [`VmmError`].
    fn go_on(&self, place: &Place) -> Result<(), VmmError>;

    /// Writes the state of a paused machine and its memory into `directory`, as `state` and `memory`.
    ///
    /// # Errors
    /// [`VmmError`]; what was written then is of no use.
    fn save(&self, place: &Place, directory: &Path) -> Result<Saved, VmmError>;
}

/// The engine of that name.
pub(super) fn of(monitor: Monitor) -> &'static dyn Vmm {
    match monitor {
        Monitor::Firecracker => &Firecracker,
        Monitor::CloudHypervisor => &CloudHypervisor,
        Monitor::Qemu => &Qemu,
    }
}

impl Place {
    /// The place in a machine's directory.
    pub(super) const fn within(directory: PathBuf) -> Self {
        Self(directory)
    }

    /// The directory itself, which is the machine's alone.
    pub(super) fn directory(&self) -> &Path {
        &self.0
    }

    /// The socket that leads to the guest's agent.
    pub(super) fn guest(&self) -> PathBuf {
        self.0.join("guest.sock")
    }

    /// The socket that the engine takes its orders from.
    pub(super) fn control(&self) -> PathBuf {
        self.0.join("control.sock")
    }
}
