//! The list of tables and keys: what the file may have in it, and where each value goes.
//! One list serves the file, the environment and the suggestions, so that they can't disagree.

use super::{
    Config,
    setting::{Raw, Setting},
};

/// One key of the file.
pub(super) struct Key {
    /// The table it belongs to, as in `[node]`.
    pub(super) table: &'static str,
    /// Its name within the table.
    pub(super) name: &'static str,
    /// Reads a value and stores it, or says what the value should have been.
    pub(super) set: fn(&mut Config, Raw<'_>) -> Result<(), String>,
}

impl Key {
    /// The environment variable that overrides it: `HYPERCORE_NODE_DATA_DIRECTORY`.
    pub(super) fn variable(&self) -> String {
        format!("{}{}", variable_prefix(self.table), self.name.to_ascii_uppercase())
    }
}

/// What the variables of all keys of a table begin with.
pub(super) fn variable_prefix(table: &str) -> String {
    format!("HYPERCORE_{}_", table.to_ascii_uppercase())
}

macro_rules! keys {
    ($($table:ident { $($name:ident),+ $(,)? })+) => {
        /// The tables, in the order of the file.
        pub(super) const TABLES: &[&str] = &[$(stringify!($table)),+];

        /// Every key of every table.
        pub(super) const KEYS: &[Key] = &[$($(Key {
            table: stringify!($table),
            name: stringify!($name),
            set: |config, raw| {
                config.$table.$name = Setting::read(raw)?;
                Ok(())
            },
        }),+),+];
    };
}

keys! {
    node { id, listen_address, data_directory, runtime_directory, max_connections, region, labels }
    transport { protocol, tls_version, certificate_path, key_rotation_interval }
    consensus { algorithm, timeout, batch_size, checkpoint_interval, validators_max }
    security { encryption_algorithm, signature_algorithm, key_derivation }
    storage { backend, replication_factor, fsync }
    gateway { listen_address, database_url, redis_url, loki_url }
    runtime { vmm, kernel, boot_time_max, cidr, cidr6, bridge, registry_mirrors, insecure_registries, verify_keys,
        image_gc_high_percent, image_gc_low_percent, records_keep }
    cluster { base_url, grpc_listen_address, tls_cert, tls_key, policy, respawn_on_node_failure }
    ingress { http, https, tls, acme_directory, acme_email, drain, access_log }
    beacon { endpoint, price_per_gb, interval }
    logging { level, format, otlp_endpoint }
}

/// The key of this name in this table.
pub(super) fn key(table: &str, name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.table == table && key.name == name)
}

/// The names of a table's keys.
pub(super) fn names_in(table: &str) -> impl Iterator<Item = &'static str> {
    KEYS.iter().filter(move |key| key.table == table).map(|key| key.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_every_key_that_is_shown_and_no_other() {
        let shown = serde_json::to_value(Config::default()).unwrap();
        let mut in_struct = Vec::new();
        for (table, keys) in shown.as_object().unwrap() {
            in_struct.extend(keys.as_object().unwrap().keys().map(|name| format!("{table}.{name}")));
        }
        let mut in_list: Vec<_> = KEYS.iter().map(|key| format!("{}.{}", key.table, key.name)).collect();
        in_struct.sort();
        in_list.sort();
        assert_eq!(in_list, in_struct);
    }

    #[test]
    fn variables_are_named_after_table_and_key() {
        assert_eq!(key("node", "data_directory").unwrap().variable(), "HYPERCORE_NODE_DATA_DIRECTORY");
    }
}
