//! `hypercore up`: starts this machine's node and stays in the foreground until it is told to stop.

mod ingress;
mod journal;
mod settings;
mod traces;

pub(super) use settings::machines;

use clap::Args;
use hypercore_agent::{Listeners, RunError, chain};
use hypercore_api::ErrorKind;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    cli::GlobalArgs,
    console::Console,
    context::Context,
    exit::Exit,
    failure::{Failure, Outcome},
};

const EXAMPLES: &str = "\
Examples:
  sudo hypercore up
  sudo hypercore up --config ./hypercore.toml -v
  sudo hypercore up --data-dir /tmp/two --runtime-dir /run/two --bridge two0 --cidr 172.17.0.0/16 \\
      --http-bind-addr 127.0.0.1:9001                  a second node on this machine";

/// Start this machine's node, in the foreground
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    settings: settings::SettingArgs,
}

/// Runs the node.
pub(super) fn run(args: UpArgs, global: &GlobalArgs, console: Console) -> Outcome {
    let mut context = Context::load(global, console)?;
    for warning in &context.loaded.warnings {
        context.console.warn(warning);
    }
    let config = args.settings.agent_config(&mut context.loaded.config)?;
    // Before there are threads: it changes the environment.
    let listeners = Listeners::from_environment();
    // Whoever speaks TLS finds it here; a provider that is there already is the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let journal = journal::begin(&context.loaded.config.logging, global)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let asked_to_stop = asked_to_stop()?;
        let ready = || notify(NotifyState::Ready);
        hypercore_agent::run(config, listeners, asked_to_stop, ready).await.map_err(failure)
    });
    runtime.shutdown_background();
    journal.end();
    ended.map(|()| Exit::Ok)
}

/// Completes at the first SIGTERM or SIGINT.
fn asked_to_stop() -> Result<impl Future<Output = ()> + Send, Failure> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        notify(NotifyState::Stopping);
    })
}

/// Tells systemd, if it started us.
fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "systemd could not be told");
    }
}

fn failure(error: RunError) -> Failure {
    use ErrorKind::{Conflict, Failed, Refused, Usage};
    let (kind, code, hint) = match &error {
        RunError::NotRoot => (Refused, "not_root", "try again with `sudo hypercore up`"),
        RunError::NetworkSettings(_) => {
            (Usage, "config_invalid", "see [runtime] cidr and bridge in `hypercore config show`")
        }
        RunError::InUse(_) => (
            Conflict,
            "node_running",
            "a second node on this machine needs --data-dir, --runtime-dir, --bridge and --cidr of its own",
        ),
        RunError::Rejected(_) => (
            Conflict,
            "node_not_admitted",
            "a node keeps its subnet: start it with the --cidr it has, or a new one with another --data-dir",
        ),
        RunError::Directory(_) => {
            (Failed, "directory_failed", "see --data-dir and --runtime-dir in `hypercore up --help`")
        }
        RunError::Listen(error) if error.source.kind() == std::io::ErrorKind::AddrInUse => {
            (Conflict, "address_in_use", "choose another address in `hypercore up --help`, or end who has it")
        }
        RunError::Listen(_) => {
            (Failed, "listen_failed", "give an address that this machine has: `ip address` lists them")
        }
        RunError::Authority(_) => {
            (Failed, "authority_failed", "ca.key and ca.pem in the data directory are to be of one backup")
        }
        RunError::Tls(_) => (
            Failed,
            "tls_failed",
            "[cluster] tls_cert and tls_key name a chain and its key in PEM; without, the node makes its own",
        ),
        RunError::Ingress(_) => (
            Failed,
            "ingress_failed",
            "see [ingress] tls and [cluster] tls_cert and tls_key in `hypercore config show`",
        ),
        RunError::ProgramMissing(_) => {
            (Failed, "program_missing", "install hypercore-shim and hypercore-engine beside hypercore")
        }
        _ => (Failed, "node_failed", "`hypercore doctor` checks what a node needs"),
    };
    Failure::new(kind, code, chain(&error)).with_hint(hint)
}
