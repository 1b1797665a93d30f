//! The engine on real containers: what runs, with which rights, and that nothing is left.

mod machine;
mod start;

use self::machine::Machine;
