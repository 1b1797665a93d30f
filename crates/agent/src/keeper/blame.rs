//! Turns the errors of the runtime into failures: a stable code and a hint for each that a person can do something
//! about. It refuses to drop the cause: every message carries the whole chain.

use std::{error::Error, io};

use hypercore_runtime::{
    bundle::{BundleError, MountFault},
    image::{ImportError, LoginError, PullError, RemoveError, TransferError},
    machine::{bundle::MachineError, snapshot::SnapshotError},
    network::{AttachError, ClaimError, HostsError},
    sandbox::{ExecError, LaunchError},
    volume::{BlockError, VolumeError},
};

use tonic::Code;

use crate::{
    failure::Failure,
    machines::{NoEngine, Unavailable},
};

/// Why an image could not be pulled.
pub(crate) fn pull(error: &PullError) -> Failure {
    Failure::of(transfer_code(&error.cause), error, error.hint())
}

/// Why an image could not be imported.
pub(crate) fn import(error: &ImportError) -> Failure {
    let code = match error {
        ImportError::Unreadable { .. } => "path_unreadable",
        ImportError::NotAnImage { .. } => "not_an_image",
        ImportError::Reference { .. } => "invalid_image_reference",
        ImportError::Transfer { cause, .. } => transfer_code(cause),
    };
    Failure::of(code, error, error.hint())
}

/// Why an image could not be removed.
pub(crate) fn image_remove(error: &RemoveError) -> Failure {
    match error {
        RemoveError::NotFound { .. } => {
            Failure::of("image_not_found", error, "`hypercore image ls` lists what is there")
        }
        RemoveError::InUse { .. } => Failure::of(
            "image_in_use",
            error,
            "remove the workload first, or give --force to take away the name alone",
        ),
        _ => Failure::of("image_store_failed", error, STORE_HINT),
    }
}

/// Why a login was not kept, or not forgotten.
pub(crate) fn login(error: &LoginError) -> Failure {
    match error {
        LoginError::Name(_) => {
            Failure::of("invalid_registry", error, "name it as images do: quay.io, or registry.example:5000")
        }
        LoginError::Registry { cause, .. } => Failure::of(
            transfer_code(cause),
            error,
            "check the user and the password, and that the registry runs; one without TLS belongs into \
             runtime.insecure_registries",
        ),
        LoginError::Logins(_) => Failure::of("image_store_failed", error, STORE_HINT),
    }
}

const STORE_HINT: &str = "check the permissions and the health of the data directory";

const fn transfer_code(error: &TransferError) -> &'static str {
    match error {
        TransferError::NotFound => "image_not_found",
        TransferError::Unreachable(_) => "registry_unreachable",
        TransferError::Unauthorized | TransferError::LoginRefused { .. } => "registry_unauthorized",
        TransferError::Credentials(_) => "credentials_unavailable",
        TransferError::TokenServerPlain { .. } => "registry_refused",
        TransferError::NotVerified(_) => "image_not_verified",
        TransferError::Refused { .. } => "registry_refused",
        TransferError::DigestMismatch { .. } => "digest_mismatch",
        TransferError::Truncated { .. } => "layer_truncated",
        TransferError::NoPlatform { .. } => "platform_mismatch",
        TransferError::Malformed(_) | TransferError::Unpack { .. } => "image_malformed",
        TransferError::DiskFull(_) => "disk_full",
        TransferError::Store { .. } => "image_store_failed",
    }
}

/// Why a workload has no network.
pub(super) fn attach(error: &AttachError) -> Failure {
    let (code, hint) = match error {
        AttachError::Claim(ClaimError::PortTaken { .. }) => {
            ("port_taken", "publish another port, or stop what holds this one")
        }
        AttachError::Claim(ClaimError::SubnetFull(_)) => {
            ("subnet_full", "remove workloads, or give the node a larger runtime.cidr")
        }
        _ => ("network_failed", "`hypercore doctor` checks what the network needs"),
    };
    Failure::of(code, error, hint)
}

/// Why a workload has no hosts files.
pub(super) fn hosts(error: &HostsError) -> Failure {
    Failure::of("disk_failed", error, STORE_HINT)
}

