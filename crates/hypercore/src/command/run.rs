//! `hypercore run`: makes a workload and, unless it is to run in the background, stays with it to its end.

mod environment;
mod spec;

use std::path::PathBuf;

use clap::{ArgAction, Args};
use hypercore_api::{Client, v1};
use hypercore_model::{CpuMillis, ImageReference, Isolation, MemoryBytes, PortMapping, WorkloadName};

use super::runs_on;
use crate::{
    context::Context,
    exit::Exit,
    failure::{Failure, Outcome},
    session::{self, AttachProtocol, End, Options, SignalRoute, Signals},
    startup, terminal,
};

const EXAMPLES: &str = "\
Examples:
  hypercore run --rm busybox -- echo hello
  hypercore run -d --name web -p 8080:80 nginx     in the background; prints the id
  hypercore run --rm -it busybox                   a shell; leave it running with ctrl-p ctrl-q
  hypercore run --cpu 0.5 --memory 256MiB -e MODE=test --env-file ./env job:1";

/// How long a workload gets to end by itself when nobody reads its output any more. A program in its place would have
/// got SIGPIPE and no time at all.
const UNREAD_GRACE_MS: u32 = 1000;

/// Run an image
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunArgs {
    /// [REGISTRY/]NAME[:TAG][@DIGEST]
    #[arg(value_name = "IMAGE")]
    image: ImageReference,
    /// What to run instead of the image's own arguments
    #[arg(value_name = "CMD", trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
    /// Leave it running in the background and print its id
    #[arg(short, long)]
    detach: bool,
    /// Remove it when it has ended
    #[arg(long)]
    rm: bool,
    /// Give it our standard input
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// A name, unique while the workload exists
    #[arg(long, value_name = "NAME")]
    name: Option<WorkloadName>,
    /// Publish a port: HOST:PORT, or PORT for a free host port; /udp for UDP
    #[arg(short, long, value_name = "[HOST:]PORT")]
    publish: Vec<PortMapping>,
    /// CPUs it may use at most, such as 0.5
    #[arg(long, visible_alias = "cpus", value_name = "CPUS")]
    cpu: Option<CpuMillis>,
    /// Memory it may use at most, such as 256MiB
    #[arg(short, long, visible_alias = "mem", value_name = "SIZE")]
    memory: Option<MemoryBytes>,
    /// Processes and threads it may have at most [default: 4096]
    #[arg(long, visible_alias = "pids-limit", value_name = "N")]
    pids: Option<u32>,
    /// Set an environment variable; KEY alone takes ours
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    env: Vec<String>,
    /// Read environment variables from a file, one per line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Mark it with a label
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// What stands between it and its host
    #[arg(long, value_name = "CLASS", default_value = "container", value_parser = parse_isolation)]
    isolation: Isolation,
    /// The program to run instead of the image's entrypoint
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Run as this user
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Working directory inside
    #[arg(short, long, value_name = "DIRECTORY")]
    workdir: Option<String>,
    /// Host name inside [default: the name, or the short id]
    #[arg(long, value_name = "NAME")]
    hostname: Option<WorkloadName>,
    // Replaces the global flag of the same id: after `run`, docker's users mean a volume by `-v`.
    /// Say more about what happens, on stderr
    #[arg(long, action = ArgAction::Count, help_heading = "Global options")]
    verbose: u8,
}

impl RunArgs {
    /// Whether the exit code is ours and not the workload's.
    pub(super) const fn is_detached(&self) -> bool {
        self.detach
    }
}

fn parse_isolation(text: &str) -> Result<Isolation, &'static str> {
    match text {
        "container" => Ok(Isolation::Container),
        "microvm" => Ok(Isolation::MicroVm),
        _ => Err("the classes are `container` and `microvm`"),
    }
}

/// Makes the workload, sees it start, and stays with it or not.
pub(super) async fn run(args: RunArgs, context: &Context) -> Outcome {
    let is_detached = args.detach;
    let spec = spec::read(args)?;
    let (has_input, has_terminal) = (spec.stdin_open && !is_detached, spec.tty);
    if has_input && has_terminal {
        terminal::require()?;
    }
    let client = context.connect().await?;
    let mut signals = Signals::listen()?;
    let spawned = client.spawn(v1::VmSpawnRequest::from(&spec)).await?;
    startup::watch(&client, &spawned.id, &mut signals, &context.console).await?;
    if is_detached {
        return print_id(&spawned, context);
    }
    let options = Options { has_input, has_terminal, may_detach: true };
    match stay(&client, &spawned.id, signals, options).await {
        Err(failure) if failure.is_silent => end_unread(&client, &spawned.id).await,
        Err(failure) => Err(runs_on::after_a_lost_connection(failure, &spawned.id)),
        Ok(End::Exited(status)) => Ok(Exit::Workload(status)),
        Ok(End::Detached) => {
            runs_on::say(&spawned.id, &context.console);
            Ok(Exit::Ok)
        }
        Ok(End::Abandoned(status)) => {
            runs_on::say(&spawned.id, &context.console);
            Ok(Exit::Workload(status))
        }
    }
}

fn print_id(spawned: &v1::VmSpawnResponse, context: &Context) -> Outcome {
    if context.console.is_for_people() {
        context.console.line(&spawned.id)?;
        return Ok(Exit::Ok);
    }
    let url = (!spawned.url.is_empty()).then_some(&spawned.url);
    context.console.structured(&serde_json::json!({ "id": spawned.id, "url": url }))
}

async fn stay(client: &Client, id: &str, signals: Signals, options: Options) -> Result<End, Failure> {
    let start = v1::AttachStart {
        id: id.to_owned(),
        from_start: true,
        stdin: options.has_input,
        size: options.has_terminal.then(terminal::size).flatten(),
    };
    let attached = client.attach(start).await?;
    let route = SignalRoute::Kill { client: client.clone(), id: id.to_owned() };
    session::carry::<AttachProtocol>(attached, options, signals, route).await
}

/// Ends a workload whose output nobody reads any more: `run ... | head` ends as a program in its place would.
/// Its log is written whether we read it or not, so it would never notice by itself.
async fn end_unread(client: &Client, id: &str) -> Outcome {
    let stop = v1::VmStopRequest { id: id.to_owned(), grace_period_ms: Some(UNREAD_GRACE_MS), signal: 0 };
    // It may just have ended, or have been removed by its end: then there is nothing left to do.
    let _ = client.stop(stop).await;
    Ok(Exit::Ok)
}
