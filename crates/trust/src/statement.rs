//! Statements under a signature: [`Signed`] is what travels and is stored, [`Verified`] is what is believed.
//! It refuses to look at a payload before its signature was checked.
//!
//! The signature covers the encoded bytes, and those bytes travel: nobody has to encode a statement a second time
//! and hope for the same bytes, and an old release can check what a newer one wrote.

use std::{fmt, marker::PhantomData, ops::Deref};

use hypercore_model::NodeId;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_bytes::ByteBuf;

use crate::{
    identity::Identity,
    signature::{Context, Signature, SignatureError},
};

/// A type that can be put under a signature.
pub trait Statement: Serialize + DeserializeOwned {
    /// What kind of statement it is. A change of meaning or encoding needs another context.
    const CONTEXT: Context;
}

/// Why a statement could not be signed.
#[derive(Debug, thiserror::Error)]
#[error("a {context} can't be encoded")]
pub struct SignError {
    context: Context,
    #[source]
    source: minicbor_serde::error::EncodeError<std::convert::Infallible>,
}

/// Why a signed statement was not believed.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The signature doesn't hold.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The signature holds, but the payload is not such a statement: another release's, or a faulty signer.
    #[error("{} signed a {context} that can't be read", .signer.short())]
    Decode {
        /// Who signed.
        signer: NodeId,
        /// What kind of statement was expected.
        context: Context,
        /// What the decoder found.
        #[source]
        source: minicbor_serde::error::DecodeError,
    },
    /// The signature holds, but bytes follow the statement.
    #[error("{} signed a {context} with {extra} bytes after its end", .signer.short())]
    Trailing {
        /// Who signed.
        signer: NodeId,
        /// What kind of statement was expected.
        context: Context,
        /// How many bytes were left over.
        extra: usize,
    },
}

/// A statement of kind `T` with a signature that nobody has checked yet. Untrusted: only [`Signed::verify`] leads on.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Signed<T> {
    signer: NodeId,
    payload: ByteBuf,
    signature: Signature,
    #[serde(skip)]
    kind: PhantomData<fn() -> T>,
}

impl<T: Statement> Signed<T> {
    /// Puts `statement` under `identity`'s signature.
    ///
    /// # Errors
    /// [`SignError`] when the statement's own serializer refuses.
    pub fn sign(identity: &Identity, statement: &T) -> Result<Self, SignError> {
        let payload =
            minicbor_serde::to_vec(statement).map_err(|source| SignError { context: T::CONTEXT, source })?;
        let signature = identity.sign(T::CONTEXT, &payload);
        Ok(Self { signer: identity.node_id(), payload: ByteBuf::from(payload), signature, kind: PhantomData })
    }

    /// Who is said to have signed.
    #[must_use]
    pub const fn signer(&self) -> NodeId {
        self.signer
    }

    /// Checks the signature, then reads the statement. This is the only way to a [`Verified`].
    ///
    /// # Errors
    /// [`VerifyError`] when the signature doesn't hold or the payload is not exactly one statement.
    pub fn verify(self) -> Result<Verified<T>, VerifyError> {
        let (signer, context) = (self.signer, T::CONTEXT);
        self.signature.verify(signer, context, &self.payload)?;
        let mut decoder = minicbor_serde::Deserializer::new(&self.payload);
        let statement =
            T::deserialize(&mut decoder).map_err(|source| VerifyError::Decode { signer, context, source })?;
        let extra = self.payload.len() - decoder.decoder().position();
        if extra > 0 {
            return Err(VerifyError::Trailing { signer, context, extra });
        }
        Ok(Verified { statement, signed: self })
    }
}

impl<T> Clone for Signed<T> {
    fn clone(&self) -> Self {
        Self {
            signer: self.signer,
            payload: self.payload.clone(),
            signature: self.signature,
            kind: PhantomData,
        }
    }
}

impl<T> PartialEq for Signed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.signer == other.signer && self.payload == other.payload && self.signature == other.signature
    }
}

