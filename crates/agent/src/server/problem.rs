//! One refused or failed call, as the API tells it: a gRPC code for transports, a stable code for programs, a message
//! and a hint for people. Every handler's errors become a [`Problem`] here and nowhere else.

use std::borrow::Cow;

use hypercore_api::v1::ErrorDetail;
use hypercore_cluster::state::{Rejection, RejectionKind, ResolveError};
use tonic::{Code, Status};

use crate::{
    failure::{Failure, chain},
    ledger::SubmitError,
};

/// Why a call was not carried out.
#[derive(Debug)]
pub(crate) struct Problem {
    kind: Code,
    code: Cow<'static, str>,
    message: String,
    hint: String,
}

impl Problem {
    /// The caller's request makes no sense as it is.
    pub(crate) fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, code, message)
    }

    /// What the caller names isn't there.
    pub(crate) fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Code::NotFound, code, message)
    }

    /// What the caller wants contradicts what is.
    pub(crate) fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Code::FailedPrecondition, code, message)
    }

    /// The node failed.
    pub(crate) fn fault(code: &'static str, error: &dyn std::error::Error) -> Self {
        Self::new(Code::Internal, code, chain(error))
    }

    /// A problem of this kind.
    pub(crate) fn new(kind: Code, code: &'static str, message: impl Into<String>) -> Self {
        Self { kind, code: code.into(), message: message.into(), hint: String::new() }
    }

    /// A failure of the runtime, as the keeper would tell it too.
    pub(crate) fn of_failure(kind: Code, failure: &Failure) -> Self {
        let Failure { code, message, hint } = failure.clone();
        Self { kind, code: code.into(), message, hint }
    }

    /// Adds what to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        let detail = ErrorDetail { code: problem.code.into_owned(), hint: problem.hint };
        hypercore_api::error::status(problem.kind, problem.message, &detail)
    }
}

impl From<ResolveError> for Problem {
    fn from(error: ResolveError) -> Self {
        let message = error.to_string();
        match error {
            ResolveError::NotFound(_) => {
                Self::not_found("workload_not_found", message).hint("`hypercore ps -a` lists every workload")
            }
            ResolveError::Ambiguous { .. } => {
                Self::invalid("ambiguous_prefix", message).hint("give more characters of the id")
            }
        }
    }
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Rejected(rejection) => rejection.into(),
            SubmitError::Closed => Self::new(Code::Unavailable, "shutting_down", "the node is shutting down"),
            other => Self::fault("state_write_failed", &other)
                .hint("check that the disk of the data directory has room and is writable"),
        }
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        let message = rejection.to_string();
        match rejection.kind() {
            RejectionKind::Invalid => return Self::invalid("invalid_request", message),
            RejectionKind::Refused => return Self::new(Code::PermissionDenied, "refused", message),
            RejectionKind::NotFound | RejectionKind::Conflict => {}
        }
        match rejection {
            Rejection::NameTaken { .. } => Self::new(Code::AlreadyExists, "name_taken", message)
                .hint("choose another name, or remove that workload with `hypercore rm`"),
            Rejection::UnknownWorkload(_) => {
                Self::not_found("workload_not_found", message).hint("`hypercore ps -a` lists every workload")
            }
            Rejection::WorkloadExists(_) | Rejection::WorkloadRemoved(_) => {
                Self::new(Code::AlreadyExists, "request_conflict", message)
                    .hint("a request id names one request; choose a fresh one")
            }
            _ => Self::conflict("rejected", message),
        }
    }
}
