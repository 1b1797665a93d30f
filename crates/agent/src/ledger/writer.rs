//! The one task that writes the state. Commands that queue up while the disk is busy go into one block and one flush.
//! It refuses to acknowledge anything before the flush.

use std::sync::{Arc, PoisonError, RwLock};

use hypercore_cluster::state::{Command, State};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{
    Committed, SubmitError,
    ballast::{self, Ballast},
    book::{Book, Entered},
};
use crate::clock;

/// Most commands in one block.
const BLOCK_COMMANDS_MAX: usize = 128;

/// A command, and where its answer goes.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) command: Command,
    pub(super) answer: oneshot::Sender<Result<Committed, SubmitError>>,
}

/// What the task owns.
#[derive(Debug)]
pub(super) struct Writer {
    book: Book,
    /// What readers see: the book's state as of the last flush.
    seen: Arc<RwLock<State>>,
    waiting: mpsc::Receiver<Request>,
    changed: watch::Sender<u64>,
    /// Room for a full disk; none for a state that is kept in memory.
    ballast: Option<Ballast>,
}

impl Writer {
    pub(super) const fn new(
        book: Book,
        seen: Arc<RwLock<State>>,
        waiting: mpsc::Receiver<Request>,
        changed: watch::Sender<u64>,
        ballast: Option<Ballast>,
    ) -> Self {
        Self { book, seen, waiting, changed, ballast }
    }

    /// Writes blocks until it is told to stop; what was queued by then is still written.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut requests = Vec::new();
        loop {
            let count = tokio::select! {
                count = self.waiting.recv_many(&mut requests, BLOCK_COMMANDS_MAX) => count,
                () = stop.cancelled(), if !self.waiting.is_closed() => {
                    self.waiting.close();
                    continue;
                }
            };
            if count == 0 {
                return;
            }
            let (commands, answers): (Vec<_>, Vec<_>) =
                requests.drain(..).map(|request| (request.command, request.answer)).unzip();
            // Signing and flushing take milliseconds, which no other task should wait for.
            let entering = tokio::task::spawn_blocking(move || {
                let entered = self.enter(&commands);
                (self, entered)
            });
            let entered;
            (self, entered) = match entering.await {
                Ok(done) => done,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            };
            self.publish(&entered);
            for (answer, result) in answers.into_iter().zip(entered.results) {
                // Who no longer waits doesn't want to know.
                drop(answer.send(result));
            }
        }
    }

    /// Enters commands; where they would make room on a full disk, with what was set apart for that.
    fn enter(&mut self, commands: &[Command]) -> Entered {
        let entered = self.book.enter(commands, clock::now());
        let Some(ballast) = &mut self.ballast else { return entered };
        if entered.found_disk_full() {
            let may_try = commands.iter().any(ballast::may_use) && ballast.give_up();
            return if may_try { self.book.enter(commands, clock::now()) } else { entered };
        }
        ballast.renew();
        entered
    }

    /// Lets readers see what was written, before anybody is told that it was.
    fn publish(&self, entered: &Entered) {
        if entered.changes.is_empty() && !entered.is_recovered {
            return;
        }
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        if entered.is_recovered {
            *seen = self.book.state().clone();
        } else {
            seen.absorb(&entered.changes);
        }
        let height = seen.height();
        drop(seen);
        self.changed.send_replace(height);
    }
}
