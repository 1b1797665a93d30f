//! The short-lived helper of the shim that creates, joins and deletes containers. All of it is in `hypercore_shim::engine`.

use std::process::ExitCode;

fn main() -> ExitCode {
    hypercore_shim::engine::run(std::env::args_os().skip(1))
}
