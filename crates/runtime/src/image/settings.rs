//! How registries are to be reached: what the operator configures. It holds no credentials.

/// Where images may come from besides their own registry, and over what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistrySettings {
    /// Mirrors of `docker.io`, tried in this order before it: `https://HOST[:PORT]`, `http://HOST[:PORT]` or
    /// `HOST[:PORT]`. As with docker, images of other registries never come from a mirror: their names would
    /// mean something else there.
    pub mirrors: Vec<String>,
    /// Registries (`HOST` or `HOST:PORT`) that are spoken to in plain HTTP. Loopback addresses always are.
    pub insecure_registries: Vec<String>,
}
