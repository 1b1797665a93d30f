//! `cp` both ways, with workloads that run, have ended, or do their worst.

use std::{fs, os::unix::fs::PermissionsExt as _};

use hypercore_fixtures::{skip_without_root, wait_until};

use crate::{
    node::Node,
    program::{Ended, finish},
};

/// Longest wait for something that a workload does at once.
const SOON: std::time::Duration = std::time::Duration::from_secs(30);

fn in_scratch(node: &Node, arguments: &[&str], input: &[u8]) -> Ended {
    finish(node.command(arguments).current_dir(node.path(".")), input)
}

#[test]
fn files_go_in_and_come_out() {
    if skip_without_root("files_go_in_and_come_out") {
        return;
    }
    let node = Node::start();
    node.detach(&["--name", "box", "busybox", "--", "sleep", "1000"]);
    fs::create_dir_all(node.path("site/css")).unwrap();
    fs::write(node.path("site/index.html"), "hello").unwrap();
    fs::write(node.path("site/css/a.css"), vec![b'x'; 3 << 20]).unwrap();
    fs::set_permissions(node.path("site/index.html"), fs::Permissions::from_mode(0o640)).unwrap();
    in_scratch(&node, &["cp", "site", "box:/var/www"], b"").expect(0);
    let listed =
        node.run(&["exec", "box", "--", "stat", "-c", "%a %u %s", "/var/www/site/index.html"]).expect(0);
    assert_eq!(listed.stdout, "640 0 5\n");
    // The directory is there now: what is in it goes right in, and what is to be new gets its name.
    in_scratch(&node, &["cp", "./site/.", "box:/var/www/site/"], b"").expect(0);
    in_scratch(&node, &["cp", "site/index.html", "box:/tmp/page"], b"").expect(0);
    assert_eq!(node.run(&["exec", "box", "--", "cat", "/tmp/page"]).expect(0).stdout, "hello");
    in_scratch(&node, &["cp", "box:/var/www/site", "back"], b"").expect(0);
    assert_eq!(fs::read(node.path("back/css/a.css")).unwrap().len(), 3 << 20);
    assert_eq!(fs::metadata(node.path("back/index.html")).unwrap().permissions().mode() & 0o777, 0o640);
    let stream = in_scratch(&node, &["cp", "box:/tmp/page", "-"], b"").expect(0);
    assert!(stream.stdout.starts_with("page\0"), "{:?}", &stream.stdout[..20]);
    in_scratch(&node, &["cp", "-", "box:/var"], stream.stdout.as_bytes()).expect(0);
    assert_eq!(node.run(&["exec", "box", "--", "cat", "/var/page"]).expect(0).stdout, "hello");
    node.finish();
}

#[test]
fn a_workload_that_has_ended_still_has_its_files() {
    if skip_without_root("a_workload_that_has_ended_still_has_its_files") {
        return;
    }
    let node = Node::start();
    node.detach(&["--name", "job", "busybox", "--", "sh", "-c", "echo result > /tmp/result"]);
    node.run(&["wait", "job"]).expect(0);
    in_scratch(&node, &["cp", "job:/tmp/result", "."], b"").expect(0);
    assert_eq!(fs::read_to_string(node.path("result")).unwrap(), "result\n");
    fs::write(node.path("more"), "more").unwrap();
    in_scratch(&node, &["cp", "more", "job:/tmp/"], b"").expect(0);
    in_scratch(&node, &["cp", "job:/tmp/more", "again"], b"").expect(0);
    assert_eq!(fs::read_to_string(node.path("again")).unwrap(), "more");
    // The root was mounted for the copy alone.
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(node.path("data").to_str().unwrap()), "{mounts}");
    node.finish();
}

