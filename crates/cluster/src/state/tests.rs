//! Each rule of `apply` by an example; what holds for all sequences of commands is in `random`.

mod random;
mod room;
mod token;

use hypercore_model::{Attempt, Scope, Timestamp, WorkloadSpec};
use hypercore_trust::{Identity, Signed, TokenSecret, Verified};
use zeroize::Zeroizing;

use super::*;

/// A node with its own count of commands.
pub(super) struct Author {
    pub(super) identity: Identity,
    sequence: u64,
}

impl Author {
    pub(super) fn new(seed: u8) -> Self {
        Self { identity: Identity::from_seed(&[seed; 32]), sequence: 0 }
    }

    pub(super) fn id(&self) -> NodeId {
        self.identity.node_id()
    }

    /// The author's next command, for the cluster that `state` is of.
    pub(super) fn sign(&mut self, state: &State, command: Command) -> Verified<AuthoredCommand> {
        self.sequence += 1;
        let cluster = state.cluster().map(|cluster| cluster.id);
        self.sign_exactly(AuthoredCommand {
            cluster,
            sequence: self.sequence,
            at: at(self.sequence),
            command,
        })
    }

    pub(super) fn sign_exactly(&self, command: AuthoredCommand) -> Verified<AuthoredCommand> {
        Signed::sign(&self.identity, &command).unwrap().verify().unwrap()
    }

    fn apply(&mut self, state: &mut State, command: Command) -> Result<Vec<Event>, Rejection> {
        let command = self.sign(state, command);
        state.apply(&command).map(|applied| applied.events)
    }
}

fn at(unix_ms: u64) -> Timestamp {
    Timestamp::from_unix_ms(unix_ms)
}

fn subnet(text: &str) -> hypercore_model::Ipv4Cidr {
    text.parse().unwrap()
}

fn workload(byte: u8) -> WorkloadId {
    WorkloadId::from_entropy([byte; 16])
}

fn spec(name: Option<&str>) -> Box<WorkloadSpec> {
    let name = name.map(|name| name.parse().unwrap());
    Box::new(WorkloadSpec { name, ..WorkloadSpec::of_image("web:1".parse().unwrap()) })
}

fn founded() -> (State, Author) {
    let (mut state, mut author) = (State::new(), Author::new(1));
    let admit = Command::AdmitNode { node: author.id(), subnet: subnet("172.16.0.0/16") };
    author.apply(&mut state, admit).unwrap();
    (state, author)
}

fn create(byte: u8, name: Option<&str>, node: NodeId) -> Command {
    Command::CreateWorkload { id: workload(byte), spec: spec(name), node }
}

fn token(byte: u8, name: Option<&str>, expires_at: Option<Timestamp>) -> Command {
    Command::CreateToken {
        id: TokenId::from_bytes([byte; 8]),
        grant: TokenGrant {
            name: name.map(|name| name.parse().unwrap()),
            scopes: [Scope::Run].into(),
            tenant: None,
            expires_at,
        },
        hash: TokenSecret::from_bytes(Zeroizing::new([byte; 32])).hash(),
    }
}

#[test]
fn a_cluster_begins_with_a_node_that_admits_itself() {
    let (mut state, mut first, second) = (State::new(), Author::new(1), Author::new(2));
    let rejected = first.apply(&mut state, create(1, None, first.id()));
    assert_eq!(rejected, Err(Rejection::NotFounded));
    let other = Command::AdmitNode { node: second.id(), subnet: subnet("10.0.0.0/16") };
    assert_eq!(first.apply(&mut state, other), Err(Rejection::NotFounded));
    let own = Command::AdmitNode { node: first.id(), subnet: subnet("10.0.0.0/16") };
    let events = first.apply(&mut state, own).unwrap();
    assert_eq!(events[0], Event::ClusterFounded { founder: first.id() });
    assert_eq!(state.cluster().unwrap().founder, first.id());
}

#[test]
fn only_members_have_a_say() {
    let (mut state, author) = founded();
    let mut stranger = Author::new(9);
    let rejected = stranger.apply(&mut state, create(1, None, author.id()));
    assert_eq!(rejected, Err(Rejection::NotAdmitted(stranger.id())));
}

