//! The flags of `up`: each stands over the key of the configuration file that it names.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use hypercore_agent::{AgentConfig, MachineSettings, TlsFiles};
use hypercore_api::ErrorKind;
use hypercore_model::machine::Monitor;

use crate::{
    config::{AbsolutePath, Backend, Bridge, Cidr, Config, LogFormat, LogLevel, OrEmpty, Vmm, from_text},
    failure::Failure,
};

/// Settings of the node.
#[derive(Debug, Args)]
pub(super) struct SettingArgs {
    /// Where the node keeps what must survive a reboot [node.data_directory]
    #[arg(long, value_name = "DIRECTORY")]
    data_dir: Option<PathBuf>,
    /// Where the node keeps its sockets [node.runtime_directory]
    #[arg(long, value_name = "DIRECTORY")]
    runtime_dir: Option<PathBuf>,
    /// Where workloads are served by host name, and to this machine metrics; `none` for nowhere
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8001", value_parser = parse_http)]
    http_bind_addr: HttpListen,
    /// Where the gRPC API is served with TLS to callers with tokens, such as 0.0.0.0:8000 [cluster.grpc_listen_address]
    #[arg(long, value_name = "IP:PORT", value_parser = from_text::<SocketAddr>)]
    grpc_bind_addr: Option<SocketAddr>,
    /// Serve it with this certificate (PEM) instead of one of the node's own authority [cluster.tls_cert]
    #[arg(long, value_name = "FILE", requires = "cluster_tls_key")]
    cluster_tls_cert: Option<PathBuf>,
    /// The private key (PEM) of that certificate [cluster.tls_key]
    #[arg(long, value_name = "FILE", requires = "cluster_tls_cert")]
    cluster_tls_key: Option<PathBuf>,
    #[command(flatten)]
    ingress: super::ingress::IngressArgs,
    /// The network of the workloads [runtime.cidr]
    #[arg(long, value_name = "NETWORK", value_parser = from_text::<Cidr>)]
    cidr: Option<Cidr>,
    /// The bridge of the workloads, unique on the machine [runtime.bridge]
    #[arg(long, value_name = "NAME", value_parser = from_text::<Bridge>)]
    bridge: Option<Bridge>,
    /// Ask this registry before the one an image names [runtime.registry_mirrors]
    #[arg(long, value_name = "HOST[:PORT]")]
    registry_mirror: Vec<String>,
    /// Speak to this registry without TLS [runtime.insecure_registries]
    #[arg(long, value_name = "HOST[:PORT]")]
    insecure_registry: Vec<String>,
    /// Pull and run only images that this public key (a PEM file) signed [runtime.verify_keys]
    #[arg(long, value_name = "FILE")]
    verify_key: Vec<PathBuf>,
    /// Where the state is kept: redb or memory [storage.backend]
    #[arg(long, value_name = "BACKEND", value_parser = from_text::<Backend>)]
    storage: Option<Backend>,
    /// How much to say: error, warn, info, debug, trace [logging.level]
    #[arg(long, value_name = "LEVEL", value_parser = from_text::<LogLevel>)]
    log_level: Option<LogLevel>,
    /// How to say it: text or json [logging.format]
    #[arg(long, value_name = "FORMAT", value_parser = from_text::<LogFormat>)]
    log_format: Option<LogFormat>,
}

/// `IP:PORT`, or nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct HttpListen(Option<SocketAddr>);

fn parse_http(text: &str) -> Result<HttpListen, String> {
    if text == "none" { Ok(HttpListen(None)) } else { from_text(text).map(Some).map(HttpListen) }
}

