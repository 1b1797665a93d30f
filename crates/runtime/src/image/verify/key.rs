//! Public keys that vouch for images, as `cosign generate-key-pair` writes them: ECDSA P-256 or Ed25519 in a PEM file.
//! It refuses every other kind of key by name.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::signature::{self, UnparsedPublicKey};
use sha2::{Digest as _, Sha256};

/// Largest key file, in bytes.
const PEM_BYTES_MAX: usize = 16 * 1024;
const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const END: &str = "-----END PUBLIC KEY-----";
/// What comes before the uncompressed point of a P-256 key in DER (RFC 5480 §2.1.1); DER has one way to write it.
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// Length of an uncompressed point of P-256, in bytes.
const P256_POINT_LEN: usize = 65;
/// What comes before the 32 bytes of an Ed25519 key in DER (RFC 8410 §4).
const ED25519_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Why a file is no key for images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No `PUBLIC KEY` in PEM.
    #[error("it is not a public key in PEM (`-----BEGIN PUBLIC KEY-----`)")]
    NotPem,
    /// A private key: it must never be given away.
    #[error("it is a private key; give its public half (`cosign public-key`)")]
    Private,
    /// RSA, another curve, or nothing at all.
    #[error("it is neither an ECDSA P-256 nor an Ed25519 key")]
    Algorithm,
}

/// A public key that vouches for images.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifyKey {
    algorithm: Algorithm,
    key: Vec<u8>,
    id: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    EcdsaP256,
    Ed25519,
}

impl VerifyKey {
    /// Reads a PEM file's text.
    ///
    /// # Errors
    /// [`KeyError`], saying what it is instead.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        if text.contains("PRIVATE KEY-----") {
            return Err(KeyError::Private);
        }
        let body =
            text.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END)).ok_or(KeyError::NotPem)?;
        if body.len() > PEM_BYTES_MAX {
            return Err(KeyError::NotPem);
        }
        let body: String = body.split_whitespace().collect();
        let der = STANDARD.decode(body).map_err(|_| KeyError::NotPem)?;
        let id = hex::encode(Sha256::digest(&der));
        if let Some(point) = der.strip_prefix(&P256_PREFIX)
            && point.len() == P256_POINT_LEN
        {
            return Ok(Self { algorithm: Algorithm::EcdsaP256, key: point.to_vec(), id });
        }
        match der.strip_prefix(&ED25519_PREFIX) {
            Some(key) if key.len() == 32 => Ok(Self { algorithm: Algorithm::Ed25519, key: key.to_vec(), id }),
            _ => Err(KeyError::Algorithm),
        }
    }

    /// SHA-256 of the key's DER, in hexadecimal: what tells keys apart.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether this key made that signature of the message.
    pub(super) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &dyn signature::VerificationAlgorithm = match self.algorithm {
            Algorithm::EcdsaP256 => &signature::ECDSA_P256_SHA256_ASN1,
            Algorithm::Ed25519 => &signature::ED25519,
        };
        UnparsedPublicKey::new(algorithm, &self.key).verify(message, signature).is_ok()
    }
}

impl fmt::Debug for VerifyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyKey({:?}, {})", self.algorithm, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made with `openssl ecparam -name prime256v1 -genkey` and `openssl genpkey -algorithm ed25519`; the signatures
    // with `openssl dgst -sha256 -sign` and `openssl pkeyutl -sign -rawin`, over the message `hello`.
    const P256_PEM: &str = "\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEoSBFHF+y0Vr/X9jwnUCp8AgxFqrz
pbWE/6OvzVtVBoN4U3zu+ust5Bet0nnRNeEuLPv1dMWCuIbIKKKdxS8CwA==
-----END PUBLIC KEY-----
";
    const ED25519_PEM: &str = "\
-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAxgZ7AhRE6wsVMvoofPo26ZTpG0w+UupuoYkoQRniA9s=
-----END PUBLIC KEY-----
";
    const RSA_PEM: &str = "\
-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA0TmzmLnMIAnhWZ4298EX
5Vv5vWeKQAUH69wRfs0YL7n7/3NWU9nceFE/jgVj0ON1bYC/V2DWYOiXBGFxV0E7
WjpUTOfGkJYTn1+ep36PCyfEnFL+x7awCHqQatnd7D7dYSJfU4orbIBSVuQmOoF7
MdOP2qxpOKnBiN4PiMQBiVl6PymLkKAaSRwcivc2dtdfEbfJqxbDV7UST2TqWB3g
XJd22UrxoFFFdMCHEw83dvP3pTaTr2oTKdQJ7BUPg7eP+Vw+VuB+D2tAazV1A9os
pSAHG5fqpyiqT2yDpQ8gv8HFTAWIOwyOtzp3dbygYxcbdz16t36PfvXOxlRha0qX
KQIDAQAB
-----END PUBLIC KEY-----
";
    const P384_PEM: &str = "\
-----BEGIN PUBLIC KEY-----
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEAaRoQJ6sPHDH3QwAommAZJSUUI/GtKsb
8/sqCJqpHsDbK5lTinqysVeDkPl8WrhG1XvuCZ9l+An2qkwE2m7YOfb/nlWJTgYT
Ol8DP62hk+D5FwV13WU5WWemssgZyDtf
-----END PUBLIC KEY-----
";
    const P256_SIGNATURE: &str =
        "MEYCIQCNw2gMUSwQ64oFv5+uvSeMNll9/zcpG2+4UQbGwFfXjgIhAIIhqzTe1fttUB6dou4LdR1AWeY2lBDnDUHZ80XsOi31";
    const ED25519_SIGNATURE: &str =
        "i7Ooeg3H/QbghwnIC+3xBOKndmpzjKA4myurLw/J+dTqEfNjEPoS146O2b9z428Q5ckGEs5ExDdbtfAclQsSAQ==";

    #[test]
    fn signatures_that_openssl_made_are_known() {
        for (pem, signature) in [(P256_PEM, P256_SIGNATURE), (ED25519_PEM, ED25519_SIGNATURE)] {
            let key = VerifyKey::from_pem(pem).unwrap();
            let signature = STANDARD.decode(signature).unwrap();
            assert!(key.has_signed(b"hello", &signature), "{key:?}");
            assert!(!key.has_signed(b"hellp", &signature));
            assert!(!key.has_signed(b"hello", &signature[1..]));
            assert!(!key.has_signed(b"hello", b""));
        }
        let (one, other) =
            (VerifyKey::from_pem(P256_PEM).unwrap(), VerifyKey::from_pem(ED25519_PEM).unwrap());
        assert!(!other.has_signed(b"hello", &STANDARD.decode(P256_SIGNATURE).unwrap()));
        assert_ne!(one.id(), other.id());
    }

    #[test]
    fn other_keys_are_refused_by_what_they_are() {
        assert_eq!(VerifyKey::from_pem(RSA_PEM), Err(KeyError::Algorithm));
        assert_eq!(VerifyKey::from_pem(P384_PEM), Err(KeyError::Algorithm));
        let private = "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----";
        assert_eq!(VerifyKey::from_pem(private), Err(KeyError::Private));
        for junk in ["", "ssh-ed25519 AAAA", "-----BEGIN PUBLIC KEY-----\n!\n-----END PUBLIC KEY-----"] {
            assert_eq!(VerifyKey::from_pem(junk), Err(KeyError::NotPem), "{junk}");
        }
        let point_cut = P256_PEM.replace("-----END", "AAAA\n-----END");
        assert!(VerifyKey::from_pem(&point_cut).is_err());
    }
}
