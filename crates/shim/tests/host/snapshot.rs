//! Machines that are saved while they run, and others that go on from what was saved: what each of them says, who they
//! are, and that the first one notices nothing. Real boots.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod held;
mod network;

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use hypercore_fixtures::{skip_without_machines, wait_until};
use hypercore_model::machine::MachineResume;
use hypercore_runtime::machine::contact::{Contact, ContactError};
use hypercore_wire::{
    ErrorCode, Message,
    message::{Fault, Snapshot, Snapshotted},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use self::{
    held::{Held, Kit},
    network::{Network, Server},
};

/// How long anything may take on a loaded host.
const PATIENCE: Duration = Duration::from_secs(90);

/// Counts on standard output, with randomness to tell two that count alike apart; beside that it holds a connection and
/// says what comes over it.
const WORKLOAD: &str = "\
    sleep 1000000 | nc -w 1000000 10.77.0.1 9000 | { while read line; do echo \"heard $line\"; done; echo hung up; } &
    i=0; while :; do i=$((i+1)); echo \"n $i $(od -An -tx1 -N8 /dev/urandom)\"; sleep 0.05; done";

/// Says who the machine is.
const IDENTITY: &str = "hostname; cat /etc/hostname /etc/machine-id /sys/class/net/e*/address /etc/hosts; \
    ip addr show | grep -oE 'inet6? (10|fd)[^/]*'";

/// Has the machine saved into `directory`, which is made.
fn save(machine: &Held, directory: &Path) -> Result<Snapshotted, Fault> {
    fs::create_dir(directory).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(async {
        let contact = Contact::open(&machine.socket()).await?;
        let directory = directory.to_str().unwrap().to_owned();
        contact.request(Snapshot { directory }, PATIENCE).await
    });
    match answer {
        Ok(Message::Snapshotted(saved)) => Ok(saved),
        Err(ContactError::Refused(fault)) => Err(fault),
        other => panic!("{other:?}"),
    }
}

fn resume(directory: &Path, saved: Snapshotted) -> MachineResume {
    MachineResume { directory: directory.to_owned(), is_mapped: saved.is_mapped }
}

/// The numbers that a machine has counted, each with its randomness.
fn counted(machine: &Held) -> Vec<(u64, String)> {
    let lines = machine.lines();
    let parsed = lines.iter().filter_map(|line| line.strip_prefix("n ")?.split_once(' '));
    parsed.map(|(number, random)| (number.parse().unwrap(), random.trim().to_owned())).collect()
}

/// Waits until it has counted `more` further, and says how far.
fn count_on(machine: &Held, more: u64) -> u64 {
    let last = |machine: &Held| counted(machine).last().map_or(0, |(number, _)| *number);
    let before = last(machine);
    let counted = wait_until(PATIENCE, || Some(last(machine)).filter(|now| *now >= before + more));
    counted.unwrap_or_else(|| panic!("it stands still at {before}: {:?}", machine.lines()))
}

/// No line is missing, and none comes twice.
fn assert_unbroken(machine: &Held) {
    let numbers: Vec<u64> = counted(machine).into_iter().map(|(number, _)| number).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
}

fn says(machine: &Held, line: &str) {
    let said = wait_until(PATIENCE, || machine.lines().iter().any(|said| said == line).then_some(()));
    assert!(said.is_some(), "{:?}", machine.lines());
}

#[test]
fn clones_go_on_as_others_and_the_first_notices_nothing() {
    if skip_without_machines("clones_go_on_as_others_and_the_first_notices_nothing") {
        return;
    }
    let kit = Kit::new("clones");
    let network = Network::new("hc-snap-a");
    let server = Server::begin(&network);
    let parent = kit.boot(&network, 2, WORKLOAD);
    server.tell("one");
    says(&parent, "heard one");
    let other = parent.exec("j=0; while :; do j=$((j+1)); echo \"n $j x\"; sleep 0.05; done");
    let before = count_on(&parent, 3);
    count_on(&other, 3);

    let snapshot = kit.path("snapshot");
    let saved = save(&parent, &snapshot).unwrap();
    assert!(saved.is_mapped && saved.stopped_us > 0, "{saved:?}");
    let after = counted(&parent).last().unwrap().0;
    let memory = fs::metadata(snapshot.join("memory")).unwrap();
    assert!(memory.blocks() * 512 < memory.len(), "what the machine never used takes room");

    let clones = [3, 4].map(|number| kit.resume(&network, number, &snapshot, resume(&snapshot, saved)));
    for clone in &clones {
        count_on(clone, 5);
        says(clone, "hung up");
        assert_unbroken(clone);
    }
    let first = clones.each_ref().map(|clone| counted(clone)[0].0);
    assert_eq!(first[0], first[1]);
    assert!((before + 1..=after + 1).contains(&first[0]), "{first:?} after {before} and not after {after}");
    // The very number that was being written may have its randomness from before.
    let random = clones.each_ref().map(|clone| counted(clone)[2].1.clone());
    assert_ne!(random[0], random[1]);

    assert_others([&parent, &clones[0], &clones[1]]);

    server.tell("two");
    says(&parent, "heard two");
    assert_eq!(server.connections(), 1);
    count_on(&parent, 3);
    count_on(&other, 3);
    assert_unbroken(&parent);
    assert_unbroken(&other);
    assert!(clones.iter().all(|clone| !clone.lines().iter().any(|line| line == "heard two")));

    second_generation(&kit, &network, &clones[0]);
}

/// Each of the machines is itself: 2 and the numbers after it.
fn assert_others(machines: [&Held; 3]) {
    let identities = machines.map(|machine| machine.run(IDENTITY));
    for (index, number) in [2, 3, 4].into_iter().enumerate() {
        let identity = &identities[index];
        let expected = [
            format!("m{number}"),
            format!("m{number}"),
            identity[2].clone(),
            format!("02:00:00:00:77:0{number}"),
        ];
        assert_eq!(identity[..4], expected, "{identity:?}");
        let expected = [
            format!("10.77.0.{number} m{number}"),
            format!("inet 10.77.0.{number}"),
            format!("inet6 fd77::{number}"),
        ];
        assert_eq!(identity[4..], expected);
        let is_id = |text: &str| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(is_id(&identity[2]), "{identity:?}");
        for other in &identities[index + 1..] {
            assert_ne!(identity[2], other[2]);
        }
    }
}

/// What a machine that was resumed is worth as the parent of another one.
fn second_generation(kit: &Kit, network: &Network, parent: &Held) {
    let snapshot = kit.path("second");
    let saved = save(parent, &snapshot).unwrap();
    assert!(!saved.is_mapped && !snapshot.join("memory").exists(), "{saved:?}");
    let clone = kit.resume(network, 5, &snapshot, resume(&snapshot, saved));
    count_on(&clone, 3);
    count_on(parent, 3);
    assert_unbroken(&clone);
    assert_unbroken(parent);
    assert_eq!(clone.run("hostname"), ["m5"]);
}

#[test]
fn a_machine_that_can_not_be_saved_goes_on_and_leaves_nothing() {
    if skip_without_machines("a_machine_that_can_not_be_saved_goes_on_and_leaves_nothing") {
        return;
    }
    let mut kit = Kit::new("fails");
    kit.read_only = true;
    let network = Network::new("hc-snap-b");
    let _server = Server::begin(&network);
    let machine = kit.boot(&network, 2, WORKLOAD);
    count_on(&machine, 2);

    let small = kit.mount("small", "8m");
    let directory = small.path().join("snapshot");
    let refused = save(&machine, &directory).unwrap_err();
    assert_eq!(refused.code, ErrorCode::FULL, "{refused:?}");
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
    count_on(&machine, 2);

    let used = kit.path("used");
    fs::create_dir_all(used.join("snapshot")).unwrap();
    fs::write(used.join("snapshot/file"), "").unwrap();
    let refused = machine.ask(Snapshot { directory: used.join("snapshot").to_str().unwrap().to_owned() });
    assert!(matches!(refused, Err(ContactError::Refused(fault)) if fault.code == ErrorCode::REFUSED));

    // And afterwards it can. What its workload may not write to, its agent still can.
    let snapshot = kit.path("snapshot");
    let saved = save(&machine, &snapshot).unwrap();
    count_on(&machine, 2);
    assert_unbroken(&machine);
    let clone = kit.resume(&network, 3, &snapshot, resume(&snapshot, saved));
    let said = clone.run("cat /etc/hostname; touch /file || echo sealed");
    assert_eq!(said, ["m3", "sealed"]);
}

#[test]
fn an_engine_that_is_killed_while_it_saves_leaves_nothing() {
    if skip_without_machines("an_engine_that_is_killed_while_it_saves_leaves_nothing") {
        return;
    }
    let kit = Kit::new("killed");
    let network = Network::new("hc-snap-d");
    let _server = Server::begin(&network);
    let mut machine = kit.boot(&network, 2, WORKLOAD);
    count_on(&machine, 2);
    let (directory, engine) = (kit.path("snapshot"), Pid::from_raw(machine.engine()));
    let state = directory.join("state");
    let killer = thread::spawn(move || {
        // Without a pause: there is little time between its first byte and its last.
        let deadline = Instant::now() + PATIENCE;
        while !state.exists() && Instant::now() < deadline {
            thread::yield_now();
        }
        kill(engine, Signal::SIGKILL).unwrap();
    });
    fs::create_dir(&directory).unwrap();
    let answer = machine.ask(Snapshot { directory: directory.to_str().unwrap().to_owned() });
    killer.join().unwrap();
    assert!(matches!(answer, Err(ContactError::Refused(_))), "{answer:?}");
    assert!(machine.ends());
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
}

#[test]
fn input_goes_to_the_machine_that_it_was_written_to() {
    if skip_without_machines("input_goes_to_the_machine_that_it_was_written_to") {
        return;
    }
    let mut kit = Kit::new("input");
    kit.stdin_open = true;
    let network = Network::new("hc-snap-e");
    let mut parent = kit.boot(&network, 2, "while read line; do echo \"got ${#line} $line\"; done; echo end");
    parent.feed("a\n");
    says(&parent, "got 1 a");
    let snapshot = kit.path("snapshot");
    let saved = save(&parent, &snapshot).unwrap();
    let mut clone = kit.resume(&network, 3, &snapshot, resume(&snapshot, saved));
    // More than is under way at once.
    let long = "x".repeat(100_000);
    clone.feed(&format!("{long}\nb\n"));
    says(&clone, "got 1 b");
    parent.feed("c\n");
    says(&parent, "got 1 c");
    assert_eq!(parent.lines(), ["got 1 a", "got 1 c"]);
    assert_eq!(clone.lines(), [format!("got 100000 {long}"), "got 1 b".to_owned()]);
}

#[test]
fn a_snapshot_without_its_state_is_refused_by_the_engine() {
    if skip_without_machines("a_snapshot_without_its_state_is_refused_by_the_engine") {
        return;
    }
    let kit = Kit::new("cut");
    let network = Network::new("hc-snap-c");
    let _server = Server::begin(&network);
    let machine = kit.boot(&network, 2, WORKLOAD);
    count_on(&machine, 1);
    let snapshot = kit.path("snapshot");
    let saved = save(&machine, &snapshot).unwrap();
    let state = fs::read(snapshot.join("state")).unwrap();
    fs::write(snapshot.join("state"), &state[..state.len() / 2]).unwrap();
    let failed = kit.try_resume(&network, 3, &snapshot, resume(&snapshot, saved)).unwrap_err();
    assert!(failed.contains("the machine can't be booted"), "{failed}");
    count_on(&machine, 1);
}
