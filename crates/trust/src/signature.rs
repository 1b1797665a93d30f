//! Ed25519 signatures over domain-separated messages, and the one rule by which they are accepted.
//!
//! The rule is RFC 8032 §5.1.7 without the cofactor, tightened as `ed25519-dalek`'s `verify_strict` does:
//! a non-canonical `S`, and a public key or `R` of small order, are refused. It holds for every signature in the
//! system: commands, attestations, receipts, certificates' statements and consensus votes alike.
//!
//! Why not ZIP-215, which consensus libraries prefer because single and batched checks then agree: under it one
//! signature by a small-order key is valid for many messages, so a signature no longer binds its signer to one
//! statement, which evidence of equivocation and receipts rest on. The price is that signatures are never verified
//! in batches: the batched check multiplies by the cofactor and would accept what this rule refuses. Clients save
//! signatures by putting many commands under one instead.

use std::fmt;

use ed25519_dalek::VerifyingKey;
use hypercore_model::NodeId;
use serde::{Deserialize, Serialize};

/// Why a signature was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The signer's id is not the encoding of a point on the curve.
    #[error("{} is not an Ed25519 public key", .0.short())]
    Key(NodeId),
    /// The signature was not made by that key over that message in that context.
    #[error("the signature is not {}'s over this {context}", .signer.short())]
    Mismatch {
        /// Who was said to have signed.
        signer: NodeId,
        /// What kind of statement it was said to be.
        context: Context,
    },
}

/// What kind of statement a signature is over, such as `hypercore/command/v1`. It is part of what is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Context(&'static str);

impl Context {
    /// Names a kind of statement.
    ///
    /// # Panics
    /// When the name is empty or longer than 255 bytes; in a `const` that is a compile error.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        assert!(!name.is_empty() && name.len() <= u8::MAX as usize, "a context is 1 to 255 bytes long");
        Self(name)
    }

    /// The name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }

    /// The bytes that are signed: the name's length in one byte, the name, the payload. The length first makes
    /// the split unambiguous, so that no two (context, payload) pairs give the same bytes.
    pub(crate) fn message(self, payload: &[u8]) -> Vec<u8> {
        let mut message = Vec::with_capacity(1 + self.0.len() + payload.len());
        message.push(self.0.len() as u8);
        message.extend_from_slice(self.0.as_bytes());
        message.extend_from_slice(payload);
        message
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The 64 bytes of an Ed25519 signature. Having one says nothing about its validity.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; 64]);

impl Signature {
    /// Wraps the 64 bytes `R || S` (RFC 8032 §5.1.6).
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The 64 bytes `R || S`.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }

    /// Checks that `signer` made this signature over `payload` in `context`, by the rule of this module.
    ///
    /// # Errors
    /// [`SignatureError`] when it did not.
    pub fn verify(&self, signer: NodeId, context: Context, payload: &[u8]) -> Result<(), SignatureError> {
        let key = VerifyingKey::from_bytes(signer.as_bytes()).map_err(|_| SignatureError::Key(signer))?;
        let signature = ed25519_dalek::Signature::from_bytes(&self.0);
        key.verify_strict(&context.message(payload), &signature)
            .map_err(|_| SignatureError::Mismatch { signer, context })
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({}..)", hex::encode(&self.0[..8]))
    }
}

impl Serialize for Signature {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_bytes::ByteArray::new(self.0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde_bytes::ByteArray::<64>::deserialize(deserializer).map(|bytes| Self(bytes.into_array()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Identity;

    const FIRST: Context = Context::new("test/first/v1");
    const SECOND: Context = Context::new("test/second/v1");

    fn identity() -> Identity {
        Identity::from_seed(&[7; 32])
    }

    #[test]
    fn a_signature_holds_in_its_own_context_alone() {
        let identity = identity();
        let signature = identity.sign(FIRST, b"payload");
        assert_eq!(signature.verify(identity.node_id(), FIRST, b"payload"), Ok(()));
        let mismatch = SignatureError::Mismatch { signer: identity.node_id(), context: SECOND };
        assert_eq!(signature.verify(identity.node_id(), SECOND, b"payload"), Err(mismatch));
        assert!(mismatch.to_string().ends_with("over this test/second/v1"));
    }

    #[test]
    fn no_two_pairs_of_context_and_payload_are_the_same_message() {
        let (short, long) = (Context::new("ab"), Context::new("abc"));
        assert_ne!(short.message(b"cd"), long.message(b"d"));
    }

    #[test]
    fn another_nodes_signature_is_refused() {
        let signature = identity().sign(FIRST, b"payload");
        let other = Identity::from_seed(&[8; 32]).node_id();
        assert!(signature.verify(other, FIRST, b"payload").is_err());
    }

    /// The identity point is a public key of small order: the signature (R = identity, S = 0) by it satisfies the
    /// cofactored equation for every message. ZIP-215 accepts it; this rule must not.
    #[test]
    fn a_small_order_key_signs_nothing() {
        let mut point = [0u8; 32];
        point[0] = 1;
        let mut bytes = [0u8; 64];
        bytes[..32].copy_from_slice(&point);
        let signature = Signature::from_bytes(bytes);
        for payload in [&b"one"[..], b"another"] {
            assert!(signature.verify(NodeId::from_bytes(point), FIRST, payload).is_err());
        }
    }

    #[test]
    fn bytes_that_are_no_point_are_no_key() {
        let mut bytes = [0xff; 32];
        bytes[0] = 2;
        let signer = NodeId::from_bytes(bytes);
        let error = identity().sign(FIRST, b"x").verify(signer, FIRST, b"x");
        assert!(matches!(error, Err(SignatureError::Key(_) | SignatureError::Mismatch { .. })));
    }

    proptest! {
        #[test]
        fn any_changed_bit_breaks_it(payload in proptest::collection::vec(any::<u8>(), 1..64), bit in 0usize..512) {
            let identity = identity();
            let mut bytes = *identity.sign(FIRST, &payload).as_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Signature::from_bytes(bytes).verify(identity.node_id(), FIRST, &payload).is_err());
        }
    }
}
