//! `hypercore completion`: a script that teaches a shell the command line.

use clap::Args;
use clap_complete::Shell;

use crate::{cli, console::Console, failure::Outcome};

const EXAMPLES: &str = "\
Examples:
  hypercore completion bash > /etc/bash_completion.d/hypercore
  hypercore completion zsh > \"${fpath[1]}/_hypercore\"";

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompletionArgs {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints it.
pub(super) fn run(args: &CompletionArgs, console: &Console) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut cli::definition(), "hypercore", &mut script);
    console.text(&String::from_utf8_lossy(&script))
}
