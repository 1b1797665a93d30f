//! `Stats`: what running workloads use, once or again and again. Each look reads a dozen small files per workload.
//! It refuses to keep anything between callers: what two looks differ by is each caller's own.

mod guest;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{Stream, stream};
use hypercore_api::v1;
use hypercore_cluster::state::WorkloadRecord;
use hypercore_model::{CpuMillis, MemoryBytes, WorkloadId};
use tonic::Status;

use super::{Handlers, lifetime, problem::Problem, target};
use crate::{access::Caller, clock, node::Node};

/// Time between two looks when the caller doesn't say.
const INTERVAL_MS_DEFAULT: u32 = 1000;
/// The shortest and the longest time between two looks that can be asked for.
const INTERVAL_MS: std::ops::RangeInclusive<u32> = 100..=3_600_000;

impl Handlers {
    pub(super) async fn stats_of(
        &self,
        call: v1::StatsRequest,
    ) -> Result<impl Stream<Item = Result<v1::StatsResponse, Status>> + use<>, Problem> {
        let mut ids = Vec::new();
        for text in &call.ids {
            let record = target::known(self, text)?;
            let observed = target::recovered(&self.node, record.id).await;
            if !observed.status.has_processes() {
                return Err(lifetime::not_running(&record, observed.status.as_str()));
            }
            ids.push(record.id);
        }
        let asked_ms = if call.interval_ms == 0 { INTERVAL_MS_DEFAULT } else { call.interval_ms };
        let interval_ms = asked_ms.clamp(*INTERVAL_MS.start(), *INTERVAL_MS.end());
        let (node, caller) = (Arc::clone(&self.node), self.caller()?.clone());
        let look = Look { node, caller, ids, before: BTreeMap::new() };
        let mut ticks = tokio::time::interval(Duration::from_millis(interval_ms.into()));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        Ok(stream::unfold(Some((look, ticks)), move |state| async move {
            let (mut look, mut ticks) = state?;
            ticks.tick().await;
            // Hundreds of workloads make thousands of files: not on a thread that serves everybody.
            let looked = tokio::task::spawn_blocking(move || {
                let answer = look.take();
                (look, answer)
            });
            match looked.await {
                Ok((look, mut answer)) => {
                    guest::ask(&look.node, &mut answer).await;
                    // Who asked for some by name has seen enough when they have all ended.
                    let is_over = !look.ids.is_empty() && answer.workloads.is_empty();
                    let goes_on = call.follow && !is_over;
                    Some((Ok(answer), goes_on.then_some((look, ticks))))
                }
                Err(error) => Some((Err(Problem::fault("defect", &error).into()), None)),
            }
        }))
    }
}

/// One caller's looks.
struct Look {
    node: Arc<Node>,
    caller: Caller,
    /// Of whom; of everybody that the caller sees when empty.
    ids: Vec<WorkloadId>,
    /// When each was last looked at, and its processor time then, in microseconds.
    before: BTreeMap<WorkloadId, (Instant, u64)>,
}

impl Look {
    fn take(&mut self) -> v1::StatsResponse {
        let records = self.records();
        let workloads: Vec<_> = records.iter().filter_map(|record| self.of(record)).collect();
        let is_there = |id: &WorkloadId| records.iter().any(|record| record.id == *id);
        self.before.retain(|id, _| is_there(id));
        v1::StatsResponse { ts_ms: clock::now().unix_ms(), workloads }
    }

    fn records(&self) -> Vec<Arc<WorkloadRecord>> {
        self.node.ledger.read(|state| {
            if self.ids.is_empty() {
                let is_seen = |record: &&Arc<WorkloadRecord>| self.caller.sees(&record.spec.tenant);
                state.workloads().filter(is_seen).cloned().collect()
            } else {
                self.ids.iter().filter_map(|id| state.workload(id).cloned()).collect()
            }
        })
    }

    /// What one uses; `None` for one that doesn't run, or has just ended.
    fn of(&mut self, record: &WorkloadRecord) -> Option<v1::WorkloadStats> {
        if !self.node.board.get(record.id)?.status.has_processes() {
            return None;
        }
        let usage = self.node.cgroups.usage(record.id).ok()?;
        let traffic = self.node.network.traffic(record.id).unwrap_or_default();
        let cpu_millis = self.cpu_millis(record.id, usage.cpu_usage_us);
        let spec = &record.spec;
        Some(v1::WorkloadStats {
            id: record.id.to_string(),
            name: spec.name.as_ref().map(ToString::to_string).unwrap_or_default(),
            cpu_usage_us: usage.cpu_usage_us,
            cpu_millis,
            cpu_limit_millis: spec.cpu.map_or(0, CpuMillis::millis),
            memory_bytes: usage.memory_bytes,
            memory_limit_bytes: spec.memory.map_or(0, MemoryBytes::bytes),
            network_received_bytes: traffic.received_bytes,
            network_sent_bytes: traffic.sent_bytes,
            disk_read_bytes: usage.disk_read_bytes,
            disk_written_bytes: usage.disk_written_bytes,
            pids: u32::try_from(usage.pids).unwrap_or(u32::MAX),
            pids_max: spec.pids_max,
            guest: None,
        })
    }

    fn cpu_millis(&mut self, id: WorkloadId, usage_us: u64) -> u32 {
        let now = Instant::now();
        let before = self.before.insert(id, (now, usage_us));
        before.map_or(0, |(then, used_us)| share_millis(usage_us.saturating_sub(used_us), now - then))
    }
}

/// Thousandths of one CPU, rounded to the nearest.
fn share_millis(used_us: u64, elapsed: Duration) -> u32 {
    let elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX).max(1);
    let millis = (used_us.saturating_mul(1000) + elapsed_us / 2) / elapsed_us;
    u32::try_from(millis).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_of_one_processor() {
        assert_eq!(share_millis(500_000, Duration::from_secs(1)), 500);
        assert_eq!(share_millis(4_000_000, Duration::from_secs(2)), 2000);
        assert_eq!(share_millis(7, Duration::ZERO), 7000, "no time is a microsecond");
    }
}
