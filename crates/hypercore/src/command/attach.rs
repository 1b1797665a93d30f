//! `hypercore attach`: joins a workload that runs: its output from now on, its input if it was started with `-i`.

use clap::Args;
use hypercore_api::v1;

use super::runs_on;
use crate::{
    context::Context,
    exit::Exit,
    failure::Outcome,
    session::{self, AttachProtocol, End, Options, SignalRoute, Signals},
    terminal,
};

const EXAMPLES: &str = "\
Examples:
  hypercore attach web                 leave a terminal with ctrl-p ctrl-q; the workload runs on
  hypercore attach --no-stdin web      only watch: ctrl-c ends the watching, not the workload";

/// Join a workload's input and output
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AttachArgs {
    /// Id, unique prefix of an id, or name
    #[arg(value_name = "WORKLOAD")]
    workload: String,
    /// Only watch: give it neither our standard input nor our signals
    #[arg(long)]
    no_stdin: bool,
}

impl AttachArgs {
    /// The same as typed under another name.
    pub(super) const fn of(workload: String, no_stdin: bool) -> Self {
        Self { workload, no_stdin }
    }
}

/// Joins it until it ends or the user leaves.
pub(super) async fn run(args: AttachArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let state = client.inspect(&args.workload).await?;
    let request = state.source_request.unwrap_or_default();
    let has_input = request.stdin_open && !args.no_stdin;
    let has_terminal = request.tty && !args.no_stdin;
    if has_input && has_terminal {
        terminal::require()?;
    }
    let start = v1::AttachStart {
        id: state.id.clone(),
        from_start: false,
        stdin: has_input,
        // Who only watches leaves the size as it is.
        size: has_terminal.then(terminal::size).flatten(),
    };
    let options = Options { has_input, has_terminal, may_detach: true };
    let signals = Signals::listen()?;
    let attached = client.attach(start).await?;
    let route = if args.no_stdin {
        SignalRoute::Nowhere
    } else {
        SignalRoute::Kill { client: client.clone(), id: state.id.clone() }
    };
    let carried = session::carry::<AttachProtocol>(attached, options, signals, route).await;
    match carried.map_err(|failure| runs_on::after_a_lost_connection(failure, &state.id))? {
        End::Exited(_) => Ok(Exit::Ok),
        End::Detached => {
            runs_on::say(&state.id, &context.console);
            Ok(Exit::Ok)
        }
        End::Abandoned(status) => {
            if !args.no_stdin {
                runs_on::say(&state.id, &context.console);
            }
            Ok(Exit::Workload(status))
        }
    }
}