#[test]
fn a_command_for_another_cluster_is_refused() {
    let (mut state, author) = founded();
    let (_, other) = (founded(), ClusterId([7; 32]));
    let command = |cluster, sequence| AuthoredCommand {
        cluster,
        sequence,
        at: at(5),
        command: create(1, None, author.id()),
    };
    for cluster in [None, Some(other)] {
        let rejected = state.apply(&author.sign_exactly(command(cluster, 2))).unwrap_err();
        assert_eq!(rejected, Rejection::OtherCluster { meant: cluster });
    }
}

#[test]
fn a_command_is_never_applied_twice() {
    let (mut state, mut author) = founded();
    let command = author.sign(&state, create(1, None, author.id()));
    state.apply(&command).unwrap();
    let root = state.root();
    let rejected = state.apply(&command).unwrap_err();
    assert_eq!(rejected, Rejection::Stale { author: author.id(), sequence: 2, last: 2 });
    assert_eq!(state.root(), root);
}

#[test]
fn subnets_of_two_nodes_never_overlap() {
    let (mut state, mut author) = founded();
    let node = Author::new(2).id();
    let mut admit =
        |state: &mut State, text| author.apply(state, Command::AdmitNode { node, subnet: subnet(text) });
    assert!(matches!(admit(&mut state, "172.16.9.0/24"), Err(Rejection::SubnetTaken { .. })));
    assert!(matches!(admit(&mut state, "172.0.0.0/8"), Err(Rejection::SubnetTaken { .. })));
    assert!(matches!(admit(&mut state, "10.0.0.0/30"), Err(Rejection::SubnetSize(_))));
    assert_eq!(admit(&mut state, "172.17.0.0/16").unwrap().len(), 1);
    assert_eq!(admit(&mut state, "172.17.0.0/16").unwrap(), [], "repeated without effect");
    assert!(matches!(admit(&mut state, "172.18.0.0/16"), Err(Rejection::NodeExists { .. })));
}

#[test]
fn creating_the_same_again_has_no_effect_and_another_is_a_conflict() {
    let (mut state, mut author) = founded();
    let (node, other) = (author.id(), create(1, Some("other"), author.id()));
    assert_eq!(author.apply(&mut state, create(1, Some("web"), node)).unwrap().len(), 1);
    assert_eq!(author.apply(&mut state, create(1, Some("web"), node)).unwrap(), []);
    assert_eq!(author.apply(&mut state, other), Err(Rejection::WorkloadExists(workload(1))));
    assert_eq!(state.workloads().count(), 1);
}

#[test]
fn a_name_is_taken_until_its_workload_is_removed() {
    let (mut state, mut author) = founded();
    let node = author.id();
    author.apply(&mut state, create(1, Some("web"), node)).unwrap();
    let taken = Rejection::NameTaken { name: "web".parse().unwrap(), by: workload(1) };
    assert_eq!(author.apply(&mut state, create(2, Some("web"), node)), Err(taken));
    author.apply(&mut state, Command::RemoveWorkload { id: workload(1) }).unwrap();
    author.apply(&mut state, create(2, Some("web"), node)).unwrap();
    assert_eq!(state.by_name(&"web".parse().unwrap()).unwrap().id, workload(2));
}

#[test]
fn mistakes_in_a_spec_are_all_told() {
    let (mut state, mut author) = founded();
    let mut bad = spec(None);
    bad.pids_max = 0;
    bad.workdir = Some("tmp".into());
    let command = Command::CreateWorkload { id: workload(1), spec: bad, node: author.id() };
    let rejected = author.apply(&mut state, command).unwrap_err();
    assert_eq!(rejected.kind(), RejectionKind::Invalid);
    assert!(rejected.to_string().contains("; "), "{rejected}");
}

#[test]
fn a_workload_goes_to_a_member() {
    let (mut state, mut author) = founded();
    let stranger = Author::new(9).id();
    let rejected = author.apply(&mut state, create(1, None, stranger));
    assert_eq!(rejected, Err(Rejection::UnknownNode(stranger)));
}

