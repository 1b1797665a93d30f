//! `hypercore pause` and `resume`: hold a workload's processes where they are, and let them go on.

use clap::Args;

use super::targets::each;
use crate::{context::Context, failure::Outcome};

const PAUSE_EXAMPLES: &str = "\
Examples:
  hypercore pause web                  it keeps its memory, ports and address
  hypercore resume web";

const RESUME_EXAMPLES: &str = "\
Examples:
  hypercore pause web db
  hypercore resume web db";

/// Hold workloads where they are, without ending them
#[derive(Debug, Args)]
#[command(after_help = PAUSE_EXAMPLES)]
pub(crate) struct PauseArgs {
    /// Id, unique prefix of an id, or name
    #[arg(required = true, value_name = "WORKLOAD")]
    workloads: Vec<String>,
}

/// Let paused workloads go on
#[derive(Debug, Args)]
#[command(after_help = RESUME_EXAMPLES)]
pub(crate) struct ResumeArgs {
    /// Id, unique prefix of an id, or name
    #[arg(required = true, value_name = "WORKLOAD")]
    workloads: Vec<String>,
}

/// Pauses them.
pub(super) async fn pause(args: PauseArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    each(&context.console, &args.workloads, async |target: &str| client.pause(target).await).await
}

/// Resumes them.
pub(super) async fn resume(args: ResumeArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    each(&context.console, &args.workloads, async |target: &str| client.resume(target).await).await
}
