//! An attachment being made: what the workload will have is known at once, while the kernel is still at work on it. So
//! the caller can do other things meanwhile. It refuses to be forgotten: one that is dropped unfinished counts as given
//! up, and is taken down by the next attaching, detaching or sweep.

use std::{fmt, pin::Pin, sync::Arc};

use super::{Network, attachment::Attachment, error::AttachError, registry::Outcome, work::Work};

type Connecting = Pin<Box<dyn Future<Output = Result<(), AttachError>> + Send>>;

/// What [`Network::begin_attach`] began.
#[must_use = "an attachment that isn't finished is given up"]
pub struct Attaching<'a> {
    network: &'a Network,
    attachment: Attachment,
    /// The thread at work; `None` for a workload that was attached already.
    connecting: Option<(Connecting, Arc<Work>)>,
}

impl<'a> Attaching<'a> {
    pub(super) const fn begun(
        network: &'a Network,
        attachment: Attachment,
        connecting: Connecting,
        work: Arc<Work>,
    ) -> Self {
        Self { network, attachment, connecting: Some((connecting, work)) }
    }

    pub(super) const fn done_before(network: &'a Network, attachment: Attachment) -> Self {
        Self { network, attachment, connecting: None }
    }

    /// What the workload has when this is finished.
    #[must_use]
    pub const fn attachment(&self) -> &Attachment {
        &self.attachment
    }

    /// Waits until all of it is there. When that fails, what was made is taken down again.
    ///
    /// # Errors
    /// [`AttachError`], by step.
    pub async fn finish(self) -> Result<Attachment, AttachError> {
        let Some((connecting, work)) = self.connecting else { return Ok(self.attachment) };
        if let Err(error) = connecting.await {
            drop(work);
            let id = self.attachment.id;
            if let Err(source) = self.network.detach(id).await {
                tracing::warn!(%id, error = %source, "can't undo a failed attachment; it stays reserved");
            }
            return Err(error);
        }
        work.end(Outcome::Attached);
        Ok(self.attachment)
    }
}

impl fmt::Debug for Attaching<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attaching").field("attachment", &self.attachment).finish_non_exhaustive()
    }
}
