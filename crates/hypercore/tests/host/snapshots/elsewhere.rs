//! A snapshot's directory that is copied to another node goes on there, without the image; one that is not whole, or
//! another's, is refused by name, and nothing of it runs.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use hypercore_fixtures::skip_without_machines;

use super::{assert_goes_on, count, inside, said};
use crate::node::Node;

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").args(["-r", "--sparse=always"]).arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

#[test]
fn a_copied_directory_goes_on_on_another_node() {
    if skip_without_machines("a_copied_directory_goes_on_on_another_node") {
        return;
    }
    let mut other = Node::prepare();
    other.start_agent();
    let node = Node::start();
    count(&node, "counter", &[]);
    let before = *said(&node, "counter").last().unwrap();
    node.run(&["snapshot", "counter", "ready"]).expect(0);
    let latest = *said(&node, "counter").last().unwrap();
    let moved = other.path("data/snapshots/moved");
    copy(&node.path("data/snapshots/ready"), &moved);
    node.run(&["snapshots", "rm", "ready"]).expect(0);
    node.run(&["rm", "-f", "counter"]).expect(0);
    node.finish();

    let listed = other.run(&["snapshots", "ls", "--verify", "--json"]).expect(0).json();
    assert_eq!(
        (&listed[0]["name"], &listed[0]["problem"]),
        (&"moved".into(), &serde_json::Value::Null),
        "{listed:#}"
    );
    for name in ["first", "second"] {
        other.run(&["restore", "moved", "--name", name]).expect(0);
        assert_goes_on(&other, name, before, latest);
        assert_eq!(inside(&other, name, "hostname; cat /kept"), format!("{name}\nkept"));
    }
    broken(&other, &moved);
    assert_eq!(other.run(&["ps", "-aq"]).expect(0).stdout.lines().count(), 2, "something refused is left");
    other.finish();
}

/// Copies of `whole`, each with something wrong.
fn broken(node: &Node, whole: &Path) {
    type Break = fn(&Path);
    let cases: [(&str, Break, &str, &str); 6] = [
        ("cut-state", |copy| cut(copy.join("state")), "file state has", "snapshot_broken"),
        ("cut-disk", |copy| cut(copy.join("writable.ext4")), "file writable.ext4 has", "snapshot_broken"),
        (
            "no-kernel",
            |copy| fs::remove_file(copy.join("kernel")).unwrap(),
            "file kernel is missing",
            "snapshot_broken",
        ),
        ("changed", |copy| change(&copy.join("state")), "file state has changed", "snapshot_broken"),
        (
            "format",
            |copy| edit(copy, "\"format\": 1", "\"format\": 9"),
            "has the format 9",
            "snapshot_format",
        ),
        (
            "engine",
            |copy| edit(copy, "\"version\": \"", "\"version\": \"1"),
            "was made by QEMU 1",
            "engine_mismatch",
        ),
    ];
    for (name, make, told, code) in cases {
        let path = whole.with_file_name(name);
        copy(whole, &path);
        make(&path);
        let refused = node.run(&["restore", name, "--json"]);
        assert!(refused.code.is_some_and(|code| code != 0), "{name}: {refused:?}");
        assert!(refused.stderr.contains(told) && refused.stderr.contains(code), "{name}: {refused:?}");
        // What can't be restored can be removed.
        node.run(&["snapshots", "rm", name]).expect(0);
    }
}

fn cut(path: PathBuf) {
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(file.metadata().unwrap().len() - 1).unwrap();
}

fn change(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn edit(copy: &Path, from: &str, to: &str) {
    let path = copy.join("snapshot.json");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}
