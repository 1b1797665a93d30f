//! TLS towards clients: which certificate is shown to whom, exchanged while connections go on.
//! It refuses TLS below 1.2, early data, and to make certificates: those come from files, the agent's own CA, or ACME.

pub mod files;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::ring,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

/// The certificates to choose from. Clones are the same set.
#[derive(Clone, Default)]
pub struct Certificates {
    table: Arc<ArcSwap<Table>>,
    /// Held while the next table is made of the last one.
    edit: Arc<Mutex<()>>,
}

#[derive(Clone, Default)]
struct Table {
    /// By name; `*.example.org` stands for one label.
    by_name: HashMap<String, Arc<CertifiedKey>>,
    default: Option<Arc<CertifiedKey>>,
}

impl Table {
    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let wildcard = || self.by_name.get(&format!("*.{}", name.split_once('.')?.1));
        self.by_name.get(name).or_else(wildcard).or(self.default.as_ref())
    }
}

impl Certificates {
    /// No certificates yet: handshakes fail.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Shows this certificate to clients that ask for a name without one of its own, or for none.
    pub fn set_default(&self, key: Arc<CertifiedKey>) {
        self.change(|table| table.default = Some(key));
    }

    /// Shows this certificate to clients that ask for this name; `*.` stands for one label.
    pub fn insert(&self, name: &str, key: Arc<CertifiedKey>) {
        self.change(|table| {
            table.by_name.insert(name.to_ascii_lowercase(), key);
        });
    }

    /// Shows no certificate of its own any more to clients that ask for this name.
    pub fn remove(&self, name: &str) {
        self.change(|table| {
            table.by_name.remove(&name.to_ascii_lowercase());
        });
    }

    /// Whether both names are answered with the same certificate.
    pub(crate) fn are_same(&self, one: &str, other: &str) -> bool {
        let table = self.table.load();
        match (table.find(&one.to_ascii_lowercase()), table.find(other)) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    fn change(&self, edit: impl FnOnce(&mut Table)) {
        let _held = self.edit.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = Table::clone(&self.table.load());
        edit(&mut table);
        self.table.store(Arc::new(table));
    }
}

impl fmt::Debug for Certificates {
    /// Names alone: keys are nobody's business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.table.load();
        let names: Vec<&String> = table.by_name.keys().collect();
        f.debug_struct("Certificates")
            .field("names", &names)
            .field("default", &table.default.is_some())
            .finish()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let table = self.table.load();
        match hello.server_name() {
            Some(name) => table.find(&name.to_ascii_lowercase()).cloned(),
            None => table.default.clone(),
        }
    }
}

/// The settings of the handshakes of one entrance.
pub(crate) fn server_config(certificates: Certificates) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = ring::Ticketer::new()?;
    Ok(Arc::new(config))
}
