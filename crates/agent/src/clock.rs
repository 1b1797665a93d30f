//! The one place in the agent that reads the wall clock and the kernel's entropy.

use std::time::SystemTime;

use hypercore_model::{Timestamp, WorkloadId};

/// The time now, as records keep it.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_system_time(system_time())
}

/// The time now, as files have it.
pub(crate) fn system_time() -> SystemTime {
    SystemTime::now()
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
