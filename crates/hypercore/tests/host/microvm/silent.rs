//! Guests that say nothing: one that never did is given up at the deadline, with what it wrote to its console; one that
//! does no more holds up nobody else.

use std::{fs, path::Path};

use hypercore_fixtures::skip_without_machines;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{detach, initramfs, monitor_of, run};
use crate::node::Node;

/// What the guest says on its console, and nowhere else.
const LAST_WORDS: &str = "the init of this test waits for nothing";

/// An initramfs in cpio's "newc" form (kernel, initramfs buffer format): its init is busybox's shell, which sleeps.
fn sleeper(busybox: &Path) -> Vec<u8> {
    let script = format!("#!/busybox sh\necho {LAST_WORDS}\nexec /busybox sleep 1000\n");
    let mut archive = Vec::new();
    let mut add = |name: &str, mode: u32, device: (u32, u32), content: &[u8]| {
        let fields =
            [1, mode, 0, 0, 1, 0, content.len() as u32, 0, 0, device.0, device.1, name.len() as u32 + 1, 0];
        archive.extend_from_slice(b"070701");
        for field in fields {
            archive.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        archive.extend_from_slice(name.as_bytes());
        archive.push(0);
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(4), 0);
    };
    add("dev", 0o040_755, (0, 0), b"");
    add("dev/console", 0o020_600, (5, 1), b"");
    add("busybox", 0o100_755, (0, 0), &fs::read(busybox).unwrap());
    add("init", 0o100_755, (0, 0), script.as_bytes());
    add("TRAILER!!!", 0, (0, 0), b"");
    archive
}

#[test]
fn a_guest_that_never_answers_is_given_up_with_its_last_words() {
    if skip_without_machines("a_guest_that_never_answers_is_given_up_with_its_last_words") {
        return;
    }
    let mut node = Node::start();
    run(&node, &["--rm"], &["true"]).expect(0);
    fs::write(initramfs(&node), sleeper(Path::new("/bin/busybox"))).unwrap();
    node.stop_agent();
    node.set("HYPERCORE_RUNTIME_BOOT_TIME_MAX", "20s");
    node.start_agent();
    let refused = run(&node, &["--name", "job"], &["true"]).expect(125);
    assert!(refused.stderr.contains("did not answer within 20 seconds"), "{refused:?}");
    assert!(refused.stderr.contains(LAST_WORDS), "its console is not shown: {refused:?}");
    assert_eq!(node.run(&["ps", "-aq"]).expect(0).stdout, "");
    node.run(&["run", "--rm", "busybox", "--", "true"]).expect(0);
    node.finish();
}

#[test]
fn a_guest_that_stands_still_holds_up_nobody() {
    if skip_without_machines("a_guest_that_stands_still_holds_up_nobody") {
        return;
    }
    let node = Node::start();
    for name in ["still", "awake"] {
        detach(&node, name, &[], &["sleep", "1000"]);
    }
    node.detach(&["--name", "container", "busybox", "--", "sleep", "1000"]);
    let engine = Pid::from_raw(monitor_of(&node, "still"));
    kill(engine, Signal::SIGSTOP).unwrap();
    let looks = node.run(&["stats", "--no-stream", "--json"]).expect(0).json();
    let guest = |name: &str| {
        let look = looks.as_array().unwrap().iter().find(|look| look["name"] == name);
        look.unwrap_or_else(|| panic!("{name} is not in {looks:#}"))["guest"].clone()
    };
    assert!(guest("still").is_null() && guest("container").is_null(), "{looks:#}");
    assert!(guest("awake")["memory_total_bytes"].as_u64() > Some(0), "{looks:#}");
    assert!(node.run(&["stats", "--no-stream"]).expect(0).stdout.contains("GUEST MEM"));
    // What goes on later is spoken with again.
    kill(engine, Signal::SIGCONT).unwrap();
    node.run(&["cp", "still:/etc/passwd", node.path("passwd").to_str().unwrap()]).expect(0);
    node.finish();
}
