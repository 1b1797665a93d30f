//! The TLS way to an agent: which server is believed, and the connection itself.
//! It refuses to connect where nothing says what to believe: there is no switch that turns checks off.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use hyper_util::rt::TokioIo;
use hypercore_trust::ApiToken;
use rustls::{
    ClientConfig, RootCertStore,
    client::danger::ServerCertVerifier,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, InvalidDnsNameError, ServerName, pem::PemObject as _},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::pin::Pinned;

/// Why it can't be told which server to believe.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Neither a token with a fingerprint nor a file.
    #[error("nothing says which certificate the server must have")]
    Nothing,
    /// The file can't be read.
    #[error("the certificates in {path} can't be read", path = .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// The file has no certificate that TLS can use.
    #[error("there are no certificates in {path}", path = .0.display())]
    Empty(PathBuf),
    /// The host isn't a name or an address.
    #[error("the host of the API's address is not a name")]
    Host(#[from] InvalidDnsNameError),
    /// TLS itself can't be set up.
    #[error("TLS can't be set up")]
    Setup(#[from] rustls::Error),
}

/// How to reach a server, and what to believe of it.
#[derive(Clone)]
pub(super) struct Target {
    authority: String,
    name: ServerName<'static>,
    connector: TlsConnector,
}

impl Target {
    /// The server at `authority` (`HOST:PORT`). It must have its certificate from an authority in the file, or, without
    /// one, from the authority that the token names.
    pub(super) fn new(
        authority: &str,
        token: Option<&ApiToken>,
        file: Option<&Path>,
    ) -> Result<Self, TrustError> {
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned())?;
        let provider = Arc::new(default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?;
        let pin = token.and_then(|token| token.authority);
        let mut config = match (file, pin) {
            (Some(path), _) => builder.with_root_certificates(roots(path)?).with_no_client_auth(),
            (None, Some(pin)) => {
                let verifier: Arc<dyn ServerCertVerifier> = Arc::new(Pinned::new(pin, provider));
                builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
            }
            (None, None) => return Err(TrustError::Nothing),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self { authority: authority.to_owned(), name, connector: TlsConnector::from(Arc::new(config)) })
    }

    /// Connects and shakes hands.
    pub(super) async fn connect(self) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
        let stream = TcpStream::connect(&self.authority).await?;
        stream.set_nodelay(true)?;
        Ok(TokioIo::new(self.connector.connect(self.name, stream).await?))
    }
}

fn roots(path: &Path) -> Result<RootCertStore, TrustError> {
    let failed = |source| TrustError::Read { path: path.to_owned(), source };
    let certificates: Vec<CertificateDer<'static>> =
        CertificateDer::pem_file_iter(path).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
    let mut roots = RootCertStore::empty();
    // A system's bundle may hold some that are too old for TLS: they are left out.
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() { Err(TrustError::Empty(path.to_owned())) } else { Ok(roots) }
}