#[test]
fn a_command_that_is_too_long_is_refused() {
    let (mut state, mut author) = founded();
    let mut long = spec(None);
    long.command = vec!["x".repeat(100_000); 11];
    let command = Command::CreateWorkload { id: workload(1), spec: long, node: author.id() };
    assert!(matches!(author.apply(&mut state, command), Err(Rejection::TooLarge { .. })));
}

#[test]
fn a_later_stop_replaces_an_earlier_one() {
    let (mut state, mut author) = founded();
    let stop = |signal, grace_ms| Command::StopWorkload { id: workload(1), signal, grace_ms };
    assert_eq!(author.apply(&mut state, stop(None, 0)), Err(Rejection::UnknownWorkload(workload(1))));
    let node = author.id();
    author.apply(&mut state, create(1, None, node)).unwrap();
    assert_eq!(author.apply(&mut state, stop(None, 10_000)).unwrap().len(), 1);
    assert_eq!(author.apply(&mut state, stop(None, 10_000)).unwrap(), []);
    assert_eq!(author.apply(&mut state, stop(Some(9), 0)).unwrap().len(), 1);
    let desired = state.workload(&workload(1)).unwrap().desired;
    assert_eq!(desired, Desired::Stopped { signal: Some(9), grace_ms: 0 });
    for signal in [0, -1, 65] {
        assert_eq!(author.apply(&mut state, stop(Some(signal), 0)), Err(Rejection::Signal(signal)));
    }
    assert_eq!(author.apply(&mut state, stop(None, u64::MAX)), Err(Rejection::Grace(u64::MAX)));
}

#[test]
fn what_was_removed_does_not_come_back_by_a_late_repetition() {
    let (mut state, mut author) = founded();
    let node = author.id();
    let remove = Command::RemoveWorkload { id: workload(1) };
    assert_eq!(author.apply(&mut state, remove.clone()), Err(Rejection::UnknownWorkload(workload(1))));
    author.apply(&mut state, create(1, None, node)).unwrap();
    assert_eq!(author.apply(&mut state, remove.clone()).unwrap().len(), 1);
    assert_eq!(author.apply(&mut state, remove).unwrap(), []);
    let again = author.apply(&mut state, create(1, None, node));
    assert_eq!(again, Err(Rejection::WorkloadRemoved(workload(1))));
}

#[test]
fn removals_are_forgotten_after_their_time() {
    let (mut state, mut author) = founded();
    let node = author.id();
    author.apply(&mut state, create(1, None, node)).unwrap();
    let remove = author.sign(&state, Command::RemoveWorkload { id: workload(1) });
    state.apply(&remove).unwrap();
    let removed_at = state.seal(at(1), &[remove]).block.header.height;
    for height in removed_at + 1..=removed_at + REMOVALS_REMEMBERED_BLOCKS {
        assert!(state.was_removed(workload(1)), "at {height}");
        let stop = author.sign(&state, create(2, None, node));
        state.apply(&stop).unwrap();
        state.seal(at(height), &[stop]);
    }
    assert!(!state.was_removed(workload(1)));
}

#[test]
fn blocks_are_chained_and_their_time_never_falls() {
    let (mut state, mut author) = (State::new(), Author::new(1));
    let admit = author.sign(&state, Command::AdmitNode { node: author.id(), subnet: subnet("10.0.0.0/16") });
    state.apply(&admit).unwrap();
    let first = state.seal(at(100), &[admit]).block;
    let command = author.sign(&state, create(1, None, author.id()));
    state.apply(&command).unwrap();
    let second = state.seal(at(50), &[command]).block;
    assert_eq!((first.header.height, first.header.previous), (1, BlockHash::NONE));
    assert_eq!((second.header.height, second.header.previous), (2, first.header.hash()));
    assert_eq!(second.header.at, at(100));
    assert_eq!(second.header.root, state.root());
    assert_eq!(Block::decode(&second.encode()).unwrap(), second);
    assert_eq!(state.tip().unwrap().hash, second.header.hash());
}

