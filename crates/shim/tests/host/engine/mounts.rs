//! What is mounted besides the image: read-only roots, memory, host directories, volumes.

use std::{fs, os::unix::fs::MetadataExt};

use hypercore_fixtures::skip_without_root;
use hypercore_model::Mount;
use hypercore_runtime::bundle::{BundleError, MountFault};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::stat::stat,
};

use super::Machine;

fn with(machine: &mut Machine, mounts: &[String]) {
    machine.spec.mounts = mounts.iter().map(|text| text.parse().unwrap()).collect();
}

fn fault(machine: &Machine) -> MountFault {
    match machine.prepare().unwrap_err() {
        BundleError::Mounted(fault) => fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_read_only_root_is_written_to_nowhere_but_in_mounts() {
    if skip_without_root("a_read_only_root_is_written_to_nowhere_but_in_mounts") {
        return;
    }
    let mut machine = Machine::shell(
        "for place in / /etc /tmp /root; do touch $place/x 2>/dev/null && echo wrote $place; done; \
         touch /scratch/x && grep ' /scratch ' /proc/mounts | cut -d' ' -f3,4; \
         dd if=/dev/zero of=/scratch/big bs=1M count=2 2>/dev/null || echo full; \
         cp /bin/busybox /scratch/true 2>/dev/null; /scratch/true 2>/dev/null || echo no program",
    );
    machine.spec.read_only_rootfs = true;
    machine.spec.mounts = vec![Mount::tmpfs("/scratch:size=1MiB").unwrap()];
    let ended = machine.run();
    let (mounted, rest) = ended.stdout.split_once('\n').unwrap();
    assert_eq!(rest, "full\nno program\n", "{ended:?}");
    for option in ["tmpfs ", "rw", "nosuid", "nodev", "noexec", "size=1024k"] {
        assert!(mounted.contains(option), "{option} in {mounted}");
    }
}

#[test]
fn a_host_directory_is_shared_and_read_only_all_the_way_down() {
    if skip_without_root("a_host_directory_is_shared_and_read_only_all_the_way_down") {
        return;
    }
    let mut machine = Machine::shell(
        "cat /in/given /in/below/deep; echo made > /out/made; \
         for file in /in/x /in/below/x; do touch $file 2>/dev/null && echo wrote $file; done; \
         cat /one",
    );
    let host = machine.host();
    for directory in ["in/below", "out"] {
        fs::create_dir_all(host.join(directory)).unwrap();
    }
    fs::write(host.join("in/given"), "given\n").unwrap();
    // A mount below the one that is asked for: it has to be read-only as well.
    let below = Mounted::tmpfs(&host.join("in/below"));
    fs::write(host.join("in/below/deep"), "deep\n").unwrap();
    let host = host.display();
    with(
        &mut machine,
        &[format!("{host}/in:/in:ro"), format!("{host}/out:/out"), format!("{host}/in/given:/one:ro")],
    );
    let ended = machine.run();
    assert_eq!(ended.stdout, "given\ndeep\ngiven\n", "{ended:?}");
    assert_eq!(fs::read_to_string(format!("{host}/out/made")).unwrap(), "made\n");
    drop(below);
}

#[test]
fn the_whole_host_can_be_bound_without_covering_what_the_engine_needs() {
    if skip_without_root("the_whole_host_can_be_bound_without_covering_what_the_engine_needs") {
        return;
    }
    let mut machine =
        Machine::shell("cat /host/etc/hostname /etc/passwd; touch /host/x 2>&1 | grep -o Read-only");
    with(&mut machine, &["/:/host:ro".into()]);
    let ended = machine.run();
    let own = fs::read_to_string("/etc/hostname").unwrap();
    assert!(ended.stdout.starts_with(&own) && ended.stdout.contains("app:x:1000"), "{ended:?}");
    assert!(ended.stdout.ends_with("Read-only\n"), "{ended:?}");
}

#[test]
fn a_volume_keeps_what_workloads_write_and_begins_with_what_the_image_has() {
    if skip_without_root("a_volume_keeps_what_workloads_write_and_begins_with_what_the_image_has") {
        return;
    }
    let mut machine = Machine::shell("cat /data/first; echo second > /data/second; stat -c %a:%u /data");
    fs::create_dir(machine.layer().join("data")).unwrap();
    fs::write(machine.layer().join("data/first"), "first\n").unwrap();
    std::os::unix::fs::chown(machine.layer().join("data"), Some(1000), Some(1000)).unwrap();
    with(&mut machine, &["kept:/data".into(), "kept:/again:ro".into()]);
    assert_eq!(machine.run().stdout, "first\n755:1000\n");

    // Both mounts are of one volume, which outlives the container.
    machine.spec.command[2] =
        "cat /data/second /again/second; touch /again/x 2>/dev/null && echo wrote".into();
    assert_eq!(machine.run().stdout, "second\nsecond\n");
    assert_eq!(stat(&machine.volume("kept")).unwrap().st_uid, 1000);
}

#[test]
fn mounts_nest_in_whatever_order_they_are_given() {
    if skip_without_root("mounts_nest_in_whatever_order_they_are_given") {
        return;
    }
    let mut machine =
        Machine::shell("touch /a/b/inner /a/outer; ls /a /a/b; df /dev/shm | tail -1 | awk '{print $2}'");
    with(&mut machine, &["inner:/a/b".into(), "outer:/a".into()]);
    machine.spec.mounts.push(Mount::tmpfs("/dev/shm:size=4MiB").unwrap());
    let ended = machine.run();
    assert_eq!(ended.stdout, "/a:\nb\nouter\n\n/a/b:\ninner\n4096\n", "{ended:?}");
    assert!(machine.volume("inner").join("inner").exists());
}

#[test]
fn what_cannot_be_mounted_is_refused_by_name() {
    if skip_without_root("what_cannot_be_mounted_is_refused_by_name") {
        return;
    }
    let mut machine = Machine::shell("true");
    let (host, root) = (machine.host(), machine.root());
    fs::create_dir_all(&root).unwrap();
    fs::write(host.join("file"), "").unwrap();
    std::os::unix::fs::symlink(&root, host.join("link")).unwrap();
    let shown = host.display();
    for (text, part) in [
        (format!("{shown}/none:/a"), "none"),
        (format!("{}:/a", root.display()), "belongs to the node"),
        // A link of the host doesn't hide it.
        (format!("{shown}/link:/a"), "belongs to the node"),
        (format!("{shown}/file:/etc"), "is a directory in the image"),
        (format!("{shown}:/etc/passwd"), "is a file in the image"),
        (format!("{shown}:/proc/sys"), "kernel's own"),
        (format!("{shown}:/sys"), "kernel's own"),
        (format!("{shown}:/dev"), "kernel's own"),
        (format!("{shown}:/etc/passwd/x"), "/etc/passwd/x"),
    ] {
        with(&mut machine, std::slice::from_ref(&text));
        let fault = fault(&machine);
        assert!(fault.to_string().contains(part), "{text}: {fault}");
    }
}

#[test]
fn limits_and_capabilities_are_those_of_the_spec() {
    if skip_without_root("limits_and_capabilities_are_those_of_the_spec") {
        return;
    }
    let mut machine =
        Machine::shell("ulimit -n; ulimit -Hn; ulimit -c; grep CapEff /proc/self/status | tr -d '\\t'");
    machine.spec.ulimits = ["nofile=77:99", "core=0"].map(|text| text.parse().unwrap()).to_vec();
    machine.spec.cap_drop = ["ALL".parse().unwrap()].into();
    machine.spec.cap_add = ["CHOWN".parse().unwrap()].into();
    assert_eq!(machine.run().stdout, "77\n99\n0\nCapEff:0000000000000001\n");

    machine.spec.cap_drop.clear();
    machine.spec.cap_add = ["ALL".parse().unwrap()].into();
    // Whatever is added, what could lead out of the container stays refused by the filter.
    machine.spec.command[2] = "mount -t tmpfs none /tmp 2>/dev/null || echo refused".into();
    assert_eq!(machine.run().stdout, "refused\n");
}

/// A mount of the host's that goes when dropped.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn tmpfs(at: &std::path::Path) -> Self {
        mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        assert_eq!(fs::metadata(at).unwrap().ino(), 1);
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}
