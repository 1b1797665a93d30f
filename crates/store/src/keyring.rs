//! The data keys of a store, by epoch, and how they are wrapped. It refuses to guess: a wrong wrapping key is told
//! apart from a damaged keyring.
//!
//! ```text
//!   lock row  = version u8 | kind u8 (0 key file, 1 Argon2id) | m, t, p u32 BE | salt 16 | fingerprint 8
//!   epoch row = nonce 24 | wrapped data key 32 | tag 16, AAD = "hypercore/store/data-key/v1" | store id | lock | epoch
//! ```

use std::collections::BTreeMap;

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

use crate::{
    key::{SecretKey, WrappingKey},
    seal,
};

const LOCK_VERSION: u8 = 1;
const LOCK_LEN: usize = 2 + 3 * 4 + SALT_LEN + FINGERPRINT_LEN;
const SALT_LEN: usize = 16;
const FINGERPRINT_LEN: usize = 8;
/// RFC 9106 §4, the second recommended option: 64 MiB of memory, 3 passes, 4 lanes.
const STRETCH: Stretch = Stretch { memory_kib: 64 * 1024, passes: 3, lanes: 4 };
/// Most that a stored lock may ask for: a forged one must not eat the machine.
const STRETCH_MAX: Stretch = Stretch { memory_kib: 1024 * 1024, passes: 16, lanes: 16 };

