//! `Attach`: a caller joins a workload's first process. Its output is read back from the log, so that a slow or late
//! caller misses nothing and slows nobody; input, signals and terminal size go through the shim.

use std::convert::Infallible;

use hypercore_api::v1::{self, attach_request::Message as In, attach_response::Message as Out};
use hypercore_runtime::{
    log::{LogEntry, LogQuery, LogStream},
    sandbox::{Input, InputError, Sandbox},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::{
    Handlers, STREAM_BACKLOG_MAX,
    output::{Output, Until},
    problem::Problem,
    target,
    target::Target,
    terminal_size,
};

type Answers = mpsc::Sender<Result<v1::AttachResponse, Status>>;

impl Handlers {
    pub(super) async fn attach_to(
        &self,
        mut calls: Streaming<v1::AttachRequest>,
    ) -> Result<ReceiverStream<Result<v1::AttachResponse, Status>>, Status> {
        let Some(v1::AttachRequest { message: Some(In::Start(start)) }) = calls.message().await? else {
            return Err(Problem::invalid("invalid_request", "the first message must be `start`").into());
        };
        let target = target::any(self, &start.id)?;
        let session = self.session(&target, &start).await?;
        let (answers, stream) = mpsc::channel(STREAM_BACKLOG_MAX);
        let handlers = self.clone();
        self.supervisor.spawn_once("attach", async move {
            let Session { output, sandbox, input, restarts } = session;
            tokio::select! {
                () = handlers.carry_output(output, &target, restarts, &answers) => {}
                () = answers.closed() => {}
                never = carry_input(calls, sandbox, input) => match never {},
            }
        });
        Ok(ReceiverStream::new(stream))
    }

    async fn session(&self, target: &Target, start: &v1::AttachStart) -> Result<Session, Problem> {
        let (sandbox, restarts) = self.sandbox_to_join(target, start).await?;
        let input = match &sandbox {
            Some(sandbox) if start.stdin => open_input(sandbox).await?,
            _ => None,
        };
        if let (Some(sandbox), Some(size)) = (&sandbox, start.size)
            && let Err(error) = sandbox.resize(terminal_size(size)).await
        {
            tracing::debug!(%error, "the terminal was not resized");
        }
        let tail = (!start.from_start).then_some(0);
        let query = LogQuery { tail, follow: true, is_whole: start.from_start, ..LogQuery::default() };
        let output = self.output(target, query, Until::RunEnd { restarts })?;
        Ok(Session { output, sandbox, input, restarts })
    }

    /// The live sandbox, none when the run has ended and the caller wants what was written before; and after how many
    /// restarts that run came.
    async fn sandbox_to_join(
        &self,
        target: &Target,
        start: &v1::AttachStart,
    ) -> Result<(Option<Sandbox>, u32), Problem> {
        let Target::Known(record) = target else { return Ok((None, 0)) };
        let observed = target::recovered(&self.node, record.id).await;
        // It may also have been removed since it was found.
        let has_ended = observed.status.is_final() || !target::is_known(&self.node, record.id);
        let (is_pausing, restarts) = (observed.due.is_some(), observed.restarts);
        if (has_ended || is_pausing) && start.from_start {
            return Ok((None, restarts.saturating_sub(is_pausing.into())));
        }
        Ok((Some(self.awake_sandbox(record).await?), restarts))
    }

    /// Everything the workload writes until this run's end, then how it ended. As with docker, being attached ends there
    /// even if the workload is started again.
    async fn carry_output(&self, mut output: Output, target: &Target, restarts: u32, answers: &Answers) {
        let mut answer = Ok(Out::Attached(true));
        let mut is_whole = true;
        loop {
            let is_last = !matches!(answer, Ok(Out::Attached(_) | Out::Stdout(_) | Out::Stderr(_)));
            let answer_sent =
                answers.send(answer.map(|message| v1::AttachResponse { message: Some(message) })).await;
            if answer_sent.is_err() || is_last {
                return;
            }
            answer = match output.next().await {
                Some(entry) => {
                    // The shim or the reader tells that something is missing.
                    is_whole &= !matches!(&entry, Ok(entry) if entry.stream == LogStream::System);
                    entry.map(message)
                }
                None if !is_whole => Err(incomplete().into()),
                None => {
                    let exit = self.exit_of_run(target, restarts).await;
                    exit.map(|exit| Out::Exit(exit.into())).map_err(Status::from)
                }
            };
        }
    }
}

/// What a caller gets in place of the exit status when it did not get all output: one who takes the output for the
/// result must not take the rest for the whole.
fn incomplete() -> Problem {
    Problem::new(Code::DataLoss, "output_lost", "the workload has ended, but part of its output was lost")
        .hint(
            "`hypercore ps -a` shows how it ended; let it write large output to a file, or read it with exec",
        )
}

/// What one attached caller works with.
struct Session {
    output: Output,
    sandbox: Option<Sandbox>,
    input: Option<Input>,
    /// How often the workload had been started again before the run that was joined.
    restarts: u32,
}

async fn open_input(sandbox: &Sandbox) -> Result<Option<Input>, Problem> {
    match sandbox.open_stdin().await {
        Ok(input) => Ok(Some(input)),
        // It ended meanwhile, or takes no input: its output can still be followed.
        Err(InputError::Ended | InputError::NotOpen) => Ok(None),
        Err(error) => Err(Problem::fault("attach_failed", &error)),
    }
}

fn message(entry: LogEntry) -> Out {
    match entry.stream {
        LogStream::Stdout => Out::Stdout(entry.data),
        LogStream::Stderr | LogStream::System => Out::Stderr(entry.data),
    }
}

/// Carries input until there is no more, then waits to be dropped: the output goes on without it.
async fn carry_input(
    mut calls: Streaming<v1::AttachRequest>,
    sandbox: Option<Sandbox>,
    input: Option<Input>,
) -> Infallible {
    while let Ok(Some(call)) = calls.message().await {
        let (Some(sandbox), Some(message)) = (&sandbox, call.message) else { continue };
        let told: Result<(), Box<dyn std::error::Error + Send + Sync>> = match (message, &input) {
            (In::Stdin(data), Some(input)) => input.write(&data).await.map_err(Into::into),
            (In::StdinClose(_), Some(input)) => input.close().await.map_err(Into::into),
            (In::Resize(size), _) => sandbox.resize(terminal_size(size)).await.map_err(Into::into),
            (In::Signal(number), _) => sandbox.signal(number).await.map_err(Into::into),
            (In::Stdin(_) | In::StdinClose(_), None) | (In::Start(_), _) => Ok(()),
        };
        if let Err(error) = told {
            tracing::debug!(error, "something of an attached caller did not reach the workload");
        }
    }
    std::future::pending().await
}
