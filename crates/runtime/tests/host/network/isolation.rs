//! Who may talk to whom: the outside yes, the host no, link-local no, the neighbour yes.

use std::{
    fs,
    net::{Ipv4Addr, UdpSocket},
};

use super::lab::{
    DOUBT, GATEWAY, HOST, LOCALHOST, MTU, OUTSIDE, PATIENCE, connect, id, inside, ip, listen, on_a_machine,
    port, run, talk,
};

#[test]
fn a_workload_has_an_address_a_route_and_loopback_and_nothing_else() {
    on_a_machine("a_workload_has_an_address_a_route_and_loopback_and_nothing_else", async |lab| {
        let network = lab.open(vec![]).await.unwrap();
        let web = network.attach(id(1), &[]).await.unwrap();
        assert_eq!((web.address, web.gateway, web.prefix_len), (Ipv4Addr::new(10, 77, 0, 2), GATEWAY, 24));
        let (links, routes, has_ipv6) = inside(&web, || {
            let has_ipv6 = fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap().contains("eth0");
            (run("ip", "-o addr"), run("ip", "route"), has_ipv6)
        });
        assert!(links.contains("inet 10.77.0.2/24 brd 10.77.0.255 scope global eth0"), "{links}");
        assert!(links.contains("inet 127.0.0.1/8"), "{links}");
        assert!(routes.starts_with("default via 10.77.0.1 dev eth0"), "{routes}");
        assert!(!has_ipv6, "eth0 has no IPv6 address");
        let mtu = inside(&web, || run("ip", "-o link show eth0"));
        assert!(mtu.contains(&format!("mtu {MTU} ")), "as the uplink's: {mtu}");
        // A port below 1024 and ping are open to every user inside.
        let setting =
            inside(&web, || fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap());
        assert_eq!(setting.trim(), "0");
    });
}

#[test]
fn a_workload_reaches_the_outside_as_the_host() {
    on_a_machine("a_workload_reaches_the_outside_as_the_host", async |lab| {
        let network = lab.open(vec![]).await.unwrap();
        let web = network.attach(id(1), &[]).await.unwrap();
        let listener = lab.outside(|| listen(80));
        let mut client = inside(&web, || connect(OUTSIDE, 80, PATIENCE)).unwrap();
        let (_, peer) = talk(&mut client, &listener);
        assert_eq!(peer, HOST, "masqueraded");
        let server = lab.outside(|| UdpSocket::bind("0.0.0.0:53").unwrap());
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        inside(&web, || super::lab::ask(OUTSIDE, 53, &server)).unwrap();
    });
}

#[test]
fn workloads_of_one_node_reach_each_other() {
    on_a_machine("workloads_of_one_node_reach_each_other", async |lab| {
        let network = lab.open(vec![]).await.unwrap();
        let one = network.attach(id(1), &[]).await.unwrap();
        let other = network.attach(id(2), &[]).await.unwrap();
        let listener = inside(&other, || listen(80));
        let mut client = inside(&one, || connect(other.address, 80, PATIENCE)).unwrap();
        assert_eq!(talk(&mut client, &listener).1, one.address);
    });
}

#[test]
fn a_workload_cannot_reach_the_hosts_own_ports() {
    on_a_machine("a_workload_cannot_reach_the_hosts_own_ports", async |lab| {
        let network = lab.open(vec![]).await.unwrap();
        let web = network.attach(id(1), &[]).await.unwrap();
        let _listener = listen(9000);
        for address in [GATEWAY, HOST] {
            let refused = inside(&web, || connect(address, 9000, PATIENCE));
            // The reject arrives as an ICMP error, so nobody has to wait for a timeout.
            assert!(refused.is_err_and(|error| error.kind() != std::io::ErrorKind::TimedOut), "{address}");
        }
    });
}

#[test]
fn the_hosts_loopback_stays_closed_although_the_bridge_routes_it() {
    on_a_machine("the_hosts_loopback_stays_closed_although_the_bridge_routes_it", async |lab| {
        let network = lab.open(vec![]).await.unwrap();
        let web = network.attach(id(1), &[]).await.unwrap();
        let listener = listen(9000);
        let attack = || {
            fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1").unwrap();
            ip("addr del 127.0.0.1/8 dev lo");
            ip(&format!("route add {LOCALHOST} via {GATEWAY}"));
            connect(LOCALHOST, 9000, DOUBT).map(drop)
        };
        assert!(inside(&web, attack).is_err());
        assert!(listener.accept().is_err());
        // It is this table that stops the attack, not its being impossible.
        run("nft", "flush chain inet hypercore-hctest0 raw");
        run("nft", "flush chain inet hypercore-hctest0 input");
        inside(&web, || connect(LOCALHOST, 9000, PATIENCE)).unwrap();
    });
}

#[test]
fn link_local_metadata_is_refused() {
    on_a_machine("link_local_metadata_is_refused", async |lab| {
        let network = lab.open(vec![]).await.unwrap();
        let web = network.attach(id(1), &[]).await.unwrap();
        let metadata = Ipv4Addr::new(169, 254, 169, 254);
        lab.outside(|| ip(&format!("addr add {metadata}/32 dev lo")));
        let listener = lab.outside(|| listen(80));
        talk(&mut connect(metadata, 80, PATIENCE).unwrap(), &listener);
        let refused = inside(&web, || connect(metadata, 80, PATIENCE));
        assert!(refused.is_err_and(|error| error.kind() != std::io::ErrorKind::TimedOut));
    });
}

#[test]
fn the_outside_reaches_only_published_ports() {
    on_a_machine("the_outside_reaches_only_published_ports", async |lab| {
        let network = lab.open(vec![]).await.unwrap();
        let web = network.attach(id(1), &[port("8080:80")]).await.unwrap();
        let listener = inside(&web, || listen(80));
        lab.outside(|| ip(&format!("route add 10.77.0.0/24 via {HOST}")));
        let refused = lab.outside(|| connect(web.address, 80, PATIENCE));
        assert!(refused.is_err_and(|error| error.kind() != std::io::ErrorKind::TimedOut));
        talk(&mut lab.outside(|| connect(HOST, 8080, PATIENCE)).unwrap(), &listener);
    });
}

#[test]
fn a_forged_source_address_goes_nowhere() {
    on_a_machine("a_forged_source_address_goes_nowhere", async |lab| {
        let network = lab.open(vec![]).await.unwrap();
        let web = network.attach(id(1), &[]).await.unwrap();
        let server = lab.outside(|| UdpSocket::bind("0.0.0.0:53").unwrap());
        server.set_read_timeout(Some(DOUBT)).unwrap();
        inside(&web, || {
            ip("addr add 10.99.0.1/32 dev eth0");
            let socket = UdpSocket::bind("10.99.0.1:0").unwrap();
            socket.send_to(b"forged", (OUTSIDE, 53)).unwrap();
        });
        assert!(server.recv_from(&mut [0; 16]).is_err());
    });
}
