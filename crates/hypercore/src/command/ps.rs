//! `hypercore ps`: the workloads there are.

use clap::Args;

use crate::{
    context::Context,
    exit::Exit,
    failure::Outcome,
    table::Table,
    view::{WorkloadView, familiar, short_id},
};

const EXAMPLES: &str = "\
Examples:
  hypercore ps                     what runs
  hypercore ps -a                  also what has ended
  hypercore ps -aq                 only the ids
  hypercore ps --json | jq '.[].name'";

/// List workloads
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PsArgs {
    /// Also show workloads that have ended
    #[arg(short, long)]
    all: bool,
}

/// Lists them.
pub(super) async fn run(args: &PsArgs, context: &Context) -> Outcome {
    let nodes = context.connect().await?.list(args.all).await?;
    let mut states: Vec<_> = nodes.iter().flat_map(|node| &node.workloads).collect();
    states.sort_by(|a, b| b.created_at_ms.cmp(&a.created_at_ms).then_with(|| a.id.cmp(&b.id)));
    let workloads: Vec<_> = states.into_iter().map(WorkloadView::new).collect();
    let console = &context.console;
    if console.is_quiet() && console.is_for_people() {
        for workload in &workloads {
            console.line(&workload.id)?;
        }
        return Ok(Exit::Ok);
    }
    console.data(&workloads, |workloads| table(workloads))
}

fn table(workloads: &[WorkloadView]) -> Table {
    let mut table = Table::new(&["ID", "NAME", "IMAGE", "STATUS", "PORTS", "CREATED"]);
    for workload in workloads {
        table.row([
            short_id(&workload.id),
            workload.name.as_deref().unwrap_or_default(),
            &familiar(&workload.image),
            &workload.status_text(),
            &workload.ports.join(", "),
            &workload.created_text(),
        ]);
    }
    table
}
