//! A day's work at the command line, from an image to a clean machine, in the order in which people do it.

use std::fs;

use hypercore_fixtures::{skip_without_root, wait_until};

use crate::{node::Node, program::finish, screen::Screen};

const SOON: std::time::Duration = std::time::Duration::from_secs(30);

/// Serves the files of /srv.
const SERVER: &str = "mkdir -p /srv; echo serving; exec httpd -f -p 80 -h /srv";

#[test]
fn a_days_work() {
    if skip_without_root("a_days_work") {
        return;
    }
    let node = Node::start();
    let here = |arguments: &[&str]| finish(node.command(arguments).current_dir(node.path(".")), b"");

    // Morning: a site goes up, with its files.
    node.detach(&["--name", "site", "-p", "80", "--memory", "64MiB", "busybox", "--", "sh", "-c", SERVER]);
    fs::create_dir(node.path("www")).unwrap();
    fs::write(node.path("www/index.html"), "good morning\n").unwrap();
    here(&["cp", "www/.", "site:/srv"]).expect(0);
    let published = here(&["port", "site", "80"]).expect(0).stdout;
    let address = published.lines().next().unwrap().replace("0.0.0.0", "127.0.0.1");
    let page = || http_get(&address).filter(|page| page.contains("good morning"));
    wait_until(SOON, page).expect("the site is served");
    assert!(node.run(&["logs", "site"]).expect(0).stdout.starts_with("serving\n"));

    // Noon: how does it do, and what is it in there?
    let table = here(&["stats", "--no-stream"]).expect(0).stdout;
    assert!(table.contains("site") && table.contains("/ 64MiB"), "{table}");
    let mut shell = Screen::begin(&node.path("run/api.sock"), &["exec", "-it", "site", "sh"]);
    shell.wait_for("# ");
    shell.type_keys(b"cat /srv/index.html; exit\r");
    shell.wait_for("good morning");
    assert_eq!(shell.end(), Some(0));

    // Afternoon: it has to stand still for a moment, and gives its files back.
    here(&["pause", "site"]).expect(0);
    assert_eq!(here(&["ps", "-q", "-f", "status=paused"]).expect(0).stdout.lines().count(), 1);
    here(&["cp", "site:/srv", "backup"]).expect(0);
    assert_eq!(fs::read_to_string(node.path("backup/index.html")).unwrap(), "good morning\n");
    here(&["resume", "site"]).expect(0);
    wait_until(SOON, page).expect("it is served again");

    // A job that fails says why.
    here(&["run", "--name", "report", "busybox", "--", "sh", "-c", "echo broken >&2; exit 4"]).expect(4);
    let failed = here(&["ps", "-l"]).expect(0).stdout;
    assert!(failed.contains("report") && failed.contains("(4)"), "{failed}");
    assert_eq!(here(&["logs", "report"]).expect(0).stderr, "broken\n");

    // Evening: everything goes, and the day can be read up.
    here(&["stop", "-t", "1", "site"]).expect(0);
    here(&["rm", "site", "report"]).expect(0);
    assert_eq!(here(&["ps", "-aq"]).expect(0).stdout, "");
    let told =
        here(&["events", "--since", "1h", "--until", "0s", "--filter", "workload=site"]).expect(0).stdout;
    assert_told(&told);
    node.finish();
}

/// Every step of the site's day was told.
fn assert_told(told: &str) {
    for action in ["created", "started", "paused", "resumed", "stopped", "removed"] {
        assert!(told.contains(&format!(" workload {action} site ")), "{action} in {told}");
    }
}

/// The answer of a plain request, if there is one.
fn http_get(address: &str) -> Option<String> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}
