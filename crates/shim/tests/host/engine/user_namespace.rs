//! Containers whose root is nobody on the host.

use std::{
    fs,
    os::unix::fs::{MetadataExt, chown},
    path::PathBuf,
    time::Duration,
};

use hypercore_fixtures::{skip_without_root, wait_until};
use hypercore_model::Mount;
use hypercore_shim::report::FailureCode;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    Machine,
    machine::{FIRST_ID, request},
};

const DEADLINE: Duration = Duration::from_secs(10);

fn mapped(script: &str) -> Machine {
    let mut machine = Machine::shell(script);
    machine.spec.user_namespace = true;
    machine
}

#[test]
fn root_inside_is_nobody_outside_and_owns_the_image_all_the_same() {
    if skip_without_root("root_inside_is_nobody_outside_and_owns_the_image_all_the_same") {
        return;
    }
    let mut machine = mapped(
        "id -u; cat /proc/self/uid_map | tr -s ' '; stat -c %u:%g / /bin/busybox /home/app; \
         echo mine > /root/file; chown app /root/file; stat -c %u /root/file; pwd; stat -c %u .",
    );
    chown(machine.layer().join("home/app"), Some(1000), Some(1000)).unwrap();
    machine.spec.workdir = Some("/new/place".into());
    let ended = machine.run();
    let expected = format!(" 0 {FIRST_ID} 65536\n");
    assert_eq!(ended.stdout, format!("0\n{expected}0:0\n0:0\n1000:1000\n1000\n/new/place\n0\n"), "{ended:?}");
    // Layers are as they were, and what was written is the mapped user's.
    assert_eq!(fs::metadata(machine.layer().join("bin/busybox")).unwrap().uid(), 0);
    let written = fs::metadata(machine.bundle().join("upper/root/file")).unwrap();
    assert_eq!(written.uid(), FIRST_ID + 1000);
}

#[test]
fn it_lives_in_the_nodes_network_and_nothing_else_of_the_hosts() {
    if skip_without_root("it_lives_in_the_nodes_network_and_nothing_else_of_the_hosts") {
        return;
    }
    let netns = Netns::make();
    let look = "readlink /proc/self/ns/net; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; \
                ls /sys/class/net; ls /dev | tr '\\n' ' '; readlink /proc/self/ns/user; \
                echo x > /dev/null && echo x 2>/dev/null > /proc/sys/net/ipv4/ip_forward || echo refused; sleep 100";
    let mut machine = mapped(look);
    machine.netns = Some(netns.0.clone());
    machine.spec.init = true;
    let started = machine.create().unwrap();
    let said =
        wait_until(DEADLINE, || started.stdout().ends_with("refused\n").then(|| started.stdout())).unwrap();
    let lines: Vec<_> = said.lines().collect();
    // Only the namespace's own interface is seen, and its settings are the node's.
    assert_eq!(lines[..3], [netns.link().as_str(), "0", "lo"], "{said}");
    assert!(lines[3].contains("null") && lines[3].contains("urandom"), "{said}");
    assert_ne!(lines[4], fs::read_link("/proc/self/ns/user").unwrap().to_str().unwrap());
    kill(Pid::from_raw(started.pid), Signal::SIGKILL).unwrap();
    started.wait();
    machine.delete();
}

#[test]
fn a_further_process_is_in_every_namespace_of_the_first_and_nobody_on_the_host() {
    if skip_without_root("a_further_process_is_in_every_namespace_of_the_first_and_nobody_on_the_host") {
        return;
    }
    let netns = Netns::make();
    for init in [false, true] {
        let mut machine = mapped("sleep 100");
        machine.netns = Some(netns.0.clone());
        machine.spec.init = init;
        machine.spec.ulimits = vec!["nofile=123:456".parse().unwrap(), "core=0".parse().unwrap()];
        let started = machine.create().unwrap();
        let exec = machine.exec(&["sh", "-c", "echo $$; sleep 100"]).unwrap();
        wait_until(DEADLINE, || (!exec.stdout().is_empty()).then_some(())).unwrap();
        for name in ["net", "user", "pid", "ipc", "uts", "cgroup", "mnt"] {
            let link = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
            assert_eq!(link(exec.pid), link(started.pid), "{name}");
            assert_ne!(link(exec.pid), fs::read_link(format!("/proc/self/ns/{name}")).unwrap(), "{name}");
        }
        let file = |pid: i32, name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
        for name in ["uid_map", "gid_map", "cgroup", "oom_score_adj", "limits"] {
            assert_eq!(file(exec.pid, name), file(started.pid, name), "{name}");
        }
        let status = file(exec.pid, "status");
        let first = file(started.pid, "status");
        let line = |status: &str, key: &str| {
            status
                .lines()
                .find(|line| line.starts_with(key))
                .unwrap()
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(line(&status, "Uid:"), format!("Uid: {FIRST_ID} {FIRST_ID} {FIRST_ID} {FIRST_ID}"));
        assert_eq!(line(&status, "Gid:"), format!("Gid: {FIRST_ID} {FIRST_ID} {FIRST_ID} {FIRST_ID}"));
        assert_eq!(line(&status, "Groups:"), format!("Groups: {FIRST_ID}"));
        for key in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:", "Seccomp:"] {
            assert_eq!(line(&status, key), line(&first, key), "{key}");
        }
        machine.delete();
        // A first process is gone only when all others are.
        exec.wait();
        started.wait();
        machine.assert_nothing_left();
    }
}

