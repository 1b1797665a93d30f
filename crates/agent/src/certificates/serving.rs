//! What the API is served with on TCP: TLS with a certificate of the node's own authority, made anew when it grows old,
//! or with one from files. It refuses to serve without.

use std::{collections::BTreeSet, fmt, net::IpAddr, sync::Arc};

use arc_swap::ArcSwap;
use hypercore_dataplane::tls::{
    Certificates,
    files::{CertificateError, CertificateFiles},
};
use hypercore_model::Timestamp;
use hypercore_trust::Fingerprint;
use nix::ifaddrs::getifaddrs;
use rustls::{
    ServerConfig,
    crypto::ring::default_provider,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::{Authority, IssueError, Issued};
use crate::clock;

/// Why the API can't be served with TLS.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// The authority made no certificate.
    #[error("the node's own authority made no certificate for the API")]
    Issue(#[from] IssueError),
    /// The given files are no certificate.
    #[error("the certificate that was given for the API can't be used")]
    Files(#[from] CertificateError),
    /// TLS itself can't be set up.
    #[error("TLS can't be set up")]
    Setup(#[source] rustls::Error),
}

/// Where the API's certificate comes from.
#[derive(Debug, Clone)]
pub(crate) struct ApiTls {
    authority: Arc<Authority>,
    given: Option<CertificateFiles>,
}

impl ApiTls {
    /// From these files, or else from the node's own authority.
    pub(crate) const fn new(authority: Arc<Authority>, given: Option<CertificateFiles>) -> Self {
        Self { authority, given }
    }

    /// What new tokens tell their holders to expect; `None` when the certificate comes from elsewhere.
    pub(crate) fn fingerprint(&self) -> Option<Fingerprint> {
        self.given.is_none().then(|| self.authority.fingerprint())
    }

    /// The node's own authority.
    pub(crate) const fn authority(&self) -> &Arc<Authority> {
        &self.authority
    }

    /// The settings of the API's handshakes: TLS 1.3 alone, for all its clients are new, and HTTP/2 alone. Files are
    /// shown through `from_files`, which their follower fills.
    pub(crate) fn server_config(&self, from_files: &Certificates) -> Result<Arc<ServerConfig>, TlsError> {
        let resolver: Arc<dyn ResolvesServerCert> = match &self.given {
            Some(files) => {
                from_files.set_default(files.load()?);
                Arc::new(from_files.clone())
            }
            None => Arc::new(Renewed::new(Arc::clone(&self.authority))?),
        };
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Setup)?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }

    /// The files, when there are any: somebody has to follow their changes.
    pub(crate) const fn files(&self) -> Option<&CertificateFiles> {
        self.given.as_ref()
    }
}

/// A certificate of the authority, replaced by the first handshake that finds it old. No clock has to run for that, so
/// that a machine that slept, or whose clock was set, shows a good one too.
struct Renewed {
    authority: Arc<Authority>,
    current: ArcSwap<Issued>,
}

impl fmt::Debug for Renewed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewed").field("renew_at", &self.current.load().renew_at).finish_non_exhaustive()
    }
}

impl Renewed {
    fn new(authority: Arc<Authority>) -> Result<Self, IssueError> {
        let first = authority.issue_for_api(&own_names(), clock::now())?;
        Ok(Self { authority, current: ArcSwap::from_pointee(first) })
    }

    /// The certificate to show at this time. Two handshakes may both replace it; either is good.
    fn at(&self, now: Timestamp) -> Arc<CertifiedKey> {
        let current = self.current.load_full();
        if (current.good_from..current.renew_at).contains(&now) {
            return Arc::clone(&current.key);
        }
        match self.authority.issue_for_api(&own_names(), now) {
            Ok(next) => {
                let key = Arc::clone(&next.key);
                self.current.store(Arc::new(next));
                key
            }
            Err(error) => {
                tracing::error!(%error, "the certificate of the API could not be renewed");
                Arc::clone(&current.key)
            }
        }
    }
}

impl ResolvesServerCert for Renewed {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.at(clock::now()))
    }
}

/// What this machine may be called: its host name, `localhost`, and its addresses at this moment. For clients that
/// check names, as those with `--api-ca` do.
fn own_names() -> Vec<String> {
    let mut names = vec!["localhost".to_owned()];
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    names.extend(host.filter(|name| rustls::pki_types::DnsName::try_from(name.as_str()).is_ok()));
    let interfaces = getifaddrs().into_iter().flatten().filter_map(|interface| interface.address);
    let addresses = interfaces.filter_map(|address| {
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    });
    // Each once, loopback among them; link-local ones are no names, for they need a zone.
    let is_plain = |address: &IpAddr| match address {
        IpAddr::V4(address) => !address.is_link_local(),
        IpAddr::V6(address) => !address.is_unicast_link_local(),
    };
    let addresses: BTreeSet<IpAddr> = addresses.filter(is_plain).collect();
    names.extend(addresses.iter().take(ADDRESSES_MAX).map(IpAddr::to_string));
    names
}

/// Most addresses that a certificate names: a handshake must stay small.
const ADDRESSES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::certificates::{LEAF_RENEWED_AFTER, tests::authority};

    fn later(now: Timestamp, by: Duration) -> Timestamp {
        Timestamp::from_unix_ms(now.unix_ms() + u64::try_from(by.as_millis()).unwrap())
    }

    #[test]
    fn a_certificate_is_replaced_when_it_is_old_or_the_clock_was_set_back() {
        let (_directory, authority) = authority();
        let renewed = Renewed::new(Arc::new(authority)).unwrap();
        let now = clock::now();
        let first = renewed.at(now);
        assert!(Arc::ptr_eq(&first, &renewed.at(later(now, LEAF_RENEWED_AFTER - Duration::from_secs(60)))));
        let second = renewed.at(later(now, LEAF_RENEWED_AFTER + Duration::from_secs(60)));
        assert!(!Arc::ptr_eq(&first, &second));
        let third = renewed.at(Timestamp::from_unix_ms(now.unix_ms() - 7_200_000));
        assert!(!Arc::ptr_eq(&second, &third));
    }

    #[test]
    fn this_machine_is_called_localhost_and_by_its_addresses() {
        let names = own_names();
        for name in ["localhost", "127.0.0.1"] {
            assert!(names.iter().any(|own| own == name), "{name} in {names:?}");
        }
    }
}
