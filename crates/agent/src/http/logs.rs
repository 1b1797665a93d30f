//! `/logs?id=`: what a workload wrote, as plain text, to whoever shows a token with the scope `read`. The id is looked
//! up as the API looks it up, and no path is ever built of it. It refuses callers without a token also on this machine:
//! unlike the Unix socket, a port on loopback is open to every user.

use std::sync::Arc;

use axum::{
    body::{Body, Bytes},
    extract::{Extension, RawQuery, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::StreamExt as _;
use hypercore_api::v1::LogsRequest;
use hypercore_dataplane::Visit;
use hypercore_model::Scope;
use tonic::{Code, Status};

use super::Pages;
use crate::server;

/// Longest query that is read, in bytes.
const QUERY_BYTES_MAX: usize = 1024;

pub(super) async fn logs(
    State(pages): State<Arc<Pages>>,
    Extension(visit): Extension<Visit>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let caller = pages.caller(visit, &headers).and_then(|caller| {
        caller.require(Scope::Read, "reading logs")?;
        Ok(caller)
    });
    let caller = match caller {
        Ok(caller) => caller,
        Err(refusal) => return refusal.into_response(),
    };
    let request = match parse(query.as_deref().unwrap_or_default()) {
        Ok(request) => request,
        Err(mistake) => return (StatusCode::BAD_REQUEST, format!("{mistake}\n")).into_response(),
    };
    match server::log_text(&pages.node, &pages.supervisor, caller, &request) {
        Ok(text) => {
            let body = Body::from_stream(text.map(|piece| piece.map(Bytes::from)));
            (
                [
                    (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
                    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
                ],
                body,
            )
                .into_response()
        }
        Err(status) => {
            (status_code(&status), format!("{}\n", status.message().escape_debug())).into_response()
        }
    }
}

/// Reads `id=`, `tail=` and `follow=`. What else there is, is a mistake: it would not be done.
fn parse(query: &str) -> Result<LogsRequest, String> {
    if query.len() > QUERY_BYTES_MAX {
        return Err(format!("the query is longer than {QUERY_BYTES_MAX} bytes"));
    }
    let mut request = LogsRequest::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=').unwrap_or((pair, "")) {
            ("id", id) if is_plain(id) => request.id = id.to_owned(),
            ("id", _) => return Err("id is an id, a unique prefix of one, or a name".to_owned()),
            ("tail", count) => {
                let count = count.parse().map_err(|_| "tail is a number of entries".to_owned())?;
                request.tail = Some(count);
            }
            ("follow", "" | "1" | "true") => request.follow = true,
            ("follow", "0" | "false") => request.follow = false,
            _ => return Err("the query may have id, tail and follow=true|false".to_owned()),
        }
    }
    if request.id.is_empty() {
        Err("which workload? write /logs?id=WORKLOAD".to_owned())
    } else {
        Ok(request)
    }
}

/// Ids and names have no character that a URL would have to escape.
fn is_plain(id: &str) -> bool {
    id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn status_code(status: &Status) -> StatusCode {
    match status.code() {
        Code::InvalidArgument => StatusCode::BAD_REQUEST,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_which_workload_and_how_much() {
        let request = parse("id=web&tail=10&follow=true").unwrap();
        assert_eq!((request.id.as_str(), request.tail, request.follow), ("web", Some(10), true));
        assert!(!parse("id=web&follow=0").unwrap().follow);
    }

    #[test]
    fn no_id_is_a_path() {
        for query in [
            "",
            "id=",
            "id=../../../etc/passwd",
            "id=..%2f..%2fetc%2fpasswd",
            "id=/etc/passwd",
            "id=a%00b",
            "id=web&tail=-1",
            "id=web&tail=99999999999",
            "id=web&follow=maybe",
            "id=web&since=1",
            &format!("id={}", "a".repeat(QUERY_BYTES_MAX)),
        ] {
            assert!(parse(query).is_err(), "{query}");
        }
    }
}
