//! Reconcilers make the machine match the state. Each reads the whole intended state again whenever it is woken;
//! none takes an input, so that a start, a restart and a failover are one path.

pub(crate) mod images;
pub(crate) mod snapshots;
pub(crate) mod sweep;
pub(crate) mod workloads;
