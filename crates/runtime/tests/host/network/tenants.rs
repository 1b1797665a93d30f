//! Tenants against each other, and against the machine: what a hostile workload, root in its own namespace, can't do.

use std::{
    fs,
    net::{IpAddr, UdpSocket},
    os::fd::AsRawFd as _,
};

use hypercore_model::Allowance;
use hypercore_runtime::network::{Attachment, Network, NetworkConfig};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, sendto, socket};

use super::lab::{
    DOUBT, GATEWAY, GATEWAY6, HOST, HOST6, OUTSIDE, OUTSIDE6, PATIENCE, add_address, addresses, allowed,
    connect, id, inside, ip, listen, of_tenant, on_a_machine, port, publish, run, talk,
};

/// A refusal that is told, so that nobody has to wait for a timeout.
fn assert_refused(from: &Attachment, to: IpAddr, port: u16) {
    let refused = inside(from, || connect(to, port, PATIENCE));
    assert!(refused.is_err_and(|error| error.kind() != std::io::ErrorKind::TimedOut), "{to}");
}

#[test]
fn workloads_of_different_tenants_do_not_reach_each_other() {
    on_a_machine("workloads_of_different_tenants_do_not_reach_each_other", async |lab| {
        let network = lab.open(vec![]).await.unwrap();
        let one = network.attach(id(1), &of_tenant("one")).await.unwrap();
        let other = network.attach(id(2), &of_tenant("other")).await.unwrap();
        let listener = inside(&other, || listen(80));
        let setting = "/proc/sys/net/bridge/bridge-nf-call-iptables";
        for value in ["0", "1"] {
            // Without br_netfilter there is only the first case.
            if fs::exists(setting).unwrap() {
                fs::write(setting, value).unwrap();
            }
            for address in addresses(&other) {
                assert_refused(&one, address, 80);
            }
        }
        // The neighbour is there: one of its own tenant reaches it.
        let sibling = network.attach(id(3), &of_tenant("other")).await.unwrap();
        for address in addresses(&other) {
            talk(&mut inside(&sibling, || connect(address, 80, PATIENCE)).unwrap(), &listener);
        }
        // A tenant's number is given to the next one when its last workload is gone.
        network.detach(id(1)).await.unwrap();
        let next = network.attach(id(4), &of_tenant("next")).await.unwrap();
        addresses(&other).into_iter().for_each(|address| assert_refused(&next, address, 80));
    });
}

#[test]
fn a_flow_does_not_outlive_the_workload_it_led_to() {
    on_a_machine("a_flow_does_not_outlive_the_workload_it_led_to", async |lab| {
        // Five addresses, so that the one that is given back is the next one to be given.
        let config = NetworkConfig { subnet: "10.77.0.0/29".parse().unwrap(), ..lab.config() };
        let network = Network::open(config, vec![]).await.unwrap();
        let one = network.attach(id(1), &of_tenant("one")).await.unwrap();
        let before = network.attach(id(2), &of_tenant("one")).await.unwrap();
        for byte in 3..6 {
            network.attach(id(byte), &of_tenant("one")).await.unwrap();
        }
        let bind = || UdpSocket::bind("[::]:53").unwrap();
        let server = inside(&before, bind);
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        let client = inside(&one, || UdpSocket::bind("0.0.0.0:4000").unwrap());
        let mut word = [0; 16];
        for _ in 0..2 {
            client.send_to(b"ask", (before.address, 53)).unwrap();
            let (_, peer) = server.recv_from(&mut word).unwrap();
            server.send_to(b"answer", peer).unwrap();
        }
        drop(server);
        network.detach(id(2)).await.unwrap();
        let next = network.attach(id(6), &of_tenant("other")).await.unwrap();
        assert_eq!(next.address, before.address);
        let server = inside(&next, bind);
        server.set_read_timeout(Some(DOUBT)).unwrap();
        client.send_to(b"ask", (next.address, 53)).unwrap();
        assert!(server.recv_from(&mut word).is_err(), "the flow of before reaches another tenant");
        // It would, were flows trusted for having begun.
        run("nft", "insert rule inet hypercore-hctest0 between_workloads ct state established accept");
        client.send_to(b"ask", (next.address, 53)).unwrap();
        server.recv_from(&mut word).unwrap();
    });
}

#[test]
fn a_published_port_is_open_to_other_tenants_too() {
    on_a_machine("a_published_port_is_open_to_other_tenants_too", async |lab| {
        let network = lab.open(vec![]).await.unwrap();
        let web = network.attach(id(1), &publish(&[port("8080:80")])).await.unwrap();
        let other = network.attach(id(2), &of_tenant("other")).await.unwrap();
        let listener = inside(&web, || listen(80));
        for address in [HOST.into(), GATEWAY.into(), HOST6.into(), IpAddr::V6(GATEWAY6)] {
            talk(&mut inside(&other, || connect(address, 8080, PATIENCE)).unwrap(), &listener);
        }
    });
}

#[test]
fn allowances_open_one_way_each() {
    on_a_machine("allowances_open_one_way_each", async |lab| {
        let network = lab.open(vec![]).await.unwrap();
        let other = network.attach(id(1), &of_tenant("other")).await.unwrap();
        let tenants = network.attach(id(2), &allowed(Allowance::Tenants)).await.unwrap();
        let host = network.attach(id(3), &allowed(Allowance::Host)).await.unwrap();
        let in_other = inside(&other, || listen(80));
        let _in_tenants = inside(&tenants, || listen(80));
        let on_host = listen(9000);
        for (there, back) in addresses(&other).into_iter().zip(addresses(&tenants)) {
            talk(&mut inside(&tenants, || connect(there, 80, PATIENCE)).unwrap(), &in_other);
            assert_refused(&other, back, 80);
            assert_refused(&host, there, 80);
        }
        for address in [HOST.into(), GATEWAY.into(), HOST6.into(), IpAddr::V6(GATEWAY6)] {
            talk(&mut inside(&host, || connect(address, 9000, PATIENCE)).unwrap(), &on_host);
            assert_refused(&tenants, address, 9000);
        }
    });
}

