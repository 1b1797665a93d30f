//! A machine of a fake monitor, run by the real `hypercore-vmm`: everything of it is below one temporary directory and
//! one cgroup, and gone when it is dropped.

use std::{
    fs,
    io::Read as _,
    os::{fd::AsRawFd as _, unix::fs::symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use hypercore_fixtures::is_root;
use hypercore_model::{
    IoLimits,
    machine::{Accelerator, MachineDisk, MachineProcess, MachineResume, MachineSpec, Monitor},
};
use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const VMM: &str = env!("CARGO_BIN_EXE_hypercore-vmm");
/// Who a jailed monitor becomes.
pub(super) const MONITOR_ID: u32 = 0x7000_0000;

/// A place for machines, with the programs of the monitors.
pub(super) struct Node {
    scratch: tempfile::TempDir,
    cgroup: String,
    monitor: Monitor,
}

/// A machine that was begun.
pub(super) struct Machine<'a> {
    node: &'a Node,
    id: String,
    stand_in: Child,
    /// What was reported, one line of JSON.
    pub(super) report: String,
}

impl Node {
    /// One whose monitor is in this mood.
    pub(super) fn new(monitor: Monitor, mood: &str) -> Self {
        let scratch = tempfile::Builder::new().prefix("hypercore-fakes-").tempdir().unwrap();
        let fake = Path::new(VMM).with_file_name("examples/fake-vmm");
        assert!(fake.is_file(), "build it first: cargo build -p hypercore-shim --example fake-vmm");
        for directory in ["bin", "machines", "snapshot"] {
            fs::create_dir(scratch.path().join(directory)).unwrap();
        }
        for name in ["firecracker", "jailer", "cloud-hypervisor"] {
            symlink(&fake, scratch.path().join("bin").join(name)).unwrap();
        }
        fs::write(scratch.path().join("bin/mood"), mood).unwrap();
        for name in ["vmlinux", "initrd", "image.ext4"] {
            fs::write(scratch.path().join(name), name).unwrap();
        }
        let name = scratch.path().file_name().unwrap().to_string_lossy().replace('.', "-");
        Self { scratch, cgroup: name, monitor }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// A machine that runs `argv`, in a directory of its own.
    pub(super) fn spec(&self, id: &str, argv: &[&str]) -> MachineSpec {
        let directory = self.path(&format!("workload-{id}"));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("writable.ext4"), id).unwrap();
        let disk = |serial: &str, path, read_only| MachineDisk { serial: serial.to_owned(), path, read_only };
        MachineSpec {
            monitor: self.monitor,
            program: self.path("bin").join(self.monitor.as_str()),
            accelerator: Accelerator::Kvm,
            kernel: self.path("vmlinux"),
            initrd: self.path("initrd"),
            cpus: 1,
            memory_mib: 128,
            cpu_millis: None,
            disks: vec![
                disk("image", self.path("image.ext4"), true),
                disk("writable", directory.join("writable.ext4"), false),
            ],
            shares: Vec::new(),
            io: IoLimits::default(),
            network: None,
            hostname: id.to_owned(),
            read_only: false,
            mounts: Vec::new(),
            process: MachineProcess {
                argv: argv.iter().map(|&word| word.to_owned()).collect(),
                env: Vec::new(),
                workdir: "/".to_owned(),
                user: String::new(),
                tty: false,
                stdin_open: false,
            },
            pids_max: None,
            cgroup: format!("/{}/{id}", self.cgroup).into(),
            console_log: directory.join("console.log"),
            oom_events: directory.join("oom"),
            boot_time_max_ms: 20_000,
            resume: None,
            monitor_id: is_root().then_some(MONITOR_ID),
        }
    }

    /// As [`Self::spec`], going on from what was saved in `snapshot`.
    pub(super) fn resuming(&self, id: &str) -> MachineSpec {
        let resume = MachineResume { directory: self.path("snapshot"), is_mapped: true };
        MachineSpec { resume: Some(resume), ..self.spec(id, &["sleep"]) }
    }

    /// Begins it, and waits for its report.
    pub(super) fn create(&self, id: &str, spec: &MachineSpec) -> Machine<'_> {
        let directory = self.path("machines").join(id);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("machine.json"), serde_json::to_vec(spec).unwrap()).unwrap();
        let (stand_in, report) = self.vmm("create", id, &["--bundle", "/"]);
        Machine { node: self, id: id.to_owned(), stand_in, report }
    }

    fn vmm(&self, action: &str, id: &str, more: &[&str]) -> (Child, String) {
        let (mut report, report_end) = std::io::pipe().unwrap();
        fcntl(&report_end, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        let mut command = Command::new(VMM);
        command.arg(action).args(["--id", id]).arg("--root").arg(self.path("machines")).args(more);
        command.args(["--report-fd", &report_end.as_raw_fd().to_string()]);
        let child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(report_end);
        let mut said = String::new();
        report.read_to_string(&mut said).unwrap();
        (child, said)
    }

    /// Whoever is in the machine's cgroup.
    pub(super) fn processes(&self, id: &str) -> Vec<i32> {
        let groups = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
        let groups = groups.chain([PathBuf::from("/sys/fs/cgroup")]);
        let read =
            |group: PathBuf| fs::read_to_string(group.join(&self.cgroup).join(id).join("cgroup.procs"));
        let texts: Vec<_> = groups.filter_map(|group| read(group).ok()).collect();
        let mut pids: Vec<i32> =
            texts.iter().flat_map(|text| text.lines()).filter_map(|pid| pid.parse().ok()).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }
}

