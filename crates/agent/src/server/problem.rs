//! One refused or failed call, as the API tells it: a gRPC code for transports, a stable code for programs, a message
//! and a hint for people. Every handler's errors become a [`Problem`] here and nowhere else.

use std::{borrow::Cow, fmt};

use hypercore_api::v1::ErrorDetail;
use hypercore_cluster::state::{Rejection, RejectionKind, ResolveError};
use tonic::{Code, Status};

use crate::{
    access::{Denial, Stranger},
    failure::{Failure, chain},
    ledger::SubmitError,
};

/// Why a call was not carried out. Its text is the message alone.
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

    /// Whether it is that something isn't there.
    pub(crate) const fn is_not_found(&self) -> bool {
        matches!(self.kind, Code::NotFound)
    }

    /// Adds what to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        let detail = ErrorDetail { code: problem.code.into_owned(), hint: problem.hint };
        hypercore_api::error::status(problem.kind, problem.message, &detail)
    }
}

impl From<Stranger> for Problem {
    fn from(stranger: Stranger) -> Self {
        let code = match stranger {
            Stranger::NoToken => "token_missing",
            Stranger::Unknown => "token_invalid",
            Stranger::Expired => "token_expired",
        };
        Self::new(Code::Unauthenticated, code, stranger.to_string())
            .hint("`hypercore token create` makes one on the node; set it as HYPERCORE_TOKEN")
    }
}

impl From<Denial> for Problem {
    fn from(denial: Denial) -> Self {
        Self::new(Code::PermissionDenied, "not_allowed", denial.to_string())
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
            full if full.is_disk_full() => {
                Self::new(Code::Internal, "disk_full", "the disk of the data directory is full")
                    .hint("remove workloads (`hypercore rm -f`) or images (`hypercore image prune`)")
            }
            other => Self::fault("state_write_failed", &other)
                .hint("check that the disk of the data directory has room and is writable"),
        }
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        let message = rejection.to_string();
        if let Rejection::NoRoom { .. } = rejection {
            return Self::new(Code::ResourceExhausted, "no_room", message)
                .hint("ask for less, or end workloads that have limits: `hypercore ps` shows what runs");
        }
        match rejection.kind() {
            RejectionKind::Invalid => return Self::invalid("invalid_request", message),
            RejectionKind::Refused => return Self::new(Code::PermissionDenied, "refused", message),
            RejectionKind::NotFound | RejectionKind::Conflict => {}
        }
        match rejection {
            Rejection::NameTaken { .. } => Self::new(Code::AlreadyExists, "name_taken", message)
                .hint("choose another name, or remove that workload with `hypercore rm`"),
            Rejection::TokenNameTaken { .. } => Self::new(Code::AlreadyExists, "name_taken", message)
                .hint("choose another name, or revoke that token with `hypercore token revoke`"),
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

#[cfg(test)]
mod tests {
    use hypercore_api::{ApiError, ErrorKind};
    use hypercore_cluster::state::Resource;
    use hypercore_model::WorkloadId;

    use super::*;

    fn id() -> WorkloadId {
        WorkloadId::from_bytes([1; 16])
    }

    fn told(problem: impl Into<Problem>) -> (Code, ApiError) {
        let status = Status::from(problem.into());
        (status.code(), ApiError::from(status))
    }

    #[test]
    fn a_taken_name_tells_code_hint_and_holder() {
        let taken = Rejection::NameTaken { name: "web".parse().unwrap(), by: id() };
        let (code, error) = told(SubmitError::Rejected(taken));
        assert_eq!((code, error.code.as_str()), (Code::AlreadyExists, "name_taken"));
        assert!(error.message.contains("web") && error.hint.is_some(), "{error:?}");
    }

    #[test]
    fn what_is_not_there_is_not_found_however_it_was_asked_for() {
        for problem in [
            Problem::from(ResolveError::NotFound("w".into())),
            Problem::from(Rejection::UnknownWorkload(id())),
        ] {
            let (code, error) = told(problem);
            assert_eq!((code, error.kind), (Code::NotFound, ErrorKind::NotFound));
            assert_eq!(error.code, "workload_not_found");
            assert!(error.hint.is_some());
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_and_says_what_is_free() {
        let no_room = Rejection::NoRoom { what: Resource::Cpu, asked: 2000, free: 500, capacity: 4000 };
        let (code, error) = told(SubmitError::Rejected(no_room));
        assert_eq!(
            (code, error.kind, error.code.as_str()),
            (Code::ResourceExhausted, ErrorKind::Refused, "no_room")
        );
        assert!(error.message.contains("0.5 of 4 free") && error.hint.is_some(), "{error:?}");
    }

    #[test]
    fn a_closing_node_is_unavailable_and_a_reused_request_id_a_conflict() {
        assert_eq!(told(SubmitError::Closed).0, Code::Unavailable);
        assert_eq!(told(Rejection::WorkloadRemoved(id())).0, Code::AlreadyExists);
    }

    #[test]
    fn a_failure_keeps_its_code_and_an_empty_hint_is_none() {
        let failure = Failure { code: "disk_full".into(), message: "no room".into(), hint: String::new() };
        let (code, error) = told(Problem::of_failure(Code::ResourceExhausted, &failure));
        assert_eq!((code, error.code.as_str(), error.hint), (Code::ResourceExhausted, "disk_full", None));
        assert_eq!(error.message, "no room");
    }
}
