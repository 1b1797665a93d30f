//! Ctrl-C and SIGTERM as a question one can ask, so that what was started can be taken down in order.
//!
//! It refuses to end the program by itself: whoever works through a list asks before each item.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use anyhow::{Context, Result, ensure};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

static INTERRUPTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| Arc::new(AtomicBool::new(false)));

/// Takes the two signals over.
///
/// # Errors
/// When they can't be handled.
pub(crate) fn watch() -> Result<()> {
    for signal in [SIGINT, SIGTERM] {
        flag::register(signal, Arc::clone(&INTERRUPTED)).context("taking Ctrl-C over")?;
    }
    Ok(())
}

/// # Errors
/// When the user pressed Ctrl-C, or somebody sent SIGTERM.
pub(crate) fn check() -> Result<()> {
    ensure!(!INTERRUPTED.load(Ordering::Relaxed), "interrupted; everything that was started is taken down");
    Ok(())
}
