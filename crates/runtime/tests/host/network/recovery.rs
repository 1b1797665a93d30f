//! What a restart finds again, and what a sweep removes after a crash.

use std::{collections::BTreeSet, fs};

use hypercore_runtime::network::{AttachError, Attachment, OpenError};

use super::lab::{
    HOST, LOCALHOST, OUTSIDE, PATIENCE, connect, everything, exchange, id, inside, ip, listen, of_tenant,
    on_a_machine, port, publish, run, talk,
};

#[test]
fn a_restart_keeps_addresses_ports_and_open_connections() {
    on_a_machine("a_restart_keeps_addresses_ports_and_open_connections", async |lab| {
        let network = lab.open(vec![]).await.unwrap();
        let web = network.attach(id(1), &publish(&[port("8080:80")])).await.unwrap();
        let listener = inside(&web, || listen(80));
        let mut local = connect(LOCALHOST, 8080, PATIENCE).unwrap();
        let (mut local_server, _) = talk(&mut local, &listener);
        let mut remote = lab.outside(|| connect(HOST, 8080, PATIENCE)).unwrap();
        let (mut remote_server, _) = talk(&mut remote, &listener);
        let before = everything(lab);
        drop(network);

        let network = lab.open(vec![web.clone()]).await.unwrap();
        assert_eq!(everything(lab), before);
        exchange(&mut local, &mut local_server);
        exchange(&mut remote, &mut remote_server);
        talk(&mut connect(LOCALHOST, 8080, PATIENCE).unwrap(), &listener);
        assert_eq!(network.attach(id(1), &publish(&[port("8080:80")])).await.unwrap(), web);
        assert_ne!(network.attach(id(2), &publish(&[])).await.unwrap().address, web.address);
    });
}

#[test]
fn a_removed_bridge_and_table_come_back_with_the_workloads_on_it() {
    on_a_machine("a_removed_bridge_and_table_come_back_with_the_workloads_on_it", async |lab| {
        let network = lab.open(vec![]).await.unwrap();
        let web = network.attach(id(1), &publish(&[port("8080:80")])).await.unwrap();
        let listener = inside(&web, || listen(80));
        drop(network);
        ip("link del hctest0");
        run("nft", "flush ruleset");
        let _network = lab.open(vec![web]).await.unwrap();
        talk(&mut connect(LOCALHOST, 8080, PATIENCE).unwrap(), &listener);
    });
}

#[test]
fn a_sweep_removes_what_a_crash_left_and_keeps_the_rest() {
    on_a_machine("a_sweep_removes_what_a_crash_left_and_keeps_the_rest", async |lab| {
        let network = lab.open(vec![]).await.unwrap();
        let empty = everything(lab);
        let kept = network.attach(id(1), &publish(&[port("8080:80")])).await.unwrap();
        let with_kept = everything(lab);
        let gone = network.attach(id(2), &publish(&[port("8081:80")])).await.unwrap();
        let surplus = network.attach(id(3), &publish(&[port("8082:80")])).await.unwrap();
        drop(network);

        // Workload 2 is unknown after the crash; workload 3 is known but no longer wanted.
        let network = lab.open(vec![kept.clone(), surplus]).await.unwrap();
        let swept = network.sweep(|| BTreeSet::from([id(1)])).await.unwrap();
        assert_eq!(swept.workloads, BTreeSet::from([id(3)]));
        assert_eq!(swept.namespaces, [gone.netns]);
        assert_eq!(swept.links.len(), 1);
        assert_eq!(everything(lab), with_kept);
        let listener = inside(&kept, || listen(80));
        talk(&mut connect(LOCALHOST, 8080, PATIENCE).unwrap(), &listener);

        let swept = network.sweep(BTreeSet::new).await.unwrap();
        assert_eq!((swept.workloads.len(), swept.links.len(), swept.namespaces.len()), (1, 0, 0));
        assert_eq!(everything(lab), empty);
    });
}

#[test]
fn a_crash_in_the_middle_of_an_attachment_does_not_stop_the_next_one() {
    on_a_machine("a_crash_in_the_middle_of_an_attachment_does_not_stop_the_next_one", async |lab| {
        let network = lab.open(vec![]).await.unwrap();
        network.attach(id(1), &publish(&[port("8080:80")])).await.unwrap();
        drop(network);
        // The veth pair, the namespace and the port of before are all still there, and nobody remembers them.
        let network = lab.open(vec![]).await.unwrap();
        let web = network.attach(id(1), &publish(&[port("8080:80")])).await.unwrap();
        let listener = inside(&web, || listen(80));
        talk(&mut connect(LOCALHOST, 8080, PATIENCE).unwrap(), &listener);
    });
}

