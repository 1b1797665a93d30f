//! `hypercore exec`: one more command inside a workload. Ends with the command's code.

use clap::Args;
use hypercore_api::v1;

use crate::{
    context::Context,
    exit::Exit,
    failure::Outcome,
    session::{self, End, ExecProtocol, Options, SignalRoute, Signals},
    terminal,
};

const EXAMPLES: &str = "\
Examples:
  hypercore exec web -- ls -l /
  hypercore exec -it web sh
  tar c . | hypercore exec -i web tar x -C /srv";

/// Run a command inside a workload
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ExecArgs {
    /// Id, unique prefix of an id, or name
    #[arg(value_name = "WORKLOAD")]
    workload: String,
    /// The command and its arguments
    #[arg(required = true, value_name = "CMD", trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
    /// Give it our standard input
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Set an environment variable
    #[arg(short, long, value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// Run as this user instead of the workload's
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Working directory inside instead of the workload's
    #[arg(short, long, value_name = "DIRECTORY")]
    workdir: Option<String>,
}

/// Runs it and stays to its end.
pub(super) async fn run(args: ExecArgs, context: &Context) -> Outcome {
    if args.interactive && args.tty {
        terminal::require()?;
    }
    let client = context.connect().await?;
    let start = v1::ExecStart {
        id: args.workload,
        argv: args.command,
        env: args.env,
        user: args.user.unwrap_or_default(),
        workdir: args.workdir.unwrap_or_default(),
        tty: args.tty,
        stdin: args.interactive,
        size: args.tty.then(terminal::size).flatten(),
    };
    let options = Options { has_input: args.interactive, has_terminal: args.tty, may_detach: false };
    let signals = Signals::listen()?;
    let running = client.exec(start).await?;
    match session::carry::<ExecProtocol>(running, options, signals, SignalRoute::Session).await? {
        End::Exited(status) | End::Abandoned(status) => Ok(Exit::Workload(status)),
        End::Detached => Ok(Exit::Ok),
    }
}
