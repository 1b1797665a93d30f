//! The resident process beside one workload. All of it is in `hypercore_shim::resident`.

use std::process::ExitCode;

fn main() -> ExitCode {
    hypercore_shim::resident::run(std::env::args_os().skip(1))
}
