//! `hypercore restore`: a new workload that goes on where a snapshot was made.

use clap::Args;
use hypercore_api::v1;
use hypercore_model::{PortMapping, SnapshotName, WorkloadName};

use super::run::print_id;
use crate::{context::Context, failure::Outcome, session::Signals, startup};

const EXAMPLES: &str = "\
Examples:
  hypercore restore ready              prints the id of the new workload
  hypercore restore ready --name second -p 8081:80
  hypercore restore ready --no-ports   while the one that it was made of holds them";

/// Go on from a snapshot, as a workload with an id, an address and a name of its own
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RestoreArgs {
    /// The snapshot
    #[arg(value_name = "SNAPSHOT")]
    snapshot: SnapshotName,
    /// A name, unique while the workload exists
    #[arg(long, value_name = "NAME")]
    name: Option<WorkloadName>,
    /// Publish this instead of what the snapshot published: HOST:PORT, or PORT for a free host port; /udp for UDP
    #[arg(short, long, value_name = "[HOST:]PORT")]
    publish: Vec<PortMapping>,
    /// Publish nothing
    #[arg(long, conflicts_with = "publish")]
    no_ports: bool,
}

/// Makes the workload, and sees it go on.
pub(super) async fn run(args: RestoreArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let mut signals = Signals::listen()?;
    let request = v1::RestoreRequest {
        snapshot: args.snapshot.to_string(),
        name: args.name.map(|name| name.to_string()).unwrap_or_default(),
        publish: args.publish.iter().map(ToString::to_string).collect(),
        no_ports: args.no_ports,
        request_id: String::new(),
    };
    let spawned = client.restore(request).await?;
    startup::watch(&client, &spawned.id, &mut signals, &context.console).await?;
    print_id(&spawned, context)
}
