//! What programs and people are shown of workloads and images. Field names and their order are a contract.

use std::collections::BTreeMap;

use hypercore_api::v1;
use hypercore_model::{ExitStatus, Isolation, Timestamp, WorkloadStatus};
use serde::Serialize;

use crate::age;

/// One workload, as `ps --json` prints it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct WorkloadView {
    pub(crate) id: String,
    pub(crate) name: Option<String>,
    pub(crate) image: String,
    pub(crate) status: WorkloadStatus,
    pub(crate) isolation: Isolation,
    pub(crate) node: String,
    pub(crate) created_at: String,
    pub(crate) started_at: Option<String>,
    pub(crate) finished_at: Option<String>,
    pub(crate) exit_code: Option<u8>,
    pub(crate) reason: Option<String>,
    pub(crate) restarts: u32,
    pub(crate) ports: Vec<String>,
    pub(crate) url: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    /// What only the table needs, in its own form.
    #[serde(skip)]
    raw: Raw,
}

#[derive(Debug, Clone)]
struct Raw {
    created_at: Timestamp,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    exit: Option<ExitStatus>,
    reason_code: String,
}

impl WorkloadView {
    /// The view of a workload as the agent describes it.
    pub(crate) fn new(state: &v1::WorkloadState) -> Self {
        let request = state.source_request.clone().unwrap_or_default();
        let raw = Raw {
            created_at: Timestamp::from_unix_ms(state.created_at_ms),
            started_at: state.started_at_ms.map(Timestamp::from_unix_ms),
            finished_at: state.finished_at_ms.map(Timestamp::from_unix_ms),
            exit: state.exit.as_ref().and_then(v1::ExitStatus::to_model),
            reason_code: state.reason_code.clone(),
        };
        Self {
            id: state.id.clone(),
            name: not_empty(&request.name),
            isolation: request.isolation().into(),
            image: request.image_ref,
            status: state.status().into(),
            node: state.node.clone(),
            created_at: raw.created_at.to_string(),
            started_at: raw.started_at.map(|at| at.to_string()),
            finished_at: raw.finished_at.map(|at| at.to_string()),
            exit_code: raw.exit.map(ExitStatus::shell_code),
            reason: not_empty(&state.reason),
            restarts: state.restarts,
            ports: state.ports.clone(),
            url: not_empty(&state.url),
            labels: request.labels.into_iter().collect(),
            raw,
        }
    }

    /// The status with what a person wants to know beside it: `running 5 minutes`, `stopped (137) 2 hours ago`.
    pub(crate) fn status_text(&self) -> String {
        let ago = |at: Option<Timestamp>| at.map(|at| format!(" {} ago", age::since(at))).unwrap_or_default();
        match self.status {
            WorkloadStatus::Running | WorkloadStatus::Paused | WorkloadStatus::Stopping => {
                let since = self.raw.started_at.map(|at| format!(" {}", age::since(at))).unwrap_or_default();
                format!("{}{since}", self.status)
            }
            WorkloadStatus::Stopped | WorkloadStatus::Failed | WorkloadStatus::Lost => {
                let how = match self.raw.exit {
                    Some(ExitStatus::OutOfMemory) => " (137, out of memory)".to_owned(),
                    Some(exit) => format!(" ({})", exit.shell_code()),
                    None if self.raw.reason_code.is_empty() => String::new(),
                    None => format!(" ({})", self.raw.reason_code),
                };
                format!("{}{how}{}", self.status, ago(self.raw.finished_at))
            }
            WorkloadStatus::Pending | WorkloadStatus::Pulling | WorkloadStatus::Starting => {
                self.status.to_string()
            }
        }
    }

    /// How long ago it was created: `5 minutes ago`.
    pub(crate) fn created_text(&self) -> String {
        format!("{} ago", age::since(self.raw.created_at))
    }
}

/// One image, as `image ls --json` prints it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ImageView {
    pub(crate) reference: String,
    pub(crate) digest: String,
    pub(crate) size_bytes: u64,
    pub(crate) created_at: String,
}

impl ImageView {
    /// The view of an image as the agent describes it.
    pub(crate) fn new(image: &v1::Image) -> Self {
        Self {
            reference: image.reference.clone(),
            digest: image.digest.clone(),
            size_bytes: image.size_bytes,
            created_at: Timestamp::from_unix_ms(image.created_at_ms).to_string(),
        }
    }
}

/// An image reference as people write it; one that we can't read is shown as it is.
pub(crate) fn familiar(reference: &str) -> String {
    reference
        .parse::<hypercore_model::ImageReference>()
        .map_or_else(|_| reference.to_owned(), |image| image.familiar())
}

/// The short form of an id in tables.
pub(crate) fn short_id(id: &str) -> &str {
    id.get(..hypercore_model::WorkloadId::SHORT_LEN).unwrap_or(id)
}

fn not_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}
