//! From an accepted workload to one that runs: shows the pull, and tells a failure as if it were the call's own.
//! A workload that never ran leaves nothing behind: its name is free for the next try, as with docker.

use hypercore_api::{ApiError, Client, ErrorKind, v1, v1::progress_event::Event};
use hypercore_model::{ExitStatus, WorkloadStatus};

use crate::{console::Console, exit::Exit, failure::Failure, pull::PullBars, session::Signals};

/// Returns when the workload runs, or has already run to its end.
///
/// # Errors
/// Why it could not be run. Then, and when the user gave up waiting, it has been removed.
pub(crate) async fn watch(
    client: &Client,
    id: &str,
    signals: &mut Signals,
    console: &Console,
) -> Result<(), Failure> {
    let failure = tokio::select! {
        started = follow(client, id, console) => match started {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        },
        signal = signals.asked_to_end() => gave_up(signal),
    };
    // The failure is what matters now; a workload that is gone already needs no removing.
    let _ = client.remove(id, true).await;
    Err(failure)
}

async fn follow(client: &Client, id: &str, console: &Console) -> Result<(), Failure> {
    let mut events = match client.progress(id).await {
        Ok(events) => events,
        // It was to be removed at its end, and that is already over.
        Err(error) if error.kind == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut bars = PullBars::new(console);
    let mut last = None;
    while let Some(event) = events.next().await? {
        match event.event {
            Some(Event::Pull(progress)) => bars.update(&progress),
            Some(Event::State(state)) => {
                console.detail(&format!("{id} is {}", WorkloadStatus::from(state.status())));
                last = Some(state);
            }
            None => {}
        }
    }
    bars.finish();
    match last {
        Some(state) if has_never_run(&state) => Err(why_not(&state)),
        _ => Ok(()),
    }
}

fn has_never_run(state: &v1::WorkloadState) -> bool {
    let status = WorkloadStatus::from(state.status());
    status.is_final() && state.started_at_ms.is_none() && state.exit.is_none()
}

fn why_not(state: &v1::WorkloadState) -> Failure {
    if state.reason.is_empty() {
        return Failure::new(ErrorKind::Conflict, "stopped", "the workload was stopped before it ran");
    }
    let kind = ErrorKind::of_code(&state.reason_code);
    ApiError::new(kind, state.reason_code.as_str(), state.reason.as_str())
        .with_hint(state.reason_hint.as_str())
        .into()
}

fn gave_up(signal: ExitStatus) -> Failure {
    let mut failure = Failure::new(ErrorKind::Failed, "interrupted", "interrupted before the workload ran");
    failure.exit = Exit::Workload(signal);
    failure.is_silent = true;
    failure
}