#[test]
fn people_name_workloads_by_id_name_or_unique_prefix() {
    let (mut state, mut author) = founded();
    let node = author.id();
    // Ids 11111111-…, 12121212-…; and a name that is also a prefix of the first.
    author.apply(&mut state, create(0x11, None, node)).unwrap();
    author.apply(&mut state, create(0x12, Some("1111"), node)).unwrap();
    let resolve = |text: &str| state.resolve(text).map(|workload| workload.id);
    assert_eq!(resolve(&workload(0x11).to_string()), Ok(workload(0x11)));
    assert_eq!(resolve("11111"), Ok(workload(0x11)));
    assert_eq!(resolve("1111"), Ok(workload(0x12)), "a name was chosen, a prefix happens");
    assert_eq!(resolve("2"), Err(ResolveError::NotFound("2".into())));
    let candidates = vec![workload(0x11), workload(0x12)];
    assert_eq!(resolve("1"), Err(ResolveError::Ambiguous { prefix: "1".into(), candidates }));
    assert!(resolve("").is_err());
    let is_seen = |record: &WorkloadRecord| record.id == workload(0x11);
    let resolve = |text: &str| state.resolve_among(text, is_seen).map(|workload| workload.id);
    assert_eq!(resolve("1"), Ok(workload(0x11)), "who isn't seen is no candidate");
    assert_eq!(resolve("1111"), Ok(workload(0x11)), "nor the holder of a name");
    assert!(resolve(&workload(0x12).to_string()).is_err());
}

fn rows(state: &State) -> Vec<(Table, Vec<u8>, Vec<u8>)> {
    let changes = state
        .cluster
        .iter()
        .map(|row| Change::Cluster(row.clone()))
        .chain(state.nodes.iter().map(|(id, row)| Change::Node(*id, row.clone())))
        .chain(state.workloads.iter().map(|(id, row)| Change::Workload(*id, row.clone())))
        .chain(state.removals.iter().map(|(key, row)| Change::Removal(*key, row.clone())))
        .chain(state.tokens.iter().map(|(id, row)| Change::Token(*id, row.clone())))
        .chain(state.tip.map(Change::Tip));
    changes.map(|change| (change.table(), change.key(), change.value().unwrap())).collect()
}

fn stored() -> Vec<(Table, Vec<u8>, Vec<u8>)> {
    let (mut state, mut author) = founded();
    let command = author.sign(&state, create(1, Some("web"), author.id()));
    state.apply(&command).unwrap();
    state.seal(at(1), &[command]);
    rows(&state)
}

#[test]
fn rows_of_an_unknown_version_are_told_by_table_and_key() {
    let mut rows = stored();
    let row = rows.iter_mut().find(|(table, ..)| *table == Table::Workloads).unwrap();
    row.2[0] = 9;
    let key = hex::encode(&row.1);
    let error = State::load(rows).unwrap_err();
    assert_eq!(error.to_string(), format!("state/workloads: the row {key} can't be read"));
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, "the row has version 9; this release knows version 1");
}

#[test]
fn rows_that_are_not_what_the_last_block_left_are_refused() {
    let load = |rows: Vec<(Table, Vec<u8>, Vec<u8>)>| State::load(rows).unwrap_err();
    let without = |table: Table| stored().into_iter().filter(move |row| row.0 != table).collect::<Vec<_>>();
    assert!(State::load(stored()).is_ok());
    assert!(matches!(load(without(Table::Workloads)), LoadError::Root { height: 1, .. }));
    assert!(matches!(load(without(Table::Tip)), LoadError::TipMissing));
    let mut moved = stored();
    moved.iter_mut().find(|row| row.0 == Table::Workloads).unwrap().1[0] ^= 1;
    assert!(matches!(load(moved), LoadError::Key { table: Table::Workloads, .. }));
    let mut cut = stored();
    cut.iter_mut().find(|row| row.0 == Table::Nodes).unwrap().2.truncate(5);
    assert!(matches!(load(cut), LoadError::Row { table: Table::Nodes, .. }));
}
