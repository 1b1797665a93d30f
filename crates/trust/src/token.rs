//! The secret half of an API token, and the one line of text in which a token travels.
//! It refuses to show a secret by accident: `Debug` hides it, and only [`ApiToken::reveal`] writes it out.
//!
//! ```text
//!   hc1.<id, 16 digits>.<secret, 64 digits>[.<fingerprint of the certificate authority, 64 digits>]
//! ```
//!
//! With the fingerprint the token alone is enough to know the server: whoever has it needs no certificate file.

use std::{fmt, str::FromStr};

use hypercore_model::TokenId;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// What every token of this form begins with. Another form gets another number.
const PREFIX: &str = "hc1";
/// Separates what a secret's hash is for from every other use of BLAKE3.
const HASH_CONTEXT: &str = "hypercore/token/v1";

/// 32 random bytes that only the token's holder knows. Erased on drop.
#[derive(Clone)]
pub struct TokenSecret(Zeroizing<[u8; 32]>);

impl TokenSecret {
    /// The secret of these bytes: fresh entropy for a new token.
    #[must_use]
    pub const fn from_bytes(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// What is kept of it. The secret has 256 bits of entropy, so that a fast hash is as good as a slow one.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash(blake3::derive_key(HASH_CONTEXT, &self.0[..]))
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret(hidden)")
    }
}

/// The hash of a secret: enough to recognize the secret, and useless to whoever wants to call the API.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenHash(#[serde(with = "serde_bytes")] [u8; 32]);

impl TokenHash {
    /// Whether this is the hash of `secret`. Takes the same time wherever they differ.
    #[must_use]
    pub fn is_of(&self, secret: &TokenSecret) -> bool {
        *self == secret.hash()
    }
}

impl PartialEq for TokenHash {
    /// In constant time: BLAKE3's own comparison.
    fn eq(&self, other: &Self) -> bool {
        blake3::Hash::from_bytes(self.0) == blake3::Hash::from_bytes(other.0)
    }
}

impl Eq for TokenHash {}

/// Which certificate authority a server must have its certificate from: SHA-256 of the authority's public key
/// (its `SubjectPublicKeyInfo` in DER, RFC 5280 §4.1), as `curl --pinnedpubkey` takes it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// Why a text is not a token. Never tells the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiTokenError {
    /// It doesn't begin as tokens do.
    #[error("an API token begins with `{PREFIX}.`")]
    Prefix,
    /// It does, and is too short, too long or garbled.
    #[error("the API token is not complete: it has {found} characters, and a whole one has 150 or 85")]
    Garbled {
        /// Its length in bytes.
        found: usize,
    },
}

/// A whole token, as its holder has it.
#[derive(Debug, Clone)]
pub struct ApiToken {
    /// Which token.
    pub id: TokenId,
    /// What proves that the holder was given it.
    pub secret: TokenSecret,
    /// The authority that the server must have its certificate from; `None` when it has one from elsewhere.
    pub authority: Option<Fingerprint>,
}

impl ApiToken {
    /// Writes it out, secret and all: what the holder keeps.
    #[must_use]
    pub fn reveal(&self) -> Zeroizing<String> {
        let secret = Zeroizing::new(hex::encode(&self.secret.0[..]));
        let mut text = Zeroizing::new(format!("{PREFIX}.{}.{}", self.id, *secret));
        if let Some(authority) = &self.authority {
            text.push('.');
            text.push_str(&authority.to_string());
        }
        text
    }
}

impl FromStr for ApiToken {
    type Err = ApiTokenError;

    fn from_str(text: &str) -> Result<Self, ApiTokenError> {
        let rest = text.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('.'));
        read(rest.ok_or(ApiTokenError::Prefix)?).ok_or(ApiTokenError::Garbled { found: text.len() })
    }
}

/// What follows the prefix.
fn read(text: &str) -> Option<ApiToken> {
    let mut parts = text.split('.');
    let id = parts.next()?.parse().ok()?;
    let mut secret = Zeroizing::new([0; 32]);
    hex::decode_to_slice(parts.next()?, &mut secret[..]).ok()?;
    let authority = match parts.next() {
        None => None,
        Some(digits) => {
            let mut bytes = [0; 32];
            hex::decode_to_slice(digits, &mut bytes).ok()?;
            Some(Fingerprint(bytes))
        }
    };
    let token = ApiToken { id, secret: TokenSecret(secret), authority };
    parts.next().is_none().then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(authority: Option<Fingerprint>) -> ApiToken {
        ApiToken {
            id: TokenId::from_bytes([1; 8]),
            secret: TokenSecret::from_bytes(Zeroizing::new([0xa5; 32])),
            authority,
        }
    }

    #[test]
    fn a_token_reads_back_as_itself() {
        for authority in [None, Some(Fingerprint::from_bytes([7; 32]))] {
            let text = token(authority).reveal();
            let read: ApiToken = text.parse().unwrap();
            assert_eq!((read.id, read.authority), (TokenId::from_bytes([1; 8]), authority));
            assert_eq!(read.secret.hash(), token(None).secret.hash());
            assert_eq!(text.len(), if authority.is_some() { 150 } else { 85 });
        }
    }

    #[test]
    fn no_prefix_of_a_token_is_a_token_but_the_one_without_authority() {
        let whole = token(Some(Fingerprint::from_bytes([7; 32]))).reveal();
        for length in (0..whole.len()).filter(|length| *length != 85) {
            assert!(whole[..length].parse::<ApiToken>().is_err(), "{length}");
        }
        for garbled in [format!("{}.", *whole), format!("{}.00", *whole), whole.replace("a5", "x5")] {
            assert_eq!(
                garbled.parse::<ApiToken>().unwrap_err(),
                ApiTokenError::Garbled { found: garbled.len() }
            );
        }
    }

    #[test]
    fn neither_debug_nor_errors_show_a_secret() {
        assert!(!format!("{:?}", token(None)).contains("a5a5"));
        let error = "hc1.0101.a5a5a5a5".parse::<ApiToken>().unwrap_err();
        assert!(!error.to_string().contains("a5a5"));
    }

    #[test]
    fn a_hash_is_of_one_secret() {
        let hash = token(None).secret.hash();
        assert!(hash.is_of(&token(None).secret));
        for bit in 0..256 {
            let mut other = [0xa5; 32];
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!hash.is_of(&TokenSecret::from_bytes(Zeroizing::new(other))), "bit {bit}");
        }
    }
}
