//! Cloud Hypervisor's snapshots as ours: `config.json` and `state.json` become one file `state`, `memory-ranges` becomes
//! `memory`. A machine that goes on from one has paths, a TAP device and an address of its own: its configuration is
//! changed where they are, and nowhere else. It refuses a state that it didn't write.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, symlink},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use super::{
    super::vmm::{MEMORY_FILE, STATE_FILE, VmmError},
    types::{DiskConfig, VmConfig},
};

/// Its files.
const CONFIG: &str = "config.json";
const DEVICES: &str = "state.json";
const RANGES: &str = "memory-ranges";
/// Where its files are while ours are made, and in a machine's directory, while it goes on from them.
const WHOLE: &str = "whole";
/// Largest state that is read, in bytes. A machine with a few devices has some 200 KiB.
const STATE_LEN_MAX: u64 = 64 << 20;

/// The file `state`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    config: Value,
    /// As it was written: its numbers have more digits than ours.
    devices: Box<RawValue>,
}

/// Has a snapshot written to a directory of its own, and makes it ours in `directory`.
pub(super) fn collect(
    directory: &Path,
    write: impl FnOnce(&Path) -> Result<(), VmmError>,
) -> Result<(), VmmError> {
    let whole = directory.join(WHOLE);
    let failed = |source| VmmError::File { path: whole.clone(), source };
    fs::DirBuilder::new().mode(0o700).create(&whole).map_err(failed)?;
    let made = || {
        let state = State { config: read(&whole.join(CONFIG))?, devices: read(&whole.join(DEVICES))? };
        fs::write(directory.join(STATE_FILE), serde_json::to_vec(&state)?)?;
        fs::rename(whole.join(RANGES), directory.join(MEMORY_FILE))
    };
    let collected = write(&whole).and_then(|()| made().map_err(failed));
    let removed = fs::remove_dir_all(&whole).map_err(failed);
    collected.and(removed)
}

/// Makes a snapshot of Cloud Hypervisor's again from ours, for the machine in `place` that is to be like `config`.
/// Answers where it is. The memory is not copied.
pub(super) fn adapt(snapshot: &Path, place: &Path, config: &VmConfig) -> Result<PathBuf, VmmError> {
    let path = snapshot.join(STATE_FILE);
    let made = || {
        let mut state: State = read(&path)?;
        change(&mut state.config, config)?;
        let whole = place.join(WHOLE);
        fs::DirBuilder::new().mode(0o700).create(&whole)?;
        fs::write(whole.join(CONFIG), serde_json::to_vec(&state.config)?)?;
        fs::write(whole.join(DEVICES), state.devices.get())?;
        symlink(snapshot.join(MEMORY_FILE), whole.join(RANGES))?;
        Ok(whole)
    };
    made().map_err(|source| VmmError::File { path: path.clone(), source })
}

/// The parent's configuration with what is the machine's own. Whatever else it says stays: the state goes with it.
fn change(saved: &mut Value, ours: &VmConfig) -> io::Result<()> {
    for disk in &ours.disks {
        let saved = device(saved, "disks", &disk.id)?;
        set(saved, "path", &disk.path);
    }
    expect_all(saved, "disks", ours.disks.iter().map(|disk: &DiskConfig| &disk.id))?;
    for net in &ours.net {
        let saved = device(saved, "net", &net.id)?;
        set(saved, "tap", &net.tap);
        set(saved, "mac", &net.mac);
        // What the device on the host was like is said there, too, and read again from the new one.
        set(saved, "host_mac", &Value::Null);
    }
    expect_all(saved, "net", ours.net.iter().map(|net| &net.id))?;
    // What the host shared may have changed since.
    expect_all(saved, "fs", std::iter::empty())?;
    set(part(saved, "vsock")?, "socket", &ours.vsock.socket);
    set(part(saved, "serial")?, "file", &ours.serial.file);
    let payload = part(saved, "payload")?;
    set(payload, "kernel", &ours.payload.kernel);
    set(payload, "initramfs", &ours.payload.initramfs);
    Ok(())
}

fn part<'a>(saved: &'a mut Value, name: &str) -> io::Result<&'a mut Value> {
    saved.get_mut(name).filter(|part| part.is_object()).ok_or_else(|| odd(&format!("no {name}")))
}

fn device<'a>(saved: &'a mut Value, list: &str, id: &str) -> io::Result<&'a mut Value> {
    let devices = saved.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
    let mut found = devices.filter(|device| device["id"] == *id);
    found.next().filter(|device| device.is_object()).ok_or_else(|| odd(&format!("no {id} in {list}")))
}

/// A device that the machine doesn't have would be its parent's.
fn expect_all<'a>(saved: &Value, list: &str, ids: impl Iterator<Item = &'a String>) -> io::Result<()> {
    let count = saved[list].as_array().map_or(0, Vec::len);
    if count == ids.count() { Ok(()) } else { Err(odd(&format!("{count} {list}"))) }
}

fn set(object: &mut Value, name: &str, value: &impl Serialize) {
    object[name] = serde_json::json!(value);
}

fn odd(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the saved configuration has {what}"))
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> io::Result<T> {
    let mut bytes = Vec::new();
    File::open(path)?.take(STATE_LEN_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > STATE_LEN_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(serde_json::from_slice(&bytes)?)
}