/// Why a workload has no bundle.
pub(super) fn bundle(error: &BundleError) -> Failure {
    let (code, hint) = match error {
        BundleError::NoCommand => ("no_command", "say what to run: `hypercore run IMAGE -- CMD`"),
        BundleError::Accounts { .. } | BundleError::User(_) => {
            ("unknown_user", "use a user the image has in /etc/passwd, or a numeric uid[:gid]")
        }
        BundleError::WorkdirRelative(_) | BundleError::Workdir { .. } => {
            ("invalid_workdir", "choose an absolute path that is a directory in the image")
        }
        BundleError::Mounted(fault) => mount(fault),
        BundleError::Capability(_) => {
            ("capability_unavailable", "drop it from --cap-add, or give it to the node")
        }
        BundleError::Mapped(_) => {
            ("user_namespace_failed", "run it without --userns, or see `hypercore doctor`")
        }
        BundleError::NotOwnDirectory(_) => ("image_malformed", "ask who built the image"),
        BundleError::StopSignal(_) => ("image_malformed", "ask who built the image"),
        BundleError::NoLayers | BundleError::TooManyLayers(_) => {
            ("image_malformed", "build the image with fewer layers")
        }
        BundleError::Layer { .. } => ("image_store_failed", "pull the image again"),
        _ => ("rootfs_failed", "`hypercore doctor` checks what mounts need"),
    };
    Failure::of(code, error, hint)
}

/// Why something can't be mounted.
const fn mount(fault: &MountFault) -> (&'static str, &'static str) {
    match fault {
        MountFault::Source { .. } => {
            ("mount_source_missing", "make it on the node first: binds are not made")
        }
        MountFault::Reserved(_) => ("mount_reserved", "choose a directory outside of the node's own"),
        MountFault::Volume { source, .. } => volume(source),
        MountFault::Kernels { .. } | MountFault::Place { .. } | MountFault::Kind { .. } => {
            ("invalid_mount", "choose another path inside the workload")
        }
    }
}

/// Why a volume can't be used.
const fn volume(error: &VolumeError) -> (&'static str, &'static str) {
    match error {
        VolumeError::Form(_) => (
            "volume_form",
            "use it with `--isolation microvm`, which can also copy it into a volume that a container made",
        ),
        VolumeError::Block { source: BlockError::Busy { .. }, .. } => {
            ("volume_in_use", "stop the other one first, or have all of them read it with :ro")
        }
        VolumeError::Block { source: BlockError::Unclean(_), .. } => {
            ("volume_in_use", "mount it once without :ro; the microVM then puts it in order")
        }
        _ => ("volume_failed", "`hypercore volume ls` shows what is there"),
    }
}

/// Why a sandbox did not start.
pub(super) fn launch(error: &LaunchError) -> Failure {
    let (code, hint) = match error {
        LaunchError::CommandNotFound(_) => {
            ("command_not_found", "check the command: it is looked up in the image's PATH")
        }
        LaunchError::NotExecutable(_) => {
            ("not_executable", "check its mode, and that it is built for this machine")
        }
        _ => ("sandbox_failed", "`hypercore doctor` checks what sandboxes need"),
    };
    Failure::of(code, error, hint)
}

/// Why an execution did not start, or was lost.
pub(crate) fn exec(error: &ExecError) -> Failure {
    let (code, hint) = match error {
        ExecError::NotRunning => ("not_running", "`hypercore ps -a` shows what runs"),
        ExecError::CommandNotFound(_) => {
            ("command_not_found", "check the command: it is looked up in the image's PATH")
        }
        ExecError::NotExecutable(_) => {
            ("not_executable", "check its mode, and that it is built for this machine")
        }
        ExecError::NoSuchUser(_) => {
            ("unknown_user", "use a user the image has in /etc/passwd, or a numeric uid[:gid]")
        }
        ExecError::Frozen(_) => ("paused", "resume the workload first"),
        ExecError::TooLong(_) => ("too_long", "shorten the arguments or the environment"),
        ExecError::TooOld(_) => ("shim_too_old", "remove the workload and run it again"),
        _ => ("exec_failed", "the agent's log may say more"),
    };
    Failure::of(code, error, hint)
}

