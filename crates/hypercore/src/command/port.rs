//! `hypercore port`: where a workload's published ports stand on the host.

use std::str::FromStr;

use clap::Args;
use hypercore_api::ErrorKind;
use serde::Serialize;

use crate::{
    context::Context,
    exit::Exit,
    failure::{Failure, Outcome},
};

const EXAMPLES: &str = "\
Examples:
  hypercore port web                   80/tcp -> 0.0.0.0:8080
  hypercore port web 80                0.0.0.0:8080
  hypercore port web 80/tcp --json";

/// Show where a workload's ports are published
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PortArgs {
    /// Id, unique prefix of an id, or name
    #[arg(value_name = "WORKLOAD")]
    workload: String,
    /// Only where this port of the workload is
    #[arg(value_name = "PORT[/PROTOCOL]")]
    port: Option<Inside>,
}

/// A port inside, as people name it: `80` is `80/tcp`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Inside {
    port: u16,
    protocol: String,
}

impl FromStr for Inside {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        match (port.parse(), protocol) {
            (Ok(port @ 1..), "tcp" | "udp") => Ok(Self { port, protocol: protocol.to_owned() }),
            _ => Err("write a port such as 80, or 53/udp"),
        }
    }
}

/// One published port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Published {
    container_port: u16,
    protocol: String,
    host_address: String,
    host_port: u16,
}

impl Published {
    /// Reads `HOST:CONTAINER/PROTOCOL`, as the agent writes it. Ports stand on every address of the host.
    fn read(text: &str) -> Option<Self> {
        let (ports, protocol) = text.split_once('/')?;
        let (host, inside) = ports.rsplit_once(':')?;
        Some(Self {
            container_port: inside.parse().ok()?,
            protocol: protocol.to_owned(),
            host_address: "0.0.0.0".to_owned(),
            host_port: host.parse().ok()?,
        })
    }

    fn is_meant_by(&self, asked: &Inside) -> bool {
        self.container_port == asked.port && self.protocol == asked.protocol
    }
}

/// Shows them.
pub(super) async fn run(args: &PortArgs, context: &Context) -> Outcome {
    let state = context.connect().await?.inspect(&args.workload).await?;
    let mut ports: Vec<_> = state.ports.iter().filter_map(|text| Published::read(text)).collect();
    if let Some(asked) = &args.port {
        ports.retain(|port| port.is_meant_by(asked));
        if ports.is_empty() {
            let message = format!("{} publishes no port {}/{}", args.workload, asked.port, asked.protocol);
            let hint =
                format!("`hypercore port {}` lists those it has; -p of `run` publishes one", args.workload);
            return Err(Failure::new(ErrorKind::NotFound, "port_not_published", message).with_hint(hint));
        }
    }
    if !context.console.is_for_people() {
        return context.console.structured(&ports);
    }
    for port in &ports {
        let host = format!("{}:{}", port.host_address, port.host_port);
        let line = match args.port {
            Some(_) => host,
            None => format!("{}/{} -> {host}", port.container_port, port.protocol),
        };
        context.console.line(&line)?;
    }
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_tcp_unless_it_says_otherwise() {
        assert_eq!("80".parse(), Ok(Inside { port: 80, protocol: "tcp".into() }));
        assert_eq!("53/udp".parse(), Ok(Inside { port: 53, protocol: "udp".into() }));
        for text in ["", "0", "65536", "80/icmp", "80:80"] {
            assert!(text.parse::<Inside>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_the_agent_publishes_is_read_back() {
        let port = Published::read("8080:80/tcp").unwrap();
        assert_eq!((port.host_port, port.container_port, port.protocol.as_str()), (8080, 80, "tcp"));
        assert!(port.is_meant_by(&"80".parse().unwrap()) && !port.is_meant_by(&"80/udp".parse().unwrap()));
        assert_eq!(Published::read("80"), None);
    }
}
