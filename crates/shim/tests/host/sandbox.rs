//! The resident shim with the real engine, through the agent's own client: what runs, what is told, what survives.

mod exec;
mod held;
mod life;
mod protocol;
mod stdio;
mod survival;

use self::held::{Held, deadline};
