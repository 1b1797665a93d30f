//! Blocks: commands agreed as a batch, numbered by height and chained by hash. It refuses to be empty: without a
//! command there is nothing to agree on.

use std::fmt;

use hypercore_model::Timestamp;
use hypercore_trust::Verified;
use serde::{Deserialize, Serialize};

use crate::state::{
    REMOVALS_REMEMBERED_BLOCKS, State,
    command::{AuthoredCommand, SignedCommand},
    row::Change,
};

macro_rules! hash_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(#[serde(with = "serde_bytes")] pub(crate) [u8; 32]);

        impl $name {
            /// The hash's 32 bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), hex::encode(&self.0[..8]))
            }
        }
    };
}

hash_type! {
    /// The hash over all rows of a state: see [`State::root`].
    Root
}
hash_type! {
    /// The hash of a block's header, which the next block names.
    BlockHash
}

impl BlockHash {
    /// What the first block names as its predecessor.
    pub const NONE: Self = Self([0; 32]);
}

/// What a block says of itself: everything its hash covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The block's number, from 1.
    pub height: u64,
    /// The hash of the block before it.
    pub previous: BlockHash,
    /// The block's time; never before its predecessor's.
    pub at: Timestamp,
    /// BLAKE3 over the digests of its commands, in order.
    #[serde(with = "serde_bytes")]
    pub commands: [u8; 32],
    /// The root of the state after it.
    pub root: Root,
}

impl Header {
    /// The block's hash: BLAKE3 over the fields at their fixed widths, numbers big-endian.
    #[must_use]
    pub fn hash(&self) -> BlockHash {
        let mut hasher = blake3::Hasher::new_derive_key("hypercore/block/v1");
        hasher.update(&self.height.to_be_bytes()).update(&self.previous.0);
        hasher.update(&self.at.unix_ms().to_be_bytes()).update(&self.commands).update(&self.root.0);
        BlockHash(*hasher.finalize().as_bytes())
    }
}

/// A block with its commands: what is kept of history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// What it says of itself.
    pub header: Header,
    /// Its commands, in the order of their application.
    pub commands: Vec<SignedCommand>,
}

impl Block {
    /// The block as it is stored and travels.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        crate::state::row::encode(self)
    }

    /// The block back from its stored form. Neither hashes nor signatures are checked here.
    ///
    /// # Errors
    /// [`RowError`](crate::state::row::RowError) when the bytes are no block of a known version.
    pub fn decode(bytes: &[u8]) -> Result<Self, crate::state::row::RowError> {
        crate::state::row::decode(bytes)
    }
}

/// The last block's place in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tip {
    /// Its number.
    pub height: u64,
    /// Its hash.
    pub hash: BlockHash,
    /// Its time.
    pub at: Timestamp,
    /// The root of the state after it.
    pub root: Root,
}

/// A sealed block and the rows that sealing it has changed.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// The block.
    pub block: Block,
    /// The rows to put or delete, beside those of its commands.
    pub changes: Vec<Change>,
}

impl State {
    /// Ends a block: the commands that were applied since the last one become the next height.
    /// `at` is the proposer's clock; a clock behind the last block's time counts as that time.
    ///
    /// # Panics
    /// When `commands` is empty. An empty block is invalid, and its caller has a defect.
    pub fn seal(&mut self, at: Timestamp, commands: &[Verified<AuthoredCommand>]) -> Sealed {
        assert!(!commands.is_empty(), "a block has at least one command");
        let previous = self.tip;
        let height = self.height() + 1;
        let mut changes = self.forget_removals(height);
        let mut digests = blake3::Hasher::new();
        for command in commands {
            digests.update(&command.digest());
        }
        let header = Header {
            height,
            previous: previous.map_or(BlockHash::NONE, |tip| tip.hash),
            at: previous.map_or(at, |tip| at.max(tip.at)),
            commands: *digests.finalize().as_bytes(),
            root: self.root(),
        };
        let tip = Tip { height, hash: header.hash(), at: header.at, root: header.root };
        changes.push(Change::Tip(tip));
        self.tip = Some(tip);
        Sealed {
            block: Block {
                header,
                commands: commands.iter().map(|command| command.signed().clone()).collect(),
            },
            changes,
        }
    }

    fn forget_removals(&mut self, height: u64) -> Vec<Change> {
        let is_old = |removed: u64| removed + REMOVALS_REMEMBERED_BLOCKS <= height;
        let old = self.removals.keys().copied().take_while(|key| is_old(key.height));
        let changes: Vec<Change> = old.map(Change::RemovalForgotten).collect();
        self.absorb(&changes);
        changes
    }
}
