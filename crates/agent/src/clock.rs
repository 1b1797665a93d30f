//! The one place in the agent that reads the clock and the kernel's entropy, for values that go into the state.

use std::time::SystemTime;

use hypercore_model::{Timestamp, WorkloadId};

/// The time now.
pub(crate) fn now() -> Timestamp {
    #[allow(clippy::disallowed_methods, reason = "the one reader of the clock")]
    let time = SystemTime::now();
    Timestamp::from_system_time(time)
}

/// A workload id of fresh entropy.
///
/// # Errors
/// When the kernel has no entropy to give.
pub(crate) fn new_workload_id() -> Result<WorkloadId, getrandom::Error> {
    let mut random = [0u8; 16];
    getrandom::fill(&mut random)?;
    Ok(WorkloadId::from_entropy(random))
}
