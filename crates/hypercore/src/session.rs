//! An open exec or attach, carried between this terminal and the workload until one of them ends it.
//!
//! ```text
//!   stdin  --thread-->  input::feed  --\                        /-->  stdout
//!   ^C, SIGTERM, ...    signals        -->  the agent's stream  ---->  stderr
//!   SIGWINCH            resize       --/                        \-->  the exit status
//! ```
//!
//! Three futures run side by side, so that a workload that doesn't read its input can still be interrupted, and one
//! whose output nobody takes can too.

mod input;
mod protocol;
mod signals;

use hypercore_api::{
    ErrorKind,
    client::{Incoming, Session},
};
use hypercore_model::ExitStatus;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

pub(crate) use protocol::{AttachProtocol, ExecProtocol};
pub(crate) use signals::{SignalRoute, Signals};

use crate::{failure::Failure, terminal::RawMode};
use protocol::{Event, Protocol};

/// How a session behaves at this end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// Our standard input goes to it.
    pub(crate) has_input: bool,
    /// It has a terminal, of which ours is the screen and the keyboard.
    pub(crate) has_terminal: bool,
    /// ctrl-p ctrl-q on a terminal leaves it running.
    pub(crate) may_detach: bool,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The process ended.
    Exited(ExitStatus),
    /// The user left, and it runs on.
    Detached,
    /// We were asked to end and the process was not, or did not: how the signal would have ended us.
    Abandoned(ExitStatus),
}

/// Carries a session to its end. The terminal is raw meanwhile, if both ends have one.
///
/// # Errors
/// The agent's error, a broken connection, or a broken pipe at this end.
pub(crate) async fn carry<P: Protocol>(
    session: Session<P::In, P::Out>,
    options: Options,
    signals: Signals,
    route: SignalRoute,
) -> Result<End, Failure> {
    let is_raw = options.has_input && options.has_terminal;
    let raw_mode = is_raw.then(RawMode::enter).transpose()?;
    let Session { input, output } = session;
    let feeding = async {
        if options.has_input {
            input::feed::<P>(&input, is_raw && options.may_detach).await
        } else {
            input::Fed::ToItsEnd
        }
    };
    let leaving = async {
        match feeding.await {
            input::Fed::Left => End::Detached,
            // Input that ended is no reason to end: the output goes on.
            input::Fed::ToItsEnd => std::future::pending().await,
        }
    };
    let end = tokio::select! {
        end = show::<P>(output) => end,
        end = leaving => Ok(end),
        abandoned = signals::forward::<P>(&input, signals, route, options.has_terminal) => Ok(End::Abandoned(abandoned)),
    };
    drop(raw_mode);
    end
}

async fn show<P: Protocol>(mut output: Incoming<P::Out>) -> Result<End, Failure> {
    let (mut stdout, mut stderr) = (tokio::io::stdout(), tokio::io::stderr());
    while let Some(message) = output.next().await? {
        match P::read(message) {
            Event::Started => {}
            Event::Stdout(bytes) => write(&mut stdout, &bytes).await?,
            Event::Stderr(bytes) => write(&mut stderr, &bytes).await?,
            Event::Exit(status) => {
                return status
                    .map(End::Exited)
                    .ok_or_else(|| incomplete("with an exit status nobody can read"));
            }
        }
    }
    Err(incomplete("without an exit status"))
}

async fn write(target: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> std::io::Result<()> {
    target.write_all(bytes).await?;
    target.flush().await
}

fn incomplete(how: &str) -> Failure {
    let message = format!("the agent ended the session {how}");
    Failure::new(ErrorKind::Failed, "answer_incomplete", message)
        .with_hint("`hypercore ps -a` shows whether it runs on")
}
