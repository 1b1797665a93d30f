//! `hypercore inspect`: everything the node knows of some workloads. Always for programs: an array, as docker does.

use std::collections::BTreeMap;

use clap::Args;
use hypercore_api::v1::{self, mount::Source};
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
    /// What runs its machine and with what, of a microVM; what was asked for until it was started.
    vmm: Option<String>,
    accelerator: Option<String>,
    /// What its first run went on from.
    snapshot: Option<String>,
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
    read_only_rootfs: bool,
    mounts: Vec<MountView>,
    restart: String,
    ttl_ms: Option<u64>,
    stop_signal: Option<i32>,
    stop_grace_ms: Option<u64>,
    ulimits: Vec<String>,
    cap_add: Vec<String>,
    cap_drop: Vec<String>,
    user_namespace: bool,
    init: bool,
    tenant: String,
    allow: Vec<String>,
    route_port: Option<u32>,
}

/// Something mounted besides the image.
#[derive(Debug, Serialize)]
struct MountView {
    /// `bind`, `volume` or `tmpfs`.
    r#type: &'static str,
    /// The node's path, or the volume's name.
    source: Option<String>,
    target: String,
    read_only: bool,
    size_bytes: Option<u64>,
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
            vmm: not_empty(&state.vmm).or_else(|| not_empty(&request.vmm)),
            accelerator: not_empty(&state.accelerator),
            snapshot: not_empty(&state.snapshot),
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
            read_only_rootfs: request.read_only_rootfs,
            mounts: request.mounts.into_iter().map(MountView::new).collect(),
            restart: request.restart,
            ttl_ms: not_zero(request.ttl_ms),
            stop_signal: not_zero(request.stop_signal),
            stop_grace_ms: request.stop_grace_ms,
            ulimits: request.ulimits,
            cap_add: request.cap_add,
            cap_drop: request.cap_drop,
            user_namespace: request.user_namespace,
            init: request.init,
            tenant: request.tenant,
            allow: request.allow,
            route_port: not_zero(request.route_port),
        }
    }
}

impl MountView {
    fn new(mount: v1::Mount) -> Self {
        let (r#type, source, size_bytes) = match mount.source {
            Some(Source::Bind(path)) => ("bind", Some(path), None),
            Some(Source::Volume(name)) => ("volume", Some(name), None),
            Some(Source::Tmpfs(tmpfs)) => ("tmpfs", None, not_zero(tmpfs.size_bytes)),
            None => ("unknown", None, None),
        };
        Self { r#type, source, target: mount.target, read_only: mount.read_only, size_bytes }
    }
}

fn not_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn not_zero<T: Default + PartialEq>(number: T) -> Option<T> {
    (number != T::default()).then_some(number)
}
