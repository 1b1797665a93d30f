//! `hypercore snapshots`: which snapshots a node keeps, and the end of those that nobody needs.

use clap::{Args, Subcommand};
use hypercore_api::v1;
use hypercore_model::{SnapshotName, Timestamp, units::format_size};
use serde::Serialize;

use super::targets::each;
use crate::{
    age,
    context::Context,
    exit::Exit,
    failure::Outcome,
    table::Table,
    view::{familiar, short_id},
};

const EXAMPLES: &str = "\
Examples:
  hypercore snapshots ls
  hypercore snapshots rm ready";

const LS_EXAMPLES: &str = "\
Examples:
  hypercore snapshots ls
  hypercore snapshots ls --verify      read every file again, as after a copy from elsewhere
  hypercore snapshots ls -q            only the names";

const RM_EXAMPLES: &str = "\
Examples:
  hypercore snapshots rm ready
  hypercore snapshots rm $(hypercore snapshots ls -q)";

/// List and remove snapshots of microVMs
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SnapshotsArgs {
    #[command(subcommand)]
    command: SnapshotsCommand,
}

#[derive(Debug, Subcommand)]
enum SnapshotsCommand {
    /// List snapshots, with what they take on the disk
    #[command(after_help = LS_EXAMPLES)]
    Ls {
        /// Read every file, and compare it with the digest that was written when it was made
        #[arg(long)]
        verify: bool,
    },
    /// Remove snapshots; what was restored from them lives on
    #[command(after_help = RM_EXAMPLES)]
    Rm {
        /// Which ones
        #[arg(required = true, value_name = "SNAPSHOT")]
        names: Vec<SnapshotName>,
    },
}

/// One snapshot, as `snapshots ls --json` prints it. Field names and their order are a contract.
#[derive(Debug, Serialize)]
pub(super) struct SnapshotView {
    name: String,
    workload: String,
    workload_name: Option<String>,
    image: String,
    created_at: String,
    size_bytes: u64,
    engine: String,
    engine_version: String,
    memory_bytes: u64,
    cpus: u32,
    /// Whether clones share its memory until they write to it.
    is_mapped: bool,
    tenant: String,
    /// Why it can't be restored.
    problem: Option<String>,
    #[serde(skip)]
    created: Timestamp,
}

impl SnapshotView {
    pub(super) fn new(snapshot: v1::Snapshot) -> Self {
        let created = Timestamp::from_unix_ms(snapshot.created_at_ms);
        let not_empty = |text: String| (!text.is_empty()).then_some(text);
        Self {
            name: snapshot.name,
            workload: snapshot.workload,
            workload_name: not_empty(snapshot.workload_name),
            image: snapshot.image,
            created_at: created.to_string(),
            size_bytes: snapshot.size_bytes,
            engine: snapshot.engine,
            engine_version: snapshot.engine_version,
            memory_bytes: snapshot.memory_bytes,
            cpus: snapshot.cpus,
            is_mapped: snapshot.is_mapped,
            tenant: snapshot.tenant,
            problem: not_empty(snapshot.problem),
            created,
        }
    }

    fn row(&self) -> [String; 6] {
        // Nothing is known of one that can't be read.
        if let Some(problem) = self.problem.as_ref().filter(|_| self.workload.is_empty()) {
            let [none, nobody, nowhere] = Default::default();
            return [self.name.clone(), none, nobody, nowhere, format_size(self.size_bytes), problem.clone()];
        }
        let of = self.workload_name.clone().unwrap_or_else(|| short_id(&self.workload).to_owned());
        let engine = match &self.problem {
            Some(problem) => problem.clone(),
            None => format!("{} {}", self.engine, self.engine_version),
        };
        let created = format!("{} ago", age::since(self.created));
        [self.name.clone(), of, familiar(&self.image), created, format_size(self.size_bytes), engine]
    }
}

/// Does it.
pub(super) async fn run(args: SnapshotsArgs, context: &Context) -> Outcome {
    match args.command {
        SnapshotsCommand::Ls { verify } => list(verify, context).await,
        SnapshotsCommand::Rm { names } => remove(&names, context).await,
    }
}

async fn list(verify: bool, context: &Context) -> Outcome {
    let snapshots = context.connect().await?.snapshot_list(verify).await?;
    let views: Vec<_> = snapshots.into_iter().map(SnapshotView::new).collect();
    if context.console.is_quiet() && context.console.is_for_people() {
        for view in &views {
            context.console.line(&view.name)?;
        }
        return Ok(Exit::Ok);
    }
    context.console.data(&views, |views| {
        let mut table = Table::new(&["SNAPSHOT", "OF", "IMAGE", "CREATED", "SIZE", "ENGINE"]);
        for view in views {
            table.row(view.row().each_ref().map(String::as_str));
        }
        table
    })
}

async fn remove(names: &[SnapshotName], context: &Context) -> Outcome {
    let client = context.connect().await?;
    let targets: Vec<_> = names.iter().map(SnapshotName::to_string).collect();
    each(&context.console, &targets, async |target: &str| client.snapshot_remove(target).await).await
}
