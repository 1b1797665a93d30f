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

use std::{
    io, mem,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
};

use hypercore_model::PortProtocol;
use tokio::{
    io::AsyncWriteExt as _,
    process::Command,
    sync::{self, oneshot},
};

use super::{
    address::{BridgeName, WorkloadSubnet},
    attachment::Attachment,
};

/// Where `nft` is looked for after the agent's own `PATH`, which may lack the administrator's directories.
const SYSTEM_PATH: &str = "/usr/sbin:/sbin:/usr/bin:/bin";

/// The table, with the node's names and numbers still to be filled in.
const RULES: &str = include_str!("firewall.nft");

/// Why the node's nft table could not be changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FirewallError {
    /// There is no `nft` on the host.
    #[error("the program `nft` is missing; install the package `nftables`")]
    Missing,
    /// `nft` can't be run.
    #[error("can't run `nft`")]
    Run(#[source] Arc<io::Error>),
    /// `nft` refused the change.
    #[error("nft refused: {0}")]
    Refused(String),
}

/// The one nft table of a node, named after its bridge.
#[derive(Debug)]
pub(super) struct Firewall {
    bridge: BridgeName,
    subnet: WorkloadSubnet,
    /// Held while `nft` runs: changes of the table have an order.
    turn: sync::Mutex<()>,
    /// Changes that wait for their turn. Whoever gets it takes all of them along, because running `nft` costs
    /// milliseconds and a longer script almost nothing.
    waiting: Mutex<Vec<Change>>,
}

/// A change that somebody waits for.
#[derive(Debug)]
struct Change {
    script: String,
    done: oneshot::Sender<Result<(), FirewallError>>,
}

impl Firewall {
    pub(super) fn new(bridge: BridgeName, subnet: WorkloadSubnet) -> Self {
        Self { bridge, subnet, turn: sync::Mutex::default(), waiting: Mutex::default() }
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
        self.change(self.elements("add", attachment)).await
    }

    /// Takes a workload's ports back. Those that aren't published are fine.
    pub(super) async fn withdraw(&self, attachment: &Attachment) -> Result<(), FirewallError> {
        if attachment.ports.is_empty() {
            return Ok(());
        }
        // nft 1.0.6 has no `destroy`: adding first makes the deletion find what it deletes.
        self.change(self.elements("add", attachment) + &self.elements("delete", attachment)).await
    }

    /// Makes the published ports exactly those of these workloads. No other change may be under way.
    pub(super) async fn replace(&self, attachments: &[Attachment]) -> Result<(), FirewallError> {
        let table = self.table();
        let mut script = format!("flush map inet {table} tcp_ports\nflush map inet {table} udp_ports\n");
        attachments.iter().for_each(|attachment| script += &self.elements("add", attachment));
        self.change(script).await
    }

    /// Removes the table. One that doesn't exist is fine.
    pub(super) async fn remove(&self) -> Result<(), FirewallError> {
        let _turn = self.turn.lock().await;
        let table = self.table();
        run(&format!("add table inet {table}\ndelete table inet {table}\n")).await
    }

    /// Makes a change that may be made twice without harm, together with all that wait at the same time.
    async fn change(&self, script: String) -> Result<(), FirewallError> {
        let (done, mut result) = oneshot::channel();
        self.waiting().push(Change { script: script.clone(), done });
        let _turn = self.turn.lock().await;
        match result.try_recv() {
            Ok(result) => return result,
            // Whoever took it along was cancelled.
            Err(oneshot::error::TryRecvError::Closed) => return run(&script).await,
            Err(oneshot::error::TryRecvError::Empty) => {}
        }
        let changes = mem::take(&mut *self.waiting());
        let all: String = changes.iter().map(|change| change.script.as_str()).collect();
        let is_done = run(&all).await.is_ok();
        for change in changes {
            // One change that is refused must not take the others down with it.
            let result = if is_done { Ok(()) } else { run(&change.script).await };
            // Nobody waits any more for a change whose caller was cancelled.
            let _ = change.done.send(result);
        }
        result.await.unwrap_or(Ok(()))
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Change>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
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
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => FirewallError::Missing,
            _ => run_error(error),
        })?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).await.map_err(run_error)?;
    }
    let output = child.wait_with_output().await.map_err(run_error)?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(FirewallError::Refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}

fn run_error(error: io::Error) -> FirewallError {
    FirewallError::Run(Arc::new(error))
}
