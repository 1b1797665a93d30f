//! `Fork`: clones of a running microVM. A snapshot under a name of the node's own is made, and each clone is a workload
//! that goes on from it; when all of them run, `reconcile::snapshots` removes it.
//!
//! All clones are accepted or none: what they may use of the node is counted before the machine is stopped for a moment,
//! and the first that is refused takes the others along. It refuses to give a clone its parent's host ports.

use std::{collections::BTreeSet, sync::Arc};

use hypercore_api::v1;
use hypercore_cluster::state::{Command, WorkloadRecord};
use hypercore_model::{
    CpuMillis, MemoryBytes, PortMapping, WorkloadId, WorkloadName, WorkloadSpec,
    limits::{MICROVM_MEMORY_BYTES_DEFAULT, NAME_LEN_MAX},
};
use hypercore_runtime::machine::snapshot::temporary_name;

use super::{Handlers, problem::Problem, request, restore, target};
use crate::{
    clock,
    events::{Action, Event},
    failure::chain,
    memory,
};

/// Most clones that one call makes.
const CLONES_COUNT_MAX: u32 = 64;

impl Handlers {
    pub(super) async fn fork_workload(&self, call: v1::ForkRequest) -> Result<v1::ForkResponse, Problem> {
        let record = target::known(self, &call.id)?;
        let count = call.count.max(1);
        if count > CLONES_COUNT_MAX {
            let message =
                format!("{count} clones are too many; at most {CLONES_COUNT_MAX} are made at a time");
            return Err(Problem::invalid("invalid_request", message));
        }
        let request = match request::id(&call.request_id)? {
            Some(id) => id,
            None => clock::new_workload_id().map_err(|error| Problem::fault("no_entropy", &error))?,
        };
        let ids: Vec<WorkloadId> = (1..=count).map(|number| clone_id(request, number)).collect();
        if let Some(made) = self.made_before(&ids)? {
            return Ok(v1::ForkResponse { clones: made });
        }
        self.caller()?.admit(&mut record.spec.clone(), false)?;
        self.check_saveable(&record).await?;
        memory::require(&record.spec, count)?;
        self.try_spawn(&together(&record.spec, count)).await?;
        let (this, parent) = (self.clone(), Arc::clone(&record));
        let clones = self.to_its_end(format!("fork/{}", record.id.short()), async move {
            this.clones_of(&parent, request, &ids).await
        });
        Ok(v1::ForkResponse { clones: clones.await? })
    }

    /// Keeps the parent and makes its clones of that.
    async fn clones_of(
        &self,
        record: &Arc<WorkloadRecord>,
        request: WorkloadId,
        ids: &[WorkloadId],
    ) -> Result<Vec<v1::VmSpawnResponse>, Problem> {
        let word: String = request.to_string().chars().filter(char::is_ascii_hexdigit).collect();
        let name = temporary_name(&word).map_err(|error| Problem::fault("defect", &error))?;
        let _held = self.node.forks.hold(&name);
        let saved = self.save(record, name.clone()).await?;
        let clone = WorkloadSpec {
            ports: record.spec.ports.iter().map(anywhere).collect(),
            ..restore::spec_of(&saved.manifest, &name, None)
        };
        let clones = self.make_clones(record, &clone, ids).await?;
        let event = Event::workload(Action::Forked, record).with("clones", ids.len());
        self.node.events.publish(event);
        Ok(clones)
    }

    /// What an earlier call with this request id has made, if there was one.
    fn made_before(&self, ids: &[WorkloadId]) -> Result<Option<Vec<v1::VmSpawnResponse>>, Problem> {
        let caller = self.caller()?;
        let shown = |record: &Arc<WorkloadRecord>| v1::VmSpawnResponse {
            id: record.id.to_string(),
            url: self.node.urls.of(record),
        };
        let made: Vec<_> = self.node.ledger.read(|state| {
            let known = ids.iter().filter_map(|id| state.workload(id));
            known.filter(|record| caller.sees(&record.spec.tenant)).map(shown).collect()
        });
        Ok((!made.is_empty()).then_some(made))
    }

