//! What goes on on one client's connection, as its guard, its requests and its keeper need to know it.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio_util::sync::CancellationToken;

use super::Tunnel;

/// One connection's counts and its change into a tunnel.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    under_way: AtomicUsize,
    begun: AtomicUsize,
    requests_max: usize,
    is_upgraded: AtomicBool,
    tunnel: Mutex<Option<Tunnel>>,
    /// Cancelled when the connection has served enough.
    pub(crate) worn_out: CancellationToken,
}

impl Activity {
    pub(crate) fn new(requests_max: usize) -> Arc<Self> {
        Arc::new(Self { requests_max, ..Self::default() })
    }

    /// Counts a request until the answer is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> Busy {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        if self.begun.fetch_add(1, Ordering::Relaxed) + 1 == self.requests_max {
            self.worn_out.cancel();
        }
        Busy(Arc::clone(self))
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) > 0
    }

    /// Whether the connection no longer speaks HTTP.
    pub(crate) fn is_upgraded(&self) -> bool {
        self.is_upgraded.load(Ordering::Relaxed)
    }

    /// Says so before the client learns it, so that its first bytes after that are not taken for HTTP.
    pub(crate) fn become_tunnel(&self, tunnel: Tunnel) {
        *self.tunnel.lock().unwrap_or_else(PoisonError::into_inner) = Some(tunnel);
        self.is_upgraded.store(true, Ordering::Relaxed);
    }

    pub(crate) fn take_tunnel(&self) -> Option<Tunnel> {
        self.tunnel.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}
