//! The command line as it is typed: global flags, the list of commands, and where flags come from besides.
//! It refuses to act: parsing ends in a [`Cli`] or in a usage message.

mod environment;
mod usage;

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use hypercore_api::Endpoint;

pub(crate) use usage::UsageError;

use crate::command;

const AFTER_HELP: &str = "\
Examples:
  hypercore up                           start this machine's node
  hypercore run -d --name web -p 8080:80 nginx
  hypercore ps
  hypercore logs -f web

Every flag can also come from the environment, as HYPERCORE_<COMMAND>_<FLAG>: HYPERCORE_RUN_CPU=0.5.
Global flags are HYPERCORE_<FLAG>, settings of the configuration file HYPERCORE_<TABLE>_<KEY>.

Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 refused, 5 unavailable, 6 conflict.
`run`, `exec` and `wait` end with the workload's own code, or with 125 when Hypercore failed,
126 when the command can't be executed, 127 when it doesn't exist.";

/// One compute cloud out of Linux machines: run OCI images as containers, on this machine or many.
#[derive(Debug, Parser)]
#[command(name = "hypercore", version, after_help = AFTER_HELP, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// Read the configuration from this file instead of /etc/hypercore/hypercore.toml
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where the agent is: unix:PATH or https://HOST:PORT [default: api.sock in the runtime directory]
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub(crate) api: Option<Endpoint>,
    /// Show this token to the agent; better set HYPERCORE_TOKEN, for others may see command lines
    #[arg(long, global = true, value_name = "TOKEN", env = "HYPERCORE_TOKEN", hide_env = true)]
    pub(crate) api_token: Option<String>,
    /// Believe a server whose certificate comes from an authority in this PEM file, whatever the token says
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) api_ca: Option<PathBuf>,
    /// How to print data
    #[arg(short, long, global = true, value_name = "FORMAT", value_enum, default_value_t)]
    output: Format,
    /// The same as `-o json`
    #[arg(long, global = true)]
    json: bool,
    /// Print only what was asked for; in lists, only ids
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Say more about what happens, on stderr; twice for everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Print without colours, also on a terminal
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
}

impl GlobalArgs {
    /// The format that was asked for.
    pub(crate) const fn format(&self) -> Format {
        if self.json { Format::Json } else { self.output }
    }
}

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    // Plain comments: doc comments would make every `--help` list these on lines of their own.
    // Aligned columns for people.
    #[default]
    Table,
    // For programs.
    Json,
    // For programs and patient people.
    Yaml,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Up(Box<command::up::UpArgs>),
    Down(command::down::DownArgs),
    Run(Box<command::run::RunArgs>),
    Ps(command::ps::PsArgs),
    Inspect(command::inspect::InspectArgs),
    Stop(command::end::StopArgs),
    Kill(command::end::KillArgs),
    Rm(command::end::RmArgs),
    Logs(command::logs::LogsArgs),
    Exec(command::exec::ExecArgs),
    Attach(command::attach::AttachArgs),
    Wait(command::wait::WaitArgs),
    Cp(command::cp::CpArgs),
    Stats(command::stats::StatsArgs),
    Port(command::port::PortArgs),
    Events(command::events::EventsArgs),
    Pause(command::pause::PauseArgs),
    Resume(command::pause::ResumeArgs),
    Snapshot(command::snapshot::SnapshotArgs),
    Restore(command::restore::RestoreArgs),
    Fork(command::fork::ForkArgs),
    Snapshots(command::snapshots::SnapshotsArgs),
    Node(command::node::NodeArgs),
    Cluster(Box<command::cluster::ClusterArgs>),
    Image(command::image::ImageArgs),
    Token(command::token::TokenArgs),
    Volume(command::volume::VolumeArgs),
    Config(command::config::ConfigArgs),
    Doctor(command::doctor::DoctorArgs),
    Completion(command::completion::CompletionArgs),
    Version(command::version::VersionArgs),
}

/// Reads the process's arguments and environment.
///
/// # Errors
/// A usage message, or the help that was asked for.
pub(crate) fn parse() -> Result<Cli, UsageError> {
    let arguments: Vec<_> = std::env::args_os().collect();
    environment::command()
        .try_get_matches_from(&arguments)
        .and_then(|matches| clap::FromArgMatches::from_arg_matches(&matches))
        .map_err(|error| UsageError::new(error, &arguments))
}

/// The whole command line, for completion scripts.
pub(crate) fn definition() -> clap::Command {
    environment::command()
}
