//! Signals that reach us go to the workload's process; a changed window goes to its terminal.

use std::{collections::BTreeMap, io};

use futures_util::{StreamExt as _, stream::SelectAll};
use hypercore_api::Client;
use hypercore_model::ExitStatus;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tokio_stream::wrappers::SignalStream;

use super::protocol::{Input, Protocol};
use crate::{failure::Failure, terminal};

/// The signals that are passed on.
const FORWARDED: [SignalKind; 6] = [
    SignalKind::interrupt(),
    SignalKind::terminate(),
    SignalKind::hangup(),
    SignalKind::quit(),
    SignalKind::user_defined1(),
    SignalKind::user_defined2(),
];

/// After as many SIGINT or SIGTERM the user means us: the workload ignores them.
const PATIENCE: u32 = 3;

/// Which way signals take.
#[derive(Debug)]
pub(crate) enum SignalRoute {
    /// A call of their own, which overtakes input that the workload doesn't read.
    Kill {
        /// The agent.
        client: Client,
        /// The workload.
        id: String,
    },
    /// The session's stream: the only way to reach an exec's process.
    Session,
}

/// Passes signals on until the third that asks for an end; answers how that one would have ended us.
pub(super) async fn forward<P: Protocol>(
    session: &mpsc::Sender<P::In>,
    route: SignalRoute,
    has_terminal: bool,
) -> Result<ExitStatus, Failure> {
    let mut signals = listen(has_terminal)?;
    let mut asked = BTreeMap::<u8, u32>::new();
    while let Some(kind) = signals.next().await {
        if kind == SignalKind::window_change() {
            if let Some(size) = terminal::size() {
                // Full or closed: the next change of size, or the end, makes up for it.
                let _ = session.try_send(P::write(Input::Resize(size)));
            }
            continue;
        }
        if kind == SignalKind::interrupt() || kind == SignalKind::terminate() {
            let number = u8::try_from(kind.as_raw_value()).unwrap_or(u8::MAX);
            let count = asked.entry(number).or_default();
            *count += 1;
            if *count >= PATIENCE {
                return Ok(ExitStatus::Signal(number));
            }
        }
        match &route {
            // The workload may just have ended: then the output tells how.
            SignalRoute::Kill { client, id } => drop(client.kill(id, kind.as_raw_value()).await),
            SignalRoute::Session => drop(session.try_send(P::write(Input::Signal(kind.as_raw_value())))),
        }
    }
    std::future::pending().await
}

fn listen(has_terminal: bool) -> io::Result<SelectAll<impl futures_util::Stream<Item = SignalKind>>> {
    let resize = has_terminal.then(SignalKind::window_change);
    let mut all = SelectAll::new();
    for kind in FORWARDED.into_iter().chain(resize) {
        all.push(SignalStream::new(signal(kind)?).map(move |()| kind));
    }
    Ok(all)
}
