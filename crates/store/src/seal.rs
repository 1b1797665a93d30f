//! Sealing one value to its place. It refuses to open a value anywhere but in the row it was sealed for.
//!
//! ```text
//!   record = version u8 | epoch u32 BE | nonce (24 bytes, random) | ciphertext | tag (16 bytes)
//!   AAD    = "hypercore/store/record/v1" | store id | len(table) u32 BE | table | len(key) u32 BE | key | epoch
//! ```
//!
//! XChaCha20's 192-bit nonces may be drawn at random: 2^80 records under one key stay below a collision chance of
//! 2^-32 (draft-irtf-cfrg-xchacha-03 §2.1).

use chacha20poly1305::{
    Key, KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};

use crate::{key::SecretKey, keyring::Keyring};

pub(crate) const NONCE_LEN: usize = 24;
const RECORD_VERSION: u8 = 1;
const HEADER_LEN: usize = 1 + 4 + NONCE_LEN;

/// Why a stored row can't be opened. Each variant names the row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// The record is too short to be one.
    #[error("the row {key} of {table} is cut short: {len} bytes")]
    Truncated {
        /// The table.
        table: String,
        /// The key, in hexadecimal digits.
        key: String,
        /// How many bytes there are.
        len: usize,
    },
    /// Another release wrote the record.
    #[error("the row {key} of {table} is sealed in version {version}; this release knows {RECORD_VERSION}")]
    Version {
        /// The table.
        table: String,
        /// The key, in hexadecimal digits.
        key: String,
        /// The record's version.
        version: u8,
    },
    /// The record names a data key the store doesn't have.
    #[error("the row {key} of {table} is sealed with data key {epoch}, which this store doesn't have")]
    Epoch {
        /// The table.
        table: String,
        /// The key, in hexadecimal digits.
        key: String,
        /// The epoch it names.
        epoch: u32,
    },
    /// The record was changed, or belongs to another row.
    #[error("the row {key} of {table} was changed after it was written, or moved from another place")]
    Tampered {
        /// The table.
        table: String,
        /// The key, in hexadecimal digits.
        key: String,
    },
}

/// A row's place, which its value is bound to.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) table: &'a str,
    pub(crate) key: &'a [u8],
}

impl Place<'_> {
    fn associated_data(self, store: &[u8; 16], epoch: u32) -> Vec<u8> {
        let mut data = b"hypercore/store/record/v1".to_vec();
        data.extend_from_slice(store);
        for part in [self.table.as_bytes(), self.key] {
            // redb's own limit on keys is 3 GiB, so the lengths fit.
            data.extend_from_slice(&(part.len() as u32).to_be_bytes());
            data.extend_from_slice(part);
        }
        data.extend_from_slice(&epoch.to_be_bytes());
        data
    }

    fn table(self) -> String {
        self.table.to_owned()
    }

    /// Enough of the key to find the row.
    fn key(self) -> String {
        const SHOWN_MAX: usize = 32;
        let shown: String = self.key.iter().take(SHOWN_MAX).map(|byte| format!("{byte:02x}")).collect();
        if self.key.len() > SHOWN_MAX { format!("{shown}..") } else { shown }
    }
}

/// Seals a value to its place with the current data key.
pub(crate) fn seal(keyring: &Keyring, place: Place<'_>, value: &[u8]) -> Result<Vec<u8>, getrandom::Error> {
    let (epoch, key) = keyring.current();
    let mut record = vec![RECORD_VERSION];
    record.extend_from_slice(&epoch.to_be_bytes());
    let aad = place.associated_data(keyring.store_id(), epoch);
    encrypt_into(&mut record, key, &aad, value)?;
    Ok(record)
}

