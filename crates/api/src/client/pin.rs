//! Trust by fingerprint: a token names the certificate authority that its server must have its certificate from, so
//! that a client needs no certificate file and no entry in any store.
//!
//! What is checked is all that TLS checks (the chain's signatures, its validity, that it may serve), with two
//! differences. The only root is the one authority of this fingerprint, which the server sends along. And the name in
//! the certificate must be [`API_SERVER_NAME`], whatever address the client dialled: the authority gives that name to
//! API servers alone, so that being reached through a tunnel or a new address is no reason to distrust, and a
//! certificate that the same authority made for somebody's web site is.

use std::sync::Arc;

use hypercore_trust::Fingerprint;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use sha2::{Digest as _, Sha256};

/// The name that every API server has in its certificate, beside those it is reached by.
pub const API_SERVER_NAME: &str = "api.hypercore.internal";

/// The fingerprint of an authority's certificate; `None` when it is no certificate.
#[must_use]
pub fn fingerprint(certificate: &CertificateDer<'_>) -> Option<Fingerprint> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone().into_owned()).ok()?;
    let anchor = roots.roots.first()?;
    Some(fingerprint_of_key(&sequence(anchor.subject_public_key_info.as_ref())))
}

/// The fingerprint of an authority with this public key: its whole `SubjectPublicKeyInfo`, in DER.
#[must_use]
pub fn fingerprint_of_key(subject_public_key_info: &[u8]) -> Fingerprint {
    Fingerprint::from_bytes(Sha256::digest(subject_public_key_info).into())
}

/// Puts the head of a DER SEQUENCE before its contents (X.690 §8.1), which the trust anchor is kept without.
fn sequence(contents: &[u8]) -> Vec<u8> {
    const SEQUENCE: u8 = 0x30;
    let length = contents.len();
    let digits: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|digit| *digit == 0).collect();
    let mut der = vec![SEQUENCE];
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => der.push(short),
        _ => {
            der.push(0x80 | u8::try_from(digits.len()).expect("a length has at most 8 bytes"));
            der.extend(digits);
        }
    }
    der.extend(contents);
    der
}

/// Believes servers whose certificate comes from one authority.
#[derive(Debug)]
pub(super) struct Pinned {
    authority: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl Pinned {
    pub(super) const fn new(authority: Fingerprint, provider: Arc<CryptoProvider>) -> Self {
        Self { authority, provider }
    }

    /// A verifier with the sent authority as its only root.
    fn verifier(&self, sent: &[CertificateDer<'_>]) -> Result<Arc<WebPkiServerVerifier>, Error> {
        let unknown = || Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let root = sent.iter().find(|sent| fingerprint(sent) == Some(self.authority)).ok_or_else(unknown)?;
        let mut roots = RootCertStore::empty();
        roots.add(root.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()
            .map_err(|_| unknown())
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let name = ServerName::try_from(API_SERVER_NAME).expect("it is a DNS name");
        // The authority signs for servers itself: whatever else was sent doesn't matter.
        let verifier = self.verifier(intermediates)?;
        verifier.verify_server_cert(certificate, &[], &name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_as_der_does() {
        assert_eq!(sequence(&[7; 3]), [0x30, 3, 7, 7, 7]);
        assert_eq!(sequence(&[0; 0x7f])[..2], [0x30, 0x7f]);
        assert_eq!(sequence(&[0; 0x80])[..3], [0x30, 0x81, 0x80]);
        assert_eq!(sequence(&[0; 0x1234])[..4], [0x30, 0x82, 0x12, 0x34]);
    }

    #[test]
    fn what_is_no_certificate_has_no_fingerprint() {
        for bytes in [&[][..], &[0x30, 0], b"-----BEGIN CERTIFICATE-----"] {
            assert_eq!(fingerprint(&CertificateDer::from(bytes)), None);
        }
    }
}
