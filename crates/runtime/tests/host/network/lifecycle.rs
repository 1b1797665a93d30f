//! Opening, attaching, detaching, closing: each leaves exactly what it should, also when it is refused.

use std::{collections::BTreeSet, fs};

use futures_util::future::join_all;
use hypercore_runtime::network::{AttachError, CloseError, LinkError, Network, OpenError};

use super::lab::{
    LOCALHOST, PATIENCE, connect, everything, id, inside, ip, listen, on_a_machine, port, publish, run, talk,
};

#[test]
fn closing_leaves_the_machine_as_it_was() {
    on_a_machine("closing_leaves_the_machine_as_it_was", async |lab| {
        let before = everything(lab);
        let network = lab.open(vec![]).await.unwrap();
        network.attach(id(1), &publish(&[port("8080:80"), port("53/udp")])).await.unwrap();
        network.attach(id(2), &publish(&[])).await.unwrap();
        assert!(matches!(network.close().await, Err(CloseError::InUse(ids)) if ids == [id(1), id(2)]));
        network.detach(id(1)).await.unwrap();
        network.detach(id(2)).await.unwrap();
        network.detach(id(2)).await.unwrap();
        network.close().await.unwrap();
        assert_eq!(everything(lab), before);
    });
}

#[test]
fn detaching_leaves_the_machine_as_before_attaching() {
    on_a_machine("detaching_leaves_the_machine_as_before_attaching", async |lab| {
        let network = lab.open(vec![]).await.unwrap();
        let before = everything(lab);
        network.attach(id(1), &publish(&[port("8080:80"), port("53:53/udp")])).await.unwrap();
        assert_ne!(everything(lab), before);
        network.detach(id(1)).await.unwrap();
        assert_eq!(everything(lab), before);
    });
}

#[test]
fn attaching_again_gives_the_same_attachment() {
    on_a_machine("attaching_again_gives_the_same_attachment", async |lab| {
        let network = lab.open(vec![]).await.unwrap();
        let ports = publish(&[port("80"), port("8081:81")]);
        let first = network.attach(id(1), &ports).await.unwrap();
        assert_eq!(network.attach(id(1), &ports).await.unwrap(), first);
        // With other ports, or without its namespace, it is made anew.
        let second = network.attach(id(1), &publish(&[port("8082:82")])).await.unwrap();
        assert_ne!(second.address, first.address);
        run("umount", &second.netns.to_string_lossy());
        let third = network.attach(id(1), &publish(&[port("8082:82")])).await.unwrap();
        let listener = inside(&third, || listen(82));
        talk(&mut connect(LOCALHOST, 8082, PATIENCE).unwrap(), &listener);
    });
}

#[test]
fn many_workloads_attach_at_once() {
    on_a_machine("many_workloads_attach_at_once", async |lab| {
        let network = lab.open(vec![]).await.unwrap();
        let before = everything(lab);
        let ports = publish(&[port("80")]);
        let attached = join_all((0..40).map(|n| network.attach(id(n), &ports))).await;
        let attached: Vec<_> = attached.into_iter().map(|attachment| attachment.unwrap()).collect();
        let addresses: BTreeSet<_> = attached.iter().map(|attachment| attachment.address).collect();
        assert_eq!(addresses.len(), attached.len());
        for attachment in &attached {
            let listener = inside(attachment, || listen(80));
            talk(&mut connect(LOCALHOST, attachment.ports[0].host.get(), PATIENCE).unwrap(), &listener);
        }
        for result in join_all((0..40).map(|n| network.detach(id(n)))).await {
            result.unwrap();
        }
        assert_eq!(everything(lab), before);
    });
}

#[test]
fn a_failed_attachment_leaves_nothing() {
    on_a_machine("a_failed_attachment_leaves_nothing", async |lab| {
        let network = lab.open(vec![]).await.unwrap();
        // A directory where the namespace's file must go can't be replaced.
        let obstacle = lab.config().netns_directory.join(id(1).to_string());
        fs::create_dir(&obstacle).unwrap();
        let before = everything(lab);
        let error = network.attach(id(1), &publish(&[port("8080:80")])).await.unwrap_err();
        assert!(matches!(error, AttachError::Namespace(_)), "{error}");
        assert_eq!(everything(lab), before);
        fs::remove_dir(&obstacle).unwrap();
        network.attach(id(1), &publish(&[port("8080:80")])).await.unwrap();
    });
}

#[test]
fn a_caller_that_stops_waiting_leaves_something_that_can_be_attached_again() {
    on_a_machine("a_caller_that_stops_waiting_leaves_something_that_can_be_attached_again", async |lab| {
        let network = lab.open(vec![]).await.unwrap();
        let ports = publish(&[port("8080:80")]);
        let mut attach = Box::pin(network.attach(id(1), &ports));
        assert!(futures_util::poll!(&mut attach).is_pending());
        drop(attach);
        // Refused as busy until the abandoned thread has ended, then replaced.
        let deadline = std::time::Instant::now() + PATIENCE;
        let attachment = loop {
            match network.attach(id(1), &ports).await {
                Ok(attachment) => break attachment,
                Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
            }
        };
        let listener = inside(&attachment, || listen(80));
        talk(&mut connect(LOCALHOST, 8080, PATIENCE).unwrap(), &listener);
    });
}

#[test]
fn another_owners_bridge_is_left_alone() {
    on_a_machine("another_owners_bridge_is_left_alone", async |lab| {
        ip("link add hctest0 type bridge");
        let before = everything(lab);
        let error = lab.open(vec![]).await.unwrap_err();
        assert!(
            matches!(&error, OpenError::Bridge(LinkError::Taken { name, .. }) if name == "hctest0"),
            "{error}"
        );
        ip("link set hctest0 alias another.node");
        let OpenError::Bridge(error) = lab.open(vec![]).await.unwrap_err() else { panic!("not the bridge") };
        assert!(error.to_string().contains("belongs to another.node"), "{error}");
        assert_eq!(everything(lab), before);
    });
}

#[test]
fn a_subnet_that_the_host_uses_elsewhere_is_refused() {
    on_a_machine("a_subnet_that_the_host_uses_elsewhere_is_refused", async |lab| {
        let mut config = lab.config();
        config.subnet = "192.0.2.128/25".parse().unwrap();
        let OpenError::Bridge(error) = Network::open(config, vec![]).await.unwrap_err() else {
            panic!("not the bridge")
        };
        assert_eq!(
            error.to_string(),
            "the host already has 192.0.2.1 on uplink, inside 192.0.2.128/25; choose another [runtime] cidr"
        );
    });
}
