//! Finds out what already became of a workload: after a restart of the agent, or of the machine.
//! It refuses to start anything; at the worst it finds nothing, and the keeper begins from there.

use std::time::Duration;

use hypercore_cluster::state::WorkloadRecord;
use hypercore_model::{Attempt, lifecycle::LifecycleEvent};
use hypercore_runtime::sandbox::{AdoptError, Adoption, Sandbox, ShimVanished};

use super::{
    Keeper,
    outcome::{self, Surroundings},
};
use crate::{board::Observed, failure::chain};

/// How often a shim is asked before it counts as lost.
const ADOPT_TRIES_MAX: u32 = 3;
/// The pause before a shim is asked again.
const ADOPT_AGAIN: Duration = Duration::from_secs(1);

impl Keeper {
    /// Brings the board up to what is really there.
    pub(super) async fn recover(&self, record: &WorkloadRecord) {
        if let Some(outcome) = outcome::read(&self.paths, record.attempt) {
            self.take_down().await;
            self.update(|observed| {
                observed.status = outcome.status;
                observed.finished_at = Some(outcome.finished_at);
                observed.failure = outcome.failure;
            });
            return;
        }
        let Some(attempt) = outcome::read_attempt(&self.paths) else { return };
        if attempt != record.attempt {
            // What this directory holds was superseded: it must be gone before anything else is done.
            tracing::info!(workload = %self.id, attempt = attempt.number(), "ending a superseded attempt");
            self.take_down().await;
            self.forget_attempt();
            return;
        }
        match self.ask_shim().await {
            Ok(Adoption::Running(sandbox)) => self.adopt(sandbox),
            Ok(Adoption::Ended(exit)) => {
                self.update(|observed| observed.advance(LifecycleEvent::StartBegun));
                self.settle(attempt, Ok(exit)).await;
            }
            Ok(Adoption::Gone) => self.mourn(attempt).await,
            Err(error) => {
                tracing::warn!(workload = %self.id, error = chain(&error), "its shim can't be adopted");
                self.mourn(attempt).await;
            }
        }
    }

    /// Asks more than once before giving up: a shim that is slow on a busy machine must not cost its workload its life.
    async fn ask_shim(&self) -> Result<Adoption, AdoptError> {
        let mut tries = 1;
        loop {
            match self.node.sandboxes.adopt(self.id, self.paths.directory()).await {
                Err(AdoptError::Request(error)) if tries < ADOPT_TRIES_MAX => {
                    tracing::info!(workload = %self.id, error = chain(&error), tries, "asking its shim again");
                    tries += 1;
                    tokio::time::sleep(ADOPT_AGAIN).await;
                }
                adopted => return adopted,
            }
        }
    }

    fn adopt(&self, sandbox: Sandbox) {
        let surroundings = outcome::read_surroundings(&self.paths);
        tracing::info!(workload = %self.id, pid = sandbox.pid(), "adopted");
        self.update(|observed| {
            observed.advance(LifecycleEvent::StartBegun);
            observed.advance(LifecycleEvent::Started);
            observed.started_at = Some(sandbox.started_at());
            observed.sandbox = Some(sandbox);
            if let Some(surroundings) = surroundings {
                note(observed, surroundings);
            }
        });
    }

    /// There is no shim and no exit status. What had run is lost; what no shim was begun for may still begin.
    async fn mourn(&self, attempt: Attempt) {
        let had_shim = self.paths.exit_reserved().exists();
        if had_shim {
            self.update(|observed| observed.advance(LifecycleEvent::StartBegun));
            self.settle(attempt, Err(ShimVanished)).await;
        } else {
            self.take_down().await;
        }
    }

    fn forget_attempt(&self) {
        for path in
            [self.paths.attempt(), self.paths.outcome(), self.paths.exit(), self.paths.exit_reserved()]
        {
            if let Err(error) = std::fs::remove_file(&path)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), %error, "could not remove a superseded record");
            }
        }
    }
}

/// Notes where the workload can be reached and what it was made of.
pub(super) fn note(observed: &mut Observed, surroundings: Surroundings) {
    observed.address = Some(surroundings.attachment.address);
    observed.ports = surroundings.attachment.ports;
    observed.image_digest = Some(surroundings.image_digest);
    observed.stop_signal = surroundings.stop_signal;
}
