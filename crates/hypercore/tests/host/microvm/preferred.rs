//! Which engine a node takes that has all of them: the first whose guest answers. Firecracker and Cloud Hypervisor are
//! fakes here, which take requests in the documented order and answer as a guest would; QEMU is the real one.

use std::path::Path;

use hypercore_fixtures::{host::note_skipped, skip_without_machines};

use super::{
    detach,
    engine::{KVM, begin_as, furnished},
    run,
};
use crate::node::Node;

/// Makes `/usr/local/bin` a directory of fakes: of `$0`, under these names.
fn fakes(names: &[&str]) -> String {
    let links: Vec<_> = names.iter().map(|name| format!("ln -s \"$0\" /usr/local/bin/{name}")).collect();
    format!("mount -t tmpfs fakes /usr/local/bin && {}", links.join(" && "))
}

/// A node with these fakes; nothing where there is no device to open.
fn node(test: &str, mounts: &str) -> Option<Node> {
    if skip_without_machines(test) {
        return None;
    }
    if !Path::new(KVM).exists() {
        note_skipped(test, "no /dev/kvm to put another device on");
        return None;
    }
    let fake = Path::new(env!("CARGO_BIN_EXE_hypercore")).with_file_name("examples/fake-vmm");
    assert!(fake.is_file(), "build it first: cargo build -p hypercore-shim --example fake-vmm");
    let mut node = Node::prepare();
    let agent = furnished(mounts, &fake, &node.up());
    begin_as(&mut node, agent);
    node.import_busybox();
    Some(node)
}

#[test]
fn the_first_engine_whose_guest_answers_runs_a_microvm() {
    let test = "the_first_engine_whose_guest_answers_runs_a_microvm";
    let mounts = fakes(&["firecracker", "jailer", "cloud-hypervisor"]);
    let Some(node) = node(test, &mounts) else { return };
    assert_eq!(run(&node, &["--rm"], &["echo", "hello"]).expect(0).stdout, "hello\n");
    assert!(
        node.agent_log().contains("microVMs run with Firecracker 1.17.0 with KVM"),
        "{}",
        node.agent_log()
    );
    // A fake's guest sleeps without being told how long.
    for (vmm, accelerator, sleep) in [
        ("firecracker", "kvm", &["sleep"][..]),
        ("cloud-hypervisor", "kvm", &["sleep"]),
        ("qemu", "tcg", &["sleep", "1000"]),
    ] {
        detach(&node, vmm, &["--vmm", vmm], sleep);
        let shown = node.inspect(vmm);
        assert_eq!((&shown["vmm"], &shown["accelerator"]), (&vmm.into(), &accelerator.into()), "{shown:#}");
    }
    node.finish();
}

#[test]
fn an_engine_whose_guest_does_not_answer_is_passed_over() {
    let test = "an_engine_whose_guest_does_not_answer_is_passed_over";
    let mounts = format!("{} && echo dead > /usr/local/bin/mood", fakes(&["firecracker", "jailer"]));
    let Some(node) = node(test, &mounts) else { return };
    let refused = run(&node, &["--rm", "--vmm", "firecracker"], &["true"]);
    assert!(refused.code.is_some_and(|code| code != 0), "{refused:?}");
    assert!(refused.stderr.contains("Firecracker needs KVM"), "{refused:?}");
    assert!(refused.stderr.contains("/dev/kvm: no such device"), "its own words are not told: {refused:?}");
    detach(&node, "job", &[], &["sleep", "1000"]);
    assert_eq!(node.inspect("job")["vmm"], "qemu");
    node.finish();
}
