//! Signals that reach us: they go to the workload's process, and a changed window goes to its terminal.

use std::{collections::BTreeMap, fmt, io};

use futures_util::{
    StreamExt as _,
    stream::{BoxStream, SelectAll},
};
use hypercore_api::Client;
use hypercore_model::ExitStatus;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tokio_stream::wrappers::SignalStream;

use super::protocol::{Input, Protocol};
use crate::terminal;

/// The signals that are passed on. The first four ask for an end.
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

/// The signals that reach us from the moment this is made; none of them ends us any more.
pub(crate) struct Signals(SelectAll<BoxStream<'static, SignalKind>>);

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signals").finish_non_exhaustive()
    }
}

impl Signals {
    /// Begins to listen. To be made before anything is asked of the agent, so that no signal falls between two steps.
    pub(crate) fn listen() -> io::Result<Self> {
        let mut all = SelectAll::new();
        for kind in FORWARDED.into_iter().chain([SignalKind::window_change()]) {
            all.push(SignalStream::new(signal(kind)?).map(move |()| kind).boxed());
        }
        Ok(Self(all))
    }

    /// Completes with the first signal that asks for an end.
    pub(crate) async fn asked_to_end(&mut self) -> ExitStatus {
        loop {
            let kind = self.next().await;
            if FORWARDED[..4].contains(&kind) {
                return ExitStatus::Signal(number(kind));
            }
        }
    }

    /// The next signal.
    async fn next(&mut self) -> SignalKind {
        match self.0.next().await {
            Some(kind) => kind,
            None => std::future::pending().await,
        }
    }
}

/// Which way signals take to the workload.
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
    /// None: we only watch, and the first signal that asks for an end is meant for us.
    Nowhere,
}

/// Passes signals on until the third that asks for an end (the first, if there is nobody to pass it to); answers how that one would have ended us.
pub(super) async fn forward<P: Protocol>(
    session: &mpsc::Sender<P::In>,
    mut signals: Signals,
    route: SignalRoute,
    has_terminal: bool,
) -> ExitStatus {
    if matches!(route, SignalRoute::Nowhere) {
        return signals.asked_to_end().await;
    }
    let mut asked = BTreeMap::<u8, u32>::new();
    loop {
        let kind = signals.next().await;
        if kind == SignalKind::window_change() {
            if let Some(size) = terminal::size().filter(|_| has_terminal) {
                // Full or closed: the next change of size, or the end, makes up for it.
                let _ = session.try_send(P::write(Input::Resize(size)));
            }
            continue;
        }
        if kind == SignalKind::interrupt() || kind == SignalKind::terminate() {
            let count = asked.entry(number(kind)).or_default();
            *count += 1;
            if *count >= PATIENCE {
                return ExitStatus::Signal(number(kind));
            }
        }
        match &route {
            // The workload may just have ended: then the output tells how.
            SignalRoute::Kill { client, id } => drop(client.kill(id, kind.as_raw_value()).await),
            SignalRoute::Session => drop(session.try_send(P::write(Input::Signal(kind.as_raw_value())))),
            SignalRoute::Nowhere => {}
        }
    }
}

fn number(kind: SignalKind) -> u8 {
    u8::try_from(kind.as_raw_value()).unwrap_or(u8::MAX)
}
