//! Saving a QEMU machine and going on from what was saved, by QEMU's migration. Memory that is shared (a memfd) stays
//! out of the stream (`x-ignore-shared`): it is copied as it is, so that machines that go on can map the copy.
//! It refuses to let such a machine give memory back: QEMU would do that by punching holes into the copy.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::AsFd,
        unix::{fs::OpenOptionsExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use hypercore_model::machine::MachineResume;
use nix::libc;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use serde_json::{Value, json};

use super::{
    murmur,
    qmp::{Qmp, QmpError},
};
use crate::machine::{
    sparse,
    vmm::{MEMORY_FILE, Place, STATE_FILE, Saved, VmmError},
};

/// The machine's memory, as QEMU knows it.
pub(super) const MEMORY: &str = "mem";
/// How QEMU calls the memfd that it makes (backends/hostmem-memfd.c).
const MEMORY_FD: &str = "memory-backend-memfd";
/// The name under which it gets the file of the state.
const STATE: &str = "state";
/// Bytes a second: no limit. QEMU's default is made for networks that others use too.
const BANDWIDTH_MAX: u64 = 1 << 40;

/// How often is looked whether it is.
const SETTLE_INTERVAL: Duration = Duration::from_millis(1);
/// How long QEMU may take to give up a save, which it does at once.
const CANCEL_TIME_MAX: Duration = Duration::from_secs(10);

const SAVE: &str = "save the machine";
const RESUME: &str = "go on from the snapshot";

/// The option that gives the machine its memory: one that can be copied from outside; or a private view of a snapshot's;
/// or, for what is in a stream, plain memory. A memfd would hold a page for every zero that is loaded into it.
pub(super) fn memory_option(memory_mib: u32, resume: Option<&MachineResume>) -> (String, Option<PathBuf>) {
    let option = |kind: &str| format!("memory-backend-{kind},id={MEMORY},size={memory_mib}M");
    match resume {
        None => (format!("{},share=on", option("memfd")), None),
        Some(MachineResume { is_mapped: false, .. }) => (option("ram"), None),
        Some(resume) => {
            (format!("{},share=off,mem-path=", option("file")), Some(resume.directory.join(MEMORY_FILE)))
        }
    }
}

/// Keeps QEMU from punching holes, into whatever file: it would do that to memory that the guest says is free, and in a
/// private view of a file the hole is in the file (7.2, `ram_block_discard_range`). A disk's room is then not given
/// back either, which QEMU takes for a filesystem that can't.
#[allow(unsafe_code, reason = "what a child does between fork and exec can't be said safely")]
pub(super) fn deny_holes(command: &mut Command) -> Result<(), VmmError> {
    let denied = || {
        let rules = [(libc::SYS_fallocate, Vec::new())].into_iter().collect();
        let refuse = SeccompAction::Errno(libc::EOPNOTSUPP as u32);
        let filter =
            SeccompFilter::new(rules, SeccompAction::Allow, refuse, std::env::consts::ARCH.try_into()?)?;
        BpfProgram::try_from(filter)
    };
    let program = denied().map_err(|error: seccompiler::BackendError| VmmError::Refused {
        step: RESUME,
        reason: error.to_string(),
    })?;
    murmur::listen(command).map_err(|source| VmmError::Channel { step: RESUME, source })?;
    // SAFETY: two plain system calls on memory that was allocated before the fork.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_no_new_privs()?;
            seccompiler::apply_filter(&program).map_err(|_| io::Error::last_os_error())
        });
    }
    Ok(())
}

/// Loads the state, and lets the machine run.
pub(super) fn resume(
    resume: &MachineResume,
    place: &Place,
    machine: &mut Child,
    deadline: Instant,
) -> Result<(), VmmError> {
    let state = resume.directory.join(STATE_FILE);
    let state = File::open(&state).map_err(|source| VmmError::File { path: state, source })?;
    let mut load = || {
        let mut qmp = Qmp::reach(&place.control(), machine, deadline)?;
        set_up(&mut qmp, resume.is_mapped)?;
        qmp.give(STATE, state.as_fd())?;
        qmp.execute("migrate-incoming", &json!({ "uri": format!("fd:{STATE}") }))?;
        wait(&mut qmp)?;
        qmp.execute("cont", &json!({})).map(drop)
    };
    load().map_err(|error| told(RESUME, error))
}

/// Stops the processors. What was on its way to a disk is there afterwards.
pub(super) fn pause(place: &Place, deadline: Instant) -> Result<(), VmmError> {
    command(place, "stop", deadline).map_err(|error| told("pause the machine", error))
}

/// Lets them go on, whatever became of a save.
pub(super) fn go_on(place: &Place, deadline: Instant) -> Result<(), VmmError> {
    let on = || {
        let mut qmp = Qmp::connect(&place.control(), deadline)?;
        settle(&mut qmp)?;
        qmp.execute("cont", &json!({})).map(drop)
    };
    on().map_err(|error| told("let the machine go on", error))
}

/// Waits until a save that says that it is complete really is: the machine can't go on before, and nothing says when.
fn settle(qmp: &mut Qmp) -> Result<(), QmpError> {
    while qmp.execute("query-status", &json!({}))?["status"] == "finish-migrate" {
        thread::sleep(SETTLE_INTERVAL);
    }
    Ok(())
}