#[test]
fn another_subnet_is_refused_while_workloads_have_addresses_of_the_old_one() {
    on_a_machine("another_subnet_is_refused_while_workloads_have_addresses_of_the_old_one", async |lab| {
        let network = lab.open(vec![]).await.unwrap();
        let web = network.attach(id(1), &publish(&[])).await.unwrap();
        drop(network);
        let mut config = lab.config();
        config.subnet = "10.78.0.0/24".parse().unwrap();
        let refused = hypercore_runtime::network::Network::open(config, vec![web]).await.unwrap_err();
        assert!(matches!(refused, OpenError::Restore { .. }), "{refused}");
    });
}

#[test]
fn workloads_that_were_ports_of_the_bridge_stay_connected() {
    on_a_machine("workloads_that_were_ports_of_the_bridge_stay_connected", async |lab| {
        let network = lab.open(vec![]).await.unwrap();
        let web = network.attach(id(1), &publish(&[port("8080:80")])).await.unwrap();
        let neighbour = network.attach(id(2), &publish(&[])).await.unwrap();
        drop(network);
        // As an earlier release left them: bridged, with ARP, known by no group, without IPv6.
        let links = run("ip", "-o link show type veth");
        let names = links.lines().filter_map(|line| line.split([' ', '@']).nth(1));
        for name in names.filter(|name| name.starts_with("hc")) {
            ip(&format!("route flush dev {name}"));
            ip(&format!("link set {name} group default arp on master hctest0"));
        }
        let old = |attachment: &Attachment| {
            inside(attachment, || ip("link set eth0 arp on"));
            let mut value = serde_json::to_value(attachment).unwrap();
            let fields = value.as_object_mut().unwrap();
            for field in ["address6", "tenant", "allow", "group"] {
                fields.remove(field).unwrap();
            }
            serde_json::from_value(value).unwrap()
        };
        let restored: Vec<Attachment> = vec![old(&web), old(&neighbour)];
        assert_ne!(restored[0], web);

        let _network = lab.open(restored).await.unwrap();
        let listener = inside(&web, || listen(80));
        talk(&mut connect(LOCALHOST, 8080, PATIENCE).unwrap(), &listener);
        talk(&mut inside(&neighbour, || connect(web.address, 80, PATIENCE)).unwrap(), &listener);
        let outside = lab.outside(|| listen(80));
        talk(&mut inside(&web, || connect(OUTSIDE, 80, PATIENCE)).unwrap(), &outside);
        assert_eq!(run("ip", "-o link show master hctest0"), "", "the bridge has no ports");
    });
}

#[test]
fn a_sweep_takes_down_what_could_not_be_detached_before() {
    on_a_machine("a_sweep_takes_down_what_could_not_be_detached_before", async |lab| {
        let network = lab.open(vec![]).await.unwrap();
        let web = network.attach(id(1), &publish(&[port("8080:80")])).await.unwrap();
        // A directory in the place of the namespace's file can't be removed as one.
        run("umount", &web.netns.to_string_lossy());
        fs::remove_file(&web.netns).unwrap();
        fs::create_dir(&web.netns).unwrap();
        network.detach(id(1)).await.unwrap_err();
        assert!(
            network.attach(id(2), &publish(&[port("8080:80")])).await.is_err(),
            "the port stays reserved"
        );
        fs::remove_dir(&web.netns).unwrap();
        let swept = network.sweep(|| BTreeSet::from([id(1)])).await.unwrap();
        assert_eq!(swept.workloads, BTreeSet::from([id(1)]));
        network.attach(id(2), &publish(&[port("8080:80")])).await.unwrap();
    });
}

#[test]
fn a_sweep_brings_a_removed_table_back() {
    on_a_machine("a_sweep_brings_a_removed_table_back", async |lab| {
        let network = lab.open(vec![]).await.unwrap();
        let web = network.attach(id(1), &publish(&[port("8080:80")])).await.unwrap();
        let before = everything(lab);
        run("nft", "flush ruleset");
        // Without its table a node attaches nobody: nobody would be kept apart.
        let refused = network.attach(id(2), &publish(&[])).await.unwrap_err();
        assert!(matches!(refused, AttachError::Firewall(_)), "{refused}");
        network.sweep(|| BTreeSet::from([id(1)])).await.unwrap();
        assert_eq!(everything(lab), before);
        let listener = inside(&web, || listen(80));
        talk(&mut connect(LOCALHOST, 8080, PATIENCE).unwrap(), &listener);
    });
}

#[test]
fn many_lives_leave_nothing() {
    on_a_machine("many_lives_leave_nothing", async |lab| {
        let network = lab.open(vec![]).await.unwrap();
        let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
        let (before, open_before) = (everything(lab), descriptors());
        for round in 0..100 {
            let request = if round % 2 == 0 { publish(&[port("8080:80")]) } else { of_tenant("other") };
            network.attach(id(round), &request).await.unwrap();
            network.detach(id(round)).await.unwrap();
        }
        assert_eq!(everything(lab), before);
        assert_eq!(descriptors(), open_before);
    });
}
