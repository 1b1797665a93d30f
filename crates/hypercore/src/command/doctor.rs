//! `hypercore doctor`: looks at everything a node needs and says what is missing and what to do about it.
//! It refuses to change anything; a check that would have to is a warning at most.

mod machine;
mod network;
mod node;

use clap::Args;
use serde::Serialize;

use crate::{cli::GlobalArgs, console::Console, exit::Exit, failure::Outcome};

const EXAMPLES: &str = "\
Examples:
  sudo hypercore doctor
  hypercore doctor --json | jq '.[] | select(.status != \"ok\")'";

/// Check what a node on this machine needs
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DoctorArgs {}

/// How a check turned out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Warn,
    Fail,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    check: &'static str,
    status: Status,
    message: String,
    hint: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, status: Status::Ok, message: message.into(), hint: None }
    }

    fn warn(check: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { check, status: Status::Warn, message: message.into(), hint: Some(hint.into()) }
    }

    fn fail(check: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { check, status: Status::Fail, message: message.into(), hint: Some(hint.into()) }
    }
}

/// Checks everything; ends with 1 if something a node can't do without is missing.
pub(super) async fn run(global: &GlobalArgs, console: Console) -> Outcome {
    let (context, config) = node::config(global, console);
    let (agent, is_agent_running) = node::agent(&context).await;
    let table = &context.loaded.config;
    let mut findings = vec![config, machine::root()];
    findings.extend(machine::kernel());
    findings.push(machine::cgroups());
    findings.extend(network::tools());
    findings.push(network::port(is_agent_running));
    findings.extend(node::programs());
    findings.push(node::data_directory(table.node.data_directory.as_path()));
    findings.push(agent);

    let is_sound = findings.iter().all(|finding| finding.status != Status::Fail);
    if context.console.is_for_people() {
        context.console.text(&lines(&findings))?;
    } else {
        context.console.structured(&findings)?;
    }
    Ok(if is_sound { Exit::Ok } else { Exit::Failed })
}

fn lines(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let status = match finding.status {
            Status::Ok => "ok",
            Status::Warn => "warn",
            Status::Fail => "fail",
        };
        text.push_str(&format!("{status:<5} {:<16} {}\n", finding.check, finding.message));
        if let Some(hint) = &finding.hint {
            text.push_str(&format!("{:<22} hint: {hint}\n", ""));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_line_up_with_their_hints_below() {
        let findings =
            [Finding::ok("root", "running as root"), Finding::fail("nft", "not found", "install it")];
        assert_eq!(
            lines(&findings),
            "ok    root             running as root\n\
             fail  nft              not found\n                       hint: install it\n"
        );
    }
}
