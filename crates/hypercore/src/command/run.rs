//! `hypercore run`: makes a workload and, unless it is to run in the background, stays with it to its end.

mod arguments;
pub(super) mod environment;
mod spec;

use hypercore_api::{Client, v1};
use hypercore_model::{ExitStatus, WorkloadSpec};

pub(crate) use arguments::RunArgs;
pub(super) use arguments::parse_bytes;

use super::runs_on;
use crate::{
    console::Console,
    context::Context,
    exit::Exit,
    failure::{Failure, Outcome},
    session::{self, AttachProtocol, End, Options, SignalRoute, Signals},
    startup, terminal,
};

/// How long a workload gets to end by itself when nobody reads its output any more. A program in its place would have
/// got SIGPIPE and no time at all.
const UNREAD_GRACE_MS: u32 = 1000;

/// The signal that nothing withstands (signal(7)).
const KILLED: u8 = 9;

/// Makes the workload, sees it start, and stays with it or not.
pub(super) async fn run(args: RunArgs, context: &Context) -> Outcome {
    let is_detached = args.detach;
    start(spec::read(args)?, is_detached, context).await
}

/// Makes a workload of a spec that was checked, sees it start, and stays with it or not.
pub(super) async fn start(spec: WorkloadSpec, is_detached: bool, context: &Context) -> Outcome {
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
        Ok(End::Exited(status)) => {
            explain(&client, &spawned.id, status, &context.console).await;
            Ok(Exit::Workload(status))
        }
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

/// Prints what was made: its id for people, more for programs.
pub(super) fn print_id(spawned: &v1::VmSpawnResponse, context: &Context) -> Outcome {
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

/// Says why it was killed, where the node knows more than that: a machine can end under its workload.
async fn explain(client: &Client, id: &str, status: ExitStatus, console: &Console) {
    if status != ExitStatus::Signal(KILLED) {
        return;
    }
    // Without an answer the status stands for itself.
    if let Ok(state) = client.inspect(id).await
        && state.reason_code == "machine_ended"
    {
        console.warn(&state.reason);
    }
}

/// Ends a workload whose output nobody reads any more: `run ... | head` ends as a program in its place would.
/// Its log is written whether we read it or not, so it would never notice by itself.
async fn end_unread(client: &Client, id: &str) -> Outcome {
    let stop = v1::VmStopRequest { id: id.to_owned(), grace_period_ms: Some(UNREAD_GRACE_MS), signal: 0 };
    // It may just have ended, or have been removed by its end: then there is nothing left to do.
    let _ = client.stop(stop).await;
    Ok(Exit::Ok)
}
