//! A certificate and its key in files, which somebody else replaces from time to time.
//! It refuses a pair that doesn't fit together, and keeps the last good one then.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};

use super::Certificates;

/// Largest file that is read, in bytes.
const BYTES_MAX: u64 = 1024 * 1024;

/// Why files are no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file can't be read.
    #[error("{path} can't be read", path = .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// A file is larger than certificates are.
    #[error("{path} is larger than {BYTES_MAX} bytes: it is no certificate", path = .0.display())]
    TooLarge(PathBuf),
    /// The certificates are no PEM.
    #[error("{path} holds no PEM certificates", path = .0.display())]
    Certificates(PathBuf),
    /// The key is no PEM.
    #[error("{path} holds no PEM private key", path = .0.display())]
    Key(PathBuf),
    /// The key can't be used, or is another certificate's.
    #[error("the key does not fit the certificate")]
    Mismatch(#[source] rustls::Error),
}

/// Where a certificate chain and its key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain in PEM, the server's own certificate first.
    pub certificates: PathBuf,
    /// The private key in PEM.
    pub key: PathBuf,
}

/// When and how large the files were.
type Mark = [Option<(SystemTime, u64)>; 2];

impl CertificateFiles {
    /// Reads both files.
    ///
    /// # Errors
    /// [`CertificateError`], naming the file.
    pub fn load(&self) -> Result<Arc<CertifiedKey>, CertificateError> {
        let chain = read(&self.certificates)?;
        let no_chain = || CertificateError::Certificates(self.certificates.clone());
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(&chain).collect::<Result<_, _>>().map_err(|_| no_chain())?;
        if chain.is_empty() {
            return Err(no_chain());
        }
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?);
        let key = key.map_err(|_| CertificateError::Key(self.key.clone()))?;
        certified_key(chain, key)
    }

    /// Looks at the files every `interval`, and shows what is in them to new connections once both have been read and
    /// fit together. Runs until it is dropped.
    pub async fn follow(self, certificates: Certificates, interval: Duration) {
        let mut seen = self.mark();
        loop {
            tokio::time::sleep(interval).await;
            let mark = self.mark();
            if mark == seen {
                continue;
            }
            match self.load() {
                Ok(key) => {
                    certificates.set_default(key);
                    tracing::info!(path = %self.certificates.display(), "the TLS certificate was exchanged");
                }
                Err(error) => {
                    let source = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(%error, source, "the TLS certificate was not exchanged; the last one stays");
                }
            }
            seen = mark;
        }
    }

    fn mark(&self) -> Mark {
        [&self.certificates, &self.key].map(|path| {
            let found = std::fs::metadata(path).ok()?;
            Some((found.modified().ok()?, found.len()))
        })
    }
}

/// Joins a chain and its key, checking that they belong together.
///
/// # Errors
/// [`CertificateError::Mismatch`].
pub fn certified_key(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<CertifiedKey>, CertificateError> {
    let key = CertifiedKey::from_der(chain, key, &ring::default_provider());
    key.map(Arc::new).map_err(CertificateError::Mismatch)
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    let failed = |error| CertificateError::Read(path.to_owned(), error);
    if std::fs::metadata(path).map_err(failed)?.len() > BYTES_MAX {
        return Err(CertificateError::TooLarge(path.to_owned()));
    }
    std::fs::read(path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(directory: &Path, name: &str) -> CertificateFiles {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let files = CertificateFiles {
            certificates: directory.join(format!("{name}.crt")),
            key: directory.join(format!("{name}.key")),
        };
        std::fs::write(&files.certificates, made.cert.pem()).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        files
    }

    #[test]
    fn a_pair_is_read_and_mistakes_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let (one, other) = (pair(directory.path(), "one"), pair(directory.path(), "other"));
        assert!(one.load().is_ok());
        let mixed = CertificateFiles { key: other.key.clone(), ..one.clone() };
        assert!(matches!(mixed.load(), Err(CertificateError::Mismatch(_))));
        let swapped = CertificateFiles { certificates: one.key.clone(), key: one.key.clone() };
        assert!(matches!(swapped.load(), Err(CertificateError::Certificates(_))));
        let keyless = CertificateFiles { key: one.certificates.clone(), ..one.clone() };
        assert!(matches!(keyless.load(), Err(CertificateError::Key(_))));
        let absent = CertificateFiles { key: directory.path().join("nosuch"), ..one };
        assert!(absent.load().unwrap_err().to_string().contains("nosuch"));
    }
}
