//! What a cgroup uses: CPU time, memory, processes, disks, and how often its memory limit killed. Reading only.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::layout::CgroupLayout;

/// What a workload uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// CPU time of all its processes since it started, in microseconds.
    pub cpu_usage_us: u64,
    /// Memory that can't be taken back without harm, in bytes: the charge without inactive page cache, as docker
    /// and kubernetes count it.
    pub memory_bytes: u64,
    /// Processes and threads now.
    pub pids: u64,
    /// Bytes read from block devices since it started; what the page cache answered doesn't count. 0 on a host whose
    /// kernel doesn't account them.
    pub disk_read_bytes: u64,
    /// Bytes written to block devices since it started.
    pub disk_written_bytes: u64,
}

/// Why the use of a workload could not be read.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// The workload has no cgroup: it isn't running.
    #[error("there is no cgroup {0}")]
    Absent(PathBuf),
    /// A file of the cgroup can't be read.
    #[error("can't read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of the cgroup doesn't have the number it should have.
    #[error("{path} has no `{key}` number")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Which number; the file's name when it is the only one.
        key: &'static str,
    },
}

pub(super) fn read(layout: &CgroupLayout, path: &str) -> Result<Usage, UsageError> {
    let at = |controller: &str| directory(layout, controller, path);
    let disk = disk(layout, path)?;
    if layout.controller("memory").is_some() {
        let memory = at("memory");
        let charged = number(&memory.join("memory.usage_in_bytes"))?;
        let inactive = keyed(&memory.join("memory.stat"), "total_inactive_file")?;
        Ok(Usage {
            cpu_usage_us: number(&at("cpuacct").join("cpuacct.usage"))? / 1_000,
            memory_bytes: charged.saturating_sub(inactive),
            pids: number(&at("pids").join("pids.current"))?,
            disk_read_bytes: disk.read,
            disk_written_bytes: disk.written,
        })
    } else {
        let unified = at("unified");
        let charged = number(&unified.join("memory.current"))?;
        let inactive = keyed(&unified.join("memory.stat"), "inactive_file")?;
        Ok(Usage {
            cpu_usage_us: keyed(&unified.join("cpu.stat"), "usage_usec")?,
            memory_bytes: charged.saturating_sub(inactive),
            pids: number(&unified.join("pids.current"))?,
            disk_read_bytes: disk.read,
            disk_written_bytes: disk.written,
        })
    }
}

/// Bytes that went from and to block devices.
#[derive(Debug, Default)]
struct Disk {
    read: u64,
    written: u64,
}

/// Sums over all devices. The counters are the kernel's own choice of configuration: a host without them has zeros.
fn disk(layout: &CgroupLayout, path: &str) -> Result<Disk, UsageError> {
    let is_v1 = layout.controller("blkio").is_some();
    let file = if is_v1 {
        directory(layout, "blkio", path).join("blkio.throttle.io_service_bytes_recursive")
    } else {
        directory(layout, "io", path).join("io.stat")
    };
    let text = match text(&file) {
        Err(UsageError::Absent(_)) => return Ok(Disk::default()),
        Err(UsageError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(Disk::default());
        }
        text => text?,
    };
    Ok(if is_v1 { disk_v1(&text) } else { disk_v2(&text) })
}

/// Lines such as `8:0 Read 4096` (kernel, blkio-controller.rst).
fn disk_v1(text: &str) -> Disk {
    let mut disk = Disk::default();
    for line in text.lines() {
        let mut words = line.split_whitespace().skip(1);
        let (Some(kind), Some(bytes)) =
            (words.next(), words.next().and_then(|word| word.parse::<u64>().ok()))
        else {
            continue;
        };
        match kind {
            "Read" => disk.read = disk.read.saturating_add(bytes),
            "Write" => disk.written = disk.written.saturating_add(bytes),
            _ => {}
        }
    }
    disk
}

/// Lines such as `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0` (kernel, cgroup-v2.rst, "io.stat").
fn disk_v2(text: &str) -> Disk {
    let mut disk = Disk::default();
    for (key, value) in text.split_whitespace().filter_map(|word| word.split_once('=')) {
        let bytes = value.parse::<u64>().unwrap_or(0);
        match key {
            "rbytes" => disk.read = disk.read.saturating_add(bytes),
            "wbytes" => disk.written = disk.written.saturating_add(bytes),
            _ => {}
        }
    }
    disk
}

pub(super) fn oom_kills(layout: &CgroupLayout, path: &str) -> Result<u64, UsageError> {
    keyed(&oom_events(layout, path), "oom_kill")
}

/// The file whose `oom_kill` line counts what the kernel killed for lack of memory.
pub(super) fn oom_events(layout: &CgroupLayout, path: &str) -> PathBuf {
    let file = if layout.controller("memory").is_some() { "memory.oom_control" } else { "memory.events" };
    directory(layout, "memory", path).join(file)
}

