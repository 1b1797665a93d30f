//! How a workload is reached by name and by either family of addresses.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv6Addr, SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

use hypercore_fixtures::wait_until;

use super::{House, SOON};
use crate::{contact::get, node::free_address};

/// Longest wait for one answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
const SERVER: &str = "mkdir /www; echo hello from inside > /www/index.html; exec httpd -f -p [::]:80 -h /www";

/// What the node's ingress answers for this host; nothing when it answers nothing.
fn ask(house: &House, host: &str) -> String {
    let mut answer = String::new();
    let asked = TcpStream::connect(house.node.http).and_then(|mut stream| {
        stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
        write!(stream, "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
        stream.read_to_string(&mut answer)
    });
    drop(asked);
    answer
}

pub(super) fn its_name_leads_to_it(house: &mut House) {
    house.detach("job", &["--route-port", "80"], &["sh", "-c", SERVER]);
    let answers = || ask(house, "job.localhost").contains("hello from inside").then_some(());
    assert!(
        wait_until(SOON, answers).is_some(),
        "{}\n{}",
        ask(house, "job.localhost"),
        house.node.agent_log()
    );
    let id = house.node.inspect("job")["id"].as_str().unwrap().to_owned();
    assert!(ask(house, &format!("{id}.localhost")).contains("hello from inside"));
    house.node.run(&["stop", "-t", "0", "job"]).expect(0);
    let is_gone = || (!ask(house, "job.localhost").contains("hello")).then_some(());
    assert!(wait_until(SOON, is_gone).is_some(), "it is still reached");
}

pub(super) fn it_is_reached_by_either_family(house: &mut House) {
    // The same condition as the node's own: `cidr6 = "auto"` needs a kernel with IPv6.
    if !Path::new("/proc/net/if_inet6").exists() {
        return;
    }
    let port = free_address().port();
    house.detach("job", &["-p", &format!("{port}:80")], &["sh", "-c", SERVER]);
    let shown = house.node.inspect("job");
    let own: Ipv6Addr = shown["address6"].as_str().unwrap().parse().unwrap();
    let inside = house.exec(&[], &["ip", "-6", "-o", "address", "show", "scope", "global"]).expect(0).stdout;
    assert!(inside.contains(&own.to_string()), "{own} is not in {inside}");
    assert!(!inside.contains("tentative") && !inside.contains("dadfailed"), "{inside}");
    let routed = house.exec(&[], &["ip", "-6", "route", "show", "default"]).expect(0).stdout;
    let gateway = routed.split_whitespace().nth(2).unwrap();
    // Its own address, and the published port at its host's.
    let host: Ipv6Addr = gateway.parse().unwrap();
    for address in [SocketAddr::from((own, 80)), SocketAddr::from((host, port))] {
        let answers = || get(address, "/").filter(|answer| answer.contains("hello from inside"));
        assert!(wait_until(SOON, answers).is_some(), "no answer at {address}: {shown:#}");
    }
}