impl Machine<'_> {
    /// Its stand-in's exit code, or 128 and the signal, and what it wrote.
    pub(super) fn wait(mut self) -> (i32, String) {
        drop(self.stand_in.stdin.take());
        let mut said = String::new();
        self.stand_in.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        let status = self.stand_in.wait().unwrap();
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        (status.code().or(signal.map(|number| 128 + number)).unwrap(), said)
    }

    /// Gives its stand-in something to read.
    pub(super) fn write(&mut self, text: &str) {
        use std::io::Write as _;
        self.stand_in.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Sends its stand-in a signal.
    pub(super) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.stand_in.id()).unwrap()), signal).unwrap();
    }

    /// Runs a command in it, as `exec` does.
    pub(super) fn exec(&self, argv: &[&str]) -> Machine<'_> {
        let request = serde_json::json!({
            "argv": argv, "env": [], "user": null, "workdir": null, "tty": false, "size": null,
        });
        let file = self.node.path("process.json");
        fs::write(&file, request.to_string()).unwrap();
        let (stand_in, report) = self.node.vmm("exec", &self.id, &["--process", file.to_str().unwrap()]);
        Machine { node: self.node, id: self.id.clone(), stand_in, report }
    }

    /// Where stand-ins reach it.
    pub(super) fn socket(&self) -> PathBuf {
        self.node.path("machines").join(&self.id).join("machine.sock")
    }

    /// The monitor's process.
    pub(super) fn monitor(&self) -> i32 {
        let ours = i32::try_from(self.stand_in.id()).unwrap();
        let others: Vec<_> = self.node.processes(&self.id).into_iter().filter(|pid| *pid != ours).collect();
        assert_eq!(others.len(), 1, "{others:?}");
        others[0]
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        let _ = self.stand_in.kill();
        let _ = self.stand_in.wait();
    }
}

impl Node {
    /// Ends what is left of a machine, as the shim does. Nothing is left then.
    pub(super) fn delete(&self, id: &str) {
        let root = self.path("machines");
        let deleted =
            Command::new(VMM).args(["delete", "--id", id]).arg("--root").arg(&root).status().unwrap();
        assert!(deleted.success());
        assert!(!root.join(id).exists());
        assert!(!self.path(&format!("workload-{id}/jail")).exists());
        assert_eq!(self.processes(id), Vec::<i32>::new());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.path("machines")).into_iter().flatten().flatten() {
            let mut delete = Command::new(VMM);
            delete.arg("delete").arg("--id").arg(entry.file_name()).arg("--root").arg(self.path("machines"));
            let _ = delete.status();
        }
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            // Not every hierarchy has it.
            let _ = fs::remove_dir(hierarchy.path().join(&self.cgroup));
        }
        let _ = fs::remove_dir(Path::new("/sys/fs/cgroup").join(&self.cgroup));
    }
}
