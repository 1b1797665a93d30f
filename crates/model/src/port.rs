//! Published ports: which port of the host leads to which port of the workload.

use std::{fmt, num::NonZeroU16, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::text::serde_as_text;

/// Why a text is not a port mapping.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a port mapping: write PORT or HOST:PORT, each 1 to 65535, with an optional /tcp or /udp"
)]
pub struct PortError(String);

/// The transport protocol of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum PortProtocol {
    /// TCP, when nothing else is said.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl PortProtocol {
    /// `tcp` or `udp`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// One published port: `host` on the node leads to `container` inside. Without `host` the node picks a free one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortMapping {
    /// Port on the host; `None` lets the node choose.
    pub host: Option<NonZeroU16>,
    /// Port inside the workload.
    pub container: NonZeroU16,
    /// TCP or UDP.
    pub protocol: PortProtocol,
}

impl fmt::Display for PortMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(host) = self.host {
            write!(f, "{host}:")?;
        }
        write!(f, "{}/{}", self.container, self.protocol.as_str())
    }
}

impl FromStr for PortMapping {
    type Err = PortError;

    fn from_str(text: &str) -> Result<Self, PortError> {
        let bad = || PortError(text.to_owned());
        let port = |text: &str| {
            let is_number = text.bytes().all(|b| b.is_ascii_digit());
            text.parse::<NonZeroU16>().ok().filter(|_| is_number).ok_or_else(bad)
        };
        let (ports, protocol) = match text.split_once('/') {
            None | Some((_, "tcp")) => (text.split('/').next().unwrap_or(text), PortProtocol::Tcp),
            Some((ports, "udp")) => (ports, PortProtocol::Udp),
            Some(_) => return Err(bad()),
        };
        let (host, container) = match ports.split_once(':') {
            Some((host, container)) => (Some(port(host)?), port(container)?),
            None => (None, port(ports)?),
        };
        Ok(Self { host, container, protocol })
    }
}

serde_as_text!(PortMapping);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_reads_back_as_itself() {
        for (text, shown) in
            [("80", "80/tcp"), ("8080:80", "8080:80/tcp"), ("53:53/udp", "53:53/udp"), ("1/tcp", "1/tcp")]
        {
            let mapping: PortMapping = text.parse().unwrap();
            assert_eq!(mapping.to_string(), shown);
            assert_eq!(shown.parse(), Ok(mapping));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in
            ["", "0", "65536", "80:", ":80", "a:b", "80:0", "1:2:3", "80/sctp", "+80", "80/tcp/udp", "-1"]
        {
            assert!(text.parse::<PortMapping>().is_err(), "{text}");
        }
    }
}
