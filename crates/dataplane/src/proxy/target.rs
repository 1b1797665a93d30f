//! What a request asks for: host and path, each said once and beyond doubt.
//! It refuses requests whose parts name different hosts, which two servers would route differently (RFC 9112 §3.2).

use http::{Method, Uri, Version, header, request::Parts, uri::PathAndQuery};

use crate::{host::HostName, page::Problem};

/// A request's checked target.
#[derive(Debug)]
pub(crate) struct Target {
    /// `None` in HTTP/1.0 without a `Host` header.
    pub(crate) host: Option<HostName>,
    /// Host and port as the client wrote them.
    pub(crate) authority: Option<http::HeaderValue>,
    uri: Uri,
}

impl Target {
    /// Reads it, or says what is wrong.
    pub(crate) fn of(parts: &Parts, bytes_max: usize) -> Result<Self, Problem> {
        if parts.method == Method::CONNECT || parts.method == Method::TRACE {
            return Err(Problem::Method);
        }
        let path = parts.uri.path();
        let is_everything = path == "*" && parts.method == Method::OPTIONS;
        if !path.starts_with('/') && !is_everything {
            return Err(Problem::Bad("its path does not begin with a slash"));
        }
        if parts.uri.path_and_query().map_or(0, |text| text.as_str().len()) > bytes_max {
            return Err(Problem::TargetTooLong(bytes_max));
        }
        let authority = authority(parts)?;
        let host = authority.as_ref().map(|value| {
            let text = value.to_str().map_err(|_| Problem::Bad("its host is not a host name"))?;
            HostName::of_authority(text).map_err(|_| Problem::Bad("its host is not a host name"))
        });
        Ok(Self { host: host.transpose()?, authority, uri: parts.uri.clone() })
    }

    /// Path and query, `/` at least.
    pub(crate) fn path_and_query(&self) -> PathAndQuery {
        self.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"))
    }
}

/// The one host that the request names, in the `Host` header, in an absolute target, or in `:authority`.
fn authority(parts: &Parts) -> Result<Option<http::HeaderValue>, Problem> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let named = hosts.next();
    if hosts.next().is_some() {
        return Err(Problem::Bad("it has more than one Host header"));
    }
    let Some(in_target) = parts.uri.authority() else {
        if named.is_none() && parts.version == Version::HTTP_11 {
            return Err(Problem::Bad("it has no Host header"));
        }
        return Ok(named.cloned());
    };
    if !matches!(parts.uri.scheme_str(), Some("http" | "https")) {
        return Err(Problem::Bad("its target is neither http nor https"));
    }
    let differs =
        named.is_some_and(|named| !named.as_bytes().eq_ignore_ascii_case(in_target.as_str().as_bytes()));
    if differs {
        return Err(Problem::Bad("its target and its Host header name different hosts"));
    }
    let value = http::HeaderValue::from_str(in_target.as_str());
    value.map(Some).map_err(|_| Problem::Bad("its host is not a host name"))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn read(request: http::request::Builder) -> Result<Target, Problem> {
        Target::of(&request.body(()).unwrap().into_parts().0, 100)
    }

    #[test]
    fn one_host_in_whichever_form() {
        for request in [
            Request::get("/").header("host", "Web.Example:80"),
            Request::get("http://web.example/"),
            Request::get("http://web.example:80/").header("host", "WEB.example:80"),
        ] {
            assert_eq!(read(request).unwrap().host.unwrap().as_str(), "web.example");
        }
        assert!(read(Request::get("/").version(Version::HTTP_10)).unwrap().host.is_none());
    }

    #[test]
    fn doubtful_targets_are_refused() {
        for request in [
            Request::get("/"),
            Request::get("/").header("host", ""),
            Request::get("/").header("host", "a").header("host", "a"),
            Request::get("/").header("host", "a b"),
            Request::get("/").header("host", "user@a"),
            Request::get("http://a/").header("host", "b"),
            Request::get("http://a/").header("host", "a.evil"),
            Request::get("ftp://a/").header("host", "a"),
            Request::get("*").header("host", "a"),
        ] {
            let shown = format!("{request:?}");
            assert!(matches!(read(request), Err(Problem::Bad(_))), "{shown}");
        }
        assert_eq!(read(Request::trace("/").header("host", "a")).unwrap_err(), Problem::Method);
        let long = format!("/{}", "x".repeat(100));
        assert_eq!(read(Request::get(long).header("host", "a")).unwrap_err(), Problem::TargetTooLong(100));
    }
}
