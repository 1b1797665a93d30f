//! `hypercore attach`: joins a workload that runs: its output from now on, its input if it was started with `-i`.

use clap::Args;
use hypercore_api::v1;

use crate::{
    context::Context,
    exit::Exit,
    failure::Outcome,
    session::{self, AttachProtocol, Options, SignalRoute, Signals},
    terminal,
};

const EXAMPLES: &str = "\
Examples:
  hypercore attach web                 leave a terminal with ctrl-p ctrl-q; the workload runs on
  hypercore attach --no-stdin web      only watch";

/// Join a workload's input and output
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AttachArgs {
    /// Id, unique prefix of an id, or name
    #[arg(value_name = "WORKLOAD")]
    workload: String,
    /// Don't give it our standard input
    #[arg(long)]
    no_stdin: bool,
}

/// Joins it until it ends or the user leaves.
pub(super) async fn run(args: AttachArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let state = client.inspect(&args.workload).await?;
    let request = state.source_request.unwrap_or_default();
    let has_input = request.stdin_open && !args.no_stdin;
    if has_input && request.tty {
        terminal::require()?;
    }
    let start = v1::AttachStart {
        id: state.id.clone(),
        from_start: false,
        stdin: has_input,
        size: request.tty.then(terminal::size).flatten(),
    };
    let options = Options { has_input, has_terminal: request.tty, may_detach: true };
    let signals = Signals::listen()?;
    let attached = client.attach(start).await?;
    let route = SignalRoute::Kill { client: client.clone(), id: state.id };
    session::carry::<AttachProtocol>(attached, options, signals, route).await?;
    Ok(Exit::Ok)
}
