//! What tests of the engines have in common: a machine with a bit of everything, and a server in the engine's place.

use std::{
    fs,
    os::unix::net::UnixListener,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
};

use hypercore_fixtures::{ApiAnswer, ApiRequest, api_server};
use hypercore_model::{
    IoLimits,
    machine::{Accelerator, MachineDisk, MachineNetwork, MachineProcess, MachineSpec, Monitor},
};

/// A machine whose files are in `directory`, where they are made.
pub(super) fn machine(monitor: Monitor, directory: &Path) -> MachineSpec {
    for name in ["kernel", "initrd", "image.ext4", "writable.ext4", "volume.ext4"] {
        fs::write(directory.join(name), name).unwrap();
    }
    let disk = |serial: &str, name: &str, read_only| MachineDisk {
        serial: serial.to_owned(),
        path: directory.join(name),
        read_only,
    };
    MachineSpec {
        monitor,
        program: directory.join(monitor.as_str()),
        accelerator: Accelerator::Kvm,
        kernel: directory.join("kernel"),
        initrd: directory.join("initrd"),
        cpus: 2,
        memory_mib: 256,
        cpu_millis: None,
        disks: vec![
            disk("image", "image.ext4", true),
            disk("writable", "writable.ext4", false),
            disk("volume0", "volume.ext4", false),
        ],
        shares: Vec::new(),
        io: IoLimits {
            disk_size_bytes: None,
            disk_bytes_per_s: Some(30 << 20),
            disk_ops_per_s: Some(3000),
            network_bytes_per_s: Some(1 << 20),
        },
        network: Some(network()),
        hostname: "sample".to_owned(),
        read_only: false,
        mounts: Vec::new(),
        process: process(),
        pids_max: None,
        cgroup: "/".into(),
        console_log: directory.join("console.log"),
        oom_events: directory.join("oom"),
        boot_time_max_ms: 5000,
        resume: None,
        monitor_id: Some(0x7000_0000),
    }
}

fn process() -> MachineProcess {
    MachineProcess {
        argv: vec!["true".to_owned()],
        env: Vec::new(),
        workdir: "/".to_owned(),
        user: String::new(),
        tty: false,
        stdin_open: false,
    }
}

fn network() -> MachineNetwork {
    MachineNetwork {
        tap: "hctap0".to_owned(),
        netns: "/run/netns/none".into(),
        hardware_address: "02:00:00:00:00:01".to_owned(),
        addresses: vec![("172.16.0.2".parse().unwrap(), 32)],
        gateways: Vec::new(),
        resolv_conf: String::new(),
        hosts: String::new(),
    }
}

/// Every request that `ask` makes of the server at `socket`, which answers with `answer`.
pub(super) fn recorded<T>(
    socket: &Path,
    mut answer: impl FnMut(&ApiRequest) -> ApiAnswer + Send,
    ask: impl FnOnce() -> T,
) -> (Vec<ApiRequest>, T) {
    let _ = fs::remove_file(socket);
    let listener = UnixListener::bind(socket).unwrap();
    thread::scope(|scope| {
        let serving = scope.spawn(|| {
            let mut requests = Vec::new();
            let end = api_server::serve(&listener, |request| {
                let answered = answer(&request);
                requests.push(request);
                answered
            });
            assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
            requests
        });
        let told = ask();
        // An accept ends when its listener is shut down.
        nix::sys::socket::shutdown(
            std::os::fd::AsRawFd::as_raw_fd(&listener),
            nix::sys::socket::Shutdown::Both,
        )
        .unwrap();
        (serving.join().unwrap(), told)
    })
}

/// A process in the engine's place, killed when it is dropped.
pub(super) struct Placeholder(pub(super) Child);

impl Placeholder {
    pub(super) fn start() -> Self {
        Self(Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Placeholder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
