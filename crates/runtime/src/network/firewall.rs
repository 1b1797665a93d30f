//! The node's nft table: address translation and who may talk to whom. All rules are made once, in one transaction;
//! publishing a port adds one map element. It refuses to touch any table but its own.
//!
//! Who may talk (architecture decision 10, default deny; every workload of a node has one tenant today):
//! ```text
//!   workload -> outside                      yes, masqueraded
//!   workload -> workload on this node        yes: one tenant, as on docker's default bridge
//!   workload -> the host's own ports         no (its own published ports through the host's address: yes)
//!   workload -> 169.254.0.0/16, 127.0.0.0/8  no
//!   anybody  -> workload                     only published ports, and answers; the host itself may
//! ```

use std::{io, process::Stdio};

use hypercore_model::PortProtocol;
use tokio::{io::AsyncWriteExt as _, process::Command, sync::Mutex};

use super::{
    address::{BridgeName, Ipv4Cidr},
    attachment::Attachment,
};

/// Where `nft` is looked for after the agent's own `PATH`, which may lack the administrator's directories.
const SYSTEM_PATH: &str = "/usr/sbin:/sbin:/usr/bin:/bin";

/// The table, with the node's names and numbers still to be filled in.
const RULES: &str = include_str!("firewall.nft");

/// Why the node's nft table could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// There is no `nft` on the host.
    #[error("the program `nft` is missing; install the package `nftables`")]
    Missing,
    /// `nft` can't be run.
    #[error("can't run `nft`")]
    Run(#[source] io::Error),
    /// `nft` refused the change.
    #[error("nft refused: {0}")]
    Refused(String),
}

/// The one nft table of a node, named after its bridge.
#[derive(Debug)]
pub(super) struct Firewall {
    bridge: BridgeName,
    subnet: Ipv4Cidr,
    /// Held during each change, so that a sweep can't put back what a concurrent detach just took away.
    turn: Mutex<()>,
}

impl Firewall {
    pub(super) fn new(bridge: BridgeName, subnet: Ipv4Cidr) -> Self {
        Self { bridge, subnet, turn: Mutex::new(()) }
    }

    /// Makes the table with the published ports of these workloads, in place of what a crash may have left.
    pub(super) async fn install(&self, attachments: &[Attachment]) -> Result<(), FirewallError> {
        let _turn = self.turn.lock().await;
        let mut script = self.rules();
        attachments.iter().for_each(|attachment| script += &self.elements("add", attachment));
        run(&script).await
    }

    /// Publishes a workload's ports.
    pub(super) async fn publish(&self, attachment: &Attachment) -> Result<(), FirewallError> {
        if attachment.ports.is_empty() {
            return Ok(());
        }
        let _turn = self.turn.lock().await;
        run(&self.elements("add", attachment)).await
    }

    /// Takes a workload's ports back. Those that aren't published are fine.
    pub(super) async fn withdraw(&self, attachment: &Attachment) -> Result<(), FirewallError> {
        if attachment.ports.is_empty() {
            return Ok(());
        }
        let _turn = self.turn.lock().await;
        // nft 1.0.6 has no `destroy`: adding first makes the deletion find what it deletes.
        run(&(self.elements("add", attachment) + &self.elements("delete", attachment))).await
    }

    /// Makes the published ports exactly those of `attachments()`, which is asked when no other change is under way.
    pub(super) async fn replace(
        &self,
        attachments: impl FnOnce() -> Vec<Attachment>,
    ) -> Result<(), FirewallError> {
        let _turn = self.turn.lock().await;
        let table = self.table();
        let mut script = format!("flush map inet {table} tcp_ports\nflush map inet {table} udp_ports\n");
        attachments().iter().for_each(|attachment| script += &self.elements("add", attachment));
        run(&script).await
    }

    /// Removes the table. One that doesn't exist is fine.
    pub(super) async fn remove(&self) -> Result<(), FirewallError> {
        let _turn = self.turn.lock().await;
        let table = self.table();
        run(&format!("add table inet {table}\ndelete table inet {table}\n")).await
    }

    fn table(&self) -> String {
        table_of(&self.bridge)
    }

    fn elements(&self, verb: &str, attachment: &Attachment) -> String {
        let line = |(map, port): (&str, &super::PublishedPort)| {
            let (table, address) = (self.table(), attachment.address);
            format!(
                "{verb} element inet {table} {map} {{ {} : {address} . {} }}\n",
                port.host, port.container
            )
        };
        attachment.ports.iter().map(|port| line((map_of(port.protocol), port))).collect()
    }

    fn rules(&self) -> String {
        RULES
            .replace("$table", &self.table())
            .replace("$bridge", self.bridge.as_str())
            .replace("$subnet", &self.subnet.to_string())
    }
}

/// A table's name can't be quoted: the prefix keeps a bridge named like a keyword of nft from being one.
fn table_of(bridge: &BridgeName) -> String {
    format!("hypercore-{bridge}")
}

const fn map_of(protocol: PortProtocol) -> &'static str {
    match protocol {
        PortProtocol::Tcp => "tcp_ports",
        PortProtocol::Udp => "udp_ports",
    }
}

/// Other tables' chains that drop forwarded packets by default, as docker and ufw make them: an accepting rule here
/// can't overrule those. Each as `family table chain`.
pub(super) async fn dropping_chains(own: &BridgeName) -> Result<Vec<String>, FirewallError> {
    let output = execute(&["-j", "list", "chains"], "").await?;
    let value: serde_json::Value = serde_json::from_slice(&output).unwrap_or_default();
    let own = table_of(own);
    let chains = value["nftables"].as_array().into_iter().flatten().map(|entry| &entry["chain"]);
    let is_dropping = |chain: &&serde_json::Value| {
        chain["hook"] == "forward" && chain["policy"] == "drop" && chain["table"] != own
    };
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let name = |chain: &serde_json::Value| ["family", "table", "name"].map(|key| text(&chain[key])).join(" ");
    Ok(chains.filter(is_dropping).map(name).collect())
}

/// Runs a script of nft commands as one transaction.
async fn run(script: &str) -> Result<(), FirewallError> {
    execute(&["-f", "-"], script).await.map(drop)
}

async fn execute(arguments: &[&str], input: &str) -> Result<Vec<u8>, FirewallError> {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut child = Command::new("nft")
        .args(arguments)
        .env("PATH", format!("{path}:{SYSTEM_PATH}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => FirewallError::Missing,
            _ => FirewallError::Run(error),
        })?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).await.map_err(FirewallError::Run)?;
    }
    let output = child.wait_with_output().await.map_err(FirewallError::Run)?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(FirewallError::Refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}
