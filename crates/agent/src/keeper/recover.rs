//! Finds out what already became of a workload: after a restart of the agent, or of the machine.
//! It refuses to start anything; at the worst it finds nothing, and the keeper begins from there.

use std::time::Duration;

use hypercore_cluster::state::WorkloadRecord;
use hypercore_model::lifecycle::LifecycleEvent;
use hypercore_runtime::sandbox::{AdoptError, Adoption, RequestError, Sandbox};

use super::{
    Keeper,
    end::End,
    outcome::{self, Surroundings},
};
use crate::{board::Observed, clock, failure::chain, server::pause};

/// How often a shim is asked before it counts as lost.
const ADOPT_TRIES_MAX: u32 = 3;
/// The pause before a shim is asked again.
const ADOPT_AGAIN: Duration = Duration::from_secs(1);

impl Keeper {
    /// Brings the board up to what is really there.
    #[tracing::instrument(name = "recover", skip_all, fields(workload = %self.id))]
    pub(super) async fn recover(&self, record: &WorkloadRecord) {
        if let Some(surroundings) = outcome::read_surroundings(&self.paths) {
            self.update(|observed| note(observed, surroundings));
        }
        if let Some(outcome) = outcome::read(&self.paths, record.attempt) {
            self.take_down().await;
            return self.update(|observed| outcome.show(observed));
        }
        let Some(attempt) = outcome::read_attempt(&self.paths) else { return };
        if attempt != record.attempt {
            // What this directory holds was superseded: it must be gone before anything else is done.
            tracing::info!(workload = %self.id, attempt = attempt.number(), "ending a superseded attempt");
            self.take_down().await;
            return self.forget_attempt();
        }
        let runs = self.runs(record);
        self.update(|observed| observed.restarts = runs.restarts);
        if runs.pause().is_some() {
            // The record of an end that is there still is of the run before, which was counted.
            outcome::forget(&[self.paths.exit(), self.paths.exit_reserved()]);
            return self.show_pause(&runs, LifecycleEvent::Exited);
        }
        match self.ask_shim().await {
            Ok(Adoption::Running(sandbox)) => {
                self.adopt(sandbox.clone());
                self.note_release(&sandbox).await;
            }
            Ok(Adoption::Ended(exit)) => {
                self.update(|observed| observed.advance(LifecycleEvent::StartBegun));
                self.settle(record, End::Exited(exit)).await;
            }
            Ok(Adoption::Gone) => self.mourn(record).await,
            Err(error) => {
                tracing::warn!(workload = %self.id, error = chain(&error), "its shim can't be adopted");
                self.mourn(record).await;
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
        tracing::info!(workload = %self.id, pid = sandbox.pid(), "adopted");
        self.update(|observed| {
            observed.advance(LifecycleEvent::StartBegun);
            observed.advance(LifecycleEvent::Started);
            observed.started_at = Some(sandbox.started_at());
            observed.sandbox = Some(sandbox);
        });
        // It may have been paused by the agent before this one.
        pause::settle(&self.node, self.id);
    }

    /// Says which workloads an upgrade left under an older shim: what is new in this release doesn't reach them.
    async fn note_release(&self, sandbox: &Sandbox) {
        const OURS: &str = env!("CARGO_PKG_VERSION");
        match sandbox.release().await {
            Ok(release) if release == OURS => {}
            Ok(release) => {
                tracing::info!(workload = %self.id, release, "held by a shim of another release until it is restarted");
            }
            Err(error @ RequestError::TooOld(_)) => tracing::info!(workload = %self.id, "{error}"),
            // It ended just now, or whoever asks it next will say what is wrong.
            Err(error) => {
                tracing::debug!(workload = %self.id, error = chain(&error), "its shim did not tell its release")
            }
        }
    }

    /// There is no shim and no exit status. What had run is lost; what no shim was begun for may still begin.
    async fn mourn(&self, record: &WorkloadRecord) {
        let had_shim = self.paths.exit_reserved().exists();
        if had_shim {
            self.update(|observed| observed.advance(LifecycleEvent::StartBegun));
            self.settle(record, End::Lost(None, clock::now())).await;
        } else {
            self.take_down().await;
        }
    }

    fn forget_attempt(&self) {
        let paths = &self.paths;
        outcome::forget(&[
            paths.attempt(),
            paths.outcome(),
            paths.runs(),
            paths.exit(),
            paths.exit_reserved(),
        ]);
    }
}

/// Notes where the workload can be reached and what it was made of.
pub(super) fn note(observed: &mut Observed, surroundings: Surroundings) {
    observed.address = Some(surroundings.attachment.address);
    observed.address6 = surroundings.attachment.address6;
    observed.ports = surroundings.attachment.ports;
    observed.image_digest = Some(surroundings.image_digest);
    observed.stop_signal = surroundings.stop_signal;
    observed.run_by = surroundings.run_by;
}
