//! What clients are told when there is no answer of a workload: what is wrong, and what to do.
//! It refuses to tell what is nobody's business: addresses of backends, and which workloads there are.

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use hypercore_model::WorkloadStatus;

use crate::{body::ResponseBody, proxy::REQUEST_ID, request_id::RequestId, routes::NoRoute};

/// Why the ingress itself answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    /// The request has a fault.
    Bad(&'static str),
    /// Path and query are too long.
    TargetTooLong(usize),
    /// A method that a proxy of this kind doesn't serve.
    Method,
    /// The connection was made for another host.
    Misdirected,
    /// The host name leads to no workload.
    NoRoute(NoRoute, String),
    /// The workload is there and takes no requests now.
    NotRunning(WorkloadStatus, String),
    /// The workload runs, and nothing says which port to ask.
    NoPort(String),
    /// The workload's port can't be reached.
    Refused(String),
    /// What the workload sent is no answer.
    NoAnswer(String),
    /// The workload took too long, to be reached or to answer.
    Late(String),
}

impl Problem {
    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::Bad(_) => StatusCode::BAD_REQUEST,
            Self::TargetTooLong(_) => StatusCode::URI_TOO_LONG,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::NoRoute(..) => StatusCode::NOT_FOUND,
            Self::NotRunning(..) => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoPort(_) | Self::Refused(_) | Self::NoAnswer(_) => StatusCode::BAD_GATEWAY,
            Self::Late(_) => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// What is wrong, and what to do about it.
    fn words(&self) -> (String, String) {
        match self {
            Self::Bad(what) => (format!("The request has a fault: {what}."), "Send another one.".into()),
            Self::TargetTooLong(max) => {
                ("The path is too long.".into(), format!("Path and query may have {max} bytes together."))
            }
            Self::Method => ("This method is not served here.".into(), "Use another one.".into()),
            Self::Misdirected => (
                "This connection was made for another host.".into(),
                "Make a connection of its own for each host name.".into(),
            ),
            Self::NoRoute(NoRoute::Unknown, host) => (
                format!("No workload answers for {host}."),
                "Look at `hypercore ps -a`: a workload is found by its name or id, once it exists.".into(),
            ),
            Self::NoRoute(NoRoute::Ambiguous, host) => (
                format!("More than one workload could be meant by {host}."),
                "Write more digits of the id, or the workload's name.".into(),
            ),
            Self::NotRunning(status, label) => (
                format!("The workload {label} is {status} and takes no requests."),
                format!("Try again later, or look at `hypercore inspect {label}`."),
            ),
            Self::NoPort(label) => (
                format!("The workload {label} runs, and nothing says which of its ports speaks HTTP."),
                "Run it with `--route-port PORT` or `-p PORT`, or use an image that exposes a port.".into(),
            ),
            Self::Refused(label) => (
                format!("The workload {label} runs and does not answer on its port."),
                format!(
                    "Is it listening on all addresses and on the right port? See `hypercore logs {label}`."
                ),
            ),
            Self::NoAnswer(label) => (
                format!("The workload {label} took the request and gave no proper HTTP answer."),
                format!("See `hypercore logs {label}`."),
            ),
            Self::Late(label) => (
                format!("The workload {label} took too long to answer."),
                format!("Try again later, or see `hypercore logs {label}`."),
            ),
        }
    }

    /// The page, in HTML for those who ask for it.
    pub(crate) fn page(&self, id: RequestId, wants_html: bool) -> Response<ResponseBody> {
        let (what, hint) = self.words();
        let status = self.status();
        let title = format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or_default());
        let (text, kind) = if wants_html {
            (html(&title, &what, &hint, id), "text/html; charset=utf-8")
        } else {
            (format!("{title}\n{what}\n{hint}\nrequest {id}\n"), "text/plain; charset=utf-8")
        };
        let mut response = Response::new(ResponseBody::page(text));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(REQUEST_ID, id.header());
        if matches!(self, Self::NotRunning(..)) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        if matches!(self, Self::Method) {
            headers.insert(
                header::ALLOW,
                HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
            );
        }
        response
    }
}

/// Whether a client would rather read HTML than plain text.
pub(crate) fn wants_html(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

fn html(title: &str, what: &str, hint: &str, id: RequestId) -> String {
    let (what, hint) = (escape(what), escape(hint));
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n\
         <style>body{{font:1rem/1.5 sans-serif;max-width:40rem;margin:4rem auto;padding:0 1rem}}\
         small{{color:#666}}</style></head>\n\
         <body><h1>{title}</h1><p>{what}</p><p>{hint}</p><p><small>request {id}</small></p></body></html>\n"
    )
}

/// Host names have been checked; the rest is ours. This holds even if that should change.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request_id::RequestIds;

    #[test]
    fn pages_say_what_is_wrong_and_which_request_it_was() {
        let id = RequestIds::new().next();
        let problem = Problem::NotRunning(WorkloadStatus::Starting, "web".into());
        let response = problem.page(id, false);
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[REQUEST_ID].to_str().unwrap(), id.to_string());
        assert_eq!(response.headers()[header::RETRY_AFTER], "5");
        assert!(problem.words().0.contains("web is starting"));
    }

    #[test]
    fn nothing_of_a_request_becomes_markup() {
        let page = html("404", "No workload answers for <script>.", "\"&", RequestIds::new().next());
        assert!(page.contains("&lt;script&gt;") && page.contains("&quot;&amp;"), "{page}");
    }

    #[test]
    fn html_is_for_those_who_ask_for_it() {
        let headers =
            |accept: &'static str| HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]);
        assert!(wants_html(&headers("text/html,application/xhtml+xml;q=0.9")));
        assert!(!wants_html(&headers("*/*")) && !wants_html(&HeaderMap::new()));
    }
}
