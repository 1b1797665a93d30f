//! The node's own certificate authority: a key that lives as long as the node, and certificates that live for a day.
//!
//! ```text
//!   ca.key (0600)  --signs-->  ca.pem, 10 years      whoever holds a token knows its fingerprint
//!        |
//!        +--signs--> a certificate for some names, 24 hours, its key in memory alone
//! ```
//!
//! It is here and not in `trust`, which takes time and randomness as arguments: the library that makes certificates
//! draws its own randomness, for keys and for every signature. It refuses a key that others can read, a certificate
//! that is not the key's, and to sign for the name by which clients know the API, but for the API itself.

mod serving;

#[cfg(test)]
mod tests;

use std::{
    fmt, fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hypercore_api::client::pin::{self, API_SERVER_NAME};
use hypercore_model::{NodeId, Timestamp};
use hypercore_trust::Fingerprint;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SanType,
};
use rustls::{
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};
use time::OffsetDateTime;

use crate::directory::{
    Directory,
    secret::{self, SecretError},
};

pub(crate) use serving::{ApiTls, TlsError};

/// Largest key or certificate file that is read, in bytes.
const FILE_BYTES_MAX: usize = 16 * 1024;
/// How long the authority's certificate is good for. The key is meant to live as long as the node; a new certificate
/// of the same key has the same fingerprint.
const AUTHORITY_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How long a certificate of the authority is good for.
const LEAF_LIFE: Duration = Duration::from_secs(24 * 3600);
/// When it is replaced: early enough that nobody sees an old one, whatever sleeps meanwhile.
const LEAF_RENEWED_AFTER: Duration = Duration::from_secs(16 * 3600);
/// How far the clocks of clients may be behind.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);

