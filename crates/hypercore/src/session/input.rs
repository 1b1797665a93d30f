//! Our standard input on its way to the workload, at the pace at which the workload takes it.

use std::{
    io::{self, Read as _},
    thread,
};

use tokio::sync::mpsc;

use super::protocol::{Input, Protocol};
use crate::terminal::DetachKeys;

/// Bytes read at a time.
const CHUNK_LEN: usize = 16 * 1024;
/// Chunks read ahead of the agent.
const CHUNKS_AHEAD_MAX: usize = 2;

/// Why feeding ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fed {
    /// Our input ended, or the session takes no more.
    ToItsEnd,
    /// The user typed the keys to leave.
    Left,
}

/// Feeds until the input ends or, with `may_leave`, the user types ctrl-p ctrl-q.
pub(super) async fn feed<P: Protocol>(session: &mpsc::Sender<P::In>, may_leave: bool) -> Fed {
    let mut chunks = read_in_thread();
    let mut keys = DetachKeys::default();
    while let Some(chunk) = chunks.recv().await {
        let (bytes, is_left) = if may_leave { keys.filter(&chunk) } else { (chunk, false) };
        if !bytes.is_empty() && session.send(P::write(Input::Data(bytes))).await.is_err() {
            return Fed::ToItsEnd;
        }
        if is_left {
            return Fed::Left;
        }
    }
    // A session that has ended needs no end of input.
    let _ = session.send(P::write(Input::End)).await;
    Fed::ToItsEnd
}

/// A plain thread reads: it may block for good on a terminal, and the program must be able to end meanwhile.
fn read_in_thread() -> mpsc::Receiver<Vec<u8>> {
    let (chunks, receiver) = mpsc::channel(CHUNKS_AHEAD_MAX);
    let read = move || {
        let mut stdin = io::stdin().lock();
        let mut buffer = vec![0; CHUNK_LEN];
        loop {
            match stdin.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // An input that can't be read any more has ended, like a terminal that was closed.
                Ok(0) | Err(_) => return,
                Ok(len) => {
                    if chunks.blocking_send(buffer[..len].to_vec()).is_err() {
                        return;
                    }
                }
            }
        }
    };
    // Without a thread there is no input; the output still is worth having.
    let _ = thread::Builder::new().name("stdin".to_owned()).spawn(read);
    receiver
}
