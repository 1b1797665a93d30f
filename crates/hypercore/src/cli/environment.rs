//! Lets every flag come from the environment: one walk over the command line instead of an attribute per flag.

use clap::{ArgAction, CommandFactory as _, builder::BoolishValueParser};

use super::Cli;

/// The command line, each long flag bound to `HYPERCORE_<COMMAND>_<FLAG>` (`HYPERCORE_<FLAG>` for global ones).
pub(super) fn command() -> clap::Command {
    bind(Cli::command(), "HYPERCORE")
}

fn bind(command: clap::Command, prefix: &str) -> clap::Command {
    let bound = command.mut_args(|arg| {
        let Some(long) = arg.get_long().filter(|_| arg.get_env().is_none()) else { return arg };
        let variable = variable(prefix, long);
        match arg.get_action() {
            ArgAction::SetTrue => arg.env(variable).hide_env(true).value_parser(BoolishValueParser::new()),
            // A number below zero is a value that is out of range, not a flag of that name.
            ArgAction::Set | ArgAction::Append => {
                arg.env(variable).hide_env(true).allow_negative_numbers(true)
            }
            ArgAction::Count => arg.env(variable).hide_env(true),
            _ => arg,
        }
    });
    bound.mut_subcommands(|subcommand| {
        let prefix = variable(prefix, subcommand.get_name());
        bind(subcommand, &prefix)
    })
}

fn variable(prefix: &str, name: &str) -> String {
    format!("{prefix}_{}", name.to_ascii_uppercase().replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn every_long_flag_has_its_variable() {
        fn check(command: &clap::Command) {
            for arg in command.get_arguments().filter(|arg| arg.get_long().is_some()) {
                assert!(arg.get_env().is_some(), "{} --{}", command.get_name(), arg.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        check(&command());
        let root = command();
        let run = root.find_subcommand("run").unwrap();
        let cpu = run.get_arguments().find(|arg| arg.get_id() == "cpu").unwrap();
        assert_eq!(cpu.get_env().unwrap(), "HYPERCORE_RUN_CPU");
    }
}
