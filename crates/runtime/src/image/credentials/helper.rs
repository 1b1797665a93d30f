//! Docker's credential helpers: programs `docker-credential-NAME` that keep secrets elsewhere (docker-credential-helpers,
//! "Development"). It refuses names that are paths, helpers that take too long, and answers of unreasonable size.

use std::{io, process::Stdio, time::Duration};

use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
};
use zeroize::Zeroizing;

use super::Credential;
use hypercore_copy::shown::{shown, shown_bytes};

/// How long a helper may take: some unlock a key chain or ask a cloud.
const TIME_MAX: Duration = Duration::from_secs(10);
/// Largest answer, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// What helpers write when they have nothing for a registry; they exit with 1 then.
const NOT_FOUND: &[u8] = b"credentials not found";

/// Why a credential helper gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// Its name leads elsewhere.
    #[error("docker's configuration names the credential helper `{0}`, which is no program's name")]
    Name(String),
    /// It can't be run.
    #[error("the credential helper {program} can't be run")]
    Run {
        /// Its file name.
        program: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It took over ten seconds.
    #[error("the credential helper {program} did not answer in time")]
    Timeout {
        /// Its file name.
        program: String,
    },
    /// It failed.
    #[error("the credential helper {program} failed: {message}")]
    Failed {
        /// Its file name.
        program: String,
        /// The beginning of what it wrote.
        message: String,
    },
    /// It wrote something else than a credential.
    #[error("the credential helper {program} gave a malformed answer")]
    Answer {
        /// Its file name.
        program: String,
    },
}

/// A helper's answer.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// Asks a helper for a server's credential.
pub(super) async fn get(name: &str, server: &str) -> Result<Option<Credential>, HelperError> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || !name.chars().all(is_name) {
        return Err(HelperError::Name(shown(name)));
    }
    let program = format!("docker-credential-{name}");
    match tokio::time::timeout(TIME_MAX, run(&program, server)).await {
        Err(_) => Err(HelperError::Timeout { program }),
        Ok(Err(source)) => Err(HelperError::Run { program, source }),
        Ok(Ok((true, answer))) => match serde_json::from_slice(&answer) {
            Ok(Answer { username, secret }) => Ok(Some(Credential::from_docker(username, secret))),
            // The parser's message could quote the secret.
            Err(_) => Err(HelperError::Answer { program }),
        },
        Ok(Ok((false, answer))) if answer.starts_with(NOT_FOUND) => Ok(None),
        Ok(Ok((false, answer))) => Err(HelperError::Failed { program, message: shown_bytes(&answer) }),
    }
}

/// Whether it succeeded, and what it wrote.
async fn run(program: &str, server: &str) -> io::Result<(bool, Zeroizing<Vec<u8>>)> {
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    if let Some(mut stdin) = stdin {
        // A helper that needs no question may be gone before it is asked.
        match stdin.write_all(server.as_bytes()).await {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
            _ => {}
        }
    }
    let mut answer = Zeroizing::new(Vec::new());
    if let Some(stdout) = stdout {
        stdout.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    }
    Ok((child.wait().await?.success(), answer))
}
