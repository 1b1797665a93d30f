//! What unlocks a store: a key file's 32 bytes, or a passphrase. It refuses to read files; the bytes are handed in.

use std::fmt;

use zeroize::Zeroizing;

/// 32 secret bytes, erased on drop.
pub(crate) type SecretKey = Zeroizing<[u8; 32]>;

/// What the data keys are wrapped by. It is erased on drop and never shown.
#[derive(Clone)]
pub enum WrappingKey {
    /// The 32 random bytes of a key file.
    File(Zeroizing<[u8; 32]>),
    /// A passphrase, stretched by Argon2id.
    Passphrase(Zeroizing<String>),
}

impl WrappingKey {
    /// The key whose 32 random bytes a file holds.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self::File(Zeroizing::new(bytes))
    }

    /// The key that a passphrase gives.
    #[must_use]
    pub fn from_passphrase(passphrase: String) -> Self {
        Self::Passphrase(Zeroizing::new(passphrase))
    }

    pub(crate) const fn what(&self) -> &'static str {
        match self {
            Self::File(_) => "a key file",
            Self::Passphrase(_) => "a passphrase",
        }
    }
}

impl fmt::Debug for WrappingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WrappingKey({})", self.what())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(
            format!("{:?}", WrappingKey::from_passphrase("secret".into())),
            "WrappingKey(a passphrase)"
        );
        assert_eq!(format!("{:?}", WrappingKey::from_bytes([0xab; 32])), "WrappingKey(a key file)");
    }
}
