//! Tells systemd's watchdog (`WatchdogSec=`) that the node still answers, and its stop timer how long an end may take.
//! It refuses to speak for a node whose state is closed or whose tasks don't get to run: systemd then starts another one,
//! and workloads notice neither.

use std::{sync::Arc, time::Duration};

use sd_notify::NotifyState;
use tokio::time::MissedTickBehavior;

use crate::node::Node;

/// How long systemd waits for a sign of life, if it does and waits for this process.
pub(crate) fn patience() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|patience| !patience.is_zero())
}

/// Says how long the node's end may take: requests are waited for, whatever `TimeoutStopSec=` says.
pub(crate) fn allow_end(patience: Duration) {
    let time_max = u32::try_from(patience.as_micros()).unwrap_or(u32::MAX);
    if let Err(error) = sd_notify::notify(&[NotifyState::ExtendTimeoutUsec(time_max)]) {
        tracing::warn!(%error, "systemd could not be told about the end");
    }
}

/// Runs until it is dropped.
pub(crate) async fn run(node: Arc<Node>, patience: Duration) {
    // sd_watchdog_enabled(3) recommends half of it.
    let mut ticks = tokio::time::interval(patience / 2);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if !node.ledger.is_open() {
            tracing::error!("the state is closed: leaving the node to the watchdog");
        } else if let Err(error) = sd_notify::notify(&[NotifyState::Watchdog]) {
            tracing::warn!(%error, "the watchdog could not be told");
        }
    }
}
