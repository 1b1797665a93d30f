//! One command at a time against the state: checked completely, then done completely. It refuses to look at anything
//! but the state and the command, so that every node comes to the same answer.

mod report;
mod token;

use hypercore_model::{Attempt, Ipv4Cidr, NodeId, WorkloadId, WorkloadSpec};
use hypercore_trust::Verified;

use crate::state::{
    State,
    command::{AuthoredCommand, COMMAND_BYTES_MAX, ClusterId, Command},
    event::Event,
    record::{ClusterRecord, Desired, NodeRecord, WorkloadRecord},
    rejection::Rejection,
    row::{Change, RemovalKey, Row},
};

pub use report::GRACE_MS_DEFAULT;
pub use token::TOKENS_MAX;

/// Longest grace period of a stop, in milliseconds: a day.
pub const GRACE_MS_MAX: u64 = 24 * 60 * 60 * 1000;
/// Highest signal number: Linux's `SIGRTMAX`.
const SIGNAL_MAX: i32 = 64;
/// Prefix lengths that leave room for a gateway and some workloads, and don't claim half the internet.
const SUBNET_PREFIX_LENS: std::ops::RangeInclusive<u8> = 8..=29;

/// What applying one command did.
#[derive(Debug, Clone, Default)]
pub struct Applied {
    /// What happened; empty when the command repeated one that was applied before.
    pub events: Vec<Event>,
    /// The rows to put or delete.
    pub changes: Vec<Change>,
}

impl State {
    /// Applies one command, as part of the block that [`State::seal`] will end.
    ///
    /// # Errors
    /// [`Rejection`] when it can't be applied; the state is then unchanged.
    pub fn apply(&mut self, command: &Verified<AuthoredCommand>) -> Result<Applied, Rejection> {
        let applied = self.plan(command)?;
        self.absorb(&applied.changes);
        Ok(applied)
    }

    /// What [`State::apply`] would do.
    ///
    /// # Errors
    /// [`Rejection`] when it can't be applied.
    pub fn plan(&self, command: &Verified<AuthoredCommand>) -> Result<Applied, Rejection> {
        if command.payload_len() > COMMAND_BYTES_MAX {
            return Err(Rejection::TooLarge { bytes: command.payload_len() });
        }
        let Some(cluster) = self.cluster() else {
            return plan_founding(command);
        };
        if command.cluster != Some(cluster.id) {
            return Err(Rejection::OtherCluster { meant: command.cluster });
        }
        let author = command.signer();
        let record = self.node(&author).ok_or(Rejection::NotAdmitted(author))?;
        if command.sequence <= record.sequence {
            return Err(Rejection::Stale { author, sequence: command.sequence, last: record.sequence });
        }
        let mut applied = match &command.command {
            Command::AdmitNode { node, subnet } => self.plan_admit(command, *node, *subnet),
            Command::CreateWorkload { id, spec, node } => self.plan_create(command, *id, spec, *node),
            Command::StopWorkload { id, signal, grace_ms } => self.plan_stop(*id, *signal, *grace_ms),
            Command::RemoveWorkload { id } => self.plan_remove(*id),
            Command::CreateToken { id, grant, hash } => self.plan_create_token(*id, grant, *hash, command.at),
            Command::RevokeToken { id } => Ok(self.plan_revoke_token(*id)),
            Command::SetCapacity { node, capacity } => {
                return report::plan_capacity(command, *node, *capacity, record);
            }
            Command::EndWorkload { id, attempt } => self.plan_end(author, *id, *attempt),
            Command::ExpireWorkload { id } => self.plan_expire(author, *id),
        }?;
        let counted = NodeRecord { sequence: command.sequence, ..record.clone() };
        applied.changes.push(Change::Node(author, Row::new(counted)));
        Ok(applied)
    }

    fn plan_admit(
        &self,
        command: &Verified<AuthoredCommand>,
        node: NodeId,
        subnet: Ipv4Cidr,
    ) -> Result<Applied, Rejection> {
        check_subnet(subnet)?;
        if let Some(existing) = self.node(&node) {
            let is_same = existing.subnet == subnet;
            let conflict = Rejection::NodeExists { node, admitted: existing.subnet, asked: subnet };
            return if is_same { Ok(Applied::default()) } else { Err(conflict) };
        }
        if let Some((by, other)) = self.nodes().find(|(_, other)| other.subnet.overlaps(subnet)) {
            return Err(Rejection::SubnetTaken { asked: subnet, taken: other.subnet, by });
        }
        let record = NodeRecord { subnet, admitted_at: command.at, sequence: 0, capacity: None };
        Ok(Applied {
            events: vec![Event::NodeAdmitted { node, subnet }],
            changes: vec![Change::Node(node, Row::new(record))],
        })
    }