/// Opens a value that was sealed to this place.
pub(crate) fn open(keyring: &Keyring, place: Place<'_>, record: &[u8]) -> Result<Vec<u8>, RowError> {
    let (table, key) = (|| place.table(), || place.key());
    if record.len() < HEADER_LEN {
        return Err(RowError::Truncated { table: table(), key: key(), len: record.len() });
    }
    if record[0] != RECORD_VERSION {
        return Err(RowError::Version { table: table(), key: key(), version: record[0] });
    }
    let epoch = u32::from_be_bytes([record[1], record[2], record[3], record[4]]);
    let data_key = keyring.key(epoch).ok_or_else(|| RowError::Epoch { table: table(), key: key(), epoch })?;
    let aad = place.associated_data(keyring.store_id(), epoch);
    decrypt(data_key, &aad, &record[5..]).ok_or_else(|| RowError::Tampered { table: table(), key: key() })
}

/// Appends `nonce | ciphertext | tag`.
pub(crate) fn encrypt_into(
    out: &mut Vec<u8>,
    key: &SecretKey,
    aad: &[u8],
    plain: &[u8],
) -> Result<(), getrandom::Error> {
    let mut nonce = [0u8; NONCE_LEN];
    getrandom::fill(&mut nonce)?;
    let cipher = XChaCha20Poly1305::new(&Key::from(**key));
    let sealed = cipher
        .encrypt(&XNonce::from(nonce), Payload { msg: plain, aad })
        .expect("ChaCha20 takes up to 256 GiB, and redb refuses values above 3 GiB");
    out.extend_from_slice(&nonce);
    out.extend_from_slice(&sealed);
    Ok(())
}

/// Opens `nonce | ciphertext | tag`; `None` when any of it was changed.
pub(crate) fn decrypt(key: &SecretKey, aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
    let cipher = XChaCha20Poly1305::new(&Key::from(**key));
    cipher.decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad }).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLACE: Place<'static> = Place { table: "state/nodes", key: b"key" };

    fn keyring() -> Keyring {
        Keyring::generate().unwrap()
    }

    #[test]
    fn a_value_opens_in_its_own_place_alone() {
        let (ring, other) = (keyring(), keyring());
        let record = seal(&ring, PLACE, b"value").unwrap();
        assert_eq!(open(&ring, PLACE, &record).unwrap(), b"value");
        for place in [
            Place { table: "state/nodes", key: b"yek" },
            Place { table: "state/node", key: b"skey" },
            Place { table: "state/nodesk", key: b"ey" },
        ] {
            assert!(matches!(open(&ring, place, &record), Err(RowError::Tampered { .. })));
        }
        assert!(matches!(open(&other, PLACE, &record), Err(RowError::Tampered { .. })));
    }

    #[test]
    fn the_error_names_table_and_key() {
        let ring = keyring();
        let shown = open(&ring, PLACE, b"short").unwrap_err().to_string();
        assert_eq!(shown, "the row 6b6579 of state/nodes is cut short: 5 bytes");
        let mut record = seal(&ring, PLACE, b"value").unwrap();
        record[4] = 9;
        assert!(matches!(open(&ring, PLACE, &record), Err(RowError::Epoch { epoch: 9, .. })));
        record[0] = 2;
        assert!(matches!(open(&ring, PLACE, &record), Err(RowError::Version { version: 2, .. })));
    }

    #[test]
    fn the_same_value_is_never_sealed_alike() {
        let ring = keyring();
        assert_ne!(seal(&ring, PLACE, b"value").unwrap(), seal(&ring, PLACE, b"value").unwrap());
    }

    proptest! {
        #[test]
        fn any_change_is_noticed(
            value in proptest::collection::vec(any::<u8>(), 0..80),
            at in any::<prop::sample::Index>(),
            flip in 1u8..,
            cut in any::<prop::sample::Index>(),
        ) {
            let ring = keyring();
            let record = seal(&ring, PLACE, &value).unwrap();
            prop_assert_eq!(&open(&ring, PLACE, &record).unwrap(), &value);
            let mut changed = record.clone();
            changed[at.index(record.len())] ^= flip;
            prop_assert!(open(&ring, PLACE, &changed).is_err());
            prop_assert!(open(&ring, PLACE, &record[..cut.index(record.len())]).is_err());
        }
    }
}
