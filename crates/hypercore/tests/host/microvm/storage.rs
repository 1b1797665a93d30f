//! Storage of microVMs: volumes as disks, host directories, sizes and rates, a disk that is full, an image's
//! filesystem that was damaged.

use std::{
    fs,
    os::unix::fs::{FileExt, MetadataExt},
    path::PathBuf,
    time::{Duration, Instant},
};

use hypercore_fixtures::{skip_without_machines, wait_until};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{SOON, detach, run, stand_in_of};
use crate::node::Node;

/// Where the file server of host directories may be.
const FILE_SERVERS: [&str; 3] = ["/usr/libexec/virtiofsd", "/usr/lib/virtiofsd", "/usr/lib/qemu/virtiofsd"];

fn has_file_server() -> bool {
    FILE_SERVERS.iter().any(|path| PathBuf::from(path).is_file())
}

#[track_caller]
fn shell(node: &Node, flags: &[&str], script: &str) -> String {
    run(node, &[&["--rm"], flags].concat(), &["sh", "-c", script]).expect(0).stdout
}

#[test]
fn a_volume_is_a_disk_that_one_machine_writes_or_many_read() {
    if skip_without_machines("a_volume_is_a_disk_that_one_machine_writes_or_many_read") {
        return;
    }
    let mut node = Node::start();
    node.run(&["volume", "create", "--size", "64MiB", "kept"]).expect(0);
    // It begins with what the image has there, and with nothing else.
    let listed = shell(&node, &["-v", "kept:/bin"], "ls /bin | grep -v busybox; echo one > /bin/file");
    assert!(listed.contains("sh\n") && !listed.contains("lost+found"), "{listed}");
    node.kill_agent();
    node.start_agent();
    detach(&node, "writer", &["-v", "kept:/data"], &["sh", "-c", "echo two >> /data/file; sleep 1000"]);
    for mode in ["kept:/data", "kept:/data:ro"] {
        let refused = run(&node, &["--rm", "-v", mode], &["true"]);
        assert!(refused.stderr.contains("another microVM") && refused.stderr.contains("kept"), "{refused:?}");
    }
    let refused = run(&node, &["-d", "-v", "kept:/data"], &["true"]).expect(6);
    assert!(refused.stderr.contains("hint: "), "{refused:?}");
    let refused = node.run(&["run", "--rm", "-v", "kept:/data", "busybox", "--", "true"]);
    assert!(refused.stderr.contains("microVMs alone"), "a container got a guest's disk: {refused:?}");
    node.run(&["rm", "-f", "writer"]).expect(0);

    // Ended as any workload, it left the disk clean: many may read it now, and nobody writes.
    detach(&node, "reader", &["-v", "kept:/data:ro"], &["sleep", "1000"]);
    let read = "cat /data/file; touch /data/x 2>/dev/null || echo read-only; df -m /data | tail -n 1";
    let said = shell(&node, &["-v", "kept:/data:ro"], read);
    assert!(said.starts_with("one\ntwo\nread-only\n"), "{said}");
    let refused = run(&node, &["--rm", "-v", "kept:/data"], &["true"]);
    assert!(refused.stderr.contains("only one may"), "{refused:?}");
    // Root of the guest can't make it writable: the disk itself is not.
    let forced = "mount -o remount,rw /data 2>/dev/null; touch /data/x 2>/dev/null && echo written";
    assert_eq!(node.run(&["exec", "reader", "sh", "-c", forced]).stdout, "");

    let inspected = node.run(&["volume", "inspect", "kept"]).expect(0).json();
    assert_eq!(
        (&inspected[0]["form"], &inspected[0]["capacity_bytes"]),
        (&"block".into(), &(64 << 20).into())
    );
    node.run(&["volume", "rm", "kept"]).expect(6);
    node.run(&["rm", "-f", "reader"]).expect(0);
    for workload in node.run(&["ps", "-aq"]).expect(0).stdout.split_whitespace() {
        node.run(&["rm", "-f", workload]).expect(0);
    }
    node.run(&["volume", "rm", "kept"]).expect(0);
    node.finish();
}

