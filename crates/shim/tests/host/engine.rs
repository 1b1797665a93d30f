//! The engine on real containers: what runs, with which rights, and that nothing is left.

mod delete;
mod exec;
mod identity;
mod limits;
pub(crate) mod machine;
mod rights;
mod start;
mod terminal;

use self::machine::Machine;
