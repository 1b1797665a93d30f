//! A copy into a microVM or out of it: its guest does the work, and here is only carried what goes both ways.
//! It refuses to take the host's view of a machine for the workload's files: a stand-in's files are the host's.

use hypercore_api::v1::{self, copy_response::Message as Out};
use hypercore_cluster::state::WorkloadRecord;
use hypercore_copy::{Stat, pieces::Piece};
use hypercore_model::WorkloadStatus;
use hypercore_runtime::machine::{
    contact::{Contact, ContactError},
    files::{self, CopyEvent, Copying, GuestCopy},
};
use tokio::sync::mpsc;
use tonic::{Code, Status};

use super::{
    super::{Handlers, problem::Problem, target},
    Answers, answer, problem, stat_answer,
};
use crate::failure::chain;

/// A copy that the guest has begun.
#[derive(Debug)]
pub(super) struct GuestJob {
    copying: Copying,
    found: Stat,
    /// Whether the stream comes from the caller, who is done with it only when that was said.
    takes_input: bool,
}

impl Handlers {
    /// Has the guest begin.
    pub(super) async fn begin_in_guest(
        &self,
        record: &WorkloadRecord,
        start: &v1::CopyStart,
    ) -> Result<GuestJob, Problem> {
        let short = record.id.short();
        match target::recovered(&self.node, record.id).await.status {
            WorkloadStatus::Running | WorkloadStatus::Stopping => {}
            WorkloadStatus::Paused => {
                return Err(Problem::conflict("paused", format!("workload {short} is paused"))
                    .hint(format!("`hypercore resume {short}`, then try again")));
            }
            status => {
                let message = format!(
                    "workload {short} is {status}: the files of a microVM can be reached only while it runs"
                );
                return Err(Problem::conflict("not_running", message).hint("start it first"));
            }
        }
        let request =
            GuestCopy { into: start.into, path: start.path.clone(), follow_link: start.follow_link };
        let contact = Contact::open(&self.node.sandboxes.machine_socket(record.id)).await;
        let begun = match contact {
            Ok(contact) => Copying::begin(contact, &request).await,
            Err(error) => Err(error),
        };
        let (copying, found) = begun.map_err(|error| told(&error))?;
        Ok(GuestJob { copying, found, takes_input: start.into })
    }
}

impl GuestJob {
    /// Carries the copy to its end. Dropping the future breaks it off.
    pub(super) async fn run(mut self, answers: Answers, input: mpsc::Receiver<Piece>) {
        let last = match self.carry(&answers, input).await {
            Ok(done) => Ok(v1::CopyResponse { message: Some(Out::Done(done)) }),
            Err(error) => Err(Status::from(told(&error))),
        };
        // A caller who is gone needs no answer.
        let _ = answers.send(last).await;
    }

    async fn carry(
        &mut self,
        answers: &Answers,
        mut input: mpsc::Receiver<Piece>,
    ) -> Result<v1::CopyDone, ContactError> {
        let _ = answers.send(Ok(stat_answer(&self.found))).await;
        loop {
            let wants_input = self.copying.wants_input() && self.takes_input;
            tokio::select! {
                event = self.copying.next() => match event? {
                    CopyEvent::Data(piece) => {
                        // Whoever is gone drops this future.
                        let _ = answers.send(Ok(answer(Out::Data(piece)))).await;
                    }
                    CopyEvent::Taken => {}
                    CopyEvent::Done { files, bytes } => return Ok(v1::CopyDone { files, bytes }),
                },
                piece = input.recv(), if wants_input => match piece {
                    Some(Piece::Data(bytes)) => self.copying.put(Some(bytes)),
                    Some(Piece::End) => self.copying.put(None),
                    None => {
                        self.takes_input = false;
                        self.copying.break_off().await?;
                    }
                },
            }
        }
    }
}

/// How a caller is told.
fn told(error: &ContactError) -> Problem {
    let message = chain(error);
    if error.is_busy() {
        return Problem::new(Code::ResourceExhausted, "busy", message)
            .hint("try again when something that runs in the machine has ended");
    }
    match files::fault(error) {
        Some(fault) => problem(fault, message),
        None => Problem::new(Code::Unavailable, "machine_unreachable", message)
            .hint("`hypercore inspect WORKLOAD` says whether it still runs"),
    }
}
