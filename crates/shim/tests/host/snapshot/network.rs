//! A network of machines: a namespace with a TAP device for each of them, and a server that they reach.

use std::{
    fs::{self, File},
    io::Write,
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex},
    thread,
};

use hypercore_fixtures::wait_until;
use hypercore_model::machine::MachineNetwork;
use nix::sched::{CloneFlags, setns};

use super::PATIENCE;

/// The host's side of every link.
const GATEWAY: &str = "10.77.0.1";

/// A namespace of its own, which goes with it.
pub(super) struct Network(String);

impl Network {
    /// One of that name, with the process's number.
    pub(super) fn new(name: &str) -> Self {
        let network = Self(format!("{name}-{}", std::process::id()));
        run(&["netns", "add", &network.0]);
        network.run(&["link", "set", "lo", "up"]);
        network.run(&["addr", "add", &format!("{GATEWAY}/32"), "dev", "lo"]);
        network
    }

    /// The place of a machine.
    pub(super) fn place(&self, number: u8) -> MachineNetwork {
        let (tap, address) = (format!("tap{number}"), format!("10.77.0.{number}"));
        let hardware_address = format!("02:00:00:00:77:0{number}");
        self.run(&["tuntap", "add", &tap, "mode", "tap", "vnet_hdr"]);
        self.run(&["link", "set", &tap, "address", &hardware_address, "arp", "off", "up"]);
        self.run(&["route", "add", &format!("{address}/32"), "dev", &tap]);
        MachineNetwork {
            tap,
            netns: self.path(),
            hardware_address,
            addresses: vec![(address.parse().unwrap(), 16), (format!("fd77::{number}").parse().unwrap(), 64)],
            gateways: vec![GATEWAY.parse().unwrap()],
            resolv_conf: "nameserver 10.77.0.1\n".to_owned(),
            hosts: format!("{address} m{number}\n"),
        }
    }

    /// The namespace.
    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.0)
    }

    fn run(&self, arguments: &[&str]) {
        run(&[&["-n", &self.0], arguments].concat());
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn run(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Takes connections, and says the same to all of them.
pub(super) struct Server(Arc<Mutex<Vec<TcpStream>>>);

impl Server {
    /// One in the namespace, which ends when that does.
    pub(super) fn begin(network: &Network) -> Self {
        let (path, connections) = (network.path(), Arc::new(Mutex::new(Vec::new())));
        let taken = Arc::clone(&connections);
        let (ready, is_ready) = std::sync::mpsc::channel();
        thread::spawn(move || {
            // This thread's alone.
            setns(File::open(path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            let listener = TcpListener::bind((GATEWAY, 9000)).unwrap();
            ready.send(()).unwrap();
            for connection in listener.incoming() {
                taken.lock().unwrap().push(connection.unwrap());
            }
        });
        is_ready.recv().unwrap();
        Self(connections)
    }

    /// Says a line, once somebody is there.
    pub(super) fn tell(&self, line: &str) {
        let is_there = wait_until(PATIENCE, || (self.connections() > 0).then_some(()));
        assert!(is_there.is_some(), "nobody has connected");
        for connection in self.0.lock().unwrap().iter_mut() {
            connection.write_all(format!("{line}\n").as_bytes()).unwrap();
        }
    }

    /// How many have connected.
    pub(super) fn connections(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// A filesystem of a few megabytes, which goes with it.
pub(super) struct Small(PathBuf);

impl Small {
    /// Mounted at a new directory.
    pub(super) fn mount(path: PathBuf, size: &str) -> Self {
        fs::create_dir(&path).unwrap();
        let options = format!("size={size}");
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("tmpfs"), &path, Some("tmpfs"), flags, Some(options.as_str())).unwrap();
        Self(path)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &PathBuf {
        &self.0
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = nix::mount::umount(&self.0);
    }
}
