//! Published ports: from every side they must be reachable from, and who may have them.

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket},
};

use hypercore_model::{PortProtocol, limits::PORTS_COUNT_MAX};
use hypercore_runtime::network::{AttachError, ClaimError, Network, NetworkConfig, PortHolder};

use super::lab::{
    GATEWAY, GATEWAY6, HOST, HOST6, LOCALHOST, Lab, OUTSIDE, OUTSIDE6, PATIENCE, ask, connect, everything,
    id, inside, listen, on_a_machine, port, publish, run, talk,
};

#[test]
fn a_published_tcp_port_answers_from_every_side() {
    on_a_machine("a_published_tcp_port_answers_from_every_side", async |lab| {
        let network = lab.open(vec![]).await.unwrap();
        let web = network.attach(id(1), &publish(&[port("8080:80")])).await.unwrap();
        let other = network.attach(id(2), &publish(&[])).await.unwrap();
        let listener = inside(&web, || listen(80));
        for address in [LOCALHOST, Ipv4Addr::new(127, 0, 0, 9), GATEWAY, HOST] {
            let mut client = connect(address, 8080, PATIENCE).unwrap();
            talk(&mut client, &listener);
        }
        let mut client = lab.outside(|| connect(HOST, 8080, PATIENCE)).unwrap();
        let (_, peer) = talk(&mut client, &listener);
        assert_eq!(peer, OUTSIDE, "the workload sees who connects from outside");
        for (attachment, address) in [(&web, HOST), (&web, GATEWAY), (&other, HOST), (&other, GATEWAY)] {
            let mut client = inside(attachment, || connect(address, 8080, PATIENCE)).unwrap();
            let (_, peer) = talk(&mut client, &listener);
            assert_eq!(peer, GATEWAY);
        }
        // The host reaches a workload directly as well.
        talk(&mut connect(web.address, 80, PATIENCE).unwrap(), &listener);
    });
}

#[test]
fn a_workload_reaches_published_ports_whether_or_not_the_bridge_calls_the_firewall() {
    on_a_machine(
        "a_workload_reaches_published_ports_whether_or_not_the_bridge_calls_the_firewall",
        async |lab| {
            let network = lab.open(vec![]).await.unwrap();
            let web = network.attach(id(1), &publish(&[port("8080:80")])).await.unwrap();
            let other = network.attach(id(2), &publish(&[])).await.unwrap();
            let listener = inside(&web, || listen(80));
            let setting = "/proc/sys/net/bridge/bridge-nf-call-iptables";
            for value in ["0", "1"] {
                // Without br_netfilter there is only the first case.
                if fs::exists(setting).unwrap() {
                    fs::write(setting, value).unwrap();
                }
                for (attachment, address) in
                    [(&web, HOST), (&other, HOST), (&web, GATEWAY), (&other, GATEWAY)]
                {
                    for _ in 0..3 {
                        let mut client = inside(attachment, || connect(address, 8080, PATIENCE)).unwrap();
                        talk(&mut client, &listener);
                    }
                }
                let mut client = inside(&other, || connect(web.address, 80, PATIENCE)).unwrap();
                talk(&mut client, &listener);
            }
        },
    );
}

#[test]
fn a_published_udp_port_answers_from_every_side() {
    on_a_machine("a_published_udp_port_answers_from_every_side", async |lab| {
        let network = lab.open(vec![]).await.unwrap();
        let dns = network.attach(id(1), &publish(&[port("5353:53/udp")])).await.unwrap();
        let server = inside(&dns, || UdpSocket::bind("0.0.0.0:53").unwrap());
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        for address in [LOCALHOST, GATEWAY, HOST] {
            ask(address, 5353, &server).unwrap();
        }
        lab.outside(|| ask(HOST, 5353, &server)).unwrap();
        inside(&dns, || ask(HOST, 5353, &server)).unwrap();
    });
}

#[test]
fn a_port_chosen_by_the_node_is_free_and_leads_to_the_workload() {
    on_a_machine("a_port_chosen_by_the_node_is_free_and_leads_to_the_workload", async |lab| {
        let network = lab.open(vec![]).await.unwrap();
        let web = network.attach(id(1), &publish(&[port("80"), port("80"), port("80/udp")])).await.unwrap();
        let listener = inside(&web, || listen(80));
        assert_eq!(web.ports[2].protocol, PortProtocol::Udp);
        assert_ne!(web.ports[0].host, web.ports[1].host);
        for published in &web.ports[..2] {
            assert!((32_768..=60_999).contains(&published.host.get()), "{published:?}");
            talk(&mut connect(LOCALHOST, published.host.get(), PATIENCE).unwrap(), &listener);
        }
    });
}

