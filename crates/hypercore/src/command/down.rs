//! `hypercore down`: ends every workload of this machine's node and takes away what it made in the kernel.
//! It refuses to delete data, and to work beside a running agent.

use clap::Args;
use hypercore_agent::{DownConfig, DownError, chain};
use hypercore_api::ErrorKind;

use crate::{
    cli::GlobalArgs,
    console::Console,
    context::Context,
    exit::Exit,
    failure::{Failure, Outcome},
};

const EXAMPLES: &str = "\
Examples:
  sudo systemctl stop hypercore && sudo hypercore down
  sudo hypercore down --config ./hypercore.toml";

/// End all workloads of this machine's stopped node, its network and cgroups; its data stays
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DownArgs {}

/// Takes the node down.
pub(super) fn run(_: DownArgs, global: &GlobalArgs, console: Console) -> Outcome {
    let context = Context::load(global, console)?;
    let config = &context.loaded.config;
    let node = DownConfig {
        data_directory: config.node.data_directory.as_path().to_owned(),
        runtime_directory: config.node.runtime_directory.as_path().to_owned(),
        cidr: config.runtime.cidr.to_string(),
        bridge: config.runtime.bridge.as_str().to_owned(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(hypercore_agent::down(node)).map_err(failure)?;
    context.console.detail(&format!("{ended} workloads were running"));
    Ok(Exit::Ok)
}

fn failure(error: DownError) -> Failure {
    let message = chain(&error);
    let told = |kind, code: &str, hint: &str| Failure::new(kind, code, message.as_str()).with_hint(hint);
    match error {
        DownError::NotRoot => told(ErrorKind::Refused, "not_root", "try again with `sudo hypercore down`"),
        DownError::Running(_) => {
            told(ErrorKind::Conflict, "node_running", "stop it first: `sudo systemctl stop hypercore`")
        }
        DownError::NetworkSettings(_) => told(
            ErrorKind::Usage,
            "config_invalid",
            "see [runtime] cidr and bridge in `hypercore config show`",
        ),
        DownError::Directory(_) | DownError::Programs(_) | DownError::Cgroups(_) | DownError::Left(_) => {
            told(
                ErrorKind::Failed,
                "down_failed",
                "trying again is safe; `hypercore doctor` checks the machine",
            )
        }
    }
}
