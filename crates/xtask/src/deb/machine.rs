//! A Debian of its own for trying packages: a tree made by debootstrap once, copied for each run, booted with its
//! systemd as process 1 of new namespaces.
//!
//! It refuses to reach out: it has no network but loopback, and everything of it ends with its process 1.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use hypercore_fixtures::wait_until;

use crate::shell;

/// What the tree has besides a minimal Debian: an init, and what the package depends on.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,nftables,iproute2,procps";
/// The release that is tried.
const RELEASE: &str = "bookworm";
/// Longest wait for systemd to be up, or for the machine to be gone.
const BOOT_TIME_MAX: Duration = Duration::from_secs(90);
/// Name of the machine, and of its cgroups.
const NAME: &str = "xtask-deb-machine";

/// A booted machine.
#[derive(Debug)]
pub(super) struct Machine {
    root: tempfile::TempDir,
    boot: Child,
    init: u32,
}

impl Machine {
    /// Boots a fresh copy of the tree.
    ///
    /// # Errors
    /// When the tree can't be made, or systemd doesn't come up.
    pub(super) fn boot() -> Result<Self> {
        let tree = tree()?;
        let root = tempfile::Builder::new().prefix("deb-machine-").tempdir().context("making a directory")?;
        shell::run(Command::new("cp").arg("-a").arg(tree.join(".")).arg(root.path()))?;
        let log = fs::File::create(root.path().join("root/boot.log")).context("making the boot log")?;
        make_cgroups()?;
        let join = joined(&cgroups());
        let script = format!(
            "{join} exec unshare --fork --pid --mount --uts --ipc --net --cgroup sh -c \"$0\" sh \"$@\""
        );
        let mut boot = Command::new("sh");
        boot.arg("-c").arg(script).arg(include_str!("boot.sh")).arg(root.path()).arg(NAME);
        boot.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let boot = boot.spawn().context("starting the machine")?;
        let mut machine = Self { root, boot, init: 0 };
        let init = wait_until(BOOT_TIME_MAX, || machine.find_init());
        machine.init = init.with_context(|| format!("no systemd: {}", machine.boot_log()))?;
        let is_up = || shell::read(&mut machine.command(&["systemctl", "is-system-running"]));
        // `degraded` answers with an error and counts too: the machine lacks what containers lack.
        let up = wait_until(BOOT_TIME_MAX, || {
            let state = is_up().unwrap_or_else(|error| error.to_string());
            (state.contains("running\n") || state.contains("degraded")).then_some(())
        });
        up.with_context(|| format!("systemd does not come up: {}", machine.boot_log()))?;
        Ok(machine)
    }

    /// A command inside.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--all", "--target", &self.init.to_string()]).args(arguments);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    /// Runs it inside and answers what it printed.
    ///
    /// # Errors
    /// When it fails; the error holds what it wrote.
    pub(super) fn read(&self, arguments: &[&str]) -> Result<String> {
        shell::read(&mut self.command(arguments))
    }

    /// Runs a script inside and answers what it printed.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(super) fn script(&self, script: &str) -> Result<String> {
        self.read(&["bash", "-c", script])
    }

    /// A path of the machine, seen from here.
    pub(super) fn path(&self, inside: &str) -> PathBuf {
        self.root.path().join(inside.trim_start_matches('/'))
    }

    fn boot_log(&self) -> String {
        fs::read_to_string(self.path("root/boot.log")).unwrap_or_default()
    }

    /// The child of `unshare`, once it is systemd.
    fn find_init(&mut self) -> Option<u32> {
        let parent = self.boot.id();
        let pids =
            fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let is_child = |pid: &u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
            fields.split_whitespace().nth(1) == Some(&parent.to_string())
        };
        let init = pids.into_iter().find(is_child)?;
        let name = fs::read_to_string(format!("/proc/{init}/comm")).ok()?;
        (name.trim() == "systemd").then_some(init)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Process 1 takes everything in its namespaces with it. Before it was found, its parent does.
        let target = if self.init == 0 { self.boot.id() } else { self.init };
        let _ = shell::read(Command::new("kill").args(["-KILL", &target.to_string()]));
        let _ = self.boot.wait();
        let removed =
            wait_until(BOOT_TIME_MAX, || cgroups().iter().all(|path| remove_below(path)).then_some(()));
        if removed.is_none() {
            eprintln!("left behind: cgroups named {NAME}");
        }
    }
}

/// The tree to copy, made when it is missing.
fn tree() -> Result<PathBuf> {
    let tree = shell::workspace().join("target/deb-machine");
    if tree.join("sbin/init").exists() {
        return Ok(tree);
    }
    let new = tree.with_extension("new");
    // Of a run that was cut short.
    let _ = fs::remove_dir_all(&new);
    let mut command = Command::new("debootstrap");
    command.args(["--variant=minbase", &format!("--include={PACKAGES}"), RELEASE]).arg(&new);
    shell::run(command.stdout(Stdio::null()))?;
    fs::rename(&new, &tree).context("keeping the tree")?;
    Ok(tree)
}

/// Its cgroup in every hierarchy that this machine has mounted.
fn cgroups() -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    if top.join("cgroup.controllers").exists() {
        return vec![top.join(NAME)];
    }
    let Ok(hierarchies) = fs::read_dir(top) else { return Vec::new() };
    let hierarchies = hierarchies.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    hierarchies.map(|hierarchy| hierarchy.path().join(NAME)).collect()
}

fn make_cgroups() -> Result<()> {
    for path in cgroups() {
        if path.exists() {
            bail!("{} is there already: is another check running?", path.display());
        }
        fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
        // cpusets(7): a new one has no CPUs and no memory until it is given some.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let parent = path.parent().map(|parent| parent.join(file)).filter(|parent| parent.exists());
            if let Some(given) = parent.and_then(|parent| fs::read_to_string(parent).ok()) {
                fs::write(path.join(file), given)
                    .with_context(|| format!("giving {} its {file}", path.display()))?;
            }
        }
    }
    Ok(())
}

/// Shell commands that move the shell into these cgroups.
fn joined(cgroups: &[PathBuf]) -> String {
    cgroups.iter().map(|path| format!("echo $$ > {}/cgroup.procs; ", path.display())).collect()
}

/// Removes a cgroup and those below it. `true` when it is gone.
fn remove_below(cgroup: &Path) -> bool {
    let Ok(entries) = fs::read_dir(cgroup) else { return true };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_below(&entry.path());
        }
    }
    fs::remove_dir(cgroup).is_ok()
}
