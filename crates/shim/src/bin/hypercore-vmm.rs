//! The helper of the shim that holds a microVM: see `hypercore_shim::machine`, which has all of it.

use std::process::ExitCode;

fn main() -> ExitCode {
    hypercore_shim::machine::run(std::env::args_os().skip(1))
}
