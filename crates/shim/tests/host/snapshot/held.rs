//! Machines held by this test as the shim holds them: booted, resumed, executed in, and gone with it.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read, Write as _},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use hypercore_fixtures::{guest_kernel, wait_until};
use hypercore_model::{
    Digest, IoLimits,
    machine::{Accelerator, MachineDisk, MachineProcess, MachineResume, MachineSpec, Monitor},
};
use hypercore_runtime::machine::{
    contact::{Contact, ContactError},
    disk, initramfs,
    kernel::Kernel,
    root_image,
};
use hypercore_wire::Message;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::{
    PATIENCE,
    network::{Network, Small},
};

const VMM: &str = env!("CARGO_BIN_EXE_hypercore-vmm");
/// Disk of a machine, in bytes. It takes no room before it is written.
const DISK_BYTES: u64 = 256 << 20;

/// What machines are made of, and where; all of it goes with the test.
pub(super) struct Kit {
    scratch: tempfile::TempDir,
    name: &'static str,
    kernel: Kernel,
    initrd: PathBuf,
    image: PathBuf,
    /// Whether workloads may not write to their root.
    pub(super) read_only: bool,
    /// Whether they have an input.
    pub(super) stdin_open: bool,
}

impl Kit {
    /// With busybox for an image.
    pub(super) fn new(name: &'static str) -> Self {
        let scratch = tempfile::Builder::new().prefix("hypercore-snap-").tempdir().unwrap();
        let agent = Path::new(VMM).with_file_name("hypercore-guest");
        assert!(agent.is_file(), "build the guest agent first: cargo xtask guest");
        let kernel = Kernel::in_tree(&guest_kernel().unwrap()).unwrap();
        let initrd = initramfs::build(&kernel, &agent, scratch.path()).unwrap();
        let files = scratch.path().join("image");
        furnish(&files);
        let digest: Digest = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
        let image = root_image::build(&digest, &[files], scratch.path()).unwrap();
        Self { scratch, name, kernel, initrd, image, read_only: false, stdin_open: false }
    }

    /// A path in the test's own directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// A filesystem that is soon full.
    pub(super) fn mount(&self, name: &str, size: &str) -> Small {
        Small::mount(self.path(name), size)
    }

    /// Boots a machine that runs a shell script.
    pub(super) fn boot(&self, network: &Network, number: u8, script: &str) -> Held {
        disk::create(&self.writable(number), Some(DISK_BYTES), self.scratch.path()).unwrap();
        self.begin(network, self.spec(network, number, script)).unwrap()
    }

    /// A machine that goes on from a snapshot.
    pub(super) fn resume(&self, network: &Network, number: u8, from: &Path, resume: MachineResume) -> Held {
        self.try_resume(network, number, from, resume).unwrap()
    }

    /// The same, if it can.
    pub(super) fn try_resume(
        &self,
        network: &Network,
        number: u8,
        from: &Path,
        resume: MachineResume,
    ) -> Result<Held, String> {
        let mut copy = Command::new("cp");
        copy.arg("--sparse=always").arg(from.join("writable.ext4")).arg(self.writable(number));
        assert!(copy.status().unwrap().success());
        let spec = MachineSpec { resume: Some(resume), ..self.spec(network, number, "") };
        self.begin(network, spec)
    }

    fn writable(&self, number: u8) -> PathBuf {
        self.path(&format!("writable-{number}.ext4"))
    }

    fn spec(&self, network: &Network, number: u8, script: &str) -> MachineSpec {
        let disk = |serial: &str, path: PathBuf, read_only| MachineDisk {
            serial: serial.to_owned(),
            path,
            read_only,
        };
        MachineSpec {
            monitor: Monitor::Qemu,
            program: "/usr/bin/qemu-system-x86_64".into(),
            accelerator: Accelerator::Tcg,
            initrd: self.initrd.clone(),
            kernel: self.kernel.image.clone(),
            cpus: 2,
            memory_mib: 192,
            cpu_millis: None,
            disks: vec![
                disk("image", self.image.clone(), true),
                disk("writable", self.writable(number), false),
            ],
            shares: Vec::new(),
            io: IoLimits::default(),
            network: Some(network.place(number)),
            hostname: format!("m{number}"),
            read_only: self.read_only,
            mounts: Vec::new(),
            process: MachineProcess {
                argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
                env: vec!["PATH=/bin".to_owned()],
                workdir: "/".to_owned(),
                user: String::new(),
                tty: false,
                stdin_open: self.stdin_open,
            },
            pids_max: None,
            cgroup: format!("/hypercore-snap-{}-{}/m{number}", self.name, std::process::id()).into(),
            console_log: self.path(&format!("console-{number}.log")),
            oom_events: self.path(&format!("oom-{number}")),
            boot_time_max_ms: 60_000,
            resume: None,
            monitor_id: None,
        }
    }

