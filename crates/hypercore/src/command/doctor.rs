//! `hypercore doctor`: looks at everything a node needs and says what is missing and what to do about it.
//! Without `--fix` it refuses to change anything; with it, it does what its hints say where that is safe.

mod fix;
mod kernel;
mod limits;
mod machine;
mod microvms;
mod network;
mod node;

use clap::Args;
use hypercore_agent::chain;
use serde::Serialize;

use super::up::machines;
use crate::{cli::GlobalArgs, console::Console, context::Context, exit::Exit, failure::Outcome};
use fix::Fix;

const EXAMPLES: &str = "\
Examples:
  sudo hypercore doctor
  sudo hypercore doctor --fix          install, load, set and clean up what is safe to
  hypercore doctor --json | jq '.[] | select(.status != \"ok\")'";

/// Check what a node on this machine needs
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DoctorArgs {
    /// Repair what can be repaired: packages, modules, limits, directories, leftover sockets
    #[arg(long)]
    fix: bool,
}

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
    /// What was done about it.
    fixed: Option<String>,
    #[serde(skip)]
    fix: Option<Fix>,
}

impl Finding {
    fn new(check: &'static str, status: Status, message: impl Into<String>, hint: Option<String>) -> Self {
        Self { check, status, message: message.into(), hint, fixed: None, fix: None }
    }

    fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self::new(check, Status::Ok, message, None)
    }

    fn warn(check: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(check, Status::Warn, message, Some(hint.into()))
    }

    fn fail(check: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(check, Status::Fail, message, Some(hint.into()))
    }

    /// The same, with what `--fix` does about it.
    fn fixed_by(mut self, fix: Fix) -> Self {
        self.fix = Some(fix);
        self
    }
}

/// Checks everything; ends with 1 if something a node can't do without is missing.
pub(super) async fn run(args: &DoctorArgs, global: &GlobalArgs, console: Console) -> Outcome {
    let (mut findings, context) = examine(global, console.clone()).await;
    if args.fix {
        let repairs = repair(&findings, &console);
        if !repairs.is_empty() {
            (findings, _) = examine(global, console).await;
            note(&mut findings, repairs);
        }
    }
    let is_sound = findings.iter().all(|finding| finding.status != Status::Fail);
    if context.console.is_for_people() {
        context.console.text(&lines(&findings))?;
    } else {
        context.console.structured(&findings)?;
    }
    Ok(if is_sound { Exit::Ok } else { Exit::Failed })
}

async fn examine(global: &GlobalArgs, console: Console) -> (Vec<Finding>, Context) {
    let (context, config) = node::config(global, console);
    let (agent, is_agent_running) = node::agent(&context).await;
    let table = &context.loaded.config;
    let mut findings = vec![config, machine::root()];
    findings.extend(machine::kernel());
    findings.push(machine::cgroups());
    findings.extend(limits::all());
    findings.extend(network::tools());
    findings.push(network::port(is_agent_running));
    findings.extend(node::programs());
    findings.extend(microvms::all(&machines(table), table.node.data_directory.as_path()).await);
    findings.push(node::data_directory(table.node.data_directory.as_path()));
    findings.push(node::socket(table.node.runtime_directory.as_path()));
    findings.push(agent);
    (findings, context)
}

/// Repairs what can be; answers what was done, by check. What fails is told, and stays found.
fn repair(findings: &[Finding], console: &Console) -> Vec<(&'static str, String)> {
    let mut repairs = Vec::new();
    for finding in findings {
        let Some(fix) = &finding.fix else { continue };
        match fix.apply() {
            Ok(done) => repairs.push((finding.check, done)),
            Err(error) => console.warn(&format!("{}: {}", finding.check, chain(&error))),
        }
    }
    repairs
}

/// Notes what was done beside what is found now.
fn note(findings: &mut [Finding], repairs: Vec<(&'static str, String)>) {
    for (check, done) in repairs {
        if let Some(finding) = findings.iter_mut().find(|finding| finding.check == check) {
            finding.fixed = Some(done);
        }
    }
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
        if let Some(fixed) = &finding.fixed {
            text.push_str(&format!("{:<22} fixed: {fixed}\n", ""));
        }
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
    fn what_was_done_stands_beside_what_is_found() {
        let mut findings = [Finding::ok("nft", "nftables v1.0.6")];
        note(&mut findings, vec![("nft", "installed the package nftables".to_owned())]);
        let told = lines(&findings);
        assert!(told.ends_with("                       fixed: installed the package nftables\n"), "{told}");
    }

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