impl SettingArgs {
    /// Puts the flags over the configuration, and takes from it what the agent needs.
    pub(super) fn agent_config(self, config: &mut Config) -> Result<AgentConfig, Failure> {
        let http_listen = self.http_bind_addr.0;
        self.ingress.replace(config);
        replace(&mut config.node.data_directory, self.data_dir.map(absolute).transpose()?);
        replace(&mut config.node.runtime_directory, self.runtime_dir.map(absolute).transpose()?);
        replace(&mut config.cluster.grpc_listen_address, self.grpc_bind_addr.map(Some).map(OrEmpty));
        let given =
            |file: Option<PathBuf>| file.map(absolute).transpose().map(|path| path.map(Some).map(OrEmpty));
        replace(&mut config.cluster.tls_cert, given(self.cluster_tls_cert)?);
        replace(&mut config.cluster.tls_key, given(self.cluster_tls_key)?);
        replace(&mut config.runtime.cidr, self.cidr);
        replace(&mut config.runtime.bridge, self.bridge);
        replace_list(&mut config.runtime.registry_mirrors, self.registry_mirror);
        replace_list(&mut config.runtime.insecure_registries, self.insecure_registry);
        let keys = self.verify_key.into_iter().map(absolute).collect::<Result<Vec<_>, _>>()?;
        replace(&mut config.runtime.verify_keys, (!keys.is_empty()).then_some(keys));
        replace(&mut config.storage.backend, self.storage);
        replace(&mut config.logging.level, self.log_level);
        replace(&mut config.logging.format, self.log_format);
        Ok(AgentConfig {
            data_directory: config.node.data_directory.as_path().to_owned(),
            runtime_directory: config.node.runtime_directory.as_path().to_owned(),
            http_listen,
            ingress: super::ingress::settings(config)?,
            grpc_listen: config.cluster.grpc_listen_address.0,
            grpc_certificate: given_certificate(config)?,
            cidr: config.runtime.cidr.to_string(),
            cidr6: config.runtime.cidr6.to_string(),
            bridge: config.runtime.bridge.as_str().to_owned(),
            registry_mirrors: config.runtime.registry_mirrors.clone(),
            insecure_registries: config.runtime.insecure_registries.clone(),
            verify_keys: config.runtime.verify_keys.iter().map(|path| path.as_path().to_owned()).collect(),
            image_gc_high_percent: percent(config.runtime.image_gc_high_percent.0),
            image_gc_low_percent: percent(config.runtime.image_gc_low_percent.0),
            records_keep: config.runtime.records_keep.duration(),
            machines: machines(config),
            fsync: config.storage.fsync,
            in_memory: config.storage.backend == Backend::Memory,
        })
    }
}

/// What microVMs run with, as the configuration says.
pub(in crate::command) fn machines(config: &Config) -> MachineSettings {
    MachineSettings {
        monitor: match config.runtime.vmm {
            Vmm::Auto => None,
            Vmm::Firecracker => Some(Monitor::Firecracker),
            Vmm::CloudHypervisor => Some(Monitor::CloudHypervisor),
            Vmm::Qemu => Some(Monitor::Qemu),
        },
        kernel: config.runtime.kernel.get().map(|path| path.as_path().to_owned()),
        boot_time_max: config.runtime.boot_time_max.duration(),
    }
}

/// The certificate and its key, of which one alone is a mistake.
fn given_certificate(config: &Config) -> Result<Option<TlsFiles>, Failure> {
    match (&config.cluster.tls_cert.0, &config.cluster.tls_key.0) {
        (Some(certificate), Some(key)) => Ok(Some(TlsFiles {
            certificate: certificate.as_path().to_owned(),
            key: key.as_path().to_owned(),
        })),
        (None, None) => Ok(None),
        _ => Err(Failure::new(
            ErrorKind::Usage,
            "config_invalid",
            "a certificate needs its key, and a key its certificate",
        )
        .with_hint("set both [cluster] tls_cert and tls_key")),
    }
}

/// The configuration has no more than 100 in such a place.
fn percent(number: u64) -> u8 {
    u8::try_from(number).unwrap_or(100)
}

fn replace<T>(setting: &mut T, flag: Option<T>) {
    if let Some(value) = flag {
        *setting = value;
    }
}

fn replace_list(setting: &mut Vec<String>, flag: Vec<String>) {
    if !flag.is_empty() {
        *setting = flag;
    }
}

/// A path on the command line is relative to where the command was typed.
fn absolute(path: PathBuf) -> Result<AbsolutePath, Failure> {
    let text = std::path::absolute(&path).ok().and_then(|path| path.into_os_string().into_string().ok());
    let failure =
        || Failure::new(ErrorKind::Usage, "invalid_path", format!("{} can't be used", path.display()));
    text.and_then(|text| from_text(&text).ok()).ok_or_else(failure)
}
