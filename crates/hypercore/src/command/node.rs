//! `hypercore node`: the nodes there are. Today that is the one that answers.

mod view;

use clap::{Args, Subcommand};
use hypercore_api::{Client, v1};

use crate::{
    context::Context,
    failure::{Failure, Outcome},
};
use view::{NodeView, Used, table};

const EXAMPLES: &str = "\
Examples:
  hypercore node ls
  hypercore node ls --metrics          with what workloads use now
  hypercore node inspect";

const LS_EXAMPLES: &str = "\
Examples:
  hypercore node ls
  hypercore node ls --metrics
  hypercore node ls --json | jq '.[0].capacity'";

const INSPECT_EXAMPLES: &str = "\
Examples:
  hypercore node inspect
  hypercore node inspect | jq -r .data_directory";

/// Time between the two looks that tell how busy processors are.
const LOOK_INTERVAL_MS: u32 = 500;

/// Show nodes
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct NodeArgs {
    #[command(subcommand)]
    command: NodeCommand,
}

#[derive(Debug, Subcommand)]
enum NodeCommand {
    #[command(visible_alias = "list")]
    Ls(LsArgs),
    Inspect(InspectArgs),
}

/// List nodes
#[derive(Debug, Args)]
#[command(after_help = LS_EXAMPLES)]
pub(crate) struct LsArgs {
    /// Also measure what workloads use now
    #[arg(long)]
    pub(super) metrics: bool,
}

/// Show the node that answers in full
#[derive(Debug, Args)]
#[command(after_help = INSPECT_EXAMPLES)]
pub(crate) struct InspectArgs {}

/// Does what was asked.
pub(super) async fn run(args: NodeArgs, context: &Context) -> Outcome {
    match args.command {
        NodeCommand::Ls(args) => ls(&args, context).await,
        NodeCommand::Inspect(_) => inspect(context).await,
    }
}

/// Lists them.
pub(super) async fn ls(args: &LsArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let info = client.node_info().await?;
    let used = if args.metrics { Some(measure(&client).await?) } else { None };
    let nodes = [NodeView::new(&info, used)];
    if context.console.is_quiet() && context.console.is_for_people() {
        return context.console.text(&nodes[0].id);
    }
    context.console.data(&nodes, |nodes| table(nodes))
}

async fn inspect(context: &Context) -> Outcome {
    let client = context.connect().await?;
    let info = client.node_info().await?;
    let used = measure(&client).await?;
    context.console.structured(&NodeView::new(&info, Some(used)))
}

/// What all workloads use together, from two looks a moment apart.
async fn measure(client: &Client) -> Result<Used, Failure> {
    let request = v1::StatsRequest { ids: Vec::new(), follow: true, interval_ms: LOOK_INTERVAL_MS };
    let mut looks = client.stats(request).await?;
    looks.next().await?;
    Ok(Used::of(&looks.next().await?.unwrap_or_default()))
}
