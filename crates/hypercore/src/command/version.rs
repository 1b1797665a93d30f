//! `hypercore version`: of this program, and of the agent when one runs.

use clap::Args;
use serde::Serialize;

use crate::{cli::GlobalArgs, console::Console, context::Context, failure::Outcome};

const EXAMPLES: &str = "\
Examples:
  hypercore version
  hypercore version --json | jq -r .agent.version";

/// Show the versions of this program and of the agent
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct VersionArgs {}

#[derive(Debug, Serialize)]
struct Versions {
    version: &'static str,
    agent: Option<Agent>,
}

#[derive(Debug, Serialize)]
struct Agent {
    version: String,
    node: String,
}

/// Prints them. An agent that doesn't answer is no failure: the question was the version.
pub(super) async fn run(global: &GlobalArgs, console: Console) -> Outcome {
    let context =
        Context::load(global, console.clone()).unwrap_or_else(|_| Context::without_file(global, console));
    let versions = Versions { version: env!("CARGO_PKG_VERSION"), agent: ask(&context).await };
    if !context.console.is_for_people() {
        return context.console.structured(&versions);
    }
    let agent = match &versions.agent {
        Some(agent) => format!("{} on node {}", agent.version, agent.node.get(..16).unwrap_or(&agent.node)),
        None => format!("not reachable at {}", context.endpoint()),
    };
    context.console.text(&format!("hypercore {}\nagent     {agent}", versions.version))
}

async fn ask(context: &Context) -> Option<Agent> {
    let info = context.connect().await.ok()?.node_info().await.ok()?;
    let node = info.node?;
    Some(Agent { version: node.version, node: node.id })
}