/// The cgroup's directory in the hierarchy that has the controller.
fn directory(layout: &CgroupLayout, controller: &str, path: &str) -> PathBuf {
    let mount =
        layout.controller(controller).or_else(|| layout.unified()).unwrap_or(Path::new("/sys/fs/cgroup"));
    mount.join(path.trim_start_matches('/'))
}

fn text(path: &Path) -> Result<String, UsageError> {
    fs::read_to_string(path).map_err(|source| {
        let directory = path.parent().unwrap_or(path);
        // ENODEV is what a read gets when the cgroup is removed after the file was opened.
        let is_gone = source.raw_os_error() == Some(nix::libc::ENODEV) || !directory.exists();
        if is_gone {
            UsageError::Absent(directory.to_owned())
        } else {
            UsageError::Read { path: path.to_owned(), source }
        }
    })
}

fn number(path: &Path) -> Result<u64, UsageError> {
    let malformed = |_| UsageError::Malformed { path: path.to_owned(), key: "only" };
    text(path)?.trim().parse().map_err(malformed)
}

/// The number after `key` in a file of `key number` lines.
fn keyed(path: &Path, key: &'static str) -> Result<u64, UsageError> {
    text(path)?
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find_map(|(name, value)| (name == key).then(|| value.trim().parse().ok()).flatten())
        .ok_or_else(|| UsageError::Malformed { path: path.to_owned(), key })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (name, content) in files {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
    }

    #[test]
    fn a_v1_cgroup_is_read_from_its_three_hierarchies() {
        let root = tempfile::tempdir().unwrap();
        write(
            root.path(),
            &[
                ("memory/p/w/memory.usage_in_bytes", "1000\n"),
                ("memory/p/w/memory.stat", "inactive_file 1\ntotal_inactive_file 400\n"),
                ("memory/p/w/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
                ("cpuacct/p/w/cpuacct.usage", "2500000\n"),
                ("pids/p/w/pids.current", "7\n"),
                (
                    "blkio/p/w/blkio.throttle.io_service_bytes_recursive",
                    "8:0 Read 10\n8:0 Write 3\n8:0 Total 13\n8:16 Read 5\nTotal 18\n",
                ),
            ],
        );
        let names = ["memory", "cpuacct", "pids", "blkio"];
        let controllers: BTreeMap<_, _> = names.map(|name| (name.to_owned(), root.path().join(name))).into();
        let layout = CgroupLayout::V1 { controllers };
        let usage = read(&layout, "/p/w").unwrap();
        let disk = (usage.disk_read_bytes, usage.disk_written_bytes);
        assert_eq!((usage.cpu_usage_us, usage.memory_bytes, usage.pids, disk), (2_500, 600, 7, (15, 3)));
        assert_eq!(oom_kills(&layout, "/p/w").unwrap(), 3);
        assert!(matches!(read(&layout, "/p/other"), Err(UsageError::Absent(_))));
    }

    #[test]
    fn a_v2_cgroup_is_read_from_one_directory() {
        let root = tempfile::tempdir().unwrap();
        write(
            root.path(),
            &[
                ("p/w/memory.current", "1000\n"),
                ("p/w/memory.stat", "anon 5\ninactive_file 2000\n"),
                ("p/w/memory.events", "low 0\noom 2\noom_kill 1\n"),
                ("p/w/cpu.stat", "usage_usec 77\nuser_usec 70\n"),
                ("p/w/pids.current", "1\n"),
            ],
        );
        let layout = CgroupLayout::V2 { unified: root.path().to_owned() };
        let mut expected =
            Usage { cpu_usage_us: 77, memory_bytes: 0, pids: 1, disk_read_bytes: 0, disk_written_bytes: 0 };
        assert_eq!(read(&layout, "/p/w").unwrap(), expected, "a kernel without io accounting");
        write(
            root.path(),
            &[("p/w/io.stat", "8:0 rbytes=9 wbytes=2 rios=1\n8:16 rbytes=1 wbytes=0 rios=1\n")],
        );
        (expected.disk_read_bytes, expected.disk_written_bytes) = (10, 2);
        assert_eq!(read(&layout, "/p/w").unwrap(), expected);
        assert_eq!(oom_kills(&layout, "/p/w").unwrap(), 1);
    }

    #[test]
    fn a_file_without_its_number_is_named() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &[("p/memory.events", "oom x\n")]);
        let error = oom_kills(&CgroupLayout::V2 { unified: root.path().to_owned() }, "/p").unwrap_err();
        assert!(matches!(error, UsageError::Malformed { key: "oom_kill", .. }), "{error}");
    }
}
