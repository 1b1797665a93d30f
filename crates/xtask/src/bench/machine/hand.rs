//! A machine by hand: the command line of one of ours, with files of its own in the place of the workload's.
//!
//! It refuses to be another machine: what it changes are paths, and the network device, which leads to QEMU's own
//! network instead of a TAP device.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{bench::procfs, interrupt, shell};

/// How a QEMU is called, cut to what the kernel keeps of a name.
const NAME: &str = "qemu-system-x86";
/// Longest wait for one to come up beside many others.
pub(super) const PATIENCE: Duration = Duration::from_secs(180);
/// How often is looked whether it listens.
const INTERVAL: Duration = Duration::from_millis(2);
/// Any request: a guest that isn't prepared answers it with an error, and an answer is all we wait for.
const REQUEST: &[u8] = b"{\"cmd\":\"true\"}\n";
/// How long an idle machine is left alone before it is looked at.
const REST: Duration = Duration::from_secs(3);

/// How a machine of ours was started, and a disk as it had at its start.
#[derive(Debug)]
pub(super) struct Hand {
    argv: Vec<String>,
    disk: PathBuf,
    scratch: tempfile::TempDir,
}

/// One that runs; ended when it is dropped.
struct Booted {
    process: Child,
    directory: tempfile::TempDir,
    _guest: UnixStream,
}

/// The ids of all processes.
///
/// # Errors
/// When /proc can't be read.
pub(super) fn processes() -> Result<impl Iterator<Item = u32>> {
    let entries = fs::read_dir("/proc").context("reading /proc")?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()))
}

/// Whether the process is a QEMU.
pub(super) fn is_machine(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == NAME)
}

impl Hand {
    /// Takes down how the machine of the workload `id` was started.
    ///
    /// # Errors
    /// When there is no such machine.
    pub(super) fn like(id: &str) -> Result<Self> {
        let mut machines = processes()?.filter(|pid| is_machine(*pid)).map(argv);
        let argv = machines.find(|argv| argv.iter().any(|word| word.contains(id)));
        let argv = argv.with_context(|| format!("no QEMU of {id} was found"))?;
        let scratch =
            tempfile::Builder::new().prefix("hypercore-hand-").tempdir().context("making a directory")?;
        let disk = scratch.path().join("writable.ext4");
        let original = path_in(&argv, "/writable.ext4").context("its disk was not found")?;
        copy_sparse(&original, &disk)?;
        Ok(Self { argv, disk, scratch })
    }

    /// What runs its instructions: `kvm` or `tcg`.
    pub(super) fn accelerator(&self) -> &'static str {
        if self.argv.iter().any(|word| word.starts_with("kvm")) { "kvm" } else { "tcg" }
    }

    /// Boots one, and says how long its guest took to answer.
    ///
    /// # Errors
    /// When it doesn't come up.
    pub(super) fn boot(&self) -> Result<Duration> {
        self.begin().map(|(_, took)| took)
    }

    /// Boots one, and answers what it takes when it has nothing to do, in MiB.
    ///
    /// # Errors
    /// When it doesn't come up.
    pub(super) fn idle_mib(&self) -> Result<f64> {
        let (booted, _) = self.begin()?;
        thread::sleep(REST);
        procfs::pss_mib(booted.process.id())
    }

    fn begin(&self) -> Result<(Booted, Duration)> {
        interrupt::check()?;
        let directory = tempfile::tempdir_in(self.scratch.path()).context("making a directory")?;
        copy_sparse(&self.disk, &directory.path().join("writable.ext4"))?;
        let mut command = self.command(directory.path())?;
        let socket = directory.path().join("guest.sock");
        let start = Instant::now();
        let process = command.spawn().with_context(|| shell::typed(&command))?;
        let mut unfinished = Unfinished(Some(process));
        let guest = reach(&socket, start)?;
        let took = start.elapsed();
        let process = unfinished.0.take().context("it was there a moment ago")?;
        Ok((Booted { process, directory, _guest: guest }, took))
    }

    fn command(&self, directory: &Path) -> Result<Command> {
        let (program, arguments) = self.argv.split_first().context("a command line is never empty")?;
        let machine = path_in(&self.argv, "/guest.sock").context("its socket was not found")?;
        let workload = path_in(&self.argv, "/writable.ext4").context("its disk was not found")?;
        let own = directory.to_string_lossy();
        let mut command = Command::new(program);
        for argument in arguments {
            let mut argument = argument.clone();
            for file in [&machine, &workload] {
                let place = file.parent().context("a file lies in a directory")?;
                argument = argument.replace(&*place.to_string_lossy(), &own);
            }
            if argument.starts_with("tap,id=net") {
                argument = "user,id=net,restrict=on".to_owned();
            }
            command.arg(argument);
        }
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(command)
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        // Both fail only when it is gone.
        let _ = self.process.kill();
        let _ = self.process.wait();
        // After the process, whose files are in it.
        let _ = fs::remove_dir_all(self.directory.path());
    }
}

/// A process that is ended unless somebody takes it over.
struct Unfinished(Option<Child>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(process) = &mut self.0 {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Asks the guest until it answers.
fn reach(socket: &Path, start: Instant) -> Result<UnixStream> {
    let mut stream = loop {
        match UnixStream::connect(socket) {
            Ok(stream) => break stream,
            Err(error) if start.elapsed() > PATIENCE => return Err(error).context("connecting to its guest"),
            Err(_) => thread::sleep(INTERVAL),
        }
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(REQUEST).context("asking its guest")?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).context("waiting for its guest")?;
    ensure!(line.contains("exit_code"), "its guest answered {line:?}");
    Ok(stream)
}

fn argv(pid: u32) -> Vec<String> {
    let raw = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = raw.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// The path in a command line that ends so.
fn path_in(argv: &[String], end: &str) -> Option<PathBuf> {
    argv.iter().find_map(|word| {
        let path = &word[..word.find(end)? + end.len()];
        path.find('/').map(|at| PathBuf::from(&path[at..]))
    })
}

fn copy_sparse(from: &Path, to: &Path) -> Result<()> {
    let mut copy = Command::new("cp");
    copy.args(["--sparse=always", "--reflink=auto"]).args([from, to]);
    if shell::succeeds(&mut copy) { Ok(()) } else { bail!("{} can't be copied", from.display()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_behind_options() {
        let argv = ["-chardev", "socket,id=guest,path=/a/b/guest.sock,server=on"].map(str::to_owned);
        assert_eq!(path_in(&argv, "/guest.sock"), Some(PathBuf::from("/a/b/guest.sock")));
        assert_eq!(path_in(&argv, "/none"), None);
    }
}
