//! What a restart finds again, and what a sweep removes after a crash.

use std::collections::BTreeSet;

use hypercore_runtime::network::OpenError;

use super::lab::{
    HOST, LOCALHOST, PATIENCE, connect, everything, exchange, id, inside, ip, listen, on_a_machine, port,
    publish, run, talk,
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
