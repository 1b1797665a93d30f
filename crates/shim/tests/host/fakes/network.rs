//! A machine's network, which these monitors open by its name: as whom, and from where.

use std::{fs::File, path::PathBuf, process::Command};

use hypercore_fixtures::skip_without_root;
use hypercore_model::machine::{MachineNetwork, MachineSpec};
use nix::sched::{CloneFlags, setns};

use super::{
    MONITORS,
    node::{MONITOR_ID, Node},
};

/// A network namespace in the place of the host's, which goes with it.
struct Host(String);

impl Host {
    /// Makes it, and has this thread and whom it starts enter it.
    fn enter(taps: &[&str]) -> Self {
        let host = Self(format!("hypercore-fakes-{}-{}", std::process::id(), nix::unistd::gettid()));
        ip(&["netns", "add", &host.0]);
        for tap in taps {
            ip(&["-n", &host.0, "tuntap", "add", tap, "mode", "tap", "vnet_hdr"]);
        }
        let namespace = File::open(PathBuf::from("/run/netns").join(&host.0)).unwrap();
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        host
    }

    fn owner(&self, tap: &str) -> String {
        let path = format!("/sys/class/net/{tap}/owner");
        let output = Command::new("ip").args(["netns", "exec", &self.0, "cat", &path]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn ip(arguments: &[&str]) {
    assert!(Command::new("ip").args(arguments).status().unwrap().success(), "{arguments:?}");
}

fn with_tap(spec: MachineSpec, tap: &str) -> MachineSpec {
    let network = MachineNetwork {
        tap: tap.to_owned(),
        netns: "/run/netns/nowhere".into(),
        hardware_address: "02:00:00:00:00:01".to_owned(),
        addresses: Vec::new(),
        gateways: Vec::new(),
        resolv_conf: String::new(),
        hosts: String::new(),
    };
    MachineSpec { network: Some(network), ..spec }
}

#[test]
fn the_device_becomes_the_monitors_who_opens_it_by_its_name() {
    if skip_without_root("the_device_becomes_the_monitors_who_opens_it_by_its_name") {
        return;
    }
    for monitor in MONITORS {
        let node = Node::new(monitor, "");
        let host = Host::enter(&["tap1"]);
        let machine = node.create("one", &with_tap(node.spec("one", &["sleep"]), "tap1"));
        assert!(machine.report.contains("pid"), "{monitor}: {}", machine.report);
        assert_eq!(host.owner("tap1"), MONITOR_ID.to_string());
        // Taken: a device has one other end.
        let second = node.create("two", &with_tap(node.spec("two", &["sleep"]), "tap1"));
        assert!(second.report.contains("busy"), "{monitor}: {}", second.report);
        drop((machine, second));
        for id in ["one", "two"] {
            node.delete(id);
        }
        // It outlives who had it, and is given to the next.
        let third = node.create("three", &with_tap(node.spec("three", &["sleep"]), "tap1"));
        assert!(third.report.contains("pid"), "{monitor}: {}", third.report);
        drop(third);
        node.delete("three");
        drop(host);
    }
}
