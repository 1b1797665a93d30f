//! API tokens as they are named, and what they allow. It refuses to know secrets: those are `trust`'s.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::text::{label, serde_as_text};

/// Why a text is not a token's id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a token's id has 16 hexadecimal digits, such as 0f1e2d3c4b5a6978")]
pub struct TokenIdError;

/// The identity of one token: public, so that lists and logs may show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId([u8; 8]);

impl TokenId {
    /// The id with these bytes: fresh entropy for a new token.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// The id's 8 bytes, as kept in state keys.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }

    /// Whether `prefix` (what a person typed) begins this id's text form.
    #[must_use]
    pub fn has_prefix(&self, prefix: &str) -> bool {
        !prefix.is_empty() && self.to_string().starts_with(&prefix.to_ascii_lowercase())
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for TokenId {
    type Err = TokenIdError;

    fn from_str(text: &str) -> Result<Self, TokenIdError> {
        let mut bytes = [0; 8];
        // One spelling only: an id is also compared as text.
        let is_canonical = text.bytes().all(|digit| !digit.is_ascii_uppercase());
        match hex::decode_to_slice(text, &mut bytes) {
            Ok(()) if is_canonical => Ok(Self(bytes)),
            _ => Err(TokenIdError),
        }
    }
}

serde_as_text!(TokenId);

label! {
    /// What people call a token: a DNS label, such as `ci` or `laptop`.
    TokenName
}

/// Why a text is not a scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a scope: choose read, run or admin")]
pub struct ScopeError(String);

/// What a caller may do. Each scope includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// See workloads, their output, images and volumes.
    Read,
    /// Also make, enter and end them.
    Run,
    /// Also what reaches beyond workloads: tokens, credentials, the node's own files and network.
    Admin,
}

impl Scope {
    /// `read`, `run` or `admin`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Run => "run",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let all = [Self::Read, Self::Run, Self::Admin];
        let found = all.into_iter().find(|scope| scope.as_str() == text);
        found.ok_or_else(|| ScopeError(text.escape_default().to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_one_spelling() {
        let id = TokenId::from_bytes([0xab; 8]);
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "abab", "ABABABABABABABAB", "ababababababababab", "zzzzzzzzzzzzzzzz"] {
            assert_eq!(text.parse::<TokenId>(), Err(TokenIdError), "{text}");
        }
        assert!(id.has_prefix("AB") && !id.has_prefix("") && !id.has_prefix("b"));
    }

    #[test]
    fn each_scope_includes_those_before_it() {
        assert!(Scope::Read < Scope::Run && Scope::Run < Scope::Admin);
        for scope in [Scope::Read, Scope::Run, Scope::Admin] {
            assert_eq!(scope.as_str().parse(), Ok(scope));
        }
        assert_eq!(
            "root\n".parse::<Scope>().unwrap_err().to_string(),
            "`root\\n` is not a scope: choose read, run or admin"
        );
    }
}
