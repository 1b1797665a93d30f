//! The three files that tell a workload about names: `resolv.conf`, `hosts` and `hostname`, bind-mounted over its own.
//! It refuses to pass on a nameserver that a workload can't reach: 127.0.0.1 inside is the workload itself, and the
//! host's own addresses are closed to workloads that were not allowed to reach the host.

use std::{
    fs::{self, Permissions},
    io,
    net::{IpAddr, UdpSocket},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use hypercore_model::Allowance;

use super::attachment::Attachment;

/// Where the host keeps its resolver configuration, and where systemd-resolved keeps the real nameservers when the
/// former only names its own stub (systemd-resolved.service(8), "/etc/resolv.conf").
const RESOLV_CONF: &str = "/etc/resolv.conf";
const RESOLVED_UPSTREAM: &str = "/run/systemd/resolve/resolv.conf";

/// Why the name files of a workload could not be written.
#[derive(Debug, thiserror::Error)]
pub enum HostsError {
    /// The host's own resolver configuration exists but can't be read.
    #[error("can't read the host's {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of the workload can't be written.
    #[error("can't write {path}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The name files of one workload, each to be mounted over the file of the same name in `/etc`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostsFiles {
    /// For `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// For `/etc/hosts`.
    pub hosts: PathBuf,
    /// For `/etc/hostname`.
    pub hostname: PathBuf,
}

impl HostsFiles {
    /// Where [`write_hosts_files`] puts the files of the workload with this directory.
    #[must_use]
    pub fn within(directory: &Path) -> Self {
        Self {
            resolv_conf: directory.join("resolv.conf"),
            hosts: directory.join("hosts"),
            hostname: directory.join("hostname"),
        }
    }
}

/// Writes `resolv.conf`, `hosts` and `hostname` (mode 0644) into a workload's directory.
///
/// # Errors
/// [`HostsError`], by file. A host without any `/etc/resolv.conf` is no error.
pub fn write_hosts_files(
    directory: &Path,
    hostname: &str,
    attachment: &Attachment,
) -> Result<HostsFiles, HostsError> {
    let files = HostsFiles::within(directory);
    write(&files.resolv_conf, &host_resolv_conf(attachment)?)?;
    write(&files.hosts, &hosts(hostname, attachment))?;
    write(&files.hostname, &format!("{hostname}\n"))?;
    Ok(files)
}

fn write(path: &Path, text: &str) -> Result<(), HostsError> {
    let wrap = |source| HostsError::Write { path: path.to_owned(), source };
    fs::write(path, text).map_err(wrap)?;
    // Explicitly, because the agent's umask may be stricter than what a workload's users need.
    fs::set_permissions(path, Permissions::from_mode(0o644)).map_err(wrap)
}

fn hosts(hostname: &str, attachment: &Attachment) -> String {
    let mut text = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    let address6 = attachment.address6.map(IpAddr::V6);
    for address in std::iter::once(IpAddr::V4(attachment.address)).chain(address6) {
        text += &format!("{address}\t{hostname}\n");
    }
    text
}

/// The workload's resolver configuration, from the host's.
fn host_resolv_conf(attachment: &Attachment) -> Result<String, HostsError> {
    let is_reachable = |address| is_reachable(attachment, address);
    let own = resolv_conf_for_workload(&read_if_exists(RESOLV_CONF)?, is_reachable);
    if own.has_nameserver {
        return Ok(own.text);
    }
    let upstream = resolv_conf_for_workload(&read_if_exists(RESOLVED_UPSTREAM)?, is_reachable);
    Ok(if upstream.has_nameserver { upstream.text } else { own.text })
}

fn read_if_exists(path: &str) -> Result<String, HostsError> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(HostsError::Read { path: path.into(), source }),
    }
}

/// Whether a workload may reach a nameserver. Binding is the shortest way to ask whether an address is the host's own.
fn is_reachable(attachment: &Attachment, address: IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    let has_family = address.is_ipv4() || attachment.address6.is_some();
    let is_open = || attachment.allow.contains(&Allowance::Host) || UdpSocket::bind((address, 0)).is_err();
    has_family && !address.is_loopback() && !address.is_unspecified() && !is_link_local && is_open()
}

struct ResolvConf {
    text: String,
    has_nameserver: bool,
}

