//! What is said to people who left a workload behind that runs on: which one, and how to get it back or be rid of it.

use crate::{console::Console, failure::Failure, view::short_id};

/// Says that the workload runs on, to people.
pub(super) fn say(id: &str, console: &Console) {
    let id = short_id(id);
    // The cursor stands behind the workload's prompt, or behind the `^C` that its terminal echoed.
    let begin = if console.may_draw() { "\n" } else { "" };
    console.say(&format!(
        "{begin}workload {id} runs on: `hypercore attach {id}` joins it, `hypercore stop {id}` ends it"
    ));
}

/// The failure, with the right hint if it is that the agent went away: workloads don't need it to run.
pub(super) fn after_a_lost_connection(failure: Failure, id: &str) -> Failure {
    if failure.error.code != "connection_lost" {
        return failure;
    }
    let id = short_id(id);
    failure
        .with_hint(format!("the workload runs on: `hypercore attach {id}` joins it when the agent is back"))
}
