//! `Copy`: files into a workload and out of it, as tar streams of which neither end holds more than a few pieces.
//! The work is done by `hypercore_copy`, which trusts neither the workload nor the caller: for a container on a thread
//! of its own, for a microVM in its guest.
//! It refuses to hold more than a few copies at a time, and volumes of workloads that don't run.

mod files;
mod guest;

use std::{io, path::Path, pin::Pin, thread};

use hypercore_api::v1::{self, copy_request::Message as In, copy_response::Message as Out};
use hypercore_copy::{
    CopyError, Fault, IdMap, Nodes, Owner, PackRequest, Report, Stat, UnpackRequest, pack,
    pieces::{Incoming, Outgoing, PIECE_BYTES, Piece},
    unpack,
};
use hypercore_model::Isolation;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::{Handlers, STREAM_BACKLOG_MAX, problem::Problem, target};
use crate::failure::chain;
use files::Files;

/// Copies under way at a time: each has a thread, and some a mount.
const COPIES_MAX: usize = 16;

static COPIES: Semaphore = Semaphore::const_new(COPIES_MAX);

type Answers = mpsc::Sender<Result<v1::CopyResponse, Status>>;

impl Handlers {
    pub(super) async fn copy_with(
        &self,
        mut calls: Streaming<v1::CopyRequest>,
    ) -> Result<ReceiverStream<Result<v1::CopyResponse, Status>>, Status> {
        let Some(v1::CopyRequest { message: Some(In::Start(start)) }) = calls.message().await? else {
            return Err(Problem::invalid("invalid_request", "the first message must be `start`").into());
        };
        let record = target::known(self, &start.id)?;
        let slot = COPIES.try_acquire().map_err(|_| {
            Problem::new(
                Code::ResourceExhausted,
                "busy",
                format!("{COPIES_MAX} copies are under way already"),
            )
            .hint("try again when one of them has ended")
        })?;
        let (answers, stream) = mpsc::channel(STREAM_BACKLOG_MAX);
        let (pieces, input) = mpsc::channel(STREAM_BACKLOG_MAX);
        let is_left = answers.clone();
        let worked: Pin<Box<dyn Future<Output = ()> + Send>> = match record.spec.isolation {
            Isolation::MicroVm => {
                let job = self.begin_in_guest(&record, &start).await?;
                Box::pin(async move {
                    job.run(answers, input).await;
                    drop(slot);
                })
            }
            Isolation::Container => {
                let files = self.files_of(&record, &start).await?;
                let job = Job { files, start, answers, input: Some(input) };
                Box::pin(job.on_thread(slot)?)
            }
        };
        self.supervisor.spawn_once(format!("copy/{}", record.id.short()), async move {
            let feeding = async move {
                feed(calls, pieces).await;
                // What is fed is not yet what is done.
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = worked => {}
                () = is_left.closed() => {}
                () = feeding => {}
            }
        });
        Ok(ReceiverStream::new(stream))
    }
}

/// Passes what the caller sends on to the thread, at its pace.
async fn feed(mut calls: Streaming<v1::CopyRequest>, pieces: mpsc::Sender<Piece>) {
    while let Ok(Some(call)) = calls.message().await {
        let piece = match call.message {
            Some(In::Data(bytes)) => Piece::Data(bytes),
            Some(In::Done(_)) => Piece::End,
            Some(In::Start(_)) | None => continue,
        };
        if pieces.send(piece).await.is_err() {
            return;
        }
    }
}

/// One copy, as its thread does it.
struct Job {
    files: Files,
    start: v1::CopyStart,
    answers: Answers,
    input: Option<mpsc::Receiver<Piece>>,
}

impl Job {
    /// Begins it on a thread of its own, and waits for its end. `slot` is free when the thread has ended.
    fn on_thread(
        self,
        slot: SemaphorePermit<'static>,
    ) -> Result<impl Future<Output = ()> + Send + use<>, Problem> {
        let (over, is_over) = oneshot::channel::<()>();
        let thread = thread::Builder::new().name("copy".to_owned()).spawn(move || {
            self.run();
            drop((slot, over));
        });
        thread.map_err(|error| Problem::fault("copy_failed", &error))?;
        Ok(async move {
            // The sender is dropped, never used: an error is the sign.
            let _ = is_over.await;
        })
    }

    fn run(mut self) {
        let done = if self.start.into { self.copy_in() } else { self.copy_out() };
        let last = match done {
            Ok(report) => Ok(Out::Done(v1::CopyDone { files: report.files, bytes: report.bytes })),
            Err(error) => Err(problem(error.fault(), chain(&error)).into()),
        };
        // A caller who is gone needs no answer.
        let _ = self.answers.blocking_send(last.map(answer));
    }

    fn copy_in(&mut self) -> Result<Report, CopyError> {
        let root = self.files.root()?;
        let destination = root.destination(Path::new(&self.start.path))?;
        self.tell(&destination.stat)?;
        let Some(mut input) = self.input.take() else { return Ok(Report::default()) };
        let request = UnpackRequest {
            destination: &destination,
            strip: "".as_ref(),
            prefix: "".as_ref(),
            owner: Owner::Kept(destination.ids().clone()),
            nodes: Nodes::Refuse,
        };
        unpack(&request, Incoming::new(|| input.blocking_recv()))
    }

    fn copy_out(&self) -> Result<Report, CopyError> {
        let root = self.files.root()?;
        let source = root.source(Path::new(&self.start.path), self.start.follow_link)?;
        self.tell(&source.stat)?;
        let name = source.stat.name.clone();
        let owner = Owner::Kept(IdMap::identity());
        let request = PackRequest { source: &source, name: &name, owner, skip_nodes: false };
        let send = |piece| {
            let sent = self.answers.blocking_send(Ok(answer(Out::Data(piece))));
            sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
        };
        pack(&request, Outgoing::new(PIECE_BYTES, send))
    }

    fn tell(&self, stat: &Stat) -> Result<(), CopyError> {
        let told = self.answers.blocking_send(Ok(stat_answer(stat)));
        told.map_err(|_| CopyError::Stream(io::ErrorKind::BrokenPipe.into()))
    }
}

const fn answer(message: Out) -> v1::CopyResponse {
    v1::CopyResponse { message: Some(message) }
}

fn stat_answer(stat: &Stat) -> v1::CopyResponse {
    answer(Out::Stat(v1::CopyStat {
        exists: stat.exists,
        is_directory: stat.is_directory,
        name: stat.name.to_string_lossy().into_owned(),
    }))
}

/// How a caller is told.
fn problem(fault: Fault, message: String) -> Problem {
    match fault {
        Fault::NotFound => Problem::not_found("path_not_found", message)
            .hint("`hypercore exec WORKLOAD ls PATH` shows what is there"),
        Fault::Mistake => Problem::invalid("copy_refused", message),
        Fault::ReadOnly => Problem::conflict("read_only", message)
            .hint("the workload may write there only to what is mounted writable"),
        Fault::Full => Problem::new(Code::Internal, "disk_full", message)
            .hint("free some space, or copy to another volume"),
        Fault::BrokenOff => Problem::new(Code::Aborted, "stream_broken", message),
        Fault::Denied | Fault::Other => Problem::new(Code::Internal, "copy_failed", message),
    }
}
