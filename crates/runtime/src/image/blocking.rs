//! Work that blocks on the disk, off the threads that must not block. A panic in it is the caller's panic.

use std::io;

use super::{RemoveError, TransferError};

/// The node is shutting down: the work was not begun.
#[derive(Debug)]
pub(super) struct ShuttingDown;

/// What was being done when the node shut down.
const STEP: &str = "begin new work: the node is shutting down";

/// Runs what blocks on a thread that may.
pub(super) async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<ShuttingDown> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(ShuttingDown.into()),
        },
    }
}

impl From<ShuttingDown> for TransferError {
    fn from(_: ShuttingDown) -> Self {
        Self::Store { step: STEP, source: io::ErrorKind::Interrupted.into() }
    }
}

impl From<ShuttingDown> for RemoveError {
    fn from(_: ShuttingDown) -> Self {
        Self::Store { step: STEP, source: io::ErrorKind::Interrupted.into() }
    }
}