    async fn make_clones(
        &self,
        parent: &WorkloadRecord,
        spec: &WorkloadSpec,
        ids: &[WorkloadId],
    ) -> Result<Vec<v1::VmSpawnResponse>, Problem> {
        let taken: BTreeSet<WorkloadName> = self
            .node
            .ledger
            .read(|state| state.workloads().filter_map(|record| record.spec.name.clone()).collect());
        let mut names = parent.spec.name.iter().flat_map(|name| names_after(name, &taken));
        let mut made = Vec::with_capacity(ids.len());
        for id in ids {
            let spec = WorkloadSpec { name: names.next(), ..spec.clone() };
            match self.create(*id, spec).await {
                Ok(spawned) => made.push(spawned),
                Err(problem) => {
                    self.take_back(&ids[..made.len()]).await;
                    return Err(problem);
                }
            }
        }
        Ok(made)
    }

    /// Removes clones of a call that was refused half way.
    async fn take_back(&self, ids: &[WorkloadId]) {
        for id in ids {
            if let Err(error) = self.node.ledger.submit(Command::RemoveWorkload { id: *id }).await {
                tracing::warn!(workload = %id, error = chain(&error), "a clone of a refused fork stays");
            }
        }
    }
}

/// The id of a request's clone: the same for the same request, and unlike those of the others from its beginning on.
fn clone_id(request: WorkloadId, number: u32) -> WorkloadId {
    let mut hasher = blake3::Hasher::new_derive_key("hypercore 2026-11-21 the id of a clone");
    hasher.update(request.as_bytes()).update(&number.to_be_bytes());
    let mut entropy = [0; 16];
    hasher.finalize_xof().fill(&mut entropy);
    WorkloadId::from_entropy(entropy)
}

/// `web-1`, `web-2` and so on, without those that are taken; a long name is cut.
fn names_after<'a>(
    name: &'a WorkloadName,
    taken: &'a BTreeSet<WorkloadName>,
) -> impl Iterator<Item = WorkloadName> + 'a {
    (1u32..).filter_map(move |number| {
        let suffix = format!("-{number}");
        let stem: String = name.as_str().chars().take(NAME_LEN_MAX - suffix.len()).collect();
        let name: WorkloadName = format!("{}{suffix}", stem.trim_end_matches('-')).parse().ok()?;
        (!taken.contains(&name)).then_some(name)
    })
}

/// The same port, published where the node has room.
fn anywhere(port: &PortMapping) -> PortMapping {
    PortMapping { host: None, ..*port }
}

/// What `count` workloads of this spec reserve together, as one. More than one can ask for is refused one by one.
fn together(spec: &WorkloadSpec, count: u32) -> WorkloadSpec {
    let cpu = spec.cpu.and_then(|cpu| CpuMillis::new(cpu.millis().saturating_mul(count)).ok());
    let each = spec.memory.map_or(MICROVM_MEMORY_BYTES_DEFAULT, MemoryBytes::bytes);
    let memory = MemoryBytes::new(each.saturating_mul(count.into())).ok();
    WorkloadSpec { name: None, cpu, memory, ..spec.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_of_one_request_have_ids_of_their_own_and_the_same_again() {
        let request = WorkloadId::from_entropy([7; 16]);
        let ids: BTreeSet<_> = (1..=CLONES_COUNT_MAX).map(|number| clone_id(request, number)).collect();
        let short: BTreeSet<_> = ids.iter().map(WorkloadId::short).collect();
        assert_eq!((ids.len(), short.len()), (CLONES_COUNT_MAX as usize, CLONES_COUNT_MAX as usize));
        assert!(!ids.contains(&request) && ids.contains(&clone_id(request, 5)));
        assert!(ids.iter().all(|id| id.to_string().parse() == Ok(*id)));
    }

    #[test]
    fn clones_are_called_after_their_parent() {
        let name = |text: &str| text.parse::<WorkloadName>().unwrap();
        let taken = BTreeSet::from([name("web-2")]);
        let web = name("web");
        let drawn: Vec<_> = names_after(&web, &taken).take(3).collect();
        assert_eq!(drawn, [name("web-1"), name("web-3"), name("web-4")]);
        let long = name(&"x".repeat(NAME_LEN_MAX));
        assert_eq!(names_after(&long, &taken).next().unwrap().as_str().len(), NAME_LEN_MAX);
    }

    #[test]
    fn what_clones_reserve_is_counted_together() {
        let mut spec = WorkloadSpec::of_image("web:1".parse().unwrap());
        spec.memory = MemoryBytes::new(256 << 20).ok();
        spec.cpu = CpuMillis::new(500).ok();
        let all = together(&spec, 3);
        assert_eq!((all.memory.unwrap().bytes(), all.cpu.unwrap().millis()), (768 << 20, 1500));
    }
}
