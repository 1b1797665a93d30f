//! A guest that boots and never says a word: its machine is given up at the deadline, with what it wrote to its console.

use std::{fs, path::Path};

use hypercore_fixtures::skip_without_machines;

use super::{initramfs, run};
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
