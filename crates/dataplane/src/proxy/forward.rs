//! Headers on their way through: what was meant for us stays here, and what backends trust is ours alone.
//! It refuses to pass on a client's word about who it is: `X-Forwarded-*` and `Forwarded` are replaced.

use http::{HeaderMap, HeaderName, HeaderValue, Uri, Version, header, request::Parts, uri};

use super::{Client, REQUEST_ID, Target};
use crate::{request_id::RequestId, server::Scheme};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Whether the request needs HTTP/2 all the way: gRPC, which lives in trailers.
pub(super) fn needs_http2(parts: &Parts) -> bool {
    let is_grpc = |value: &HeaderValue| value.as_bytes().starts_with(b"application/grpc");
    let wants_trailers = || parts.headers.get(header::TE).is_some_and(|te| te == "trailers");
    parts.version == Version::HTTP_2
        && (parts.headers.get(header::CONTENT_TYPE).is_some_and(is_grpc) || wants_trailers())
}

/// Turns a client's request into the one that goes to a backend.
pub(super) fn rewrite(
    parts: &mut Parts,
    client: &Client,
    target: &Target,
    id: RequestId,
    to_http2: bool,
    is_upgrade: bool,
) {
    let wants_trailers = parts.headers.get(header::TE).is_some_and(|te| te == "trailers");
    let upgrade = if is_upgrade { parts.headers.remove(header::UPGRADE) } else { None };
    remove_hop_by_hop(&mut parts.headers);
    remove_claims(&mut parts.headers);
    // We ask for the body at once, which answers it.
    parts.headers.remove(header::EXPECT);
    if let Some(upgrade) = upgrade {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(header::UPGRADE, upgrade);
    }
    tell_origin(&mut parts.headers, client, target);
    parts.headers.insert(REQUEST_ID, id.header());
    let mut whole = uri::Parts::default();
    whole.path_and_query = Some(target.path_and_query());
    if to_http2 {
        parts.version = Version::HTTP_2;
        parts.headers.remove(header::HOST);
        whole.scheme = Some(uri::Scheme::HTTP);
        whole.authority = target.authority.as_ref().and_then(|value| value.to_str().ok()?.parse().ok());
        if wants_trailers {
            parts.headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
    } else {
        parts.version = Version::HTTP_11;
        if let Some(authority) = &target.authority {
            parts.headers.insert(header::HOST, authority.clone());
        }
    }
    parts.uri = Uri::from_parts(whole).unwrap_or_default();
    parts.extensions.clear();
}

/// Says who asks, over what, and for whom, in the words of old (`X-Forwarded-*`) and of RFC 7239.
fn tell_origin(headers: &mut HeaderMap, client: &Client, target: &Target) {
    let proto = match client.scheme {
        Scheme::Plain | Scheme::Redirecting { .. } => "http",
        Scheme::Tls => "https",
    };
    headers.insert(FORWARDED_FOR, client.address_text.clone());
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(proto));
    let mut forwarded = Vec::with_capacity(96);
    forwarded.extend_from_slice(b"for=");
    if client.address.ip().to_canonical().is_ipv6() {
        forwarded.extend_from_slice(b"\"[");
        forwarded.extend_from_slice(client.address_text.as_bytes());
        forwarded.extend_from_slice(b"]\"");
    } else {
        forwarded.extend_from_slice(client.address_text.as_bytes());
    }
    forwarded.extend_from_slice(b";proto=");
    forwarded.extend_from_slice(proto.as_bytes());
    if let Some(authority) = &target.authority {
        forwarded.extend_from_slice(b";host=\"");
        forwarded.extend_from_slice(authority.as_bytes());
        forwarded.push(b'"');
        headers.insert(FORWARDED_HOST, authority.clone());
    }
    if let Ok(forwarded) = HeaderValue::from_maybe_shared(bytes::Bytes::from(forwarded)) {
        headers.insert(header::FORWARDED, forwarded);
    }
}

