//! `cargo xtask`: everything a developer or CI does with this repository, one subcommand each.
//!
//! ```text
//!   ci = fmt + clippy + tidy + deny + test        demo: the whole life of one container, shown
//!   test = packages + tools + build + nextest     bench: the numbers of SPECIFICATION.md
//! ```
//!
//! It refuses to know the insides of Hypercore: it drives the built binaries as a user would, and depends on
//! the fixtures alone.
//!
//! Reading order: [`shell`], [`install`], then one file per subcommand.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool for terminals talks to the terminal")]

mod bench;
mod ci;
mod deb;
mod demo;
mod guest;
mod install;
mod interrupt;
mod kernel;
mod node;
mod sample;
mod shell;
mod test;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <command>

  demo [--keep]      run one container through its whole life, and show it
  test [ARG...]      install what the tests need and run them all; arguments go to nextest
  tidy               check the crate graph, sizes, headers, names and purity
  ci                 format, clippy, tidy, deny, test: what .ci/run does
  bench [NAME...]    measure the rows of SPECIFICATION.md; without a name, all of them
  deb [--check]      build the Debian package; try it on a Debian of its own
  guest [--release]  build the static program that is process 1 of microVMs, beside the others";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) =
        arguments.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    let result = match command {
        "demo" => demo::run(rest),
        "test" => test::run(rest),
        "tidy" => tidy::run(),
        "ci" => ci::run(),
        "bench" => bench::run(rest),
        "deb" => deb::run(rest),
        "guest" => guest::run(rest),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
