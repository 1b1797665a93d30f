//! `Exec`: one more command inside a workload, its input and output carried between the caller and the shim.
//! It refuses to buffer: a caller that doesn't read stops the command's output, nothing else.

use hypercore_api::v1::{self, exec_request::Message as In, exec_response::Message as Out};
use hypercore_runtime::sandbox::{ExecEvent, ExecEvents, ExecRequest, ExecSession, Input, InputError};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{Handlers, STREAM_BACKLOG_MAX, problem::Problem, request, target, terminal_size};
use crate::keeper::blame;

type Answers = mpsc::Sender<Result<v1::ExecResponse, Status>>;

impl Handlers {
    pub(super) async fn exec_in(
        &self,
        mut calls: Streaming<v1::ExecRequest>,
    ) -> Result<ReceiverStream<Result<v1::ExecResponse, Status>>, Status> {
        let Some(v1::ExecRequest { message: Some(In::Start(start)) }) = calls.message().await? else {
            return Err(Problem::invalid("invalid_request", "the first message must be `start`").into());
        };
        let record = target::known(self, &start.id)?;
        let sandbox = self.awake_sandbox(&record).await?;
        let session = sandbox.exec(exec_request(start)?).await;
        let ExecSession { events, input, .. } =
            session.map_err(|error| Problem::of_failure(blame::exec_kind(&error), &blame::exec(&error)))?;
        let (answers, stream) = mpsc::channel(STREAM_BACKLOG_MAX);
        self.supervisor.spawn_once(format!("exec/{}", record.id.short()), async move {
            tokio::select! {
                () = carry_output(events, &answers) => {}
                () = answers.closed() => {}
                never = carry_input(calls, input) => match never {},
            }
        });
        Ok(ReceiverStream::new(stream))
    }
}

fn exec_request(start: v1::ExecStart) -> Result<ExecRequest, Problem> {
    if start.argv.first().is_none_or(String::is_empty) {
        return Err(Problem::invalid("invalid_request", "there is no command to run"));
    }
    let env = request::environment(&start.env)?;
    Ok(ExecRequest {
        argv: start.argv,
        env: env.into_iter().map(|(key, value)| format!("{key}={value}")).collect(),
        user: (!start.user.is_empty()).then_some(start.user),
        workdir: (!start.workdir.is_empty()).then_some(start.workdir),
        tty: start.tty,
        stdin: start.stdin,
        size: start.size.map(terminal_size),
    })
}

async fn carry_output(mut events: ExecEvents, answers: &Answers) {
    let mut answer = Ok(v1::ExecResponse { message: Some(Out::Started(true)) });
    loop {
        let is_last = !matches!(&answer, Ok(response) if !matches!(response.message, Some(Out::Exit(_))));
        if answers.send(answer).await.is_err() || is_last {
            return;
        }
        answer = match events.next().await {
            Ok(Some(event)) => Ok(v1::ExecResponse { message: Some(output(event)) }),
            Ok(None) => return,
            Err(error) => Err(Problem::of_failure(blame::exec_kind(&error), &blame::exec(&error)).into()),
        };
    }
}

fn output(event: ExecEvent) -> Out {
    match event {
        ExecEvent::Stdout(data) => Out::Stdout(data),
        ExecEvent::Stderr(data) => Out::Stderr(data),
        ExecEvent::Exit(exit) => Out::Exit(exit.into()),
    }
}

/// Carries input until there is no more, then waits to be dropped: the output goes on without it.
async fn carry_input(mut calls: Streaming<v1::ExecRequest>, input: Input) -> std::convert::Infallible {
    while let Ok(Some(call)) = calls.message().await {
        let told = match call.message {
            Some(In::Stdin(data)) => input.write(&data).await,
            Some(In::StdinClose(_)) => input.close().await,
            Some(In::Resize(size)) => input.resize(terminal_size(size)).await,
            Some(In::Signal(number)) => input.signal(number).await,
            Some(In::Start(_)) | None => Ok(()),
        };
        match told {
            Ok(()) => {}
            Err(InputError::Ended) => break,
            Err(error) => tracing::debug!(%error, "input of an execution was dropped"),
        }
    }
    drop(input.close().await);
    std::future::pending().await
}