#[test]
fn a_further_process_has_no_power_over_the_host() {
    if skip_without_root("a_further_process_has_no_power_over_the_host") {
        return;
    }
    let netns = Netns::make();
    let mut machine = mapped("sleep 100");
    machine.netns = Some(netns.0.clone());
    // Whatever the capabilities, they are those of its own namespace.
    machine.spec.cap_add = vec!["ALL".parse().unwrap()].into_iter().collect();
    let started = machine.create().unwrap();
    let script = "id -u; ls /proc/self/fd | tr '\\n' ' '; echo; \
                  hostname stolen 2>/dev/null && echo named; \
                  echo 1 2>/dev/null >/proc/sys/net/ipv4/ip_forward || echo no forwarding; \
                  ip link add dummy0 type dummy 2>/dev/null || echo no link; \
                  mount -t tmpfs none /tmp 2>/dev/null || echo no mount; \
                  mknod /tmp/disk b 8 0 2>/dev/null || echo no device; \
                  chroot /proc/1/root true 2>/dev/null; ls /proc/1/root/etc/passwd";
    let ended = machine.exec(&["sh", "-c", script]).unwrap().wait();
    let lines: Vec<_> = ended.stdout.lines().collect();
    assert_eq!(lines[0], "0", "{ended:?}");
    assert!(lines[1].starts_with("0 1 2"), "descriptors of the engine: {ended:?}");
    for refused in ["no forwarding", "no link", "no mount", "no device"] {
        assert!(lines.contains(&refused), "{refused}: {ended:?}");
    }
    machine.delete();
    started.wait();
}

#[test]
fn users_directories_and_failures_of_a_further_process_are_as_elsewhere() {
    if skip_without_root("users_directories_and_failures_of_a_further_process_are_as_elsewhere") {
        return;
    }
    let machine = mapped("sleep 100");
    chown(machine.layer().join("home/app"), Some(1000), Some(1000)).unwrap();
    let started = machine.create().unwrap();
    let mut ask =
        request(&["sh", "-c", "id -u; id -G; echo $HOME; pwd; touch x; stat -c %u x; echo err >/dev/stderr"]);
    ask.user = Some("app".into());
    ask.workdir = Some("/home/app".into());
    let exec = machine.exec_request(&ask, None).unwrap();
    let ended = exec.wait();
    assert_eq!(ended.stdout, "1000\n1000 50\n/home/app\n/home/app\n1000\n", "{ended:?}");
    assert_eq!((ended.code, ended.stderr.as_str()), (0, "err\n"), "{ended:?}");
    for (argv, code) in [
        (&["no-such-program"][..], FailureCode::CommandNotFound),
        (&["/etc/passwd"], FailureCode::NotExecutable),
    ] {
        assert_eq!(machine.exec(argv).err().unwrap().code, code, "{argv:?}");
    }
    let mut elsewhere = request(&["true"]);
    elsewhere.workdir = Some("/no/such/directory".into());
    let failure = machine.exec_request(&elsewhere, None).err().unwrap();
    assert!(failure.message.contains("/no/such/directory"), "{failure}");
    kill(Pid::from_raw(started.pid), Signal::SIGKILL).unwrap();
    started.wait();
    assert_eq!(machine.exec(&["true"]).err().unwrap().code, FailureCode::NotRunning);
    machine.delete();
    machine.assert_nothing_left();
}

#[test]
fn volumes_and_binds_keep_plain_ids() {
    if skip_without_root("volumes_and_binds_keep_plain_ids") {
        return;
    }
    let mut machine = mapped(
        "stat -c %u /data/first; touch /data/second /host/made /scratch/x; stat -c %u /host /scratch/x; \
         touch /data/app; chown app /data/app",
    );
    fs::create_dir(machine.layer().join("data")).unwrap();
    fs::write(machine.layer().join("data/first"), "").unwrap();
    chown(machine.layer().join("data/first"), Some(1000), Some(1000)).unwrap();
    let host = machine.host();
    machine.spec.mounts =
        vec!["kept:/data".parse().unwrap(), format!("{}:/host", host.display()).parse().unwrap()];
    machine.spec.mounts.push(Mount::tmpfs("/scratch").unwrap());
    let ended = machine.run();
    assert_eq!(ended.stdout, "1000\n0\n0\n", "{ended:?}");
    let uid = |path: PathBuf| fs::metadata(path).unwrap().uid();
    let volume = machine.volume("kept");
    assert_eq!(
        [uid(volume.join("first")), uid(volume.join("second")), uid(volume.join("app"))],
        [1000, 0, 1000]
    );
    assert_eq!(uid(host.join("made")), 0);
}

#[test]
fn what_it_wrote_stays_its_own_when_it_starts_again() {
    if skip_without_root("what_it_wrote_stays_its_own_when_it_starts_again") {
        return;
    }
    let mut machine = mapped("test -e /root/x && stat -c %u /root/x; touch /root/x");
    assert_eq!(machine.run().stdout, "");
    hypercore_runtime::bundle::discard(&machine.bundle()).unwrap();
    machine.first_id = FIRST_ID + 7 * 65_536;
    assert_eq!(machine.run().stdout, "0\n");
}

/// A network namespace of the host's, as the node makes them.
struct Netns(PathBuf);

impl Netns {
    fn make() -> Self {
        let name = format!("hct-engine-{}", std::process::id());
        let made = std::process::Command::new("ip").args(["netns", "add", &name]).status().unwrap();
        assert!(made.success());
        Self(PathBuf::from("/run/netns").join(name))
    }

    fn link(&self) -> String {
        format!("net:[{}]", fs::metadata(&self.0).unwrap().ino())
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let name = self.0.file_name().unwrap();
        let _ = std::process::Command::new("ip").args(["netns", "del"]).arg(name).status();
    }
}
