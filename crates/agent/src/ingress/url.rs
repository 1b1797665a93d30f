//! Where a workload is found from outside. It refuses to promise that anything answers there.

use hypercore_cluster::state::WorkloadRecord;
use hypercore_dataplane::HostName;
use hypercore_model::{WorkloadId, WorkloadName};

use crate::config::AgentConfig;

/// Knows the URLs of workloads.
#[derive(Debug)]
pub(crate) struct Urls {
    base_domain: HostName,
    /// Scheme and port of the best door there is; `None` without any.
    door: Option<(&'static str, u16)>,
}

impl Urls {
    /// By the doors of this configuration: HTTPS before HTTP, the public ones before the node's own.
    pub(crate) fn new(config: &AgentConfig) -> Self {
        let settings = &config.ingress;
        let https = settings.https.map(|address| ("https", address.port()));
        let http = settings.http.or(config.http_listen).map(|address| ("http", address.port()));
        Self { base_domain: settings.base_domain.clone(), door: https.or(http) }
    }

    /// Where this workload is found; empty when there is no door.
    pub(crate) fn of(&self, record: &WorkloadRecord) -> String {
        self.with(record.id, record.spec.name.as_ref())
    }

    /// Where a workload with this id and name is found.
    pub(crate) fn with(&self, id: WorkloadId, name: Option<&WorkloadName>) -> String {
        let Some((scheme, port)) = self.door else { return String::new() };
        let label = name.map_or_else(|| id.short(), ToString::to_string);
        let port = match (scheme, port) {
            ("http", 80) | ("https", 443) => String::new(),
            (_, port) => format!(":{port}"),
        };
        format!("{scheme}://{label}.{}{port}", self.base_domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(door: Option<(&'static str, u16)>) -> Urls {
        Urls { base_domain: "example.org".parse().unwrap(), door }
    }

    #[test]
    fn a_name_comes_before_the_id_and_usual_ports_are_left_out() {
        let id = WorkloadId::from_bytes([0x12; 16]);
        let name = "web".parse().unwrap();
        assert_eq!(urls(Some(("https", 443))).with(id, Some(&name)), "https://web.example.org");
        assert_eq!(urls(Some(("http", 8001))).with(id, None), "http://12121212-121.example.org:8001");
        assert_eq!(urls(None).with(id, Some(&name)), "");
    }
}
