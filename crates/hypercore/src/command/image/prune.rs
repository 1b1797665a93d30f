//! `hypercore image prune`: gives back the disk that unused images take. What a workload uses stays.

use clap::Args;
use hypercore_model::units::format_size;
use serde::Serialize;

use crate::{context::Context, exit::Exit, failure::Outcome};

const EXAMPLES: &str = "\
Examples:
  hypercore image prune                what no name leads to any more
  hypercore image prune --all          every image that no workload uses";

/// Remove images that nothing uses
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct PruneArgs {
    /// Also images with a name, if no workload uses them
    #[arg(short, long)]
    all: bool,
}

/// What was removed, for programs.
#[derive(Debug, Serialize)]
struct PruneView {
    references: Vec<String>,
    freed_bytes: u64,
}

/// Does it.
pub(super) async fn run(args: &PruneArgs, context: &Context) -> Outcome {
    let pruned = context.connect().await?.image_prune(args.all).await?;
    let view = PruneView { references: pruned.references, freed_bytes: pruned.freed_bytes };
    if !context.console.is_for_people() {
        return context.console.structured(&view);
    }
    for reference in &view.references {
        context.console.line(reference)?;
    }
    context.console.say(&format!("{} freed", format_size(view.freed_bytes)));
    Ok(Exit::Ok)
}
