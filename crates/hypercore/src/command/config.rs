//! `hypercore config`: what the configuration is, and what is wrong with it.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::{
    cli::GlobalArgs,
    config::{self, DEFAULT_PATH},
    console::Console,
    context::{Context, environment},
    exit::Exit,
    failure::Outcome,
};

const EXAMPLES: &str = "\
Examples:
  hypercore config check
  hypercore config show";

const CHECK_EXAMPLES: &str = "\
Examples:
  hypercore config check
  hypercore config check ./hypercore.toml";

const SHOW_EXAMPLES: &str = "\
Examples:
  hypercore config show > /etc/hypercore/hypercore.toml
  HYPERCORE_LOGGING_LEVEL=debug hypercore config show --json | jq .logging

Each key can be overridden by HYPERCORE_<TABLE>_<KEY>; lists are written a,b and tables k=v,k=v.";

/// Check and show the configuration
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Find all mistakes of a configuration file at once
    #[command(after_help = CHECK_EXAMPLES)]
    Check {
        /// The file [default: the one in use]
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Print every setting with the value in effect: defaults, file, environment
    #[command(after_help = SHOW_EXAMPLES)]
    Show,
}

/// Does it.
pub(super) fn run(args: &ConfigArgs, global: &GlobalArgs, console: &Console) -> Outcome {
    match &args.command {
        ConfigCommand::Check { file } => check(file.as_ref().or(global.config.as_ref()), console),
        ConfigCommand::Show => show(global, console),
    }
}

fn check(file: Option<&PathBuf>, console: &Console) -> Outcome {
    let loaded = config::load(file.map(PathBuf::as_path), environment())?;
    for warning in &loaded.warnings {
        console.warn(warning);
    }
    match &loaded.path {
        Some(path) => console.say(&format!("{}: no mistakes", path.display())),
        None => console.say(&format!("{DEFAULT_PATH} doesn't exist: the defaults are in effect")),
    }
    Ok(Exit::Ok)
}

fn show(global: &GlobalArgs, console: &Console) -> Outcome {
    let context = Context::load(global, console.clone())?;
    if let Some(path) = context.config_path() {
        console.say(&format!("# with the settings of {}", path.display()));
    }
    if console.is_for_people() {
        let text = toml::to_string(&context.loaded.config).map_err(std::io::Error::other)?;
        console.text(&text)
    } else {
        console.structured(&context.loaded.config)
    }
}
