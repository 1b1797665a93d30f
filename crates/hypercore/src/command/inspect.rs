//! `hypercore inspect`: everything the node knows of some workloads. Always for programs: an array, as docker does.

use std::collections::BTreeMap;

use clap::Args;
use hypercore_api::v1;
use serde::Serialize;

use crate::{context::Context, exit::Exit, failure::Outcome, view::WorkloadView};

const EXAMPLES: &str = "\
Examples:
  hypercore inspect web
  hypercore inspect web | jq -r '.[0].address'
  hypercore inspect -o yaml web db";

/// Show workloads in full
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct InspectArgs {
    /// Id, unique prefix of an id, or name
    #[arg(required = true, value_name = "WORKLOAD")]
    workloads: Vec<String>,
}

/// What `inspect` adds to what `ps` shows.
#[derive(Debug, Serialize)]
struct Details {
    #[serde(flatten)]
    workload: WorkloadView,
    attempt: u32,
    pid: Option<u32>,
    address: Option<String>,
    address6: Option<String>,
    image_digest: Option<String>,
    reason_code: Option<String>,
    out_of_memory: bool,
    entrypoint: Vec<String>,
    command: Vec<String>,
    env: BTreeMap<String, String>,
    user: Option<String>,
    workdir: Option<String>,
    hostname: Option<String>,
    publish: Vec<String>,
    cpu_millis: Option<u32>,
    memory_bytes: Option<u64>,
    pids_max: u32,
    tty: bool,
    stdin_open: bool,
    remove_on_exit: bool,
}

/// Shows them.
pub(super) async fn run(args: &InspectArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let mut exit = Exit::Ok;
    let mut found = Vec::new();
    for target in &args.workloads {
        match client.inspect(target).await {
            Ok(state) => found.push(Details::new(&state)),
            Err(error) => exit = exit.and(context.console.report(&error.into())),
        }
    }
    context.console.structured(&found)?;
    Ok(exit)
}

impl Details {
    fn new(state: &v1::WorkloadState) -> Self {
        let request = state.source_request.clone().unwrap_or_default();
        let env = request.env.iter().filter_map(|text| text.split_once('='));
        Self {
            workload: WorkloadView::new(state),
            attempt: state.attempt,
            pid: not_zero(state.pid),
            address: not_empty(&state.address),
            address6: not_empty(&state.address6),
            image_digest: not_empty(&state.image_digest),
            reason_code: not_empty(&state.reason_code),
            out_of_memory: state.exit.is_some_and(|exit| exit.out_of_memory),
            env: env.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            entrypoint: request.entrypoint,
            command: request.command,
            user: not_empty(&request.user),
            workdir: not_empty(&request.workdir),
            hostname: not_empty(&request.hostname),
            publish: request.publish,
            cpu_millis: not_zero(request.cpu_millis),
            memory_bytes: not_zero(request.memory_bytes),
            pids_max: request.pids_max,
            tty: request.tty,
            stdin_open: request.stdin_open,
            remove_on_exit: request.remove_on_exit,
        }
    }
}

fn not_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn not_zero<T: Default + PartialEq>(number: T) -> Option<T> {
    (number != T::default()).then_some(number)
}
