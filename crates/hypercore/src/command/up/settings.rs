//! The flags of `up`: each stands over the key of the configuration file that it names.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use hypercore_agent::AgentConfig;
use hypercore_api::ErrorKind;

use crate::{
    config::{AbsolutePath, Backend, Bridge, Cidr, Config, LogFormat, LogLevel, from_text},
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
    /// Where metrics and health are served, on this machine only; `none` for nowhere
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8001", value_parser = parse_http)]
    http_bind_addr: HttpListen,
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
        if let Some(address) = http_listen.filter(|address| !address.ip().is_loopback()) {
            let message =
                format!("{address} is reachable from other machines, and metrics have no access control yet");
            let failure = Failure::new(ErrorKind::Refused, "http_not_loopback", message);
            return Err(failure.with_hint("choose a loopback address such as 127.0.0.1:8001"));
        }
        replace(&mut config.node.data_directory, self.data_dir.map(absolute).transpose()?);
        replace(&mut config.node.runtime_directory, self.runtime_dir.map(absolute).transpose()?);
        replace(&mut config.runtime.cidr, self.cidr);
        replace(&mut config.runtime.bridge, self.bridge);
        replace_list(&mut config.runtime.registry_mirrors, self.registry_mirror);
        replace_list(&mut config.runtime.insecure_registries, self.insecure_registry);
        replace(&mut config.storage.backend, self.storage);
        replace(&mut config.logging.level, self.log_level);
        replace(&mut config.logging.format, self.log_format);
        Ok(AgentConfig {
            data_directory: config.node.data_directory.as_path().to_owned(),
            runtime_directory: config.node.runtime_directory.as_path().to_owned(),
            http_listen,
            cidr: config.runtime.cidr.to_string(),
            bridge: config.runtime.bridge.as_str().to_owned(),
            registry_mirrors: config.runtime.registry_mirrors.clone(),
            insecure_registries: config.runtime.insecure_registries.clone(),
            fsync: config.storage.fsync,
            in_memory: config.storage.backend == Backend::Memory,
        })
    }
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
