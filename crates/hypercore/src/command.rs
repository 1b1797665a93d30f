//! The commands, one file each (or one per group): raw arguments in, an [`Exit`] out.

pub(crate) mod attach;
pub(crate) mod cluster;
pub(crate) mod completion;
pub(crate) mod config;
pub(crate) mod cp;
pub(crate) mod doctor;
pub(crate) mod down;
pub(crate) mod end;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod fork;
pub(crate) mod image;
pub(crate) mod inspect;
pub(crate) mod logs;
pub(crate) mod node;
pub(crate) mod pause;
pub(crate) mod port;
pub(crate) mod ps;
pub(crate) mod restore;
pub(crate) mod run;
pub(crate) mod snapshot;
pub(crate) mod snapshots;
pub(crate) mod stats;
pub(crate) mod token;
pub(crate) mod up;
pub(crate) mod version;
pub(crate) mod volume;
pub(crate) mod wait;

mod runs_on;
mod targets;

use crate::{
    cli::{Cli, Command},
    console::Console,
    context::Context,
    exit::Exit,
    failure::{Failure, Outcome},
};

/// Does what was asked and tells what failed.
pub(crate) fn execute(cli: Cli) -> Exit {
    let console = Console::new(&cli.global);
    dispatch(cli, console.clone()).unwrap_or_else(|failure| console.report(&failure))
}

fn dispatch(cli: Cli, console: Console) -> Outcome {
    let Cli { global, command } = cli;
    match command {
        Command::Cluster(args) => cluster::run(*args, &global, console),
        Command::Completion(args) => completion::run(&args, &console),
        Command::Config(args) => config::run(&args, &global, &console),
        Command::Doctor(args) => on_runtime(doctor::run(&args, &global, console)),
        Command::Down(args) => down::run(args, &global, console),
        Command::Up(args) => up::run(*args, &global, console),
        Command::Version(_) => on_runtime(version::run(&global, console)),
        command => {
            let is_session = is_session(&command);
            let asked =
                Context::load(&global, console).and_then(|context| on_runtime(ask(command, &context)));
            if is_session { asked.map_err(Failure::in_session) } else { asked }
        }
    }
}

/// Whether the low exit codes belong to the workload.
fn is_session(command: &Command) -> bool {
    match command {
        Command::Run(args) => !args.is_detached(),
        Command::Exec(_) | Command::Wait(_) => true,
        _ => false,
    }
}

/// The commands that are one conversation with the agent.
async fn ask(command: Command, context: &Context) -> Outcome {
    match command {
        Command::Run(args) => run::run(*args, context).await,
        Command::Ps(args) => ps::run(&args, context).await,
        Command::Inspect(args) => inspect::run(&args, context).await,
        Command::Stop(args) => end::stop(args, context).await,
        Command::Kill(args) => end::kill(args, context).await,
        Command::Rm(args) => end::rm(args, context).await,
        Command::Logs(args) => logs::run(args, context).await,
        Command::Exec(args) => exec::run(args, context).await,
        Command::Attach(args) => attach::run(args, context).await,
        Command::Wait(args) => wait::run(&args, context).await,
        Command::Cp(args) => cp::run(args, context).await,
        Command::Stats(args) => stats::run(args, context).await,
        Command::Port(args) => port::run(&args, context).await,
        Command::Events(args) => events::run(args, context).await,
        Command::Pause(args) => pause::pause(args, context).await,
        Command::Resume(args) => pause::resume(args, context).await,
        Command::Snapshot(args) => snapshot::run(&args, context).await,
        Command::Restore(args) => restore::run(args, context).await,
        Command::Fork(args) => fork::run(&args, context).await,
        Command::Snapshots(args) => snapshots::run(args, context).await,
        Command::Node(args) => node::run(args, context).await,
        Command::Image(args) => image::run(args, context).await,
        Command::Token(args) => token::run(args, context).await,
        Command::Volume(args) => volume::run(args, context).await,
        Command::Cluster(_)
        | Command::Completion(_)
        | Command::Config(_)
        | Command::Doctor(_)
        | Command::Down(_)
        | Command::Version(_)
        | Command::Up(_) => unreachable!("dispatched before a connection is needed"),
    }
}

/// Runs a conversation to its end on this thread.
fn on_runtime(conversation: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(conversation);
    // A reader of standard input may be blocked for good; it must not keep the program from ending.
    runtime.shutdown_background();
    outcome
}
