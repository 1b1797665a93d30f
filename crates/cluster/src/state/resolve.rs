//! How people name workloads: by id, by a unique prefix of it, or by name. It refuses to guess.

use std::sync::Arc;

use hypercore_model::{WorkloadId, WorkloadName};

use crate::state::{State, record::WorkloadRecord};

/// Why a text names no one workload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// Nothing has that name or begins with that prefix.
    #[error("there is no workload `{0}`")]
    NotFound(String),
    /// Several ids begin with it.
    #[error("`{prefix}` is ambiguous: {}", list(.candidates))]
    Ambiguous {
        /// What was typed.
        prefix: String,
        /// Every workload it could mean, in the order of ids.
        candidates: Vec<WorkloadId>,
    },
}

impl State {
    /// The workload that `text` names. A full id comes first, then a name, then a prefix of an id: a name wins over
    /// the prefix that it happens to be, because it was chosen and the prefix is an accident.
    ///
    /// # Errors
    /// [`ResolveError`] when that is none or several.
    pub fn resolve(&self, text: &str) -> Result<&Arc<WorkloadRecord>, ResolveError> {
        self.resolve_among(text, |_| true)
    }

    /// The same among the workloads that `is_seen` lets somebody know of: the others are as if they didn't exist.
    ///
    /// # Errors
    /// As [`State::resolve`].
    pub fn resolve_among(
        &self,
        text: &str,
        is_seen: impl Fn(&WorkloadRecord) -> bool,
    ) -> Result<&Arc<WorkloadRecord>, ResolveError> {
        let by_id = text.parse().ok().and_then(|id: WorkloadId| self.workload(&id));
        let by_name = || text.parse().ok().and_then(|name: WorkloadName| self.by_name(&name));
        let is_seen = |workload: &&Arc<WorkloadRecord>| is_seen(workload);
        if let Some(workload) = by_id.filter(is_seen).or_else(|| by_name().filter(is_seen)) {
            return Ok(workload);
        }
        let mut matches = self.workloads().filter(|workload| workload.id.has_prefix(text)).filter(is_seen);
        match (matches.next(), matches.next()) {
            (None, _) => Err(ResolveError::NotFound(text.to_owned())),
            (Some(workload), None) => Ok(workload),
            (Some(first), Some(second)) => Err(ResolveError::Ambiguous {
                prefix: text.to_owned(),
                candidates: [first, second].into_iter().chain(matches).map(|workload| workload.id).collect(),
            }),
        }
    }
}

fn list(candidates: &[WorkloadId]) -> String {
    const SHOWN_MAX: usize = 5;
    let mut text = candidates.iter().take(SHOWN_MAX).map(WorkloadId::short).collect::<Vec<_>>().join(", ");
    if candidates.len() > SHOWN_MAX {
        text.push_str(&format!(" and {} more", candidates.len() - SHOWN_MAX));
    }
    text
}
