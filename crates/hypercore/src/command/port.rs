//! `hypercore port`: where a workload's published ports stand on the host.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use clap::Args;
use hypercore_api::{ErrorKind, v1};
use serde::Serialize;

use crate::{
    context::Context,
    exit::Exit,
    failure::{Failure, Outcome},
};

const EXAMPLES: &str = "\
Examples:
  hypercore port web                   80/tcp -> 0.0.0.0:8080, and [::]:8080 on a node with IPv6
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

/// One published port, at one of the host's wildcard addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Published {
    container_port: u16,
    protocol: String,
    host_address: IpAddr,
    host_port: u16,
}

impl Published {
    /// Every port of a workload. They stand on every address of the host: those of IPv6 too where the workload has one.
    fn all_of(state: &v1::WorkloadState) -> Vec<Self> {
        let v6 = (!state.address6.is_empty()).then_some(Ipv6Addr::UNSPECIFIED.into());
        let families: Vec<IpAddr> = [Some(Ipv4Addr::UNSPECIFIED.into()), v6].into_iter().flatten().collect();
        let read_all = |text: &String| families.iter().filter_map(|host| Self::read(text, *host)).collect();
        state.ports.iter().flat_map::<Vec<_>, _>(read_all).collect()
    }

    /// Reads `HOST:CONTAINER/PROTOCOL`, as the agent writes it.
    fn read(text: &str, host_address: IpAddr) -> Option<Self> {
        let (ports, protocol) = text.split_once('/')?;
        let (host, inside) = ports.rsplit_once(':')?;
        Some(Self {
            container_port: inside.parse().ok()?,
            protocol: protocol.to_owned(),
            host_address,
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
    let mut ports = Published::all_of(&state);
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
        let host = SocketAddr::new(port.host_address, port.host_port);
        let line = match args.port {
            Some(_) => host.to_string(),
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
        let any = IpAddr::from(Ipv4Addr::UNSPECIFIED);
        let port = Published::read("8080:80/tcp", any).unwrap();
        assert_eq!((port.host_port, port.container_port, port.protocol.as_str()), (8080, 80, "tcp"));
        assert!(port.is_meant_by(&"80".parse().unwrap()) && !port.is_meant_by(&"80/udp".parse().unwrap()));
        assert_eq!(Published::read("80", any), None);
    }

    #[test]
    fn a_port_stands_on_ipv6_where_the_workload_has_it() {
        let hosts = |address6: &str| {
            let ports = vec!["8080:80/tcp".to_owned()];
            let state = v1::WorkloadState { ports, address6: address6.to_owned(), ..Default::default() };
            Published::all_of(&state).iter().map(|port| port.host_address.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(hosts(""), ["0.0.0.0"]);
        assert_eq!(hosts("fd00::2"), ["0.0.0.0", "::"]);
    }
}