/// Why a store's data keys can't be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The store is locked in another way than the key that was given.
    #[error("the store is locked by {locked_by}, but {given} was given")]
    OtherKind {
        /// What it is locked by.
        locked_by: &'static str,
        /// What was given.
        given: &'static str,
    },
    /// The key is not the one that locked the store.
    #[error("the key is not the one this store was locked with")]
    WrongKey,
    /// The keyring was changed, or is no keyring.
    #[error("the store's keyring is damaged: {0}")]
    Damaged(&'static str),
    /// The passphrase can't be stretched.
    #[error("stretching the passphrase failed: {0}")]
    Stretch(argon2::Error),
    /// The kernel gives no random bytes.
    #[error("the kernel gives no random bytes")]
    Entropy(#[from] getrandom::Error),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

/// The unwrapped data keys. Values are sealed with the newest, and opened with the one they name.
pub(crate) struct Keyring {
    store_id: [u8; 16],
    keys: BTreeMap<u32, SecretKey>,
}

/// A keyring as it is stored: the lock, and each epoch's wrapped key.
pub(crate) struct Wrapped {
    pub(crate) lock: Vec<u8>,
    pub(crate) keys: BTreeMap<u32, Vec<u8>>,
}

impl Keyring {
    const FIRST_EPOCH: u32 = 1;

    /// A new store's keyring: a random id and one random data key.
    pub(crate) fn generate() -> Result<Self, getrandom::Error> {
        let mut store_id = [0u8; 16];
        getrandom::fill(&mut store_id)?;
        Ok(Self { store_id, keys: BTreeMap::from([(Self::FIRST_EPOCH, random_key()?)]) })
    }

    /// The store's own random id, which every sealed value is bound to.
    pub(crate) const fn store_id(&self) -> &[u8; 16] {
        &self.store_id
    }

    /// The newest data key and its epoch.
    pub(crate) fn current(&self) -> (u32, &SecretKey) {
        self.keys.last_key_value().map(|(epoch, key)| (*epoch, key)).expect("a keyring has at least one key")
    }

    /// The data key of an epoch.
    pub(crate) fn key(&self, epoch: u32) -> Option<&SecretKey> {
        self.keys.get(&epoch)
    }

    /// The same keyring with one more data key.
    pub(crate) fn with_new_epoch(&self) -> Result<Self, getrandom::Error> {
        let mut keys = self.keys.clone();
        keys.insert(self.current().0 + 1, random_key()?);
        Ok(Self { store_id: self.store_id, keys })
    }

    /// The same keyring with nothing but the newest data key.
    pub(crate) fn only_current(&self) -> Self {
        let (epoch, key) = self.current();
        Self { store_id: self.store_id, keys: BTreeMap::from([(epoch, key.clone())]) }
    }

    /// Wraps every data key, under a fresh salt.
    pub(crate) fn wrap(&self, key: &WrappingKey) -> Result<Wrapped, KeyringError> {
        let mut salt = [0u8; SALT_LEN];
        getrandom::fill(&mut salt)?;
        let unlocked = derive(key, &salt, STRETCH)?;
        let lock = encode_lock(key, &salt, &unlocked);
        let mut keys = BTreeMap::new();
        for (epoch, data_key) in &self.keys {
            let mut wrapped = Vec::new();
            let aad = associated_data(&self.store_id, &lock, *epoch);
            seal::encrypt_into(&mut wrapped, &unlocked, &aad, &data_key[..])?;
            keys.insert(*epoch, wrapped);
        }
        Ok(Wrapped { lock, keys })
    }

    /// Unwraps a stored keyring.
    pub(crate) fn unwrap(
        store_id: [u8; 16],
        wrapped: &Wrapped,
        key: &WrappingKey,
    ) -> Result<Self, KeyringError> {
        let lock = decode_lock(&wrapped.lock)?;
        if lock.is_passphrase != matches!(key, WrappingKey::Passphrase(_)) {
            let locked_by = if lock.is_passphrase { "a passphrase" } else { "a key file" };
            return Err(KeyringError::OtherKind { locked_by, given: key.what() });
        }
        let unlocked = derive(key, &lock.salt, lock.stretch)?;
        if fingerprint(&unlocked) != lock.fingerprint {
            return Err(KeyringError::WrongKey);
        }
        let mut keys = BTreeMap::new();
        for (epoch, wrapped_key) in &wrapped.keys {
            let aad = associated_data(&store_id, &wrapped.lock, *epoch);
            let data_key = seal::decrypt(&unlocked, &aad, wrapped_key).map(Zeroizing::new);
            let data_key = data_key.and_then(|key| <[u8; 32]>::try_from(&key[..]).ok());
            keys.insert(
                *epoch,
                Zeroizing::new(data_key.ok_or(KeyringError::Damaged("a data key was changed"))?),
            );
        }
        if keys.is_empty() {
            return Err(KeyringError::Damaged("it has no data key"));
        }
        Ok(Self { store_id, keys })
    }
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring")
            .field("epochs", &self.keys.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

struct Lock {
    is_passphrase: bool,
    stretch: Stretch,
    salt: [u8; SALT_LEN],
    fingerprint: [u8; FINGERPRINT_LEN],
}

fn encode_lock(key: &WrappingKey, salt: &[u8; SALT_LEN], unlocked: &SecretKey) -> Vec<u8> {
    let mut lock = vec![LOCK_VERSION, u8::from(matches!(key, WrappingKey::Passphrase(_)))];
    for number in [STRETCH.memory_kib, STRETCH.passes, STRETCH.lanes] {
        lock.extend_from_slice(&number.to_be_bytes());
    }
    lock.extend_from_slice(salt);
    lock.extend_from_slice(&fingerprint(unlocked));
    lock
}

fn decode_lock(lock: &[u8]) -> Result<Lock, KeyringError> {
    let lock: &[u8; LOCK_LEN] =
        lock.try_into().map_err(|_| KeyringError::Damaged("its lock is cut short"))?;
    let number = |at: usize| u32::from_be_bytes([lock[at], lock[at + 1], lock[at + 2], lock[at + 3]]);
    let stretch = Stretch { memory_kib: number(2), passes: number(6), lanes: number(10) };
    let is_bounded = stretch.memory_kib <= STRETCH_MAX.memory_kib
        && stretch.passes <= STRETCH_MAX.passes
        && stretch.lanes <= STRETCH_MAX.lanes;
    let is_known = lock[0] == LOCK_VERSION && lock[1] <= 1;
    if !is_known || !is_bounded {
        return Err(KeyringError::Damaged("its lock is of an unknown kind"));
    }
    let (mut salt, mut fingerprint) = ([0; SALT_LEN], [0; FINGERPRINT_LEN]);
    salt.copy_from_slice(&lock[14..14 + SALT_LEN]);
    fingerprint.copy_from_slice(&lock[14 + SALT_LEN..]);
    Ok(Lock { is_passphrase: lock[1] == 1, stretch, salt, fingerprint })
}

/// The key that wraps the data keys. A key file has entropy enough; it is only bound to the salt.
fn derive(key: &WrappingKey, salt: &[u8; SALT_LEN], stretch: Stretch) -> Result<SecretKey, KeyringError> {
    let mut derived = Zeroizing::new([0u8; 32]);
    match key {
        WrappingKey::File(bytes) => {
            let mut hasher = blake3::Hasher::new_derive_key("hypercore/store/wrapping-key/v1");
            hasher.update(&bytes[..]).update(salt);
            *derived = *hasher.finalize().as_bytes();
        }
        WrappingKey::Passphrase(passphrase) => {
            let params = Params::new(stretch.memory_kib, stretch.passes, stretch.lanes, Some(derived.len()));
            let argon2 =
                Argon2::new(Algorithm::Argon2id, Version::V0x13, params.map_err(KeyringError::Stretch)?);
            argon2
                .hash_password_into(passphrase.as_bytes(), salt, &mut derived[..])
                .map_err(KeyringError::Stretch)?;
        }
    }
    Ok(derived)
}

/// Tells a wrong key from a damaged keyring. It tells an attacker nothing that trying to unwrap wouldn't.
fn fingerprint(unlocked: &SecretKey) -> [u8; FINGERPRINT_LEN] {
    let hash = blake3::derive_key("hypercore/store/key-fingerprint/v1", &unlocked[..]);
    let mut fingerprint = [0; FINGERPRINT_LEN];
    fingerprint.copy_from_slice(&hash[..FINGERPRINT_LEN]);
    fingerprint
}

fn associated_data(store_id: &[u8; 16], lock: &[u8], epoch: u32) -> Vec<u8> {
    let mut data = b"hypercore/store/data-key/v1".to_vec();
    data.extend_from_slice(store_id);
    data.extend_from_slice(lock);
    data.extend_from_slice(&epoch.to_be_bytes());
    data
}

fn random_key() -> Result<SecretKey, getrandom::Error> {
    let mut key = Zeroizing::new([0u8; 32]);
    getrandom::fill(&mut key[..])?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_key(byte: u8) -> WrappingKey {
        WrappingKey::from_bytes([byte; 32])
    }

    #[test]
    fn a_keyring_comes_back_with_the_key_that_locked_it() {
        let ring = Keyring::generate().unwrap().with_new_epoch().unwrap();
        for key in [file_key(1), WrappingKey::from_passphrase("correct horse".into())] {
            let wrapped = ring.wrap(&key).unwrap();
            let back = Keyring::unwrap(ring.store_id, &wrapped, &key).unwrap();
            assert_eq!(back.keys, ring.keys);
            assert_eq!(back.current().0, 2);
        }
    }

    #[test]
    fn a_wrong_key_is_told_from_a_wrong_kind_and_from_damage() {
        let ring = Keyring::generate().unwrap();
        let mut wrapped = ring.wrap(&file_key(1)).unwrap();
        let unwrap = |wrapped: &Wrapped, key: &WrappingKey| Keyring::unwrap(ring.store_id, wrapped, key);
        assert!(matches!(unwrap(&wrapped, &file_key(2)), Err(KeyringError::WrongKey)));
        let passphrase = WrappingKey::from_passphrase("x".into());
        let error = unwrap(&wrapped, &passphrase).unwrap_err();
        assert_eq!(error.to_string(), "the store is locked by a key file, but a passphrase was given");
        assert!(Keyring::unwrap([0; 16], &wrapped, &file_key(1)).is_err(), "it is bound to its store");
        wrapped.keys.get_mut(&1).unwrap()[30] ^= 1;
        assert!(matches!(unwrap(&wrapped, &file_key(1)), Err(KeyringError::Damaged(_))));
    }

    #[test]
    fn a_wrong_passphrase_is_refused() {
        let ring = Keyring::generate().unwrap();
        let wrapped = ring.wrap(&WrappingKey::from_passphrase("right".into())).unwrap();
        let wrong = WrappingKey::from_passphrase("wrong".into());
        assert!(matches!(Keyring::unwrap(ring.store_id, &wrapped, &wrong), Err(KeyringError::WrongKey)));
    }

    #[test]
    fn a_forged_lock_can_not_ask_for_all_memory() {
        let ring = Keyring::generate().unwrap();
        let key = WrappingKey::from_passphrase("x".into());
        let mut wrapped = ring.wrap(&key).unwrap();
        wrapped.lock[2..6].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(matches!(Keyring::unwrap(ring.store_id, &wrapped, &key), Err(KeyringError::Damaged(_))));
    }
}