    fn begin(&self, network: &Network, spec: MachineSpec) -> Result<Held, String> {
        let root = self.path("machines");
        fs::create_dir_all(root.join(&spec.hostname)).unwrap();
        let machine = root.join(&spec.hostname).join("machine.json");
        fs::write(machine, serde_json::to_vec(&spec).unwrap()).unwrap();
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", network.path().display())).arg(VMM);
        command.args(["create", "--id", &spec.hostname, "--bundle", "/"]);
        Held::begin(command, root, spec.hostname, true)
    }
}

impl Drop for Kit {
    fn drop(&mut self) {
        let name = format!("hypercore-snap-{}-{}", self.name, std::process::id());
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            // Not every hierarchy has it.
            let _ = fs::remove_dir(hierarchy.path().join(&name));
        }
        let _ = fs::remove_dir(Path::new("/sys/fs/cgroup").join(&name));
    }
}

/// A stand-in, for a machine or for a process in one.
#[derive(Debug)]
pub(super) struct Held {
    process: Child,
    root: PathBuf,
    id: String,
    is_machine: bool,
    lines: Arc<Mutex<Vec<String>>>,
    /// Ends with what it writes.
    reader: Option<thread::JoinHandle<()>>,
}

impl Held {
    fn begin(mut command: Command, root: PathBuf, id: String, is_machine: bool) -> Result<Self, String> {
        let (mut report, report_end) = std::io::pipe().unwrap();
        fcntl(&report_end, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        command.args(["--report-fd", &report_end.as_raw_fd().to_string()]).arg("--root").arg(&root);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        drop(report_end);
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (stdout, said) = (process.stdout.take().unwrap(), Arc::clone(&lines));
        let reader = thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                said.lock().unwrap().push(line);
            }
        });
        let held = Self { process, root, id, is_machine, lines, reader: Some(reader) };
        let mut begun = String::new();
        report.read_to_string(&mut begun).unwrap();
        if begun.contains("pid") { Ok(held) } else { Err(begun) }
    }

    /// What it has written so far.
    pub(super) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Writes to its input.
    pub(super) fn feed(&mut self, text: &str) {
        self.process.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// The engine that runs the machine.
    pub(super) fn engine(&self) -> i32 {
        let monitor = self.process.id();
        let children = fs::read_to_string(format!("/proc/{monitor}/task/{monitor}/children")).unwrap();
        children.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Waits for its end.
    pub(super) fn ends(&mut self) -> bool {
        wait_until(PATIENCE, || self.process.try_wait().unwrap()).is_some()
    }

    /// Where its monitor is reached.
    pub(super) fn socket(&self) -> PathBuf {
        self.root.join(&self.id).join("machine.sock")
    }

    /// Asks its monitor.
    pub(super) fn ask(&self, request: impl Into<Message>) -> Result<Message, ContactError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { Contact::open(&self.socket()).await?.request(request, PATIENCE).await })
    }

    /// Starts a script in it.
    pub(super) fn exec(&self, script: &str) -> Self {
        let request = self.root.join(format!("{}-exec.json", self.id));
        let process = serde_json::json!({ "argv": ["sh", "-c", script], "env": [], "tty": false });
        fs::write(&request, process.to_string()).unwrap();
        let mut command = Command::new(VMM);
        command.args(["exec", "--id", &self.id, "--process"]).arg(request);
        Self::begin(command, self.root.clone(), self.id.clone(), false).unwrap()
    }

    /// Runs a script in it, and says what it wrote.
    pub(super) fn run(&self, script: &str) -> Vec<String> {
        let mut held = self.exec(script);
        let ended = wait_until(PATIENCE, || held.process.try_wait().unwrap());
        assert!(ended.is_some_and(|status| status.success()), "{script}: {ended:?} {:?}", held.lines());
        held.reader.take().unwrap().join().unwrap();
        held.lines()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if self.is_machine {
            let _ =
                Command::new(VMM).args(["delete", "--id", &self.id]).arg("--root").arg(&self.root).status();
        }
    }
}

/// Busybox under all its names, and a machine's id.
fn furnish(image: &Path) {
    for directory in ["bin", "dev", "etc", "proc", "sys", "tmp", "run"] {
        fs::create_dir_all(image.join(directory)).unwrap();
    }
    fs::copy("/bin/busybox", image.join("bin/busybox")).unwrap();
    let applets = Command::new("/bin/busybox").arg("--list").output().unwrap();
    for applet in String::from_utf8(applets.stdout).unwrap().lines().filter(|applet| *applet != "busybox") {
        std::os::unix::fs::symlink("busybox", image.join("bin").join(applet)).unwrap();
    }
    fs::write(image.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    fs::write(image.join("etc/group"), "root:x:0:\n").unwrap();
    fs::write(image.join("etc/machine-id"), format!("{}\n", "0123456789abcdef".repeat(2))).unwrap();
}