/// What concerns this connection alone (RFC 9110 §7.6.1).
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let listed: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .filter(|name| !is_end_to_end(name))
            .collect();
        headers.remove(header::CONNECTION);
        for name in listed {
            headers.remove(name);
        }
    }
    for name in [
        KEEP_ALIVE,
        PROXY_CONNECTION,
        HTTP2_SETTINGS,
        header::TE,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        header::PROXY_AUTHORIZATION,
        header::PROXY_AUTHENTICATE,
    ] {
        headers.remove(name);
    }
}

/// Headers that `Connection` can't take away: a client could make a request mean something else to the backend.
fn is_end_to_end(name: &HeaderName) -> bool {
    [header::HOST, header::CONTENT_LENGTH, header::CONTENT_TYPE, header::AUTHORIZATION, header::COOKIE]
        .contains(name)
}

/// Headers in which a client could pretend to be the proxy; `_` counts as `-`, as it does for CGI programs.
fn remove_claims(headers: &mut HeaderMap) {
    let is_claim = |name: &HeaderName| {
        let text = name.as_str();
        let rest = match text.as_bytes().first() {
            Some(b'f') => return *name == header::FORWARDED,
            Some(b'x') => text[1..].strip_prefix(['-', '_']),
            _ => None,
        };
        rest.is_some_and(|rest| {
            rest.starts_with("forwarded")
                || matches!(rest, "real-ip" | "real_ip" | "request-id" | "request_id")
        })
    };
    if headers.keys().any(is_claim) {
        let claims: Vec<HeaderName> = headers.keys().filter(|name| is_claim(name)).cloned().collect();
        for name in claims {
            headers.remove(name);
        }
    }
}

/// Takes from a backend's answer what concerned its connection to us.
pub(super) fn clean_answer(headers: &mut HeaderMap, to: Version) {
    // Where both are given, the length was not what the body was read by (RFC 9112 §6.3).
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    remove_hop_by_hop(headers);
    if to == Version::HTTP_2 {
        headers.remove(header::TRAILER);
    }
}

/// Takes the same from an agreement to switch, and leaves what the switch is to.
pub(super) fn clean_switch(headers: &mut HeaderMap) {
    let upgrade = headers.remove(header::UPGRADE);
    clean_answer(headers, Version::HTTP_11);
    if let Some(upgrade) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, upgrade);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn what_concerns_one_connection_stays_here() {
        let mut headers = map(&[
            ("connection", "close, x-secret , host"),
            ("x-secret", "1"),
            ("keep-alive", "5"),
            ("te", "gzip"),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
            ("host", "a"),
            ("x-kept", "1"),
        ]);
        remove_hop_by_hop(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["host", "x-kept"]);
    }

    #[test]
    fn a_client_can_not_pretend_to_be_the_proxy() {
        let mut headers = map(&[
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-port", "1"),
            ("x_forwarded_for", "1.1.1.1"),
            ("x-forwarded_for", "1.1.1.1"),
            ("forwarded", "for=1"),
            ("x-real-ip", "1"),
            ("x-request-id", "mine"),
            ("x-other", "1"),
            ("from", "a"),
        ]);
        remove_claims(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["from", "x-other"]);
    }

    #[test]
    fn an_answer_with_two_lengths_keeps_none() {
        let mut headers = map(&[("content-length", "3"), ("transfer-encoding", "chunked")]);
        clean_answer(&mut headers, Version::HTTP_11);
        assert!(headers.is_empty());
    }

    #[test]
    fn a_switch_keeps_what_it_is_to() {
        let mut headers = map(&[("connection", "Upgrade"), ("upgrade", "websocket"), ("keep-alive", "1")]);
        clean_switch(&mut headers);
        assert_eq!(
            (&headers["connection"], &headers["upgrade"]),
            (&"upgrade".parse().unwrap(), &"websocket".parse().unwrap())
        );
        assert!(!headers.contains_key("keep-alive"));
    }
}
