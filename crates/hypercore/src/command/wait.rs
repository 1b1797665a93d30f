//! `hypercore wait`: blocks until workloads have ended, prints their codes, and ends with the last one's.

use clap::Args;
use hypercore_api::ErrorKind;

use crate::{
    context::Context,
    exit::Exit,
    failure::{Failure, Outcome},
};

const EXAMPLES: &str = "\
Examples:
  hypercore wait job                   prints 0 and exits 0 when the job ended well
  hypercore wait job && echo done";

/// Wait for workloads to end
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct WaitArgs {
    /// Id, unique prefix of an id, or name
    #[arg(required = true, value_name = "WORKLOAD")]
    workloads: Vec<String>,
}

/// Waits for each in turn.
pub(super) async fn run(args: &WaitArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let mut exit = Exit::Ok;
    let mut codes = Vec::new();
    for target in &args.workloads {
        let status = client.wait(target).await?.to_model().ok_or_else(no_status)?;
        exit = Exit::Workload(status);
        if context.console.is_for_people() {
            context.console.line(&status.shell_code().to_string())?;
        }
        codes.push(serde_json::json!({ "workload": target, "exit_code": status.shell_code() }));
    }
    if !context.console.is_for_people() {
        context.console.structured(&codes)?;
    }
    Ok(exit)
}

/// The agent said that it ended and not how.
pub(super) fn no_status() -> Failure {
    Failure::new(ErrorKind::Failed, "answer_incomplete", "the agent answered without an exit status")
}