/// Whether an execution failed by the caller's doing, the workload's state, or the node's.
pub(crate) const fn exec_kind(error: &ExecError) -> Code {
    match error {
        ExecError::NotRunning | ExecError::Frozen(_) | ExecError::TooOld(_) => Code::FailedPrecondition,
        ExecError::CommandNotFound(_)
        | ExecError::NotExecutable(_)
        | ExecError::NoSuchUser(_)
        | ExecError::TooLong(_) => Code::InvalidArgument,
        _ => Code::Internal,
    }
}

/// The disk refused something small.
pub(super) fn disk(what: &str, error: &io::Error) -> Failure {
    let is_full = error.kind() == io::ErrorKind::StorageFull || error.kind() == io::ErrorKind::QuotaExceeded;
    let (code, hint) = if is_full {
        ("disk_full", "free space in the data directory; `hypercore image rm` removes images")
    } else {
        ("disk_failed", STORE_HINT)
    };
    Failure { code: code.into(), message: format!("the node could not {what}: {error}"), hint: hint.into() }
}

/// The node runs no microVMs.
pub(super) fn no_machines(error: &Unavailable) -> Failure {
    let hint = match error {
        Unavailable::Engine(NoEngine::Monitor(_) | NoEngine::NeedsKvm { .. }) => {
            "leave --vmm and [runtime] vmm out to have the best that works; `hypercore doctor` shows what does"
        }
        Unavailable::Engine(NoEngine::None(_)) | Unavailable::Kernel(_) => {
            "`hypercore doctor --fix` installs what microVMs need; or run it with `--isolation container`"
        }
        Unavailable::NoAgent(_) => {
            "`hypercore doctor` checks what microVMs need; or run it with `--isolation container`"
        }
        Unavailable::GoingDown => "try again",
    };
    Failure::of("isolation_unsupported", error, hint)
}

/// Why there is no machine.
pub(super) fn machine(error: &MachineError) -> Failure {
    let (code, hint) = match error {
        MachineError::Bundle(error) => return bundle(error),
        MachineError::Unsupported(_) | MachineError::NoSharing(_) => {
            ("isolation_unsupported", "run it without, or with `--isolation container`")
        }
        MachineError::NoFileServer => (
            "isolation_unsupported",
            "install virtiofsd: it is in the package of that name, or in qemu-system-common before Debian 13",
        ),
        MachineError::TwoWays(_) => ("invalid_mount", "mount it once, or twice in the same way"),
        MachineError::Volume(error) => volume(error),
        MachineError::Snapshot(error) => return snapshot(error),
        MachineError::Memory(_) => ("invalid_request", "give it more with --memory"),
        MachineError::Initramfs(_) | MachineError::Kernel(_) => {
            ("machine_failed", "`hypercore doctor` checks what microVMs need")
        }
        MachineError::RootImage(_) | MachineError::Disk(_) | MachineError::File { .. } => {
            ("disk_failed", "see whether the node's disk is full")
        }
    };
    Failure::of(code, error, hint)
}

/// Why a snapshot can't be made or used.
pub(crate) fn snapshot(error: &SnapshotError) -> Failure {
    let (code, hint) = match error {
        SnapshotError::Exists(_) => {
            ("snapshot_exists", "choose another name, or remove that one with `hypercore snapshots rm`")
        }
        SnapshotError::NotFound(_) => ("snapshot_not_found", "`hypercore snapshots ls` lists every snapshot"),
        SnapshotError::Format { .. } => ("snapshot_format", "restore it with the release that made it"),
        SnapshotError::Manifest { .. } | SnapshotError::File { .. } => (
            "snapshot_broken",
            "copy it anew from where it was made, or remove it with `hypercore snapshots rm`",
        ),
        SnapshotError::Engine { .. } => {
            ("engine_mismatch", "restore it on a node with that engine, or run its image anew")
        }
        SnapshotError::Replaced(_) => {
            ("snapshot_refused", "run the workload again: a snapshot of it would not start any more")
        }
        SnapshotError::Unwritten(_) => ("snapshot_failed", "the agent's log may say more"),
        full if full.is_disk_full() => {
            ("disk_full", "free space in the data directory; `hypercore snapshots rm` removes snapshots")
        }
        SnapshotError::Disk { .. } => ("disk_failed", STORE_HINT),
    };
    Failure::of(code, error, hint)
}

/// A step panicked.
pub(super) fn defect(error: &dyn Error) -> Failure {
    Failure::of("defect", error, "please report this with the agent's log")
}
