//! `hypercore stop`, `kill` and `rm`: the commands that end workloads.

use std::time::Duration;

use clap::Args;
use hypercore_api::v1;

use super::targets::each;
use crate::{context::Context, failure::Outcome, signal::SignalNumber};

const STOP_EXAMPLES: &str = "\
Examples:
  hypercore stop web
  hypercore stop -t 30 web db          give them half a minute
  hypercore stop $(hypercore ps -q)    stop everything";

const KILL_EXAMPLES: &str = "\
Examples:
  hypercore kill web
  hypercore kill -s HUP web            a signal is not always an end";

const RM_EXAMPLES: &str = "\
Examples:
  hypercore rm web
  hypercore rm -f web                  also when it still runs";

/// Stop workloads: ask them to end, then end them
#[derive(Debug, Args)]
#[command(after_help = STOP_EXAMPLES)]
pub(crate) struct StopArgs {
    /// Id, unique prefix of an id, or name
    #[arg(required = true, value_name = "WORKLOAD")]
    workloads: Vec<String>,
    /// Seconds they get to end by themselves [default: 10]
    #[arg(short, long, visible_alias = "time", value_name = "SECONDS")]
    timeout: Option<u32>,
    /// The signal that asks [default: the image's stop signal, or TERM]
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<SignalNumber>,
}

/// Send a signal to workloads
#[derive(Debug, Args)]
#[command(after_help = KILL_EXAMPLES)]
pub(crate) struct KillArgs {
    /// Id, unique prefix of an id, or name
    #[arg(required = true, value_name = "WORKLOAD")]
    workloads: Vec<String>,
    /// The signal, by name or number
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    signal: SignalNumber,
}

/// Remove workloads that have ended
#[derive(Debug, Args)]
#[command(after_help = RM_EXAMPLES)]
pub(crate) struct RmArgs {
    /// Id, unique prefix of an id, or name
    #[arg(required = true, value_name = "WORKLOAD")]
    workloads: Vec<String>,
    /// End them first when they still run
    #[arg(short, long)]
    force: bool,
}

impl StopArgs {
    /// The same as typed under another name.
    pub(super) const fn of(workloads: Vec<String>, timeout: Option<u32>) -> Self {
        Self { workloads, timeout, signal: None }
    }
}

/// Stops them; each is told when it has ended.
pub(super) async fn stop(args: StopArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let grace_period_ms = args.timeout.map(|seconds| {
        let grace = Duration::from_secs(seconds.into());
        u32::try_from(grace.as_millis()).unwrap_or(u32::MAX)
    });
    let signal = args.signal.map_or(0, SignalNumber::number);
    each(&context.console, &args.workloads, async |target: &str| {
        client.stop(v1::VmStopRequest { id: target.to_owned(), grace_period_ms, signal }).await
    })
    .await
}

/// Sends them the signal.
pub(super) async fn kill(args: KillArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let signal = args.signal.number();
    each(&context.console, &args.workloads, async |target: &str| client.kill(target, signal).await).await
}

/// Removes them.
pub(super) async fn rm(args: RmArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    each(&context.console, &args.workloads, async |target: &str| client.remove(target, args.force).await)
        .await
}