#[test]
fn mistakes_are_told_with_what_to_do() {
    if skip_without_root("mistakes_are_told_with_what_to_do") {
        return;
    }
    let node = Node::start();
    node.detach(&[
        "--name",
        "box",
        "--read-only",
        "--tmpfs",
        "/tmp:size=1m",
        "busybox",
        "--",
        "sleep",
        "1000",
    ]);
    fs::write(node.path("file"), "x").unwrap();
    fs::write(node.path("large"), vec![1; 4 << 20]).unwrap();
    for (arguments, code, told) in [
        (["cp", "box:/nosuch", "."], 3, "there is no /nosuch"),
        (["cp", "nobox:/etc", "."], 3, "nobox"),
        (["cp", "box:/etc/passwd/", "."], 2, "/etc/passwd is not a directory"),
        (["cp", "box:/etc/passwd", "nodir/"], 3, "there is no directory"),
        (["cp", "box:/etc", "file"], 2, "is a file"),
        (["cp", "file", "box:/nodir/x"], 3, "there is no /nodir"),
        (["cp", "nofile", "box:/tmp"], 3, "nofile"),
        (["cp", "file", "box:/srv"], 6, "Read-only file system"),
        (["cp", "large", "box:/tmp"], 1, "No space left"),
        (["cp", "file", "other"], 2, "neither side"),
        (["cp", "box:/a", "box:/b"], 2, "both sides"),
    ] {
        let ended = in_scratch(&node, &arguments, b"");
        assert!(ended.code == Some(code) && ended.stderr.contains(told), "{arguments:?}: {ended:#?}");
        assert!(!ended.stderr.contains("panicked"), "{ended:#?}");
    }
    node.finish();
}

/// Swaps a directory for a link to the host's root path and back for as long as it is copied, and offers names that lead
/// out to whoever unpacks them.
const ENEMY: &str = "mkdir -p /d/e /d/f; echo inside > /d/e/canary; echo ready
while :; do mv /d/e /d/g; ln -s \"$0\" /d/e; rm /d/e; mv /d/g /d/e; done";

#[test]
fn an_enemy_reaches_nothing_outside() {
    if skip_without_root("an_enemy_reaches_nothing_outside") {
        return;
    }
    let node = Node::start();
    let outside = node.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("canary"), "untouched").unwrap();
    let path = outside.to_str().unwrap();
    node.detach(&["--name", "enemy", "busybox", "--", "sh", "-c", ENEMY, path]);
    let is_ready = || node.run(&["logs", "enemy"]).stdout.contains("ready").then_some(());
    wait_until(SOON, is_ready).unwrap();
    fs::create_dir_all(node.path("in/e")).unwrap();
    fs::write(node.path("in/e/canary"), "written").unwrap();
    for round in 0..25 {
        let out = node.path(&format!("out{round}"));
        let _ = in_scratch(&node, &["cp", "enemy:/d/e", out.to_str().unwrap()], b"");
        // What was a link at that moment comes out as a link: only a directory's files were read by the agent.
        let is_directory = fs::symlink_metadata(&out).is_ok_and(|metadata| metadata.is_dir());
        if let Ok(copied) = fs::read_to_string(out.join("canary"))
            && is_directory
        {
            assert_ne!(copied, "untouched");
        }
        let _ = in_scratch(&node, &["cp", "in/.", "enemy:/d"], b"");
        let _ = in_scratch(&node, &["cp", "in/e/canary", "enemy:/d/e/canary"], b"");
    }
    assert_eq!(fs::read_to_string(outside.join("canary")).unwrap(), "untouched");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    // The host's own files are not to be had by a link either.
    node.run(&["kill", "enemy"]).expect(0);
    node.run(&["wait", "enemy"]).expect(137);
    node.detach(&[
        "--name",
        "link",
        "busybox",
        "--",
        "sh",
        "-c",
        "ln -s \"$0/canary\" /way; ln -s / /top; sleep 1000",
        path,
    ]);
    let is_linked = || (node.run(&["exec", "link", "--", "readlink", "/top"]).stdout == "/\n").then_some(());
    wait_until(SOON, is_linked).unwrap();
    in_scratch(&node, &["cp", "-L", "link:/way", "got"], b"").expect(3);
    in_scratch(&node, &["cp", "-L", "link:/top/proc/1/root/etc", "got"], b"").expect(1);
    node.finish();
}