#[test]
fn an_allowance_ends_with_its_workload() {
    on_a_machine("an_allowance_ends_with_its_workload", async |lab| {
        let network = lab.open(vec![]).await.unwrap();
        let _listener = listen(9000);
        network.attach(id(1), &allowed(Allowance::Host)).await.unwrap();
        // The same workload, and so the same link, without it.
        let web = network.attach(id(1), &publish(&[])).await.unwrap();
        assert_refused(&web, GATEWAY.into(), 9000);
    });
}

#[test]
fn a_forged_source_address_goes_nowhere() {
    on_a_machine("a_forged_source_address_goes_nowhere", async |lab| {
        let network = lab.open(vec![]).await.unwrap();
        let forger = network.attach(id(1), &of_tenant("one")).await.unwrap();
        let victim = network.attach(id(2), &of_tenant("other")).await.unwrap();
        let sibling = network.attach(id(3), &of_tenant("other")).await.unwrap();
        let receive =
            |socket: &UdpSocket| socket.recv_from(&mut [0; 16]).map(|(_, from)| from.ip().to_canonical());
        let bind = || {
            let socket = UdpSocket::bind("[::]:53").unwrap();
            socket.set_read_timeout(Some(DOUBT)).unwrap();
            socket
        };
        let (outside, neighbour) = (lab.outside(bind), inside(&sibling, bind));
        let foreign: [IpAddr; 2] = ["10.99.0.1".parse().unwrap(), "fd99::1".parse().unwrap()];
        for forged in addresses(&victim).into_iter().chain(foreign) {
            let send = || {
                add_address(forged, "eth0");
                let socket = UdpSocket::bind((forged, 0)).unwrap();
                let targets: [IpAddr; 2] = match forged {
                    IpAddr::V4(_) => [OUTSIDE.into(), addresses(&sibling)[0]],
                    IpAddr::V6(_) => [OUTSIDE6.into(), addresses(&sibling)[1]],
                };
                for target in targets {
                    socket.send_to(b"forged", (target, 53)).unwrap();
                }
            };
            inside(&forger, send);
            assert!(receive(&outside).is_err() && receive(&neighbour).is_err(), "{forged}");
        }
        // It is this table that stops them.
        run("nft", "flush chain inet hypercore-hctest0 from_link");
        let forged = addresses(&victim)[0];
        inside(&forger, || UdpSocket::bind((forged, 0)).unwrap().send_to(b"forged", (OUTSIDE, 53)).unwrap());
        receive(&outside).unwrap();
    });
}

#[test]
fn forged_answers_of_arp_and_neighbour_discovery_change_nothing() {
    on_a_machine("forged_answers_of_arp_and_neighbour_discovery_change_nothing", async |lab| {
        let network = lab.open(vec![]).await.unwrap();
        let forger = network.attach(id(1), &of_tenant("one")).await.unwrap();
        let victim = network.attach(id(2), &of_tenant("other")).await.unwrap();
        let listener = inside(&victim, || listen(80));
        inside(&forger, || {
            // The forger answers to the victim's and the gateway's addresses, and says so to everybody.
            ip("link set eth0 arp on");
            for address in [addresses(&victim)[0], GATEWAY.into()] {
                send_frame(&gratuitous_arp(address));
            }
            ip(&format!("addr add {} dev eth0", victim.address));
        });
        let _trap = inside(&forger, || listen(80));
        for _ in 0..3 {
            for address in addresses(&victim) {
                talk(&mut connect(address, 80, PATIENCE).unwrap(), &listener);
            }
        }
        let outside = lab.outside(|| listen(80));
        talk(&mut inside(&victim, || connect(OUTSIDE, 80, PATIENCE)).unwrap(), &outside);
        let neighbours = run("ip", "neigh show nud reachable");
        assert!(!neighbours.contains("02:66:66:66:66:66"), "{neighbours}");
    });
}

/// An unasked ARP answer to everybody: `address` is at a hardware address of the forger's choice (RFC 826).
fn gratuitous_arp(address: IpAddr) -> Vec<u8> {
    let IpAddr::V4(address) = address else { panic!("ARP is for IPv4") };
    let forged = [0x02, 0x66, 0x66, 0x66, 0x66, 0x66];
    let mut frame = [vec![0xff; 6], forged.to_vec(), vec![0x08, 0x06]].concat();
    frame.extend([0, 1, 0x08, 0, 6, 4, 0, 2]);
    for _sender_and_target in 0..2 {
        frame.extend(forged);
        frame.extend(address.octets());
    }
    frame
}

/// Sends a frame by `eth0`.
fn send_frame(frame: &[u8]) {
    let packets =
        socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll).unwrap();
    let index = i32::try_from(nix::net::if_::if_nametoindex("eth0").unwrap()).unwrap();
    let address = link_address(index);
    sendto(packets.as_raw_fd(), frame, &address, MsgFlags::empty()).unwrap();
}

fn link_address(index: i32) -> nix::sys::socket::LinkAddr {
    let all = nix::ifaddrs::getifaddrs().unwrap();
    let mut addresses = all.filter_map(|entry| entry.address?.as_link_addr().copied());
    let wanted = |address: &nix::sys::socket::LinkAddr| i32::try_from(address.ifindex()) == Ok(index);
    addresses.find(wanted).unwrap()
}
