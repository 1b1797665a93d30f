//! `hypercore ps`: the workloads there are.

mod filter;

use clap::Args;
use hypercore_api::v1;

use crate::{
    context::Context,
    exit::Exit,
    failure::Outcome,
    table::Table,
    view::{WorkloadView, familiar, short_id},
};
use filter::Filter;

const EXAMPLES: &str = "\
Examples:
  hypercore ps                     what runs
  hypercore ps -a                  also what has ended
  hypercore ps -aq                 only the ids
  hypercore ps -f status=running -f label=tier=front
  hypercore ps -l                  the newest, whatever became of it
  hypercore ps --json | jq '.[].name'";

/// List workloads
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PsArgs {
    /// Also show workloads that have ended
    #[arg(short, long)]
    all: bool,
    /// Only what matches: status=running, label=KEY[=VALUE], name=TEXT, image=REFERENCE, id=PREFIX; of several kinds all must
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    /// Only the newest, also when they have ended
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "latest")]
    last: Option<usize>,
    /// Only the newest one, also when it has ended
    #[arg(short, long)]
    latest: bool,
    /// Show whole ids and image references
    #[arg(long)]
    no_trunc: bool,
}

/// Lists them.
pub(super) async fn run(args: &PsArgs, context: &Context) -> Outcome {
    let newest_max = args.last.or(args.latest.then_some(1));
    // A filter for a status asks for that status, ended or not.
    let all = args.all || newest_max.is_some() || args.filter.iter().any(Filter::is_about_status);
    let nodes = context.connect().await?.list(all).await?;
    let mut states: Vec<&v1::WorkloadState> = nodes.iter().flat_map(|node| &node.workloads).collect();
    states.sort_by(|a, b| b.created_at_ms.cmp(&a.created_at_ms).then_with(|| a.id.cmp(&b.id)));
    let views = states.into_iter().map(WorkloadView::new).filter(|view| filter::passes(&args.filter, view));
    let workloads: Vec<_> = views.take(newest_max.unwrap_or(usize::MAX)).collect();
    let console = &context.console;
    if console.is_quiet() && console.is_for_people() {
        for workload in &workloads {
            console.line(&workload.id)?;
        }
        return Ok(Exit::Ok);
    }
    console.data(&workloads, |workloads| table(workloads, args.no_trunc))
}

fn table(workloads: &[WorkloadView], is_whole: bool) -> Table {
    let mut table = Table::new(&["ID", "NAME", "IMAGE", "STATUS", "PORTS", "CREATED"]);
    if is_whole {
        table.keep_whole();
    }
    for workload in workloads {
        table.row([
            if is_whole { &workload.id } else { short_id(&workload.id) },
            workload.name.as_deref().unwrap_or_default(),
            &if is_whole { workload.image.clone() } else { familiar(&workload.image) },
            &workload.status_text(),
            &workload.ports.join(", "),
            &workload.created_text(),
        ]);
    }
    table
}