/// Why there is no authority. Each variant is the step that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthorityError {
    /// The key can't be read or written.
    #[error(transparent)]
    Key(#[from] SecretError),
    /// The key's file holds something else.
    #[error("{path} is damaged: it must hold a P-256 private key in PEM; restore it, or move it and {beside} away: a new authority is made then, and every token has to be", path = .path.display(), beside = .beside.display())]
    KeyDamaged {
        /// The key's file.
        path: PathBuf,
        /// The certificate's file.
        beside: PathBuf,
    },
    /// There is a certificate, and the key that made it is missing.
    #[error("{key} is missing, but {certificate} is there; restore it, or move both away: a new authority is made then, and every token has to be", key = .key.display(), certificate = .certificate.display())]
    KeyMissing {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// The certificate's file can't be read or written.
    #[error("{path} can't be used", path = .path.display())]
    Certificate {
        /// The certificate's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The certificate's file holds something else, or the certificate of another key.
    #[error("{path} is not the certificate of the key beside it; move it away: it is made again of the key", path = .0.display())]
    CertificateOther(PathBuf),
    /// The library makes no key or certificate.
    #[error("making the authority failed")]
    Make(#[source] rcgen::Error),
}

/// Why there is no certificate for some names.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssueError {
    /// A name is neither a DNS name nor an address.
    #[error("`{0}` is not a name that a certificate can have")]
    Name(String),
    /// The name by which clients know the API.
    #[error("`{API_SERVER_NAME}` is the API's alone")]
    Reserved,
    /// The library makes no key or certificate.
    #[error("making a certificate failed")]
    Make(#[source] rcgen::Error),
    /// The certificate that was made can't be used.
    #[error("the new certificate can't be used")]
    Use(#[source] rustls::Error),
}

/// A certificate with its key, and when it should be replaced.
#[derive(Debug, Clone)]
pub(crate) struct Issued {
    /// What TLS is served with: the certificate, and the authority's after it.
    pub(crate) key: Arc<CertifiedKey>,
    /// From when on another one should be asked for.
    pub(crate) renew_at: Timestamp,
    /// Before this time it isn't good: a clock that was set back that far needs another one too.
    pub(crate) good_from: Timestamp,
}

/// The node's certificate authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    fingerprint: Fingerprint,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

impl Authority {
    /// Reads the authority of `directory`, or makes one that is good from `now` on. A missing certificate is made
    /// again of its key; a missing key never is, for tokens name it.
    pub(crate) fn open(directory: &Directory, node: NodeId, now: Timestamp) -> Result<Self, AuthorityError> {
        let (key_path, path) = (directory.data().join("ca.key"), directory.data().join("ca.pem"));
        let key = open_key(&key_path, &path)?;
        let params = authority_params(node, now);
        let made = || params.self_signed(&key).map_err(AuthorityError::Make);
        let pem = match fs::read_to_string(&path) {
            Ok(pem) => pem,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let pem = made()?.pem();
                write_certificate(&path, &pem)
                    .map_err(|source| AuthorityError::Certificate { path: path.clone(), source })?;
                pem
            }
            Err(source) if source.kind() == io::ErrorKind::InvalidData => {
                return Err(AuthorityError::CertificateOther(path));
            }
            Err(source) => return Err(AuthorityError::Certificate { path, source }),
        };
        let other = || AuthorityError::CertificateOther(path.clone());
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| other())?;
        let fingerprint = pin::fingerprint(&certificate).ok_or_else(other)?;
        if fingerprint != pin::fingerprint_of_key(&key.subject_public_key_info()) {
            return Err(other());
        }
        Ok(Self { issuer: Issuer::new(params, key), certificate, fingerprint })
    }

    /// What tokens name the authority by.
    pub(crate) const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// A certificate for these DNS names and addresses, with a new key: for the ingress in development.
    pub(crate) fn issue(&self, names: &[String], now: Timestamp) -> Result<Issued, IssueError> {
        if names.iter().any(|name| covers_the_api(name)) {
            return Err(IssueError::Reserved);
        }
        self.sign(names, now)
    }

    /// The same for the API's server, which has a name that [`Authority::issue`] gives to nobody.
    fn issue_for_api(&self, names: &[String], now: Timestamp) -> Result<Issued, IssueError> {
        let names: Vec<String> = std::iter::once(API_SERVER_NAME.to_owned()).chain(names.to_vec()).collect();
        self.sign(&names, now)
    }

    fn sign(&self, names: &[String], now: Timestamp) -> Result<Issued, IssueError> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.iter().map(|name| subject(name)).collect::<Result<_, _>>()?;
        // Clients look at the names above; this is for people, and no longer than X.520 allows.
        let shown = names.first().map_or("hypercore", String::as_str);
        params.distinguished_name = called(&shown.chars().take(64).collect::<String>());
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = (before(now, CLOCK_SKEW), after(now, LEAF_LIFE));

        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(IssueError::Make)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(IssueError::Make)?;
        let chain = vec![certificate.der().clone(), self.certificate.clone()];
        let key =
            PrivateKeyDer::try_from(key.serialize_der()).map_err(|_| IssueError::Use(unusable_key()))?;
        let key = CertifiedKey::from_der(chain, key, &default_provider()).map_err(IssueError::Use)?;
        let good_from = now.unix_ms().saturating_sub(millis(CLOCK_SKEW));
        Ok(Issued {
            key: Arc::new(key),
            renew_at: Timestamp::from_unix_ms(now.unix_ms().saturating_add(millis(LEAF_RENEWED_AFTER))),
            good_from: Timestamp::from_unix_ms(good_from),
        })
    }
}

/// Whether a certificate for this name would hold for [`API_SERVER_NAME`].
fn covers_the_api(name: &str) -> bool {
    let parent = API_SERVER_NAME.split_once('.').map(|(_, parent)| parent);
    let wildcard_of = name.strip_prefix("*.");
    name.eq_ignore_ascii_case(API_SERVER_NAME)
        || wildcard_of.zip(parent).is_some_and(|(of, parent)| of.eq_ignore_ascii_case(parent))
}

fn unusable_key() -> rustls::Error {
    rustls::Error::General("the new key is in no form that TLS knows".to_owned())
}

/// Reads the key, or makes one where there is neither key nor certificate.
fn open_key(path: &Path, certificate: &Path) -> Result<KeyPair, AuthorityError> {
    let damaged = || AuthorityError::KeyDamaged { path: path.to_owned(), beside: certificate.to_owned() };
    let text = match secret::read_text(path, FILE_BYTES_MAX) {
        Ok(text) => text,
        Err(SecretError::Missing(key)) if certificate.exists() => {
            return Err(AuthorityError::KeyMissing { key, certificate: certificate.to_owned() });
        }
        Err(SecretError::Missing(_)) => {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(AuthorityError::Make)?;
            secret::make_of(path, zeroize::Zeroizing::new(key.serialize_pem()).as_bytes())?;
            return Ok(key);
        }
        Err(error) => return Err(error.into()),
    };
    let text = std::str::from_utf8(&text).map_err(|_| damaged())?;
    let key = KeyPair::from_pem(text).map_err(|_| damaged())?;
    if key.algorithm() == &PKCS_ECDSA_P256_SHA256 { Ok(key) } else { Err(damaged()) }
}

/// P-256 and not the house's Ed25519, which browsers don't take in certificates.
fn authority_params(node: NodeId, now: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = called(&format!("Hypercore authority of node {}", node.short()));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    (params.not_before, params.not_after) = (before(now, CLOCK_SKEW), after(now, AUTHORITY_LIFE));
    params
}

fn called(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

fn subject(name: &str) -> Result<SanType, IssueError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let is_dns = rustls::pki_types::DnsName::try_from(name.strip_prefix("*.").unwrap_or(name)).is_ok();
    let text = name.try_into().ok().filter(|_| is_dns);
    text.map(SanType::DnsName).ok_or_else(|| IssueError::Name(name.escape_default().to_string()))
}

/// Makes the file appear whole or not at all.
fn write_certificate(path: &Path, pem: &str) -> io::Result<()> {
    let beside = path.with_extension("pem.new");
    fs::write(&beside, pem)?;
    fs::File::open(&beside)?.sync_all()?;
    fs::rename(&beside, path)
}

fn before(now: Timestamp, earlier: Duration) -> OffsetDateTime {
    moment(now.unix_ms().saturating_sub(millis(earlier)))
}

fn after(now: Timestamp, later: Duration) -> OffsetDateTime {
    moment(Timestamp::from_unix_ms(now.unix_ms().saturating_add(millis(later))).unix_ms())
}

fn moment(unix_ms: u64) -> OffsetDateTime {
    let seconds = i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).expect("a timestamp is no later than the year 9999")
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
