//! `hypercore stats`: what running workloads use, redrawn in place on a terminal every second.

mod screen;
mod view;

use clap::Args;
use hypercore_api::{client::Incoming, v1};

use crate::{
    console::Console,
    context::Context,
    exit::Exit,
    failure::{Failure, Outcome},
};
use screen::Redraw;
use view::{StatsView, table};

const EXAMPLES: &str = "\
Examples:
  hypercore stats                      all that run; leave with ctrl-c
  hypercore stats web db
  hypercore stats --no-stream          one look
  hypercore stats --no-stream --json | jq '.[].memory_bytes'";

/// Time between the two looks that a single answer needs: the use of processors is what lies between them.
const SHORT_INTERVAL_MS: u32 = 500;

/// Show what running workloads use
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct StatsArgs {
    /// Id, unique prefix of an id, or name [default: all that run]
    #[arg(value_name = "WORKLOAD")]
    workloads: Vec<String>,
    /// Show it once
    #[arg(long)]
    no_stream: bool,
}

/// Shows it until the user or the workloads end it.
pub(super) async fn run(args: StatsArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let interval_ms = if args.no_stream { SHORT_INTERVAL_MS } else { 0 };
    let request = v1::StatsRequest { ids: args.workloads, follow: true, interval_ms };
    let looks = client.stats(request).await?;
    if args.no_stream { once(looks, &context.console).await } else { live(looks, &context.console).await }
}

async fn once(mut looks: Incoming<v1::StatsResponse>, console: &Console) -> Outcome {
    let first = looks.next().await?;
    // When all have ended between the two looks, the first is what there was.
    let look = match looks.next().await? {
        Some(second) if !second.workloads.is_empty() => second,
        _ => first.unwrap_or_default(),
    };
    console.data(&views(&look), |views| table(views))
}

async fn live(mut looks: Incoming<v1::StatsResponse>, console: &Console) -> Outcome {
    let mut redraw = Redraw::on_terminal();
    while let Some(look) = looks.next().await? {
        let views = views(&look);
        match &mut redraw {
            _ if !console.is_for_people() => console.line(&document(&look, &views)?)?,
            Some(redraw) => redraw.draw(table(&views))?,
            None => drop(console.text(&table(&views).to_string())?),
        }
    }
    Ok(Exit::Ok)
}

fn views(look: &v1::StatsResponse) -> Vec<StatsView> {
    let mut views: Vec<_> = look.workloads.iter().map(StatsView::new).collect();
    views.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.id.cmp(&b.id)));
    views
}

/// One look as one line, for programs that read on and on.
fn document(look: &v1::StatsResponse, views: &[StatsView]) -> Result<String, Failure> {
    let at = hypercore_model::Timestamp::from_unix_ms(look.ts_ms).to_string();
    let document = serde_json::json!({ "ts": at, "workloads": views });
    serde_json::to_string(&document).map_err(|error| std::io::Error::other(error).into())
}