#[test]
fn directories_of_the_host_are_shared_as_they_were_asked_for() {
    if skip_without_machines("directories_of_the_host_are_shared_as_they_were_asked_for") {
        return;
    }
    let node = Node::start();
    let shared = tempfile::tempdir().unwrap();
    fs::write(shared.path().join("in"), "from the host\n").unwrap();
    let at = |target: &str| format!("{}:{target}", shared.path().display());
    if !has_file_server() {
        let refused = run(&node, &["--rm", "-v", &at("/mnt")], &["true"]);
        assert!(refused.stderr.contains("virtiofsd"), "{refused:?}");
        node.finish();
        return;
    }
    let flags = ["--rm", "-v", &at("/mnt"), "-v", &at("/ro:ro")];
    let script = "cat /mnt/in; echo made > /mnt/out; mount -o remount,rw /ro 2>/dev/null; \
        touch /ro/x 2>/dev/null || echo read-only; echo more >> /ro/in 2>/dev/null || echo unchanged";
    let said = run(&node, &flags, &["sh", "-c", script]).expect(0).stdout;
    assert_eq!(said, "from the host\nread-only\nunchanged\n");
    assert_eq!(fs::read_to_string(shared.path().join("out")).unwrap(), "made\n");
    assert_eq!(fs::read_to_string(shared.path().join("in")).unwrap(), "from the host\n");
    assert!(!shared.path().join("x").exists());

    // A container's volume is a directory of the host, and a machine sees it.
    node.run(&[
        "run",
        "--rm",
        "-v",
        "both:/data",
        "busybox",
        "--",
        "sh",
        "-c",
        "echo of a container > /data/file",
    ])
    .expect(0);
    assert_eq!(shell(&node, &["-v", "both:/data:ro"], "cat /data/file"), "of a container\n");

    let own = format!("{}:/mnt", node.path("data").display());
    let file = format!("{}:/mnt", shared.path().join("in").display());
    for (source, told) in [
        (own.as_str(), "belongs to the node"),
        ("/no/such/place:/mnt", "/no/such/place"),
        (&file, "a single file"),
    ] {
        let refused = run(&node, &["--rm", "-v", source], &["true"]);
        assert!(refused.code != Some(0) && refused.stderr.contains(told), "{source}: {refused:?}");
    }
    node.finish();
}

#[test]
fn a_full_disk_is_the_machines_own_trouble() {
    if skip_without_machines("a_full_disk_is_the_machines_own_trouble") {
        return;
    }
    let node = Node::start();
    detach(&node, "neighbour", &[], &["sleep", "1000"]);
    detach(&node, "job", &["--disk-size", "32MiB"], &["sleep", "1000"]);
    let fill = "dd if=/dev/zero of=/fill bs=1M count=64 2>&1 | tail -n 1; echo over; df -m / | tail -n 1";
    let said = node.run(&["exec", "job", "sh", "-c", fill]).expect(0).stdout;
    assert!(said.contains("over\n"), "{said}");
    let refused = node.run(&["exec", "job", "sh", "-c", "dd if=/dev/zero of=/more bs=1M count=8"]).expect(1);
    assert!(refused.stderr.contains("No space left"), "{refused:?}");
    let disk =
        fs::metadata(node.path("data/workloads").join(id(&node, "job")).join("writable.ext4")).unwrap();
    assert!(disk.len() == 32 << 20 && disk.blocks() * 512 <= 33 << 20, "{disk:?}");
    // It goes on, and has room again when it makes some.
    node.run(&["exec", "job", "sh", "-c", "rm /fill && echo one > /small && sync && cat /small"]).expect(0);
    node.run(&["exec", "neighbour", "sh", "-c", "echo one > /small"]).expect(0);
    node.finish();
}

#[test]
fn a_machine_and_the_servers_of_its_directories_end_together() {
    if skip_without_machines("a_machine_and_the_servers_of_its_directories_end_together") {
        return;
    }
    let node = Node::start();
    if !has_file_server() {
        node.finish();
        return;
    }
    let shared = tempfile::tempdir().unwrap();
    let at = |target: &str| format!("{}:{target}", shared.path().display());
    let flags = ["-v", &at("/mnt"), "-v", &at("/ro:ro")];
    // Whoever holds the machine may be killed: nobody serves the directory any more.
    detach(&node, "held", &flags, &["sleep", "1000"]);
    let place = node.path("run").join("machines").join(id(&node, "held"));
    let servers = || servers_of(&place.join("share").display().to_string());
    assert!(servers().len() >= 2, "each directory has a server of its own");
    kill(Pid::from_raw(stand_in_of(&node, "held")), Signal::SIGKILL).unwrap();
    node.run(&["wait", "held"]).expect(137);
    let are_gone = || servers().is_empty().then_some(());
    assert!(wait_until(SOON, are_gone).is_some(), "a server outlives its machine");
    // And without the server there is no machine: what reads there would wait for good.
    detach(&node, "served", &flags, &["sleep", "1000"]);
    let place = node.path("run").join("machines").join(id(&node, "served"));
    for pid in servers_of(&place.join("share").display().to_string()) {
        // The end of the first takes the others along.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    node.run(&["wait", "served"]).expect(137);
    let shown = node.inspect("served");
    assert!(shown["reason"].as_str().unwrap_or_default().contains("virtiofsd ended"), "{shown:#}");
    node.finish();
}

/// The file servers that have this in their command line.
fn servers_of(text: &str) -> Vec<i32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let server = |entry: fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let is_server = line.windows(9).any(|word| word == b"virtiofsd");
        (is_server && String::from_utf8_lossy(&line).contains(text)).then_some(pid)
    };
    processes.filter_map(server).collect()
}

