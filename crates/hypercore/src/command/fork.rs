//! `hypercore fork`: clones of a running microVM, each of which goes on by itself.

use clap::Args;
use hypercore_api::v1;

use crate::{context::Context, exit::Exit, failure::Outcome, session::Signals, startup};

const EXAMPLES: &str = "\
Examples:
  hypercore fork agent                 prints the id of the clone
  hypercore fork agent -n 3            agent-1, agent-2 and agent-3 go on from the same moment
  hypercore port agent-1               their ports are published where the node has room";

/// Make clones of a running microVM, with ids, addresses and names of their own; it goes on
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ForkArgs {
    /// Id, unique prefix of an id, or name of a microVM that runs
    #[arg(value_name = "WORKLOAD")]
    workload: String,
    /// How many
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    count: u32,
}

/// Makes them, and sees each go on. One that doesn't is told and gone; the others stay.
pub(super) async fn run(args: &ForkArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let mut signals = Signals::listen()?;
    let request = v1::ForkRequest { id: args.workload.clone(), count: args.count, request_id: String::new() };
    let clones = client.fork(request).await?;
    let (mut exit, mut running) = (Exit::Ok, Vec::new());
    for clone in clones {
        match startup::watch(&client, &clone.id, &mut signals, &context.console).await {
            Ok(()) => running.push(clone),
            Err(failure) => exit = exit.and(context.console.report(&failure)),
        }
    }
    if context.console.is_for_people() {
        for clone in &running {
            context.console.line(&clone.id)?;
        }
        return Ok(exit);
    }
    let url = |clone: &v1::VmSpawnResponse| (!clone.url.is_empty()).then(|| clone.url.clone());
    let shown: Vec<_> =
        running.iter().map(|clone| serde_json::json!({ "id": clone.id, "url": url(clone) })).collect();
    context.console.structured(&shown)?;
    Ok(exit)
}
