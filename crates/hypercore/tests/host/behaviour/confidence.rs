//! What a workload is given in confidence: it is in the sealed state and in memory, and nowhere on the host's disk, on
//! any command line, or where other users could read it.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use nix::unistd::{Whence, lseek64};

use super::House;

const CANARY: &str = "hct-canary-7c1f";
/// Bytes read of a file at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// Files below `directory` that hold the canary, mounts left out: those are the workload's own view.
fn holders(directory: &Path, device: u64, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() && entry.metadata().is_ok_and(|metadata| metadata.dev() == device) {
            holders(&path, device, found);
        } else if kind.is_file() && holds(&path) {
            found.push(path);
        }
    }
}

/// Whether a file has it, the holes of a disk left out. One that vanished has nothing.
fn holds(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    let mut at = 0;
    while let Ok(begin) = lseek64(&file, at, Whence::SeekData) {
        let end = lseek64(&file, begin, Whence::SeekHole).unwrap();
        let mut buffer = vec![0; CHUNK_BYTES + CANARY.len()];
        let mut position = begin;
        while position < end {
            let len = file.read_at(&mut buffer, position.cast_unsigned()).unwrap();
            if contains(&buffer[..len]) {
                return true;
            }
            position += CHUNK_BYTES as i64;
        }
        at = end;
    }
    false
}

fn contains(bytes: &[u8]) -> bool {
    bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes())
}

pub(super) fn what_it_is_given_in_confidence_stays_off_the_disk(house: &mut House) {
    let given = format!("TOKEN={CANARY}");
    // Between two runs nothing more of it may lie about than during one.
    house.detach("job", &["-e", &given, "--restart", "on-failure:1"], &["sh", "-c", "kill -9 $$; exit 1"]);
    house.node.run(&["wait", "job"]);
    house.node.run(&["rm", "-f", "job"]).expect(0);
    house.detach("job", &["-e", &given], &["sleep", "1000"]);
    let said = house.exec(&["-e", &given.replace("TOKEN", "MORE")], &["sh", "-c", "echo $TOKEN $MORE"]);
    assert_eq!(said.expect(0).stdout, format!("{CANARY} {CANARY}\n"));
    let data = house.node.path("data");
    let mut found = Vec::new();
    holders(&data, fs::metadata(&data).unwrap().dev(), &mut found);
    assert!(found.is_empty(), "on the disk: {found:?}");
    let run = house.node.path("run");
    holders(&run, fs::metadata(&run).unwrap().dev(), &mut found);
    assert!(!found.is_empty(), "not even in memory: nothing was looked at");
    for path in &found {
        let mode = fs::metadata(path).unwrap().mode();
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
    }
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let read = |name: &str| fs::read(process.path().join(name)).unwrap_or_default();
        assert!(!contains(&read("cmdline")), "{}", process.path().display());
        // A container's processes have their environment; no other process of the host has it.
        assert!(house.is_container() || !contains(&read("environ")), "{}", process.path().display());
    }
    let of_kernel = house.exec(&[], &["cat", "/proc/cmdline"]).expect(0).stdout;
    assert!(!of_kernel.contains(CANARY), "{of_kernel}");
    // What stays of it when it is removed has nothing of it either.
    house.node.run(&["rm", "-f", "job"]).expect(0);
    found.clear();
    for directory in [&data, &run] {
        holders(directory, fs::metadata(directory).unwrap().dev(), &mut found);
    }
    assert!(found.is_empty(), "left behind: {found:?}");
}
