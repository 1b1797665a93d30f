//! Where an agent is reached: `unix:PATH`, `https://HOST:PORT`, or `http://HOST:PORT`. It refuses every other scheme by
//! name.

use std::{fmt, net::IpAddr, path::PathBuf, str::FromStr};

/// Why a text is not an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// None of the three forms.
    #[error("`{0}` is not an API address: write unix:PATH or https://HOST:PORT")]
    Form(String),
    /// A socket path that depends on where the command was started.
    #[error("`{0}` is not an absolute path to a socket")]
    RelativePath(String),
    /// Not `HOST:PORT` after the scheme.
    #[error("`{0}` has no HOST:PORT after its scheme")]
    Authority(String),
}

/// Where an agent is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A Unix socket on this machine.
    Unix(PathBuf),
    /// HTTP/2 over TLS: the `HOST:PORT`.
    Https(String),
    /// HTTP/2 over TCP: the `HOST:PORT`, without TLS.
    Http(String),
}

impl Endpoint {
    pub(super) fn to_tonic(&self) -> Result<tonic::transport::Endpoint, tonic::transport::Error> {
        tonic::transport::Endpoint::from_shared(self.to_string())
    }

    /// Whether what is sent there travels in the open: over a network and without TLS.
    pub(super) fn is_open(&self) -> bool {
        let Self::Http(authority) = self else { return false };
        let host = authority.rsplit_once(':').map_or(authority.as_str(), |(host, _)| host);
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host != "localhost" && !address.is_ok_and(|address| address.to_canonical().is_loopback())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Https(authority) => write!(f, "https://{authority}"),
            Self::Http(authority) => write!(f, "http://{authority}"),
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if let Some(path) = text.strip_prefix("unix:") {
            // unix:///path is how URLs would write it.
            let path = path.strip_prefix("//").unwrap_or(path);
            let is_absolute = path.starts_with('/');
            return if is_absolute {
                Ok(Self::Unix(PathBuf::from(path)))
            } else {
                Err(EndpointError::RelativePath(path.to_owned()))
            };
        }
        let (scheme, authority): (fn(String) -> Self, &str) =
            match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
                (Some(authority), _) => (Self::Https, authority),
                (None, Some(authority)) => (Self::Http, authority),
                (None, None) => return Err(EndpointError::Form(text.to_owned())),
            };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let port = authority.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()));
        let is_whole = matches!(port, Some((host, Ok(1..))) if !host.is_empty() && !host.contains('/'));
        if is_whole {
            Ok(scheme(authority.to_owned()))
        } else {
            Err(EndpointError::Authority(text.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_read_back_as_themselves() {
        for (text, shown) in [
            ("unix:/run/hypercore/api.sock", "unix:/run/hypercore/api.sock"),
            ("unix:///run/x", "unix:/run/x"),
            ("http://10.0.0.1:8000/", "http://10.0.0.1:8000"),
            ("http://[::1]:8000", "http://[::1]:8000"),
            ("https://node.example.org:8000", "https://node.example.org:8000"),
            ("https://[::1]:8000/", "https://[::1]:8000"),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), shown);
            assert_eq!(shown.parse(), Ok(endpoint));
        }
    }

    #[test]
    fn only_http_beyond_this_machine_is_open() {
        let is_open = |text: &str| text.parse::<Endpoint>().unwrap().is_open();
        for text in
            ["http://10.0.0.1:1", "http://a:1", "http://[2001:db8::1]:1", "http://localhost.example:1"]
        {
            assert!(is_open(text), "{text}");
        }
        for text in ["unix:/x", "https://a:1", "http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1"] {
            assert!(!is_open(text), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_its_reason() {
        let refused = |text: &str| text.parse::<Endpoint>().unwrap_err();
        assert!(matches!(refused("unix:run/x"), EndpointError::RelativePath(_)));
        for text in ["", "/run/x", "ftp://a:1", "a:1"] {
            assert!(matches!(refused(text), EndpointError::Form(_)), "{text}");
        }
        for text in
            ["http://", "http://a", "http://a:0", "http://:1", "http://a:b", "http://a/b:1", "https://a"]
        {
            assert!(matches!(refused(text), EndpointError::Authority(_)), "{text}");
        }
    }
}
