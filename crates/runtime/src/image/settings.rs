//! How registries are to be reached, and what they are to be believed: what the operator configures.

use super::{Credentials, VerifyKey};

/// Where images may come from besides their own registry, over what, and who vouches for them.
#[derive(Debug, Clone, Default)]
pub struct RegistrySettings {
    /// Mirrors of `docker.io`, tried in this order before it: `https://HOST[:PORT]`, `http://HOST[:PORT]` or
    /// `HOST[:PORT]`. As with docker, images of other registries never come from a mirror: their names would
    /// mean something else there.
    pub mirrors: Vec<String>,
    /// Registries (`HOST` or `HOST:PORT`) that are spoken to in plain HTTP. Loopback addresses always are.
    pub insecure_registries: Vec<String>,
    /// Who this node is to registries that ask. A mirror is only ever shown what is meant for the mirror itself.
    pub credentials: Credentials,
    /// When there are any: only images that one of these signed are pulled or run.
    pub verify_keys: Vec<VerifyKey>,
}
