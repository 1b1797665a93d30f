//! What a failed call tells: the class of the failure, a stable code, a sentence for people, and a hint.
//!
//! Both sides speak it: the agent turns an [`ApiError`] into a gRPC status, the client turns the status back.
//! It refuses to know exit codes and colours: those belong to the command line.

use std::{error::Error, fmt};

use prost::{Message as _, bytes::Bytes};
use tonic::{Code, Status};

use crate::v1::ErrorDetail;

/// What `Any.type_url` says of the detail that Hypercore adds to a status.
const DETAIL_TYPE_URL: &str = "type.googleapis.com/hypercore.v1.ErrorDetail";

/// The classes of failure that a caller must be able to tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request itself is wrong; the same request will never work.
    Usage,
    /// What the request names doesn't exist.
    NotFound,
    /// It exists, and the caller may not: permission, policy, quota.
    Refused,
    /// Nobody could answer, or something it needs is away; later it may work.
    Unavailable,
    /// It clashes with what is there now: a name taken, a port taken, a workload in the wrong status.
    Conflict,
    /// It was tried, and failed.
    Failed,
}

impl ErrorKind {
    /// The word that programs see in the `error` field.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::NotFound => "not_found",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Conflict => "conflict",
            Self::Failed => "failed",
        }
    }

    /// The class of a stable error code, for failures that are told in a message and not by a status:
    /// `WorkloadState.reason_code`. Codes not listed are plain failures.
    #[must_use]
    pub fn of_code(code: &str) -> Self {
        match code {
            "image_not_found" | "workload_not_found" | "snapshot_not_found" => Self::NotFound,
            "registry_unauthorized"
            | "registry_refused"
            | "image_not_verified"
            | "isolation_unsupported"
            | "engine_mismatch"
            | "no_memory" => Self::Refused,
            "registry_unreachable" => Self::Unavailable,
            "port_taken" | "name_taken" | "subnet_full" | "volume_in_use" | "volume_form" => Self::Conflict,
            _ => Self::Failed,
        }
    }

    const fn of_status_code(code: Code) -> Self {
        match code {
            Code::InvalidArgument | Code::OutOfRange => Self::Usage,
            Code::NotFound => Self::NotFound,
            Code::PermissionDenied | Code::Unauthenticated | Code::ResourceExhausted => Self::Refused,
            Code::Unavailable | Code::DeadlineExceeded => Self::Unavailable,
            Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => Self::Conflict,
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::Unimplemented
            | Code::Internal
            | Code::DataLoss => Self::Failed,
        }
    }

    const fn status_code(self) -> Code {
        match self {
            Self::Usage => Code::InvalidArgument,
            Self::NotFound => Code::NotFound,
            Self::Refused => Code::PermissionDenied,
            Self::Unavailable => Code::Unavailable,
            Self::Conflict => Code::FailedPrecondition,
            Self::Failed => Code::Internal,
        }
    }
}

/// One failed call, told completely. Its text is the message alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// Which class of failure.
    pub kind: ErrorKind,
    /// Stable and machine-readable, such as `image_not_found`.
    pub code: String,
    /// What failed, in one line for people.
    pub message: String,
    /// What to do about it, when somebody knows.
    pub hint: Option<String>,
}

impl ApiError {
    /// An error without a hint.
    #[must_use]
    pub fn new(kind: ErrorKind, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind, code: code.into(), message: message.into(), hint: None }
    }

    /// The same error with a hint; an empty one is none.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into()).filter(|hint| !hint.is_empty());
        self
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for ApiError {}

/// A gRPC status that carries Hypercore's detail the way every gRPC tool expects: within `google.rpc.Status`.
#[must_use]
pub fn status(code: Code, message: String, detail: &ErrorDetail) -> Status {
    let envelope = RpcStatus {
        code: code as i32,
        message: message.clone(),
        details: vec![Any { type_url: DETAIL_TYPE_URL.to_owned(), value: detail.encode_to_vec() }],
    };
    Status::with_details(code, message, Bytes::from(envelope.encode_to_vec()))
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let detail = ErrorDetail { code: error.code, hint: error.hint.unwrap_or_default() };
        status(error.kind.status_code(), error.message, &detail)
    }
}

impl From<Status> for ApiError {
    fn from(status: Status) -> Self {
        // Only a status that the client library made itself has a source: the connection that broke.
        if status.source().is_some() {
            return Self::new(
                ErrorKind::Unavailable,
                "connection_lost",
                "the connection to the agent broke before its answer was complete",
            )
            .with_hint("see whether it still runs: `hypercore doctor`");
        }
        let kind = ErrorKind::of_status_code(status.code());
        let detail = detail_of(status.details());
        let code = match &detail {
            Some(detail) if !detail.code.is_empty() => detail.code.clone(),
            _ => kind.as_str().to_owned(),
        };
        let message = match status.message() {
            "" => format!("the agent answered `{}` and nothing more", status.code().description()),
            message => message.to_owned(),
        };
        Self::new(kind, code, message).with_hint(detail.map(|detail| detail.hint).unwrap_or_default())
    }
}

/// Hypercore's own detail within a status; details that aren't ours or can't be read count as absent.
fn detail_of(bytes: &[u8]) -> Option<ErrorDetail> {
    let envelope = RpcStatus::decode(bytes).ok()?;
    let detail = envelope.details.iter().find(|detail| detail.type_url == DETAIL_TYPE_URL)?;
    ErrorDetail::decode(detail.value.as_slice()).ok()
}

/// `google.rpc.Status`: what `grpc-status-details-bin` holds by the convention all gRPC tools share
/// (<https://github.com/googleapis/googleapis/blob/master/google/rpc/status.proto>).
#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, prost::Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [ErrorKind; 6] = [
        ErrorKind::Usage,
        ErrorKind::NotFound,
        ErrorKind::Refused,
        ErrorKind::Unavailable,
        ErrorKind::Conflict,
        ErrorKind::Failed,
    ];

    #[test]
    fn an_error_survives_its_way_through_a_status() {
        for kind in KINDS {
            let error =
                ApiError::new(kind, "name_taken", "the name `web` is taken").with_hint("pick another");
            assert_eq!(ApiError::from(Status::from(error.clone())), error);
        }
    }

    #[test]
    fn a_status_without_our_detail_still_has_a_code() {
        let error = ApiError::from(Status::not_found("no such thing"));
        assert_eq!(error, ApiError::new(ErrorKind::NotFound, "not_found", "no such thing"));
        let garbled = Status::with_details(Code::Internal, "x", Bytes::from_static(b"\xff\xff"));
        assert_eq!(ApiError::from(garbled).code, "failed");
    }

    #[test]
    fn an_empty_hint_is_none() {
        assert_eq!(ApiError::new(ErrorKind::Failed, "x", "y").with_hint("").hint, None);
    }
}
