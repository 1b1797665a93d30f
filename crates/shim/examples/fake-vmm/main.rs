//! Stands in tests where Firecracker, its jailer or Cloud Hypervisor would: which one is the name that it is started
//! under. It has no machine. What it has is the order in which the real ones take requests, as they document it, the
//! sockets at which they listen, and behind these a guest that knows a few commands.
//!
//! ```text
//!   firecracker | cloud-hypervisor --api--> state machine --starts--> vsock socket --> guest
//!   jailer: changes root and user as the real one, then is firecracker
//! ```
//!
//! It refuses to be more forgiving than they are: files have to be there and open, as the user that it is by then.

#![allow(unused_crate_dependencies, reason = "examples see all of the package's")]

mod cloud_hypervisor;
mod firecracker;
mod guest;
mod jailer;
mod mood;
mod tap;

use std::{
    env,
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use crate::mood::Mood;

fn main() -> ExitCode {
    let mut arguments = env::args();
    let program = arguments.next().unwrap_or_default();
    let arguments: Vec<String> = arguments.collect();
    let mood = Mood::beside(Path::new(&program));
    let name = Path::new(&program).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let ran = if arguments == ["--version"] {
        writeln!(io::stdout(), "{}", mood.version(&name))
    } else {
        match name.as_str() {
            "firecracker" => firecracker::run(&arguments, mood),
            "jailer" => jailer::run(&arguments, mood),
            "cloud-hypervisor" => cloud_hypervisor::run(&arguments, mood),
            other => Err(io::Error::other(format!("{other} is nobody's name"))),
        }
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell if standard error is closed.
            let _ = writeln!(io::stderr(), "{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The value after an option.
fn option<'a>(arguments: &'a [String], name: &str) -> io::Result<&'a str> {
    let at = arguments.iter().position(|argument| argument == name);
    let value = at.and_then(|at| arguments.get(at + 1));
    value.map(String::as_str).ok_or_else(|| io::Error::other(format!("{name} is missing")))
}
