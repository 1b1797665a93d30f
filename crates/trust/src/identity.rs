//! A node's long-lived Ed25519 identity. It refuses to make its own randomness, to be copied, and to be shown;
//! where the seed is kept is the agent's question.

use std::fmt;

use ed25519_dalek::{Signer as _, SigningKey};
use hypercore_model::NodeId;

use crate::signature::{Context, Signature};

/// The secret half of a node's identity. The bytes are erased when it is dropped.
pub struct Identity {
    key: SigningKey,
    id: NodeId,
}

impl Identity {
    /// Length of the secret seed, in bytes.
    pub const SEED_LEN: usize = 32;

    /// The identity of 32 secret random bytes: the private key of RFC 8032 §5.1.5. They are borrowed, so that whoever
    /// has read them is also the one to erase them.
    #[must_use]
    pub fn from_seed(seed: &[u8; Self::SEED_LEN]) -> Self {
        let key = SigningKey::from_bytes(seed);
        let id = NodeId::from_bytes(key.verifying_key().to_bytes());
        Self { key, id }
    }

    /// The public half: the node's id.
    #[must_use]
    pub const fn node_id(&self) -> NodeId {
        self.id
    }

    /// Signs `payload` as a statement of the kind `context`.
    #[must_use]
    pub fn sign(&self, context: Context, payload: &[u8]) -> Signature {
        Signature::from_bytes(self.key.sign(&context.message(payload)).to_bytes())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_is_the_same_node() {
        assert_eq!(Identity::from_seed(&[1; 32]).node_id(), Identity::from_seed(&[1; 32]).node_id());
        assert_ne!(Identity::from_seed(&[1; 32]).node_id(), Identity::from_seed(&[2; 32]).node_id());
    }

    /// RFC 8032 §7.1, TEST 1: the public key of this seed.
    #[test]
    fn the_public_key_is_that_of_the_standard() {
        let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let mut bytes = [0u8; 32];
        hex::decode_to_slice(seed, &mut bytes).unwrap();
        assert_eq!(
            Identity::from_seed(&bytes).node_id().to_string(),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
    }

    #[test]
    fn debug_shows_the_public_half_alone() {
        let seed = [0xab; 32];
        let shown = format!("{:?}", Identity::from_seed(&seed));
        assert!(shown.starts_with("Identity { id: NodeId("), "{shown}");
        assert!(!shown.contains("abab") && !shown.contains("171"), "{shown}");
    }
}
