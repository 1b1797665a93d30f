//! The checks of networking: the nft program and the kernel behind it, and the port the node listens on.

use std::{io, net::TcpListener, process::Command};

use super::{Finding, fix::Fix};

/// Where metrics and health are served when nobody says otherwise.
const HTTP_ADDRESS: &str = "127.0.0.1:8001";

/// The nft program, and whether the kernel answers it.
pub(super) fn tools() -> Vec<Finding> {
    let install = "install it: `apt-get install nftables`";
    let version = Command::new("nft").arg("--version").output();
    let Ok(version) = version else {
        let missing = Finding::fail("nft", "the program nft, which publishes ports, is not there", install);
        return vec![missing.fixed_by(Fix::Install("nftables"))];
    };
    let text = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    vec![Finding::ok("nft", text), tables()]
}

fn tables() -> Finding {
    match Command::new("nft").args(["list", "tables"]).output() {
        Ok(listed) if listed.status.success() => Finding::ok("nf_tables", "the kernel answers nft"),
        _ if !nix::unistd::geteuid().is_root() => Finding::warn(
            "nf_tables",
            "only root can ask the kernel",
            "try again with `sudo hypercore doctor`",
        ),
        Ok(listed) => {
            let message = format!("nft fails: {}", String::from_utf8_lossy(&listed.stderr).trim());
            Finding::fail("nf_tables", message, "use a kernel with CONFIG_NF_TABLES")
                .fixed_by(Fix::LoadModule("nf_tables"))
        }
        Err(error) => Finding::fail("nf_tables", format!("nft can't be run: {error}"), "reinstall nftables"),
    }
}

/// Whether the port for metrics and health is free, or the agent's own.
pub(super) fn port(is_agent_running: bool) -> Finding {
    match TcpListener::bind(HTTP_ADDRESS) {
        Ok(_) => Finding::ok("port", format!("{HTTP_ADDRESS} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_agent_running => {
            Finding::ok("port", format!("{HTTP_ADDRESS} is in use, and an agent runs"))
        }
        Err(error) => {
            let message = format!("{HTTP_ADDRESS}, for metrics and health, can't be listened on: {error}");
            Finding::warn("port", message, "give another one: `hypercore up --http-bind-addr 127.0.0.1:PORT`")
        }
    }
}
