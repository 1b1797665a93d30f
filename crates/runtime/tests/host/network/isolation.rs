//! Who may talk to whom: the outside yes, the host no, link-local no, one's own tenant yes. Other tenants: `tenants.rs`.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, UdpSocket},
};

use hypercore_model::Allowance;

use super::lab::{
    DOUBT, GATEWAY, GATEWAY6, HOST, HOST6, LOCALHOST, MTU, OUTSIDE, OUTSIDE6, PATIENCE, add_address,
    addresses, allowed, connect, id, inside, ip, listen, on_a_machine, port, publish, run, talk,
};

#[test]
fn a_workload_has_an_address_a_route_and_loopback_and_nothing_else() {
    on_a_machine("a_workload_has_an_address_a_route_and_loopback_and_nothing_else", async |lab| {
        let network = lab.open(vec![]).await.unwrap();
        let web = network.attach(id(1), &publish(&[])).await.unwrap();
        assert_eq!((web.address, web.gateway, web.prefix_len), (Ipv4Addr::new(10, 77, 0, 2), GATEWAY, 24));
        let (links, routes) = inside(&web, || (run("ip", "-o addr"), run("ip", "route")));
        assert!(links.contains("inet 10.77.0.2/24 brd 10.77.0.255 scope global eth0"), "{links}");
        assert!(links.contains("inet 127.0.0.1/8"), "{links}");
        assert!(routes.starts_with("default via 10.77.0.1 dev eth0"), "{routes}");
        let routes = inside(&web, || run("ip", "-6 route"));
        assert!(routes.contains(&format!("default via {GATEWAY6} dev eth0")), "{routes}");
        let on_eth0: Vec<_> =
            links.lines().filter(|line| line.contains("eth0") && line.contains("inet6")).collect();
        assert!(matches!(on_eth0[..], [only] if only.contains("fd12:3456:789a:1::a4d:2/64")), "{links}");
        assert!(!links.contains("tentative"), "to be used at once: {links}");
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
        let web = network.attach(id(1), &publish(&[])).await.unwrap();
        let listener = lab.outside(|| listen(80));
        let mut client = inside(&web, || connect(OUTSIDE, 80, PATIENCE)).unwrap();
        let (_, peer) = talk(&mut client, &listener);
        assert_eq!(peer, HOST, "masqueraded");
        let mut client = inside(&web, || connect(OUTSIDE6, 80, PATIENCE)).unwrap();
        let (_, peer) = talk(&mut client, &listener);
        assert_eq!(peer, HOST6, "masqueraded");
        let server = lab.outside(|| UdpSocket::bind("0.0.0.0:53").unwrap());
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        inside(&web, || super::lab::ask(OUTSIDE, 53, &server)).unwrap();
    });
}

#[test]
fn workloads_of_one_tenant_reach_each_other() {
    on_a_machine("workloads_of_one_tenant_reach_each_other", async |lab| {
        let network = lab.open(vec![]).await.unwrap();
        let one = network.attach(id(1), &publish(&[])).await.unwrap();
        let other = network.attach(id(2), &publish(&[])).await.unwrap();
        let listener = inside(&other, || listen(80));
        for (from, to) in addresses(&one).into_iter().zip(addresses(&other)) {
            let mut client = inside(&one, || connect(to, 80, PATIENCE)).unwrap();
            assert_eq!(talk(&mut client, &listener).1, from);
        }
    });
}

#[test]
fn a_workload_cannot_reach_the_hosts_own_ports() {
    on_a_machine("a_workload_cannot_reach_the_hosts_own_ports", async |lab| {
        let network = lab.open(vec![]).await.unwrap();
        let web = network.attach(id(1), &publish(&[])).await.unwrap();
        let _listener = listen(9000);
        for address in [GATEWAY.into(), HOST.into(), GATEWAY6.into(), IpAddr::V6(HOST6)] {
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
        let web = network.attach(id(1), &publish(&[])).await.unwrap();
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
        run("nft", "flush chain inet hypercore-hctest0 from_link");
        run("nft", "flush chain inet hypercore-hctest0 to_host");
        inside(&web, || connect(LOCALHOST, 9000, PATIENCE)).unwrap();
    });
}

#[test]
fn link_local_metadata_is_refused() {
    on_a_machine("link_local_metadata_is_refused", async |lab| {
        let network = lab.open(vec![]).await.unwrap();
        let web = network.attach(id(1), &publish(&[])).await.unwrap();
        let trusted = network.attach(id(2), &allowed(Allowance::Metadata)).await.unwrap();
        let listener = lab.outside(|| listen(80));
        ip(&format!("-6 route add fd00:ec2::/32 via {OUTSIDE6}"));
        for text in ["169.254.169.254", "100.100.100.200", "fd00:ec2::254"] {
            let metadata: IpAddr = text.parse().unwrap();
            lab.outside(|| add_address(metadata, "lo"));
            talk(&mut connect(metadata, 80, PATIENCE).unwrap(), &listener);
            let refused = inside(&web, || connect(metadata, 80, PATIENCE));
            assert!(refused.is_err_and(|error| error.kind() != std::io::ErrorKind::TimedOut), "{text}");
            talk(&mut inside(&trusted, || connect(metadata, 80, PATIENCE)).unwrap(), &listener);
        }
    });
}

#[test]
fn the_outside_reaches_only_published_ports() {
    on_a_machine("the_outside_reaches_only_published_ports", async |lab| {
        let network = lab.open(vec![]).await.unwrap();
        let web = network.attach(id(1), &publish(&[port("8080:80")])).await.unwrap();
        let listener = inside(&web, || listen(80));
        lab.outside(|| ip(&format!("route add 10.77.0.0/24 via {HOST}")));
        lab.outside(|| ip(&format!("-6 route add fd12:3456:789a:1::/64 via {HOST6}")));
        for address in addresses(&web) {
            let refused = lab.outside(|| connect(address, 80, PATIENCE));
            assert!(refused.is_err_and(|error| error.kind() != std::io::ErrorKind::TimedOut), "{address}");
        }
        for address in [HOST.into(), IpAddr::V6(HOST6)] {
            talk(&mut lab.outside(|| connect(address, 8080, PATIENCE)).unwrap(), &listener);
        }
    });
}
