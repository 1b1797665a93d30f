//! A deadline that moves with every byte and costs nothing while bytes come: the timer is set when somebody waits.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

/// Measures the time since the last [`Clock::restart`].
#[derive(Debug, Default)]
pub(crate) struct Clock {
    /// `None` until somebody waits after a restart.
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Clock {
    /// Something moved.
    pub(crate) fn restart(&mut self) {
        self.since = None;
    }

    /// Ready when nothing has moved for `limit`. The time begins with the first call after a restart.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, limit: Duration) -> Poll<()> {
        let deadline = *self.since.get_or_insert_with(Instant::now) + limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        loop {
            // A timer that is set too early is cheaper to set again when it fires than with every byte.
            if timer.deadline() > deadline {
                timer.as_mut().reset(deadline);
            }
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn it_ends_when_nothing_moved_for_the_limit() {
        let (mut clock, begun) = (Clock::default(), Instant::now());
        poll_fn(|cx| clock.poll(cx, LIMIT)).await;
        assert!(begun.elapsed() >= LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_restart_moves_it_and_a_shorter_limit_brings_it_nearer() {
        let (mut clock, begun) = (Clock::default(), Instant::now());
        let _ = poll_fn(|cx| Poll::Ready(clock.poll(cx, LIMIT))).await;
        tokio::time::advance(LIMIT / 2).await;
        clock.restart();
        poll_fn(|cx| clock.poll(cx, LIMIT)).await;
        assert!(begun.elapsed() >= LIMIT + LIMIT / 2);
        clock.restart();
        let begun = Instant::now();
        let _ = poll_fn(|cx| Poll::Ready(clock.poll(cx, LIMIT))).await;
        poll_fn(|cx| clock.poll(cx, LIMIT / 4)).await;
        assert!(begun.elapsed() < LIMIT);
    }
}
