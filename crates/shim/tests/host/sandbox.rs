//! The resident shim with the real engine, through the agent's own client: what runs, what is told, what survives.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod exec;
mod held;
mod life;
mod misfortune;
mod protocol;
mod stdio;
mod survival;

use self::held::{Held, deadline};
