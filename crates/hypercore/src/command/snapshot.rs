//! `hypercore snapshot`: keeps a running microVM, with its memory and its disk, to go on from later.

use clap::Args;
use hypercore_model::{SnapshotName, units::format_size};

use super::snapshots::SnapshotView;
use crate::{context::Context, exit::Exit, failure::Outcome};

const EXAMPLES: &str = "\
Examples:
  hypercore snapshot agent ready       `agent` goes on; `ready` can be restored as often as needed
  hypercore restore ready --name second
  hypercore snapshots ls";

/// Keep a running microVM with its memory and disk; it goes on meanwhile
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SnapshotArgs {
    /// Id, unique prefix of an id, or name of a microVM that runs
    #[arg(value_name = "WORKLOAD")]
    workload: String,
    /// What the snapshot shall be called
    #[arg(value_name = "NAME")]
    name: SnapshotName,
}

/// Makes it.
pub(super) async fn run(args: &SnapshotArgs, context: &Context) -> Outcome {
    let made = context.connect().await?.snapshot(&args.workload, args.name.as_str()).await?;
    if !context.console.is_for_people() {
        return context.console.structured(&SnapshotView::new(made));
    }
    context.console.line(&made.name)?;
    context.console.say(&format!("{} on the disk", format_size(made.size_bytes)));
    Ok(Exit::Ok)
}
