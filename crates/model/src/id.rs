//! Identities: of workloads (UUIDv4), of nodes (an Ed25519 public key), and the attempt number that fences them.
//! It refuses to invent randomness: [`WorkloadId::from_entropy`] takes it as an argument.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::text::serde_as_text;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not a UUID in the hyphenated form.
    #[error("`{0}` is not a workload id (a UUID such as 1b4e28ba-2fa1-41d2-883f-0016d3cca427)")]
    Workload(String),
    /// Not 64 hexadecimal digits.
    #[error("`{0}` is not a node id (64 hexadecimal digits)")]
    Node(String),
}

/// The identity of one workload: a random UUIDv4, shown and accepted as a unique prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadId(Uuid);

impl WorkloadId {
    /// Length of the short form that people see, in characters.
    pub const SHORT_LEN: usize = 12;

    /// Makes an id of 16 random bytes; version and variant bits are set as RFC 9562 §5.4 says.
    #[must_use]
    pub fn from_entropy(random: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(random).into_uuid())
    }

    /// The id's 16 bytes, as kept in state keys.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The id back from its 16 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The first [`Self::SHORT_LEN`] characters: what tables show.
    #[must_use]
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(Self::SHORT_LEN);
        text
    }

    /// Whether `prefix` (what a person typed) begins this id's text form.
    #[must_use]
    pub fn has_prefix(&self, prefix: &str) -> bool {
        !prefix.is_empty() && self.to_string().starts_with(&prefix.to_ascii_lowercase())
    }
}

impl fmt::Display for WorkloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for WorkloadId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        // Uuid's own parser also takes braces, URNs and 32 bare digits: one spelling keeps paths and keys unique.
        let id = Uuid::try_parse(text).map_err(|_| IdError::Workload(text.to_owned()))?;
        let is_canonical = id.hyphenated().to_string() == text;
        if is_canonical { Ok(Self(id)) } else { Err(IdError::Workload(text.to_owned())) }
    }
}

serde_as_text!(WorkloadId);

/// The identity of a node: its Ed25519 public key, shown as the first 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; 32]);

impl NodeId {
    /// Wraps the 32 bytes of a public key. Whether it is a point on the curve is `trust`'s question.
    #[must_use]
    pub const fn from_bytes(public_key: [u8; 32]) -> Self {
        Self(public_key)
    }

    /// The 32 bytes of the public key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 16 hexadecimal digits: what tables show.
    #[must_use]
    pub fn short(&self) -> String {
        hex::encode(&self.0[..8])
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({})", self.short())
    }
}

impl FromStr for NodeId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let mut bytes = [0u8; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| IdError::Node(text.to_owned()))?;
        Ok(Self(bytes))
    }
}

serde_as_text!(NodeId);

/// Which try at running a workload this is. Numbers only grow, so a late node can tell that it was superseded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attempt(u32);

impl Attempt {
    /// The first attempt.
    pub const FIRST: Self = Self(1);

    /// The attempt with this number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The attempt's number, from 1.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The attempt after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_id_is_a_version_4_uuid() {
        let id = WorkloadId::from_entropy([0xff; 16]);
        assert_eq!(id.to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn only_the_canonical_spelling_is_a_workload_id() {
        for text in
            ["", "xyz", "{1b4e28ba-2fa1-41d2-883f-0016d3cca427}", "1B4E28BA-2FA1-41D2-883F-0016D3CCA427"]
        {
            assert_eq!(text.parse::<WorkloadId>(), Err(IdError::Workload(text.into())));
        }
    }

    #[test]
    fn a_prefix_matches_whatever_its_case_and_an_empty_one_never_does() {
        let id: WorkloadId = "1b4e28ba-2fa1-41d2-883f-0016d3cca427".parse().unwrap();
        assert!(id.has_prefix("1B4E28"));
        assert!(id.has_prefix(&id.to_string()));
        assert!(!id.has_prefix(""));
        assert!(!id.has_prefix("1c"));
    }

    #[test]
    fn a_node_id_survives_its_text_form() {
        let id = NodeId::from_bytes([7; 32]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.short(), "0707070707070707");
        assert!("0707".parse::<NodeId>().is_err());
    }
}