impl<T> Eq for Signed<T> {}

impl<T> fmt::Debug for Signed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signed")
            .field("signer", &self.signer)
            .field("payload_bytes", &self.payload.len())
            .field("signature", &self.signature)
            .finish()
    }
}

/// A statement whose signature was checked. It reads as the statement itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<T> {
    statement: T,
    signed: Signed<T>,
}

impl<T: Statement> Verified<T> {
    /// Who signed.
    #[must_use]
    pub const fn signer(&self) -> NodeId {
        self.signed.signer
    }

    /// What was signed, as it travels and is stored.
    #[must_use]
    pub const fn signed(&self) -> &Signed<T> {
        &self.signed
    }

    /// Length of the encoded statement, in bytes.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        self.signed.payload.len()
    }

    /// BLAKE3 over kind, signer and payload: the statement's identity. The signature is left out, because it adds
    /// nothing to what was said.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&T::CONTEXT.message(self.signed.signer.as_bytes()));
        hasher.update(&self.signed.payload);
        *hasher.finalize().as_bytes()
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.statement
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    struct Note {
        text: String,
    }

    impl Statement for Note {
        const CONTEXT: Context = Context::new("test/note/v1");
    }

    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    struct Order {
        text: String,
    }

    impl Statement for Order {
        const CONTEXT: Context = Context::new("test/order/v1");
    }

    fn identity() -> Identity {
        Identity::from_seed(&[7; 32])
    }

    fn note() -> Signed<Note> {
        Signed::sign(&identity(), &Note { text: "hello".into() }).unwrap()
    }

    #[test]
    fn what_was_signed_is_what_is_read() {
        let bytes = minicbor_serde::to_vec(note()).unwrap();
        let read: Signed<Note> = minicbor_serde::from_slice(&bytes).unwrap();
        let verified = read.verify().unwrap();
        assert_eq!(verified.text, "hello");
        assert_eq!(verified.signer(), identity().node_id());
        assert_eq!(verified.signed(), &note());
    }

    #[test]
    fn a_statement_is_not_believed_as_one_of_another_kind() {
        let bytes = minicbor_serde::to_vec(note()).unwrap();
        let order: Signed<Order> = minicbor_serde::from_slice(&bytes).unwrap();
        assert!(matches!(order.verify(), Err(VerifyError::Signature(_))));
    }

    #[test]
    fn a_payload_that_is_no_statement_is_told_from_a_bad_signature() {
        let forge = |payload: Vec<u8>| Signed::<Note> {
            signer: identity().node_id(),
            signature: identity().sign(Note::CONTEXT, &payload),
            payload: ByteBuf::from(payload),
            kind: PhantomData,
        };
        assert!(matches!(forge(vec![0xff]).verify(), Err(VerifyError::Decode { .. })));
        let mut longer = note().payload.into_vec();
        longer.extend_from_slice(&[0, 0]);
        assert!(matches!(forge(longer).verify(), Err(VerifyError::Trailing { extra: 2, .. })));
    }

    #[test]
    fn a_digest_names_the_statement_and_its_signer() {
        let mine = note().verify().unwrap();
        let other = Signed::sign(&Identity::from_seed(&[8; 32]), &*mine).unwrap().verify().unwrap();
        assert_eq!(mine.digest(), note().verify().unwrap().digest());
        assert_ne!(mine.digest(), other.digest());
    }

    proptest! {
        #[test]
        fn damaged_bytes_never_verify_and_never_panic(index in 0usize..200, flip in 1u8..) {
            let mut bytes = minicbor_serde::to_vec(note()).unwrap();
            let index = index % bytes.len();
            bytes[index] ^= flip;
            if let Ok(signed) = minicbor_serde::from_slice::<Signed<Note>>(&bytes) {
                // A flip can land in an ignored spot (the case of a hex digit in the id); what it can't do is change what was said.
                if let Ok(verified) = signed.verify() {
                    prop_assert_eq!(verified.digest(), note().verify().unwrap().digest());
                }
            }
        }
    }
}
