//! Identities and the statements they sign: the only place that knows what a valid signature is.
//!
//! ```text
//!   seed (32 secret bytes) --> Identity --sign(context, payload)--> Signed<T>     travels, is stored
//!                                                                      |
//!                                                                   verify()      the only way on
//!                                                                      v
//!                                                                  Verified<T>    what the house believes
//! ```
//!
//! Invariants:
//! - A [`Verified`] exists only because its signature was checked; there is no other constructor.
//! - Every signature covers a [`Context`], so that no statement of one kind can be passed off as another.
//! - There is one verification rule everywhere: see [`signature`].
//! - Secret bytes are erased on drop and never shown by `Debug`; this crate neither reads nor writes them anywhere.
//!
//! Reading order: [`signature`], [`identity`], [`statement`]; [`token`] is about callers, who are no nodes.

pub mod identity;
pub mod signature;
pub mod statement;
pub mod token;

pub use identity::Identity;
pub use signature::{Context, Signature, SignatureError};
pub use statement::{Signed, Statement, Verified, VerifyError};
pub use token::{ApiToken, Fingerprint, TokenHash, TokenSecret};
