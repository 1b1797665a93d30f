//! `hypercore image login` and `logout`: what the node is to a registry. Passwords come from the standard input alone:
//! arguments and environments are seen by others. None is ever shown.

use std::io::Read;

use clap::Args;
use hypercore_api::ErrorKind;
use serde::Serialize;

use crate::{
    context::Context,
    exit::Exit,
    failure::{Failure, Outcome},
};

const LOGIN_EXAMPLES: &str = "\
Examples:
  hypercore image login ghcr.io -u ada --password-stdin < token.txt
  pass show docker | hypercore image login -u ada --password-stdin          docker.io

The registry is asked first; what it accepts is kept on the node for later pulls.
A login in docker's own configuration (~/.docker/config.json of the agent's user) works as it is.";

const LOGOUT_EXAMPLES: &str = "\
Examples:
  hypercore image logout ghcr.io
  hypercore image logout               docker.io";

/// Longest password or token, in bytes.
const PASSWORD_BYTES_MAX: u64 = 64 * 1024;

/// Log this node in to a registry
#[derive(Debug, Args)]
#[command(after_help = LOGIN_EXAMPLES)]
pub(super) struct LoginArgs {
    /// HOST or HOST:PORT, as in image names
    #[arg(value_name = "REGISTRY", default_value = "docker.io")]
    registry: String,
    /// Who to be there
    #[arg(short, long, value_name = "USER")]
    username: String,
    /// Read the password or access token from the standard input; there is no other way
    #[arg(long, required = true)]
    password_stdin: bool,
}

/// Forget this node's login at a registry
#[derive(Debug, Args)]
#[command(after_help = LOGOUT_EXAMPLES)]
pub(super) struct LogoutArgs {
    /// HOST or HOST:PORT, as in image names
    #[arg(value_name = "REGISTRY", default_value = "docker.io")]
    registry: String,
}

/// Where, for programs.
#[derive(Debug, Serialize)]
struct LoginView {
    registry: String,
}

/// Logs in.
pub(super) async fn log_in(args: LoginArgs, context: &Context) -> Outcome {
    let password = read_password(std::io::stdin().lock())?;
    let registry = context.connect().await?.image_login(&args.registry, &args.username, password).await?;
    show(registry, &format!("logged in as {}", args.username), context)
}

/// Logs out.
pub(super) async fn log_out(args: &LogoutArgs, context: &Context) -> Outcome {
    let registry = context.connect().await?.image_logout(&args.registry).await?;
    show(registry, "logged out", context)
}

fn show(registry: String, what: &str, context: &Context) -> Outcome {
    if !context.console.is_for_people() {
        return context.console.structured(&LoginView { registry });
    }
    context.console.say(&format!("{registry}: {what}"));
    Ok(Exit::Ok)
}

/// The whole input without the line end that files and `echo` add.
fn read_password(input: impl Read) -> Result<String, Failure> {
    let usage = |code, message: &str| Failure::new(ErrorKind::Usage, code, message);
    let mut password = String::new();
    if input.take(PASSWORD_BYTES_MAX + 1).read_to_string(&mut password).is_err() {
        return Err(usage("invalid_password", "the password on the standard input can't be read as text"));
    }
    if password.len() as u64 > PASSWORD_BYTES_MAX {
        return Err(usage("invalid_password", "the password on the standard input is too long"));
    }
    let end = password.trim_end_matches(['\r', '\n']).len();
    password.truncate(end);
    if password.is_empty() {
        let failure = usage("invalid_password", "there is no password on the standard input");
        return Err(
            failure.with_hint("pipe it in: hypercore image login REGISTRY -u USER --password-stdin < FILE")
        );
    }
    Ok(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_loses_its_line_end_and_nothing_else() {
        assert_eq!(read_password(&b" open  sesame \r\n"[..]).unwrap(), " open  sesame ");
        for bad in [&b""[..], b"\n", b"\xff\xfe", &[b'x'; 70_000]] {
            assert!(read_password(bad).is_err());
        }
    }
}