fn command(place: &Place, command: &str, deadline: Instant) -> Result<(), QmpError> {
    Qmp::connect(&place.control(), deadline)?.execute(command, &json!({})).map(drop)
}

/// Writes state and memory.
pub(super) fn save(place: &Place, directory: &Path, deadline: Instant) -> Result<Saved, VmmError> {
    let failed = |error| told(SAVE, error);
    let mut qmp = Qmp::connect(&place.control(), deadline).map_err(failed)?;
    let is_mapped = is_shared(&qmp.execute("query-memdev", &json!({})).map_err(failed)?);
    let path = directory.join(STATE_FILE);
    let state = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
    let state = state.map_err(|source| VmmError::File { path, source })?;
    let mut stream = || {
        set_up(&mut qmp, is_mapped)?;
        qmp.execute("migrate-set-parameters", &json!({ "max-bandwidth": BANDWIDTH_MAX }))?;
        qmp.give(STATE, state.as_fd())?;
        qmp.execute("migrate", &json!({ "uri": format!("fd:{STATE}") }))?;
        wait(&mut qmp)?;
        settle(&mut qmp)
    };
    if let Err(error) = stream() {
        // QEMU listens to one at a time. One that has failed by itself has nothing to cancel.
        drop(qmp);
        let _ = command(place, "migrate_cancel", Instant::now() + CANCEL_TIME_MAX);
        return Err(failed(error));
    }
    if is_mapped {
        let machine = qmp.process().map_err(|error| failed(error.into()))?;
        copy_memory(machine.as_raw(), &directory.join(MEMORY_FILE))?;
    }
    Ok(Saved { is_mapped })
}

fn set_up(qmp: &mut Qmp, is_mapped: bool) -> Result<(), QmpError> {
    let capabilities = json!({ "capabilities": [
        { "capability": "x-ignore-shared", "state": is_mapped },
        { "capability": "events", "state": true },
    ] });
    qmp.execute("migrate-set-capabilities", &capabilities).map(drop)
}

/// Waits for a migration's end.
fn wait(qmp: &mut Qmp) -> Result<(), QmpError> {
    let ended = qmp.wait_for("MIGRATION", |data| match data["status"].as_str() {
        Some("completed") => Some(true),
        Some("failed" | "cancelled") => Some(false),
        _ => None,
    })?;
    if ended {
        return Ok(());
    }
    let told = qmp.execute("query-migrate", &json!({}))?;
    let reason = told["error-desc"].as_str().unwrap_or("the migration failed");
    Err(QmpError::Refused(reason.to_owned()))
}

/// Whether the memory is one that can be copied from outside.
fn is_shared(devices: &Value) -> bool {
    let devices = devices.as_array().map_or(&[][..], Vec::as_slice);
    devices.iter().any(|device| device["id"] == MEMORY && device["share"] == true)
}

/// Copies the memory of a machine that stands still.
fn copy_memory(machine: i32, to: &Path) -> Result<(), VmmError> {
    let directory = PathBuf::from(format!("/proc/{machine}/fd"));
    let found = || {
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            if fs::read_link(&path).is_ok_and(|target| target.to_string_lossy().contains(MEMORY_FD)) {
                return File::open(path);
            }
        }
        Err(io::ErrorKind::NotFound.into())
    };
    let memory = found().map_err(|source| VmmError::File { path: directory.clone(), source })?;
    sparse::copy(&memory, to).map_err(|source| VmmError::File { path: to.to_owned(), source })
}

fn told(step: &'static str, error: QmpError) -> VmmError {
    match error {
        QmpError::Broken(source) => VmmError::Channel { step, source },
        QmpError::Closed => VmmError::Channel { step, source: io::ErrorKind::UnexpectedEof.into() },
        QmpError::Late => VmmError::Late { step },
        QmpError::Refused(reason) => VmmError::Refused { step, reason },
        QmpError::Garbled(source) => VmmError::Garbled { step, problem: source.to_string() },
        error @ (QmpError::Ended(_) | QmpError::TooLong | QmpError::Unexpected(_)) => {
            VmmError::Garbled { step, problem: error.to_string() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_what_the_snapshot_makes_it() {
        let of = |is_mapped| MachineResume { directory: "/s".into(), is_mapped };
        let option = |resume: Option<MachineResume>| memory_option(128, resume.as_ref());
        assert_eq!(option(None), ("memory-backend-memfd,id=mem,size=128M,share=on".to_owned(), None));
        let mapped = "memory-backend-file,id=mem,size=128M,share=off,mem-path=".to_owned();
        assert_eq!(option(Some(of(true))), (mapped, Some("/s/memory".into())));
        assert_eq!(option(Some(of(false))), ("memory-backend-ram,id=mem,size=128M".to_owned(), None));
    }

    #[test]
    fn only_this_memory_counts_as_shared() {
        assert!(is_shared(&json!([{ "id": "mem", "share": true }])));
        for other in
            [json!([{ "id": "mem", "share": false }]), json!([{ "id": "x", "share": true }]), json!({})]
        {
            assert!(!is_shared(&other), "{other}");
        }
    }
}
