//! The engine on real containers: what runs, with which rights, and that nothing is left.

pub(crate) mod machine;
mod start;

use self::machine::Machine;