/// What of a `resolv.conf` holds inside a workload: `search`, `domain`, `options` and the nameservers it can reach
/// (resolv.conf(5)). A nameserver with a zone (`fe80::1%eth0`) is link-local, and so left out.
fn resolv_conf_for_workload(host: &str, is_reachable: impl Fn(IpAddr) -> bool) -> ResolvConf {
    let mut kept = Vec::new();
    let mut dropped = Vec::new();
    let mut has_nameserver = false;
    for line in host.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("nameserver"), Some(server)) => match server.parse::<IpAddr>() {
                Ok(address) if is_reachable(address) => {
                    has_nameserver = true;
                    kept.push(format!("nameserver {address}"));
                }
                _ => dropped.push(server.to_owned()),
            },
            (Some("search" | "domain" | "options"), Some(_)) => kept.push(line.trim().to_owned()),
            _ => {}
        }
    }
    let mut text = String::from("# Written by Hypercore from the host's configuration.\n");
    if !dropped.is_empty() {
        text += &format!("# Left out, because a workload can't reach them: {}\n", dropped.join(" "));
    }
    if !has_nameserver {
        text +=
            "# NO NAMESERVER: the host has none that a workload can reach, so no name will resolve here.\n";
    }
    for line in kept {
        text += &line;
        text.push('\n');
    }
    ResolvConf { text, has_nameserver }
}

#[cfg(test)]
mod tests {
    use hypercore_model::WorkloadId;

    use super::*;

    fn attachment() -> Attachment {
        Attachment::example(WorkloadId::from_bytes([1; 16]))
    }

    #[test]
    fn nameservers_that_a_workload_can_reach_are_kept_with_search_and_options() {
        let host = "# mine\nsearch a.example b.example\nnameserver 10.0.0.53\nnameserver 127.0.0.1\n\
                    nameserver ::1\nnameserver 1.1.1.1\noptions ndots:2\nsortlist 10.0.0.0\n";
        let conf = resolv_conf_for_workload(host, |address| is_reachable(&attachment(), address));
        assert!(conf.has_nameserver);
        assert_eq!(
            conf.text,
            "# Written by Hypercore from the host's configuration.\n\
             # Left out, because a workload can't reach them: 127.0.0.1 ::1\n\
             search a.example b.example\nnameserver 10.0.0.53\nnameserver 1.1.1.1\noptions ndots:2\n"
        );
    }

    #[test]
    fn a_host_with_nothing_but_a_stub_resolver_says_so() {
        let conf = resolv_conf_for_workload("nameserver 127.0.0.53\noptions edns0\n", |_| false);
        assert!(!conf.has_nameserver);
        assert!(conf.text.contains("# NO NAMESERVER"));
        assert!(conf.text.ends_with("options edns0\n"));
        assert!(!resolv_conf_for_workload("", |_| true).has_nameserver);
    }

    #[test]
    fn the_hosts_own_addresses_and_link_local_ones_are_not_reachable() {
        let (attachment, with_ipv6) = (attachment(), "2001:db8::53".parse().unwrap());
        assert!(is_reachable(&attachment, "192.0.2.53".parse().unwrap()));
        for address in ["127.0.0.1", "127.0.0.53", "0.0.0.0", "169.254.169.253", "2001:db8::53"] {
            assert!(!is_reachable(&attachment, address.parse().unwrap()), "{address}");
        }
        let attachment = Attachment { address6: Some(with_ipv6), ..attachment };
        assert!(is_reachable(&attachment, IpAddr::V6(with_ipv6)));
        for address in ["::1", "fe80::1", "::"] {
            assert!(!is_reachable(&attachment, address.parse().unwrap()), "{address}");
        }
        let conf = resolv_conf_for_workload("nameserver 10.0.0.1\n", |_| false);
        assert!(conf.text.contains("can't reach them: 10.0.0.1\n"), "{}", conf.text);
    }

    #[test]
    fn the_files_are_readable_by_everybody_whatever_they_were_before() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("hosts"), "old and longer than what comes now".repeat(9)).unwrap();
        fs::set_permissions(directory.path().join("hosts"), Permissions::from_mode(0o600)).unwrap();
        let files = write_hosts_files(directory.path(), "web", &attachment()).unwrap();
        assert_eq!(files, HostsFiles::within(directory.path()));
        assert_eq!(fs::read_to_string(&files.hostname).unwrap(), "web\n");
        let hosts = fs::read_to_string(&files.hosts).unwrap();
        assert!(hosts.starts_with("127.0.0.1\tlocalhost\n"));
        assert!(hosts.ends_with("10.0.0.2\tweb\n"));
        for path in [files.resolv_conf, files.hosts, files.hostname] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o644);
        }
    }
}
