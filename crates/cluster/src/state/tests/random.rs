//! What holds for every sequence of commands: `apply` is deterministic, rows lead back to the same state, a rejected
//! command changes nothing, and the invariants stand after each step.

use std::collections::BTreeSet;

use hypercore_trust::Verified;
use proptest::prelude::*;

use super::*;

const AUTHORS: u8 = 3;
const SUBNETS: [&str; 4] = ["10.0.0.0/16", "10.1.0.0/16", "10.1.2.0/24", "10.0.0.0/8"];
const NAMES: [&str; 3] = ["web", "db", "cache"];

/// One step: who says what. Few of everything, so that repetitions and conflicts are common.
#[derive(Debug, Clone)]
enum Step {
    Say {
        author: u8,
        what: What,
    },
    /// An earlier command comes a second time.
    Replay {
        index: prop::sample::Index,
    },
    Seal,
}

#[derive(Debug, Clone)]
enum What {
    Admit { node: u8, subnet: usize },
    Create { id: u8, name: Option<usize>, node: u8 },
    Stop { id: u8, signal: Option<i32>, grace_ms: u64 },
    Remove { id: u8 },
    CreateToken { id: u8, name: Option<usize>, expires_at: Option<u64> },
    RevokeToken { id: u8 },
    Capacity { node: u8, cpus: u64 },
    End { id: u8, attempt: u32 },
    Expire { id: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    let (node, id) = (0..AUTHORS, 0u8..6);
    let what = prop_oneof![
        (node.clone(), 0..SUBNETS.len()).prop_map(|(node, subnet)| What::Admit { node, subnet }),
        (id.clone(), prop::option::of(0..NAMES.len()), node.clone())
            .prop_map(|(id, name, node)| What::Create { id, name, node }),
        (id.clone(), prop::option::of(0..70), 0u64..3).prop_map(|(id, signal, grace_ms)| What::Stop {
            id,
            signal,
            grace_ms
        }),
        id.clone().prop_map(|id| What::Remove { id }),
        (id.clone(), prop::option::of(0..NAMES.len()), prop::option::of(0u64..3))
            .prop_map(|(id, name, expires_at)| What::CreateToken { id, name, expires_at }),
        id.clone().prop_map(|id| What::RevokeToken { id }),
        (node.clone(), 0u64..5).prop_map(|(node, cpus)| What::Capacity { node, cpus }),
        (id.clone(), 1u32..3).prop_map(|(id, attempt)| What::End { id, attempt }),
        id.prop_map(|id| What::Expire { id }),
    ];
    prop_oneof![
        8 => (node, what).prop_map(|(author, what)| Step::Say { author, what }),
        1 => any::<prop::sample::Index>().prop_map(|index| Step::Replay { index }),
        2 => Just(Step::Seal),
    ]
}

fn command(what: What, authors: &[Author]) -> Command {
    let node = |index: u8| authors[usize::from(index)].id();
    match what {
        What::Admit { node: index, subnet: which } => {
            Command::AdmitNode { node: node(index), subnet: subnet(SUBNETS[which]) }
        }
        What::Create { id, name, node: index } => {
            limited(create(id, name.map(|name| NAMES[name]), node(index)))
        }
        What::Stop { id, signal, grace_ms } => Command::StopWorkload { id: workload(id), signal, grace_ms },
        What::Remove { id } => Command::RemoveWorkload { id: workload(id) },
        What::CreateToken { id, name, expires_at } => {
            token(id, name.map(|name| NAMES[name]), expires_at.map(at))
        }
        What::RevokeToken { id } => Command::RevokeToken { id: TokenId::from_bytes([id; 8]) },
        What::Capacity { node: index, cpus } => {
            let capacity = Resources { cpu_millis: cpus * 1000, memory_bytes: 1 << 30 };
            Command::SetCapacity { node: node(index), capacity }
        }
        What::End { id, attempt } => {
            Command::EndWorkload { id: workload(id), attempt: Attempt::new(attempt) }
        }
        What::Expire { id } => Command::ExpireWorkload { id: workload(id) },
    }
}

/// Every other workload has limits, and every third a time to live.
fn limited(mut create: Command) -> Command {
    if let Command::CreateWorkload { id, spec, .. } = &mut create {
        let byte = id.as_bytes()[0];
        spec.cpu = (byte % 2 == 0).then(|| "1.5".parse().unwrap());
        spec.memory = (byte % 2 == 0).then(|| "300MiB".parse().unwrap());
        spec.ttl_ms = (byte % 3 == 0).then_some(1);
    }
    create
}

/// The blocks that the steps make, and the state after them.
fn run(steps: Vec<Step>) -> Result<(State, Vec<Block>), TestCaseError> {
    let mut authors: Vec<Author> = (0..AUTHORS).map(Author::new).collect();
    let (mut state, mut open, mut blocks) = (State::new(), Vec::new(), Vec::new());
    let mut said: Vec<Verified<AuthoredCommand>> = Vec::new();
    for step in steps {
        let spoken = match step {
            Step::Say { author, what } => {
                let command = command(what, &authors);
                authors[usize::from(author)].sign(&state, command)
            }
            Step::Replay { index } if !said.is_empty() => index.get(&said).clone(),
            Step::Replay { .. } => continue,
            Step::Seal if open.is_empty() => continue,
            Step::Seal => {
                blocks.push(state.seal(at(blocks.len() as u64), &std::mem::take(&mut open)).block);
                check_rows(&state)?;
                continue;
            }
        };
        said.push(spoken.clone());
        let before = state.clone();
        match state.apply(&spoken) {
            Ok(_) => open.push(spoken),
            Err(_) => prop_assert_eq!(state.root(), before.root(), "a rejected command changes nothing"),
        }
        check_invariants(&before, &state)?;
    }
    if !open.is_empty() {
        blocks.push(state.seal(at(blocks.len() as u64), &open).block);
    }
    Ok((state, blocks))
}

fn check_invariants(before: &State, after: &State) -> Result<(), TestCaseError> {
    let names: Vec<_> = after.workloads().filter_map(|workload| workload.spec.name.clone()).collect();
    let unique: BTreeSet<_> = names.iter().cloned().collect();
    prop_assert_eq!(names.len(), unique.len(), "names are unique");
    prop_assert_eq!(&unique, &after.names.keys().cloned().collect(), "the index of names is complete");
    for workload in after.workloads() {
        prop_assert!(after.node(&workload.node).is_some(), "a workload's node is a member");
        if let Some(earlier) = before.workload(&workload.id) {
            prop_assert!(workload.attempt >= earlier.attempt, "attempts never fall");
            prop_assert_eq!(&workload.spec, &earlier.spec, "a spec never changes");
        }
    }
    let names: Vec<_> = after.tokens().filter_map(|token| token.grant.name.clone()).collect();
    let unique: BTreeSet<_> = names.iter().cloned().collect();
    prop_assert_eq!(names.len(), unique.len(), "names of tokens are unique");
    for (id, node) in after.nodes() {
        check_room(before, after, id)?;
        let overlapping = after.nodes().filter(|(_, other)| other.subnet.overlaps(node.subnet)).count();
        prop_assert_eq!(overlapping, 1, "subnets don't overlap");
        prop_assert!(before.node(&id).is_none_or(|earlier| node.sequence >= earlier.sequence));
    }
    Ok(())
}

/// The index is what the records say, and never grows beyond the capacity.
fn check_room(before: &State, after: &State, node: NodeId) -> Result<(), TestCaseError> {
    let kept = after.workloads().filter(|record| record.node == node && !record.ended);
    let sum = kept.fold(Resources::default(), |sum, record| sum.plus(Resources::of(&record.spec)));
    prop_assert_eq!(after.reserved(&node), sum);
    let has_grown = !sum.minus(before.reserved(&node)).is_none();
    if let (true, Some(capacity)) = (has_grown, after.node(&node).and_then(|node| node.capacity)) {
        prop_assert!(sum.minus(capacity).is_none(), "{sum:?} is reserved of {capacity:?}");
    }
    Ok(())
}

fn check_rows(state: &State) -> Result<(), TestCaseError> {
    let mut stored = rows(state);
    stored.reverse();
    let loaded = State::load(stored).map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert_eq!(loaded.root(), state.root());
    prop_assert_eq!(loaded.tip(), state.tip());
    prop_assert_eq!(&loaded.names, &state.names);
    prop_assert_eq!(&loaded.reserved, &state.reserved);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn replaying_the_blocks_gives_the_same_state(steps in prop::collection::vec(step(), 0..60)) {
        let (state, blocks) = run(steps)?;
        let (mut replayed, mut follower) = (State::new(), State::new());
        for block in &blocks {
            let commands: Vec<_> = block.commands.iter().map(|command| command.clone().verify().unwrap()).collect();
            for command in &commands {
                let applied = replayed.apply(command).unwrap();
                follower.absorb(&applied.changes);
            }
            let sealed = replayed.seal(block.header.at, &commands);
            follower.absorb(&sealed.changes);
            prop_assert_eq!(&sealed.block, block);
        }
        prop_assert_eq!(replayed.tip(), state.tip());
        prop_assert_eq!(replayed.root(), state.root());
        prop_assert_eq!(follower.tip(), state.tip(), "changes carry everything");
        prop_assert_eq!(follower.root(), state.root());
        prop_assert_eq!(&follower.names, &state.names);
        prop_assert_eq!(&follower.reserved, &state.reserved);
    }
}