fn id(node: &Node, name: &str) -> String {
    node.inspect(name)["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_machines_disks_and_network_are_held_to_their_rates() {
    if skip_without_machines("a_machines_disks_and_network_are_held_to_their_rates") {
        return;
    }
    let node = Node::start();
    let flags = ["--disk-rate", "4MiB/s", "--net-rate", "1MiB"];
    detach(&node, "job", &flags, &["sleep", "1000"]);
    let begun = Instant::now();
    let write = "dd if=/dev/zero of=/file bs=1M count=24 2>/dev/null && sync";
    node.run(&["exec", "job", "sh", "-c", write]).expect(0);
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(4), "24 MiB were written in {took:?}, at 4 MiB a second");
    // What it sends: a second's worth comes at once.
    node.detach(&["--name", "sink", "busybox", "--", "sh", "-c", "sleep 1000 | nc -l -p 99 > /got"]);
    let sink = node.inspect("sink")["address"].as_str().unwrap().to_owned();
    let send = format!("head -c 6000000 /dev/zero | nc -w 20 {sink} 99");
    let begun = wait_until(SOON, || {
        let begun = Instant::now();
        (node.run(&["exec", "job", "sh", "-c", &send]).code == Some(0)).then_some(begun)
    });
    let begun = begun.expect("the sink listens");
    let arrived = wait_until(SOON, || {
        let len = node.run(&["exec", "sink", "stat", "-c", "%s", "/got"]).expect(0).stdout;
        (len.trim() == "6000000").then(|| begun.elapsed())
    });
    let took = arrived.expect("all of it arrives");
    assert!(took > Duration::from_secs(3), "6 MB arrived in {took:?}, at 1 MiB a second");
    let refused = node.run(&["run", "--disk-rate", "4MiB", "busybox", "--", "true"]).expect(2);
    assert!(refused.stderr.contains("container"), "{refused:?}");
    node.finish();
}

#[test]
fn a_damaged_image_is_made_again_and_goes_with_its_image() {
    if skip_without_machines("a_damaged_image_is_made_again_and_goes_with_its_image") {
        return;
    }
    let node = Node::start();
    detach(&node, "runs", &[], &["sleep", "1000"]);
    let image = only_image(&node);
    let inode = fs::metadata(&image).unwrap().ino();
    let file = fs::File::options().write(true).open(&image).unwrap();
    file.write_all_at(&[0xff; 4096], 0).unwrap();
    // Its superblock is gone: nothing would boot from it.
    assert_eq!(shell(&node, &[], "echo boots"), "boots\n");
    assert_ne!(fs::metadata(&image).unwrap().ino(), inode, "a machine's image was changed below it");
    node.run(&["exec", "runs", "busybox", "true"]).expect(0);
    node.run(&["image", "rm", "busybox"]).expect(6);
    node.run(&["rm", "-f", "runs"]).expect(0);
    node.run(&["image", "rm", "busybox"]).expect(0);
    assert!(!image.exists(), "the image's filesystem outlived the image");
    node.import_busybox();
    assert_eq!(shell(&node, &[], "echo boots"), "boots\n");
    // Workloads that are being taken down keep what they had.
    let gone = wait_until(SOON, || {
        node.run(&["image", "prune", "--all"]).expect(0);
        (!image.exists()).then_some(())
    });
    assert!(gone.is_some(), "the image's filesystem outlived the image");
    node.finish();
}

/// The one image that microVMs of this node boot from.
fn only_image(node: &Node) -> PathBuf {
    let cached = fs::read_dir(node.path("data/images/vm")).unwrap().flatten().map(|entry| entry.path());
    let is_image = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with("sha256-") && name.ends_with(".ext4")
    };
    let mut images: Vec<_> = cached.filter(is_image).collect();
    assert_eq!(images.len(), 1, "{images:?}");
    images.remove(0)
}
