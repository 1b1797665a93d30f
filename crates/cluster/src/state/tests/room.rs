//! What is reserved, and what is refused for it.

use super::*;

const CAPACITY: Resources = Resources { cpu_millis: 2000, memory_bytes: 1 << 30 };

fn create_with(byte: u8, cpu: &str, memory: &str, node: NodeId) -> Command {
    let mut spec = spec(None);
    spec.cpu = Some(cpu.parse().unwrap());
    spec.memory = Some(memory.parse().unwrap());
    Command::CreateWorkload { id: workload(byte), spec, node }
}

fn with_capacity() -> (State, Author) {
    let (mut state, mut author) = founded();
    let set = Command::SetCapacity { node: author.id(), capacity: CAPACITY };
    assert_eq!(author.apply(&mut state, set.clone()).unwrap().len(), 1);
    assert_eq!(author.apply(&mut state, set).unwrap(), [], "repeated without effect");
    (state, author)
}

#[test]
fn what_does_not_fit_is_refused_and_told_what_is_free() {
    let (mut state, mut author) = with_capacity();
    let node = author.id();
    author.apply(&mut state, create_with(1, "1.5", "256MiB", node)).unwrap();
    let rejected = author.apply(&mut state, create_with(2, "1", "64MiB", node)).unwrap_err();
    assert_eq!(rejected.to_string(), "the node has no room: 1 of CPU asked for, 0.5 of 2 free");
    assert_eq!(rejected.kind(), RejectionKind::Refused);
    let rejected = author.apply(&mut state, create_with(2, "0.1", "1GiB", node)).unwrap_err();
    assert_eq!(
        rejected.to_string(),
        "the node has no room: 1024MiB of memory asked for, 768MiB of 1024MiB free"
    );
    author.apply(&mut state, create_with(2, "0.5", "768MiB", node)).unwrap();
    assert_eq!(state.reserved(&node), CAPACITY);
    author.apply(&mut state, create(3, None, node)).expect("what has no limits reserves nothing");
}

#[test]
fn a_machine_reserves_its_memory_also_when_nobody_said_how_much() {
    let (mut state, mut author) = with_capacity();
    let node = author.id();
    let machine = |byte| {
        let mut spec = spec(None);
        spec.isolation = hypercore_model::Isolation::MicroVm;
        Command::CreateWorkload { id: workload(byte), spec, node }
    };
    author.apply(&mut state, machine(1)).unwrap();
    assert_eq!(state.reserved(&node), Resources { cpu_millis: 0, memory_bytes: 512 << 20 });
    author.apply(&mut state, machine(2)).unwrap();
    let rejected = author.apply(&mut state, machine(3)).unwrap_err();
    assert!(rejected.to_string().contains("512MiB of memory asked for, 0MiB of 1024MiB free"), "{rejected}");
}

#[test]
fn room_is_free_again_when_the_end_was_seen_or_the_workload_removed() {
    let (mut state, mut author) = with_capacity();
    let node = author.id();
    for byte in [1, 2] {
        author.apply(&mut state, create_with(byte, "1", "64MiB", node)).unwrap();
    }
    let stop = Command::StopWorkload { id: workload(1), signal: None, grace_ms: 0 };
    author.apply(&mut state, stop).unwrap();
    let third = create_with(3, "1", "64MiB", node);
    author.apply(&mut state, third.clone()).expect_err("its processes may still be there");
    let end = |attempt| Command::EndWorkload { id: workload(1), attempt };
    let later = author.apply(&mut state, end(Attempt::FIRST.next())).unwrap_err();
    assert!(matches!(later, Rejection::Superseded { .. }), "{later}");
    assert_eq!(author.apply(&mut state, end(Attempt::FIRST)).unwrap().len(), 1);
    assert_eq!(author.apply(&mut state, end(Attempt::FIRST)).unwrap(), []);
    author.apply(&mut state, third).unwrap();
    author.apply(&mut state, Command::RemoveWorkload { id: workload(2) }).unwrap();
    author.apply(&mut state, Command::RemoveWorkload { id: workload(1) }).unwrap();
    assert_eq!(state.reserved(&node).cpu_millis, 1000, "what had ended is not given back twice");
}

#[test]
fn nobody_speaks_for_another_node() {
    let (mut state, mut author) = with_capacity();
    let mut other = Author::new(2);
    let admit = Command::AdmitNode { node: other.id(), subnet: subnet("10.1.0.0/16") };
    author.apply(&mut state, admit).unwrap();
    author.apply(&mut state, create_with(1, "1", "64MiB", author.id())).unwrap();
    let claims = [
        Command::SetCapacity { node: author.id(), capacity: Resources::default() },
        Command::EndWorkload { id: workload(1), attempt: Attempt::FIRST },
        Command::ExpireWorkload { id: workload(1) },
    ];
    for claim in claims {
        let rejected = other.apply(&mut state, claim).unwrap_err();
        assert!(matches!(rejected, Rejection::NotItself { .. }), "{rejected}");
    }
}

#[test]
fn a_time_to_live_ends_what_was_not_stopped_before() {
    let (mut state, mut author) = founded();
    let node = author.id();
    let expire = |byte| Command::ExpireWorkload { id: workload(byte) };
    author.apply(&mut state, create(1, None, node)).unwrap();
    assert_eq!(author.apply(&mut state, expire(1)), Err(Rejection::NoTtl(workload(1))));
    for byte in [2, 3] {
        let mut spec = spec(None);
        (spec.ttl_ms, spec.stop_grace_ms) = (Some(5), Some(7));
        author.apply(&mut state, Command::CreateWorkload { id: workload(byte), spec, node }).unwrap();
    }
    assert_eq!(author.apply(&mut state, expire(2)).unwrap().len(), 1);
    assert_eq!(author.apply(&mut state, expire(2)).unwrap(), []);
    let record = state.workload(&workload(2)).unwrap();
    assert_eq!((record.desired, record.expired), (Desired::Stopped { signal: None, grace_ms: 7 }, true));
    author
        .apply(&mut state, Command::StopWorkload { id: workload(3), signal: Some(9), grace_ms: 0 })
        .unwrap();
    assert_eq!(author.apply(&mut state, expire(3)).unwrap(), []);
    assert!(!state.workload(&workload(3)).unwrap().expired);
}

/// Rows as the releases wrote them that knew no capacity and no ends.
#[test]
fn records_without_the_later_fields_are_read() {
    #[derive(serde::Serialize)]
    struct OldNode {
        subnet: hypercore_model::Ipv4Cidr,
        admitted_at: Timestamp,
        sequence: u64,
    }
    let old = OldNode { subnet: subnet("10.0.0.0/16"), admitted_at: at(1), sequence: 3 };
    let bytes = row::encode(&old);
    let read: NodeRecord = row::decode(&bytes).unwrap();
    assert_eq!((read.sequence, read.capacity), (3, None));
    assert_eq!(row::encode(&read), bytes, "what says nothing new is written as it was");
    let (mut state, mut author) = founded();
    author.apply(&mut state, create(1, None, author.id())).unwrap();
    let record = row::encode(&**state.workload(&workload(1)).unwrap());
    let text = String::from_utf8_lossy(&record).into_owned();
    assert!(!text.contains("ended") && !text.contains("expired"), "{text}");
}
