//! Where an image may be asked for: mirrors and its own registry, over TLS or plain. Nothing is contacted here.

use std::net::Ipv4Addr;

use hypercore_model::ImageReference;

use super::{RegistrySettings, credentials::DOCKER_HUB};

/// Where docker.io really answers.
const DOCKER_HUB_HOST: &str = "registry-1.docker.io";

/// One place to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// What people call it, in messages.
    pub(super) name: String,
    /// `HOST[:PORT]` to connect to.
    pub(super) host: String,
    /// Whether it is spoken to without TLS.
    pub(super) is_plain: bool,
    /// Whether it is on this machine, where no proxy leads.
    pub(super) is_loopback: bool,
}

impl Endpoint {
    /// The mirrors that may have an image, in the order to ask.
    pub(super) fn mirrors(image: &ImageReference, settings: &RegistrySettings) -> Vec<Self> {
        let is_hub = image.registry() == DOCKER_HUB;
        settings.mirrors.iter().filter(|_| is_hub).map(|mirror| Self::mirror(mirror, settings)).collect()
    }

    /// The image's own registry.
    pub(super) fn own(image: &ImageReference, settings: &RegistrySettings) -> Self {
        Self::registry(image.registry(), settings)
    }

    /// A registry by its name.
    pub(super) fn registry(name: &str, settings: &RegistrySettings) -> Self {
        let host = if name == DOCKER_HUB { DOCKER_HUB_HOST } else { name };
        Self::new(name, host, None, settings)
    }

    /// `https://HOST[:PORT]`, or `http://` where it is plain.
    pub(super) fn url(&self) -> String {
        format!("{}://{}", if self.is_plain { "http" } else { "https" }, self.host)
    }

    fn mirror(mirror: &str, settings: &RegistrySettings) -> Self {
        let (is_plain, host) = match mirror.split_once("://") {
            Some(("http", host)) => (Some(true), host),
            Some((_, host)) => (Some(false), host),
            None => (None, mirror),
        };
        let host = host.trim_end_matches('/');
        Self::new(host, host, is_plain, settings)
    }

    fn new(name: &str, host: &str, is_plain: Option<bool>, settings: &RegistrySettings) -> Self {
        let host_only = host.rsplit_once(':').map_or(host, |(host, _)| host);
        let is_insecure =
            settings.insecure_registries.iter().any(|insecure| insecure == host || insecure == host_only);
        let is_loopback = is_loopback(host_only);
        let is_plain = is_plain.unwrap_or(is_insecure || is_loopback);
        Self { name: name.to_owned(), host: host.to_owned(), is_plain, is_loopback }
    }
}

/// As docker has it: what is on this machine needs no TLS.
fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(image: &str, mirrors: &[&str], insecure: &[&str]) -> Vec<String> {
        let owned = |list: &[&str]| list.iter().map(|&it| it.to_owned()).collect();
        let (mirrors, insecure_registries) = (owned(mirrors), owned(insecure));
        let settings = RegistrySettings { mirrors, insecure_registries, ..RegistrySettings::default() };
        let image = image.parse().unwrap();
        let mut endpoints = Endpoint::mirrors(&image, &settings);
        endpoints.push(Endpoint::own(&image, &settings));
        endpoints.iter().map(Endpoint::url).collect()
    }

    #[test]
    fn tls_is_left_out_on_this_machine_and_where_the_operator_says() {
        assert_eq!(asked("quay.io/a/b", &[], &[]), ["https://quay.io"]);
        assert_eq!(asked("127.0.0.1:5000/a", &[], &[]), ["http://127.0.0.1:5000"]);
        assert_eq!(asked("127.8.9.1/a", &[], &[]), ["http://127.8.9.1"]);
        assert_eq!(asked("localhost/a", &[], &[]), ["http://localhost"]);
        assert_eq!(asked("localhost.evil.example/a", &[], &[]), ["https://localhost.evil.example"]);
        assert_eq!(asked("10.0.0.1:5000/a", &[], &["10.0.0.1:5000"]), ["http://10.0.0.1:5000"]);
        assert_eq!(asked("reg.lan:5000/a", &[], &["reg.lan"]), ["http://reg.lan:5000"]);
        assert_eq!(asked("reg.lan:5001/a", &[], &["reg.lan:5000"]), ["https://reg.lan:5001"]);
    }

    #[test]
    fn mirrors_come_first_and_serve_docker_hub_alone() {
        let mirrors = ["https://a.example/", "http://b.example:80", "127.0.0.1:5000", "c.example"];
        assert_eq!(
            asked("busybox", &mirrors, &[]),
            [
                "https://a.example",
                "http://b.example:80",
                "http://127.0.0.1:5000",
                "https://c.example",
                "https://registry-1.docker.io"
            ]
        );
        assert_eq!(asked("quay.io/busybox", &mirrors, &[]), ["https://quay.io"]);
    }
}