    fn plan_create(
        &self,
        command: &Verified<AuthoredCommand>,
        id: WorkloadId,
        spec: &WorkloadSpec,
        node: NodeId,
    ) -> Result<Applied, Rejection> {
        spec.validate().map_err(Rejection::Spec)?;
        if let Some(existing) = self.workload(&id) {
            let is_same = existing.spec == *spec && existing.node == node;
            return if is_same { Ok(Applied::default()) } else { Err(Rejection::WorkloadExists(id)) };
        }
        if self.was_removed(id) {
            return Err(Rejection::WorkloadRemoved(id));
        }
        self.admits(spec, node)?;
        let record = WorkloadRecord {
            id,
            spec: spec.clone(),
            node,
            attempt: Attempt::FIRST,
            desired: Desired::Running,
            author: command.signer(),
            created_at: command.at,
            ended: false,
            expired: false,
        };
        Ok(Applied {
            events: vec![Event::WorkloadCreated { id, node }],
            changes: vec![Change::Workload(id, Row::new(record))],
        })
    }

    fn plan_stop(&self, id: WorkloadId, signal: Option<i32>, grace_ms: u64) -> Result<Applied, Rejection> {
        if let Some(signal) = signal.filter(|signal| !(1..=SIGNAL_MAX).contains(signal)) {
            return Err(Rejection::Signal(signal));
        }
        if grace_ms > GRACE_MS_MAX {
            return Err(Rejection::Grace(grace_ms));
        }
        let existing = self.workload(&id).ok_or(Rejection::UnknownWorkload(id))?;
        let desired = Desired::Stopped { signal, grace_ms };
        if existing.desired == desired {
            return Ok(Applied::default());
        }
        let record = WorkloadRecord { desired, ..WorkloadRecord::clone(existing) };
        Ok(Applied {
            events: vec![Event::WorkloadStopAsked { id, node: existing.node }],
            changes: vec![Change::Workload(id, Row::new(record))],
        })
    }

    fn plan_remove(&self, id: WorkloadId) -> Result<Applied, Rejection> {
        let Some(existing) = self.workload(&id) else {
            return if self.was_removed(id) {
                Ok(Applied::default())
            } else {
                Err(Rejection::UnknownWorkload(id))
            };
        };
        let key = RemovalKey { height: self.height() + 1, id };
        Ok(Applied {
            events: vec![Event::WorkloadRemoved { id, node: existing.node }],
            changes: vec![Change::WorkloadGone(id), Change::Removal(key, Row::new(()))],
        })
    }
}

/// The first command of all: a node admits itself, and the cluster is named after that command.
fn plan_founding(command: &Verified<AuthoredCommand>) -> Result<Applied, Rejection> {
    let founder = command.signer();
    let subnet = match &command.command {
        Command::AdmitNode { node, subnet } if *node == founder => *subnet,
        _ => return Err(Rejection::NotFounded),
    };
    if command.cluster.is_some() {
        return Err(Rejection::OtherCluster { meant: command.cluster });
    }
    check_subnet(subnet)?;
    let cluster = ClusterRecord { id: ClusterId(command.digest()), founder, founded_at: command.at };
    let node = NodeRecord { subnet, admitted_at: command.at, sequence: command.sequence, capacity: None };
    Ok(Applied {
        events: vec![Event::ClusterFounded { founder }, Event::NodeAdmitted { node: founder, subnet }],
        changes: vec![Change::Cluster(Row::new(cluster)), Change::Node(founder, Row::new(node))],
    })
}

fn check_subnet(subnet: Ipv4Cidr) -> Result<(), Rejection> {
    let fits = SUBNET_PREFIX_LENS.contains(&subnet.prefix_len());
    if fits { Ok(()) } else { Err(Rejection::SubnetSize(subnet)) }
}
