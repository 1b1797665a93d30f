//! The limits suite on a host that has cgroup v2 alone: a microVM, whose image is this very test program with all that
//! it needs. It refuses to be skipped silently: without QEMU or a guest kernel it says so.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    fs,
    io::Read as _,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use hypercore_fixtures::{guest_kernel, skip_without_machines};
use hypercore_model::{
    Digest, IoLimits,
    machine::{Accelerator, MachineDisk, MachineMount, MachineProcess, MachineSpec, Monitor},
};
use hypercore_runtime::machine::{disk, initramfs, kernel::Kernel, root_image};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

const VMM: &str = env!("CARGO_BIN_EXE_hypercore-vmm");
/// What the suite runs on its own host, where it expects it.
const PROGRAMS: [&str; 2] = [env!("CARGO_BIN_EXE_hypercore-engine"), env!("CARGO_BIN_EXE_hypercore-shim")];
/// Where this program is in the image.
const SUITE: &str = "/suite";
/// Where the suite makes its files. Not `/tmp`: the programs may lie below it, if that is where they were built.
const SCRATCH: &str = "/scratch";
/// Disk of the machine, in bytes. It takes no room before it is written.
const DISK_BYTES: u64 = 1 << 30;

/// The cgroup above the machine's, in every hierarchy, which goes with it.
struct Group(String);

impl Drop for Group {
    fn drop(&mut self) {
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            // Not every hierarchy has it.
            let _ = fs::remove_dir(hierarchy.path().join(&self.0));
        }
    }
}

#[test]
fn limits_hold_on_a_host_with_cgroup_v2_alone() {
    if skip_without_machines("limits_hold_on_a_host_with_cgroup_v2_alone") {
        return;
    }
    let group = Group(format!("hypercore-v2-{}", std::process::id()));
    let scratch = tempfile::Builder::new().prefix("hypercore-v2-").tempdir().unwrap();
    let directory = scratch.path().join("machines/v2");
    fs::create_dir_all(&directory).unwrap();
    let spec = serde_json::to_vec(&machine(scratch.path(), &group)).unwrap();
    fs::write(directory.join("machine.json"), spec).unwrap();

    let (mut report, report_end) = std::io::pipe().unwrap();
    fcntl(&report_end, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let root = scratch.path().join("machines");
    let mut command = Command::new(VMM);
    command.args([
        "create",
        "--id",
        "v2",
        "--bundle",
        "/",
        "--report-fd",
        &report_end.as_raw_fd().to_string(),
    ]);
    let running = command
        .arg("--root")
        .arg(&root)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    drop(report_end);
    let mut begun = String::new();
    report.read_to_string(&mut begun).unwrap();
    let ended = running.unwrap().wait_with_output().unwrap();
    let deleted = Command::new(VMM).args(["delete", "--id", "v2"]).arg("--root").arg(&root).status();

    let (out, errors) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(begun.contains("pid"), "{begun}");
    assert!(ended.status.success(), "{out}\n{errors}");
    let passed = out.lines().find_map(|line| line.strip_prefix("test result: ok. ")?.split(' ').next());
    let passed: usize = passed.and_then(|count| count.parse().ok()).unwrap_or(0);
    assert!(passed >= 5, "{out}");
    assert!(deleted.unwrap().success());
}

fn machine(scratch: &Path, group: &Group) -> MachineSpec {
    let image = scratch.join("image");
    furnish(&image);
    let kernel = Kernel::in_tree(&guest_kernel().unwrap()).unwrap();
    let agent = Path::new(VMM).with_file_name("hypercore-guest");
    assert!(agent.is_file(), "build the guest agent first: cargo xtask guest");
    let digest: Digest = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
    let writable = scratch.join("writable.ext4");
    disk::create(&writable, Some(DISK_BYTES), scratch).unwrap();
    let disk =
        |serial: &str, path: PathBuf, read_only| MachineDisk { serial: serial.to_owned(), path, read_only };
    let suite =
        format!("mount -t cgroup2 none /sys/fs/cgroup && exec {SUITE} --test-threads=1 engine::limits");
    MachineSpec {
        monitor: Monitor::Qemu,
        program: "/usr/bin/qemu-system-x86_64".into(),
        accelerator: Accelerator::Tcg,
        initrd: initramfs::build(&kernel, &agent, scratch).unwrap(),
        kernel: kernel.image,
        cpus: 2,
        memory_mib: 1024,
        cpu_millis: None,
        disks: vec![
            disk("image", root_image::build(&digest, &[image], scratch).unwrap(), true),
            disk("writable", writable, false),
        ],
        shares: Vec::new(),
        io: IoLimits::default(),
        network: None,
        hostname: "v2".to_owned(),
        read_only: false,
        // Overlays can't be mounted over overlays, and the root is one.
        mounts: vec![memory(SCRATCH), memory("/run")],
        process: MachineProcess {
            argv: ["sh", "-c", &suite].map(str::to_owned).to_vec(),
            env: vec!["PATH=/bin".to_owned(), format!("TMPDIR={SCRATCH}")],
            workdir: "/".to_owned(),
            user: String::new(),
            tty: false,
            stdin_open: false,
        },
        pids_max: None,
        cgroup: format!("/{}/v2", group.0).into(),
        console_log: scratch.join("console.log"),
        oom_events: scratch.join("oom"),
        boot_time_max_ms: hypercore_model::machine::BOOT_TIME_MAX_MS_DEFAULT,
        resume: None,
        monitor_id: None,
    }
}

fn memory(target: &str) -> MachineMount {
    MachineMount {
        source: String::new(),
        kind: "tmpfs".to_owned(),
        target: target.to_owned(),
        read_only: false,
        size_bytes: 0,
    }
}

/// This program, those that it runs, the libraries of both, and busybox under all its names.
fn furnish(image: &Path) {
    for directory in ["bin", "dev", "etc", "proc", "sys", "tmp", "run"] {
        fs::create_dir_all(image.join(directory)).unwrap();
    }
    let this = std::env::current_exe().unwrap();
    fs::copy(&this, image.join(SUITE.trim_start_matches('/'))).unwrap();
    let mut files: BTreeSet<PathBuf> = PROGRAMS.map(PathBuf::from).into();
    files.extend([this.as_path()].into_iter().chain(PROGRAMS.map(Path::new)).flat_map(libraries));
    for file in files {
        let target = image.join(file.strip_prefix("/").unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(&file, target).unwrap();
    }
    fs::copy("/bin/busybox", image.join("bin/busybox")).unwrap();
    let applets = Command::new("/bin/busybox").arg("--list").output().unwrap();
    for applet in String::from_utf8(applets.stdout).unwrap().lines().filter(|applet| *applet != "busybox") {
        std::os::unix::fs::symlink("busybox", image.join("bin").join(applet)).unwrap();
    }
    fs::write(image.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    fs::write(image.join("etc/group"), "root:x:0:\n").unwrap();
}

/// What the dynamic loader would load for a program, itself included.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let listed = Command::new("ldd").arg(program).output().unwrap();
    let text = String::from_utf8(listed.stdout).unwrap();
    let path = |line: &str| {
        let path = line.split_whitespace().find(|word| word.starts_with('/'))?;
        Some(PathBuf::from(path))
    };
    text.lines().filter_map(path).collect()
}
