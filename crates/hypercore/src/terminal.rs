//! The terminal this program runs on: its size, raw mode that is always undone, and the keys to leave.
//! It refuses to leave a terminal raw: on return, on error, on panic.

mod detach;

use std::{
    io::{self, IsTerminal as _},
    panic,
    sync::{Mutex, Once, PoisonError},
};

use hypercore_api::{ErrorKind, v1};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

pub(crate) use detach::DetachKeys;

use crate::failure::Failure;

/// The terminal's settings from before it was made raw; `None` while it isn't.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// The terminal of standard input hands every key through unseen while this exists.
#[derive(Debug)]
pub(crate) struct RawMode(());

impl RawMode {
    /// Makes the terminal raw.
    pub(crate) fn enter() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            // Release builds abort on panic: no destructor runs then, but hooks do.
            let previous = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                restore();
                previous(info);
            }));
        });
        let stdin = io::stdin();
        let before = tcgetattr(&stdin)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        tcsetattr(&stdin, SetArg::TCSANOW, &raw)?;
        Ok(Self(()))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    // A panic while the lock is held can only come from within `enter`; waiting for it would hang.
    if let Ok(mut before) = BEFORE.try_lock()
        && let Some(settings) = before.take()
    {
        // There is nobody to tell, and nothing else to try.
        let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &settings);
    }
}

/// The terminal's size; `None` when we have none.
pub(crate) fn size() -> Option<v1::TerminalSize> {
    let size = terminal_size::terminal_size_of(io::stdout())
        .or_else(|| terminal_size::terminal_size_of(io::stdin()))?;
    Some(v1::TerminalSize { rows: size.1.0.into(), columns: size.0.0.into() })
}

/// Refuses `-it` without a terminal to be the screen and the keyboard.
pub(crate) fn require() -> Result<(), Failure> {
    if io::stdin().is_terminal() {
        return Ok(());
    }
    let failure = Failure::new(ErrorKind::Usage, "not_a_terminal", "standard input is not a terminal");
    Err(failure.with_hint("leave out -t when input comes from a pipe or a file"))
}