#[test]
fn a_taken_port_is_refused_and_its_holder_named() {
    on_a_machine("a_taken_port_is_refused_and_its_holder_named", async |lab| {
        let network = lab.open(vec![]).await.unwrap();
        let _listener = TcpListener::bind("127.0.0.1:8080").unwrap();
        let holder_of = async |mapping: &str| match network.attach(id(2), &publish(&[port(mapping)])).await {
            Err(AttachError::Claim(ClaimError::PortTaken { port, by, .. })) if port.get() == 8080 => by,
            other => panic!("{other:?}"),
        };
        network.attach(id(1), &publish(&[port("8080:80/udp")])).await.unwrap();
        assert_eq!(holder_of("8080:80/udp").await, PortHolder::Workload(id(1)));
        let holder = holder_of("8080:80").await;
        assert!(matches!(holder, PortHolder::Process { pid, .. } if pid == std::process::id()), "{holder}");
    });
}

#[test]
fn a_port_is_free_again_once_its_workload_is_detached() {
    on_a_machine("a_port_is_free_again_once_its_workload_is_detached", async |lab: &Lab| {
        let network = lab.open(vec![]).await.unwrap();
        network.attach(id(1), &publish(&[port("8080:80")])).await.unwrap();
        assert!(TcpListener::bind("0.0.0.0:8080").is_err(), "nobody takes a published port");
        network.detach(id(1)).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:8080").unwrap();
        listener.set_nonblocking(true).unwrap();
        talk(&mut connect(LOCALHOST, 8080, PATIENCE).unwrap(), &listener);
        drop(listener);
        // The connections just made are in TIME_WAIT, which must not count as a holder.
        let web = network.attach(id(2), &publish(&[port("8080:81")])).await.unwrap();
        let listener = inside(&web, || listen(81));
        talk(&mut connect(LOCALHOST, 8080, PATIENCE).unwrap(), &listener);
    });
}

#[test]
fn a_published_port_stands_on_ipv6_too() {
    on_a_machine("a_published_port_stands_on_ipv6_too", async |lab| {
        let network = lab.open(vec![]).await.unwrap();
        let web = network.attach(id(1), &publish(&[port("8080:80"), port("5353:53/udp")])).await.unwrap();
        let other = network.attach(id(2), &publish(&[])).await.unwrap();
        let listener = inside(&web, || listen(80));
        let server = inside(&web, || UdpSocket::bind("[::]:53").unwrap());
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        let (_, peer) = talk(&mut lab.outside(|| connect(HOST6, 8080, PATIENCE)).unwrap(), &listener);
        assert_eq!(peer, OUTSIDE6, "the workload sees who connects from outside");
        lab.outside(|| ask(HOST6, 5353, &server)).unwrap();
        for address in [HOST6, GATEWAY6] {
            talk(&mut connect(address, 8080, PATIENCE).unwrap(), &listener);
            for attachment in [&web, &other] {
                talk(&mut inside(attachment, || connect(address, 8080, PATIENCE)).unwrap(), &listener);
            }
        }
        // Refused at once, so that clients of `localhost` go on to 127.0.0.1.
        let refused = connect(Ipv6Addr::LOCALHOST, 8080, PATIENCE).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        assert!(TcpListener::bind("[::1]:8080").is_err(), "nobody takes a published port");
    });
}

#[test]
fn a_node_without_ipv6_publishes_on_ipv4_alone() {
    on_a_machine("a_node_without_ipv6_publishes_on_ipv4_alone", async |lab| {
        let config = NetworkConfig { prefix: None, ..lab.config() };
        let network = Network::open(config, vec![]).await.unwrap();
        let web = network.attach(id(1), &publish(&[port("8080:80")])).await.unwrap();
        assert_eq!(web.address6, None);
        let listener = inside(&web, || listen(80));
        talk(&mut lab.outside(|| connect(HOST, 8080, PATIENCE)).unwrap(), &listener);
        assert!(lab.outside(|| connect(HOST6, 8080, PATIENCE)).is_err());
        let addresses = inside(&web, || run("ip", "-o -6 addr show dev eth0"));
        assert_eq!(addresses, "", "no IPv6 at all");
    });
}

#[test]
fn a_workload_publishes_as_many_ports_as_it_may_have() {
    on_a_machine("a_workload_publishes_as_many_ports_as_it_may_have", async |lab| {
        let network = lab.open(vec![]).await.unwrap();
        let before = everything(lab);
        let ports: Vec<_> =
            (0..PORTS_COUNT_MAX).map(|n| port(&format!("{}:{}", 20_000 + n, 1_000 + n))).collect();
        let web = network.attach(id(1), &publish(&ports)).await.unwrap();
        for published in [web.ports[0], web.ports[PORTS_COUNT_MAX / 2], web.ports[PORTS_COUNT_MAX - 1]] {
            let listener = inside(&web, || listen(published.container.get()));
            talk(&mut connect(LOCALHOST, published.host.get(), PATIENCE).unwrap(), &listener);
            talk(&mut connect(GATEWAY6, published.host.get(), PATIENCE).unwrap(), &listener);
        }
        network.detach(id(1)).await.unwrap();
        assert_eq!(everything(lab), before);
    });
}
