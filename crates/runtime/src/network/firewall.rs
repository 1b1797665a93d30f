//! The node's nft table: address translation and who may talk to whom. All rules are made once, by `nft`, in one
//! transaction; a workload adds elements to their sets and maps. It refuses to touch any table but its own.
//!
//! Who may talk (architecture decision 10, default deny):
//! ```text
//!   workload -> outside                      yes, masqueraded
//!   workload -> workload of its own tenant   yes
//!   workload -> workload of another tenant   only published ports; all of it with `--allow tenants`
//!   workload -> the host's own ports         only with `--allow host`
//!   workload -> clouds' metadata addresses   only with `--allow metadata`
//!   workload -> 127.0.0.0/8 of the host      no
//!   anybody  -> workload                     only published ports, and answers; the host itself may
//! ```
//! Published ports are public: every workload may use those of every other, as the whole network may.

use std::{io, process::Stdio, sync::Arc};

use tokio::{io::AsyncWriteExt as _, process::Command};

use super::{
    address::{BridgeName, WorkloadSubnet},
    attachment::Attachment,
    element::elements_of,
    group::NodeTag,
    nftables::Nftables,
    prefix::WorkloadPrefix,
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
    /// No netlink socket.
    #[error("can't open a netlink socket to the firewall")]
    Socket(#[source] Arc<io::Error>),
    /// The kernel refused to add elements.
    #[error("the kernel refused to add a workload to the nft table {table}; is the table still there?")]
    Add {
        /// The table.
        table: String,
        /// Why.
        #[source]
        source: Arc<io::Error>,
    },
    /// The kernel refused to remove elements.
    #[error("the kernel refused to remove a workload from the nft table {table}")]
    Remove {
        /// The table.
        table: String,
        /// Why.
        #[source]
        source: Arc<io::Error>,
    },
}

/// The one nft table of a node, named after its bridge.
#[derive(Debug)]
pub(super) struct Firewall {
    bridge: BridgeName,
    subnet: WorkloadSubnet,
    prefix: Option<WorkloadPrefix>,
    nftables: Nftables,
}

impl Firewall {
    pub(super) const fn new(
        bridge: BridgeName,
        subnet: WorkloadSubnet,
        prefix: Option<WorkloadPrefix>,
        nftables: Nftables,
    ) -> Self {
        Self { bridge, subnet, prefix, nftables }
    }

    /// Makes the table with what these workloads need, in place of whatever is there. No other change may be under way.
    pub(super) async fn install(&self, attachments: &[Attachment]) -> Result<(), FirewallError> {
        let mut script = self.rules();
        let table = self.table();
        for element in attachments.iter().flat_map(|attachment| elements_of(&self.bridge, attachment)) {
            script += &format!("add element inet {table} {} {{ {} }}\n", element.set, element.text);
        }
        run(&script).await
    }

    /// Makes a workload known: its tenant, what it may reach, its published ports.
    pub(super) fn admit(&self, attachment: &Attachment) -> Result<(), FirewallError> {
        let (table, elements) = (self.table(), elements_of(&self.bridge, attachment));
        self.nftables
            .add(&table, &elements)
            .map_err(|source| FirewallError::Add { table, source: Arc::new(source) })
    }

    /// Forgets a workload, if it is known.
    pub(super) fn expel(&self, attachment: &Attachment) -> Result<(), FirewallError> {
        let (table, elements) = (self.table(), elements_of(&self.bridge, attachment));
        match self.nftables.remove(&table, &elements) {
            // Somebody removed the whole table, and the workload's elements with it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(|source| FirewallError::Remove { table, source: Arc::new(source) }),
        }
    }

    /// Removes the table. One that doesn't exist is fine.
    pub(super) async fn remove(&self) -> Result<(), FirewallError> {
        let table = self.table();
        run(&format!("add table inet {table}\ndelete table inet {table}\n")).await
    }

    fn table(&self) -> String {
        table_of(&self.bridge)
    }

    fn rules(&self) -> String {
        let gateway = self.subnet.gateway();
        let (subnet6, gateway6) = match self.prefix {
            Some(prefix) => (prefix.to_string(), prefix.address_of(gateway).to_string()),
            None => (String::new(), String::new()),
        };
        let needs_prefix = |line: &&str| line.contains("$subnet6") || line.contains("$gateway6");
        let lines = RULES.lines().filter(|line| self.prefix.is_some() || !needs_prefix(line));
        let rules: String = lines.map(|line| format!("{line}\n")).collect();
        rules
            .replace("$table", &self.table())
            .replace("$bridge", self.bridge.as_str())
            .replace("$node", &NodeTag::of(&self.bridge).number().to_string())
            .replace("$subnet6", &subnet6)
            .replace("$gateway6", &gateway6)
            .replace("$subnet", &self.subnet.to_string())
            .replace("$gateway", &gateway.to_string())
    }
}

/// A table's name can't be quoted: the prefix keeps a bridge named like a keyword of nft from being one.
fn table_of(bridge: &BridgeName) -> String {
    format!("hypercore-{bridge}")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_filled_in_and_a_node_without_ipv6_has_no_rules_that_need_its_prefix() {
        let rules = |prefix: Option<&str>| {
            let prefix = prefix.map(|prefix| prefix.parse().unwrap());
            let nftables = Nftables::open().unwrap();
            Firewall::new("br7".parse().unwrap(), "10.7.0.0/16".parse().unwrap(), prefix, nftables).rules()
        };
        let with = rules(Some("fd12:3456:789a:1::/64"));
        assert!(
            with.contains(
                "ip6 saddr fd12:3456:789a:1::/64 ct status dnat snat ip6 to fd12:3456:789a:1::a07:1"
            )
        );
        let without = rules(None);
        assert!(!without.contains("ip6 saddr"));
        for rules in [with, without] {
            let words =
                rules.lines().filter(|line| !line.trim().starts_with('#')).any(|line| line.contains('$'));
            assert!(!words, "{rules}");
            assert!(
                rules.contains("table inet hypercore-br7 {")
                    && rules.contains("ip saddr 10.7.0.0/16 masquerade")
            );
        }
    }
}
