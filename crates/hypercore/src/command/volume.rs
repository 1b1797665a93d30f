//! `hypercore volume`: storage of the node that outlives workloads.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use hypercore_api::v1;
use hypercore_model::{Timestamp, VolumeName, units::format_size};
use serde::Serialize;

use super::{run::parse_bytes, targets::each};
use crate::{age, context::Context, exit::Exit, failure::Outcome, table::Table, view::short_id};

const EXAMPLES: &str = "\
Examples:
  hypercore volume create data
  hypercore run -d --name db -v data:/var/lib/db postgres:17
  hypercore volume ls
  hypercore volume rm data";

const CREATE_EXAMPLES: &str = "\
Examples:
  hypercore volume create data
  hypercore volume create --label team=blue cache
  hypercore volume create --size 20GiB disk    a disk of its own, for microVMs
  hypercore volume create              with a name that is drawn and printed";

const LS_EXAMPLES: &str = "\
Examples:
  hypercore volume ls
  hypercore volume ls -q               only the names";

const INSPECT_EXAMPLES: &str = "\
Examples:
  hypercore volume inspect data
  hypercore volume inspect data | jq -r '.[0].size_bytes'";

const RM_EXAMPLES: &str = "\
Examples:
  hypercore volume rm data
  hypercore volume rm $(hypercore volume ls -q)";

/// Make, list and remove volumes: storage that outlives workloads
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct VolumeArgs {
    #[command(subcommand)]
    command: VolumeCommand,
}

#[derive(Debug, Subcommand)]
enum VolumeCommand {
    /// Make an empty volume; `run -v NAME:TARGET` makes it too
    #[command(after_help = CREATE_EXAMPLES)]
    Create {
        /// Its name [default: one that is drawn]
        #[arg(value_name = "VOLUME")]
        name: Option<VolumeName>,
        /// Make it a disk of this size, for microVMs alone [default: as its first use needs it]
        #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
        size: Option<u64>,
        /// Mark it for people and programs
        #[arg(short, long, value_name = "KEY=VALUE")]
        label: Vec<String>,
    },
    /// List volumes
    #[command(after_help = LS_EXAMPLES)]
    Ls,
    /// Show volumes in full, with what is in them
    #[command(after_help = INSPECT_EXAMPLES)]
    Inspect {
        /// Which ones
        #[arg(required = true, value_name = "VOLUME")]
        names: Vec<VolumeName>,
    },
    /// Remove volumes with all that is in them; refused while a workload has them
    #[command(after_help = RM_EXAMPLES)]
    Rm {
        /// Which ones
        #[arg(required = true, value_name = "VOLUME")]
        names: Vec<VolumeName>,
    },
}

/// One volume, as `volume ls --json` prints it. Field names and their order are a contract.
#[derive(Debug, Serialize)]
struct VolumeView {
    name: String,
    created_at: String,
    labels: BTreeMap<String, String>,
    path: String,
    /// `directory` or `block`; empty until it was used.
    form: String,
    /// Only a block volume has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    capacity_bytes: Option<u64>,
    used_by: Vec<String>,
    /// Only `inspect` counts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    size_bytes: Option<u64>,
    #[serde(skip)]
    created: Timestamp,
}

impl VolumeView {
    fn new(volume: v1::Volume, is_counted: bool) -> Self {
        let created = Timestamp::from_unix_ms(volume.created_at_ms);
        Self {
            name: volume.name,
            created_at: created.to_string(),
            labels: volume.labels.into_iter().collect(),
            path: volume.path,
            form: volume.form,
            capacity_bytes: (volume.capacity_bytes > 0).then_some(volume.capacity_bytes),
            used_by: volume.used_by,
            size_bytes: is_counted.then_some(volume.size_bytes),
            created,
        }
    }
}

/// Does it.
pub(super) async fn run(args: VolumeArgs, context: &Context) -> Outcome {
    match args.command {
        VolumeCommand::Create { name, size, label } => create(name, size, &label, context).await,
        VolumeCommand::Ls => list(context).await,
        VolumeCommand::Inspect { names } => inspect(&names, context).await,
        VolumeCommand::Rm { names } => remove(&names, context).await,
    }
}

async fn create(name: Option<VolumeName>, size: Option<u64>, label: &[String], context: &Context) -> Outcome {
    let name = name.map(|name| name.to_string()).unwrap_or_default();
    let volume = context.connect().await?.volume_create(&name, labels(label), size).await?;
    if context.console.is_for_people() {
        context.console.line(&volume.name)?;
        return Ok(Exit::Ok);
    }
    context.console.structured(&VolumeView::new(volume, false))
}

async fn list(context: &Context) -> Outcome {
    let volumes = context.connect().await?.volume_list().await?;
    let views: Vec<_> = volumes.into_iter().map(|volume| VolumeView::new(volume, false)).collect();
    if context.console.is_quiet() && context.console.is_for_people() {
        for view in &views {
            context.console.line(&view.name)?;
        }
        return Ok(Exit::Ok);
    }
    context.console.data(&views, |views| {
        let mut table = Table::new(&["VOLUME", "FORM", "CREATED", "USED BY", "LABELS"]);
        for view in views {
            let created = format!("{} ago", age::since(view.created));
            let users: Vec<_> = view.used_by.iter().map(|id| short_id(id)).collect();
            let labels: Vec<_> = view.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let form = match view.capacity_bytes {
                Some(bytes) => format!("{} {}", view.form, format_size(bytes)),
                None if view.form.is_empty() => "-".to_owned(),
                None => view.form.clone(),
            };
            table.row([&view.name, &form, &created, &users.join(","), &labels.join(",")]);
        }
        table
    })
}

async fn inspect(names: &[VolumeName], context: &Context) -> Outcome {
    let client = context.connect().await?;
    let mut exit = Exit::Ok;
    let mut found = Vec::new();
    for name in names {
        match client.volume_inspect(name.as_str()).await {
            Ok(volume) => {
                context.console.detail(&format!("{name}: {}", format_size(volume.size_bytes)));
                found.push(VolumeView::new(volume, true));
            }
            Err(error) => exit = exit.and(context.console.report(&error.into())),
        }
    }
    context.console.structured(&found)?;
    Ok(exit)
}

async fn remove(names: &[VolumeName], context: &Context) -> Outcome {
    let client = context.connect().await?;
    let targets: Vec<_> = names.iter().map(VolumeName::to_string).collect();
    each(&context.console, &targets, async |target: &str| client.volume_remove(target).await).await
}

/// `KEY=VALUE`, or `KEY` for an empty value; a later one replaces an earlier one.
fn labels(texts: &[String]) -> BTreeMap<String, String> {
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) => (key.to_owned(), value.to_owned()),
        None => (text.clone(), String::new()),
    };
    texts.iter().map(pair).collect()
}
