//! `Spawn`: commits the wish to run a workload. Everything else follows from the state.
//! It refuses what doesn't fit now: nothing waits for room.

use hypercore_api::v1;
use hypercore_cluster::state::{Command, Rejection, Resources};
use hypercore_model::{Attempt, WorkloadId, WorkloadSpec};

use super::{Handlers, problem::Problem, request};
use crate::{clock, failure::chain, ledger::SubmitError};

impl Handlers {
    pub(super) async fn spawn_workload(
        &self,
        call: v1::VmSpawnRequest,
    ) -> Result<v1::VmSpawnResponse, Problem> {
        let (chosen, mut spec) = request::workload(&call)?;
        self.caller()?.admit(&mut spec, !call.tenant.is_empty())?;
        if call.dry_run {
            self.try_spawn(&spec).await?;
            return Ok(v1::VmSpawnResponse::default());
        }
        let id = match chosen {
            Some(id) => id,
            None => clock::new_workload_id().map_err(|error| Problem::fault("no_entropy", &error))?,
        };
        self.create(id, spec).await
    }

    /// Commits the wish. Room that only ended workloads reserve is freed for it.
    pub(super) async fn create(
        &self,
        id: WorkloadId,
        spec: WorkloadSpec,
    ) -> Result<v1::VmSpawnResponse, Problem> {
        let url = self.node.urls.with(id, spec.name.as_ref());
        let create = Command::CreateWorkload { id, spec: Box::new(spec), node: self.node.identity };
        match self.node.ledger.submit(create.clone()).await {
            Err(SubmitError::Rejected(Rejection::NoRoom { .. })) if self.free_room().await => {
                self.node.ledger.submit(create).await?;
            }
            submitted => drop(submitted?),
        }
        Ok(v1::VmSpawnResponse { id: id.to_string(), url })
    }

    /// Checks what the state would say now.
    pub(super) async fn try_spawn(&self, spec: &WorkloadSpec) -> Result<(), Problem> {
        let check = || self.node.ledger.read(|state| state.admits(spec, self.node.identity));
        match check() {
            Err(Rejection::NoRoom { .. }) if self.free_room().await => Ok(check()?),
            checked => Ok(checked?),
        }
    }

    /// Tells the state of workloads that have ended and still reserve something: keepers do that a moment after the
    /// end, and whoever has just seen one end shall not be refused for it. Answers whether there was any.
    async fn free_room(&self) -> bool {
        let reserving: Vec<(WorkloadId, Attempt)> = self.node.ledger.read(|state| {
            let reserves = state
                .workloads()
                .filter(|record| record.node == self.node.identity && !record.ended)
                .filter(|record| !Resources::of(&record.spec).is_none());
            reserves.map(|record| (record.id, record.attempt)).collect()
        });
        let has_ended = |id| self.node.board.get(id).is_some_and(|observed| observed.status.is_final());
        let mut is_freed = false;
        for (id, attempt) in reserving.into_iter().filter(|(id, _)| has_ended(*id)) {
            match self.node.ledger.submit(Command::EndWorkload { id, attempt }).await {
                Ok(_) => is_freed = true,
                Err(error) => {
                    let error = chain(&error);
                    tracing::debug!(workload = %id, error, "the state was not told of an end; its keeper will");
                }
            }
        }
        is_freed
    }
}
