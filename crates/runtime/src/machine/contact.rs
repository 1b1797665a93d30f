//! One question to a machine's guest, or to its monitor: both are reached through the monitor's socket, in frames.
//! It refuses to wait without end, and to believe a guest: what it says is bounded, and made fit to be shown.

use std::{path::Path, time::Duration};

use hypercore_copy::shown::shown;
use hypercore_wire::{
    ErrorCode, Message,
    message::{AskStats, Fault, Snapshot, Stats},
};

use crate::sandbox::link::{Link, LinkError};

/// How long the monitor may take to greet. It does nothing else than to pass messages on, so only a machine that is
/// stopped or starved takes longer.
const GREETING_TIME_MAX: Duration = Duration::from_secs(10);

/// Why a guest did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ContactError {
    /// The machine's monitor can't be spoken with, or is gone.
    #[error("the machine can't be spoken with")]
    Link(#[from] LinkError),
    /// No answer in time.
    #[error("the machine did not answer within {} seconds", .0.as_secs())]
    Silent(Duration),
    /// It refused, and said why.
    #[error("{0}")]
    Refused(Fault),
}

impl ContactError {
    /// Whether the guest has too much to do already.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Refused(fault) if fault.code == ErrorCode::TOO_MANY)
    }

    /// Whether there is no room for what was to be written.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Refused(fault) if fault.code == ErrorCode::FULL)
    }

    /// Whether the engine can't do it at all.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Self::Refused(fault) if fault.code == ErrorCode::UNSUPPORTED)
    }
}

/// A connection to a machine's monitor, for one request.
#[derive(Debug)]
pub struct Contact {
    link: Link,
}

impl Contact {
    /// Connects to the monitor that listens at `socket`.
    ///
    /// # Errors
    /// [`ContactError::Link`], [`ContactError::Silent`].
    pub async fn open(socket: &Path) -> Result<Self, ContactError> {
        let link = in_time(GREETING_TIME_MAX, Link::connect(socket)).await?;
        Ok(Self { link })
    }

    /// Sends the request and waits for the first answer, for at most `time_max`.
    ///
    /// # Errors
    /// [`ContactError`]; a fault that the machine answers is [`ContactError::Refused`].
    pub async fn request(
        &self,
        request: impl Into<Message>,
        time_max: Duration,
    ) -> Result<Message, ContactError> {
        match in_time(time_max, self.link.request(request.into())).await? {
            Message::Error(fault) => Err(ContactError::Refused(fit(fault))),
            answer => Ok(answer),
        }
    }

    /// What the guest's kernel says that it uses.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn stats(&self, time_max: Duration) -> Result<Stats, ContactError> {
        match self.request(AskStats {}, time_max).await? {
            Message::Stats(stats) => Ok(stats),
            other => Err(LinkError::Unexpected(other.number()).into()),
        }
    }

    /// Has the machine written into `directory`, which is empty, for at most `time_max`. It goes on afterwards. Answers how
    /// long it stood still.
    ///
    /// # Errors
    /// As [`Self::request`]; what was written until then is not to be used.
    pub async fn snapshot(&self, directory: &Path, time_max: Duration) -> Result<Duration, ContactError> {
        let request = Snapshot { directory: directory.to_string_lossy().into_owned() };
        match self.request(request, time_max).await? {
            Message::Snapshotted(saved) => Ok(Duration::from_micros(saved.stopped_us)),
            other => Err(LinkError::Unexpected(other.number()).into()),
        }
    }

    /// The connection, for a request with more than one answer.
    pub(super) fn into_link(self) -> Link {
        self.link
    }
}

/// A guest's fault, whose text may be anything.
pub(super) fn fit(fault: Fault) -> Fault {
    Fault { message: shown(&fault.message), ..fault }
}

async fn in_time<T>(
    time_max: Duration,
    answered: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, ContactError> {
    let answered = tokio::time::timeout(time_max, answered).await;
    Ok(answered.map_err(|_| ContactError::Silent(time_max))??)
}

#[cfg(test)]
mod tests {
    use hypercore_wire::{Flags, message::PowerOff};
    use tokio::net::{UnixListener, UnixStream};

    use super::*;

    /// Answers one connection as `answer` says; `None` is silence.
    async fn machine(listener: UnixListener, answer: Option<Message>) {
        let (socket, _) = listener.accept().await.unwrap();
        let link = greeted(socket).await;
        let asked = link.receive().await.unwrap();
        if let Some(answer) = answer {
            link.send(asked.stream, Flags::END_STREAM, &answer).await.unwrap();
        }
        // Until the other end is gone.
        let _ = link.receive().await;
    }

    async fn greeted(socket: UnixStream) -> Link {
        Link::greet(socket).await.unwrap()
    }

    async fn asked(answer: Option<Message>) -> Result<Stats, ContactError> {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("machine.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let time_max = Duration::from_millis(300);
        let asks = async {
            let contact = Contact::open(&path).await?;
            contact.stats(time_max).await
        };
        tokio::select! {
            asked = asks => asked,
            () = machine(listener, answer) => unreachable!("the asker goes first"),
        }
    }

    #[tokio::test]
    async fn a_silent_guest_has_a_deadline() {
        assert!(matches!(asked(None).await, Err(ContactError::Silent(_))));
    }

    #[tokio::test]
    async fn a_guests_words_are_made_fit_to_be_shown() {
        let fault = Fault::new(ErrorCode::INTERNAL, "no\u{1b}[2J\n".repeat(1000));
        let Err(ContactError::Refused(fault)) = asked(Some(fault.into())).await else {
            panic!("not refused")
        };
        assert!(fault.message.len() < 1000 && !fault.message.contains(char::is_control), "{fault:?}");
    }

    #[tokio::test]
    async fn an_answer_to_another_question_is_refused() {
        let refused = asked(Some(PowerOff {}.into())).await;
        assert!(matches!(refused, Err(ContactError::Link(LinkError::Unexpected(26)))), "{refused:?}");
    }
}
