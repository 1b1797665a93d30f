//! A machine whose host has no room for what it writes stands still; here it goes on when there is room again. It
//! refuses to tell the guest that its disk is broken, which it isn't, and to start a machine that stands for another
//! reason.

use std::{
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::qmp::{Qmp, QmpError};
use crate::machine::vmm::Place;

/// How often is looked whether there is room: only the write itself can tell.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long QEMU may take to open its socket.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(30);
/// How often is looked whether it has.
const CONNECT_INTERVAL: Duration = Duration::from_millis(10);
/// Longer than any machine lives: what is waited for may never come.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Where QEMU tells of it: a socket of its own, for the other one serves one caller at a time.
pub(super) fn socket(place: &Place) -> PathBuf {
    place.directory().join("room.sock")
}

/// Watches a machine that was just started, until it ends.
pub(super) fn watch(place: &Place) {
    let socket = socket(place);
    thread::spawn(move || {
        let deadline = Instant::now() + CONNECT_TIME_MAX;
        let mut qmp = loop {
            match Qmp::connect(&socket, Instant::now() + FOREVER) {
                Ok(qmp) => break qmp,
                Err(_) if Instant::now() > deadline => return,
                // It is not there yet.
                Err(_) => thread::sleep(CONNECT_INTERVAL),
            }
        };
        // It hangs up when the machine has ended.
        let _: Result<(), QmpError> = help(&mut qmp);
    });
}

fn help(qmp: &mut Qmp) -> Result<(), QmpError> {
    loop {
        qmp.wait_for("BLOCK_IO_ERROR", |event| stands_for_room(event).then_some(()))?;
        // Another write may find no room while this one is answered, so that its event is missed: the state tells.
        while is_standing(&qmp.execute("query-status", &json!({}))?) {
            thread::sleep(LOOK_INTERVAL);
            qmp.execute("cont", &json!({}))?;
            thread::sleep(LOOK_INTERVAL);
        }
    }
}

/// Whether a failed write made the machine stand still.
fn stands_for_room(event: &Value) -> bool {
    event["action"] == "stop" && event["nospace"] == true
}

/// Whether it stands for a failed write, and not because somebody holds it.
fn is_standing(status: &Value) -> bool {
    status["status"] == "io-error"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_for_lack_of_room_is_helped() {
        assert!(stands_for_room(&json!({ "action": "stop", "nospace": true, "operation": "write" })));
        assert!(!stands_for_room(&json!({ "action": "report", "nospace": true })));
        assert!(!stands_for_room(&json!({ "action": "stop", "nospace": false })));
        assert!(is_standing(&json!({ "status": "io-error", "running": false })));
        for status in ["paused", "running", "postmigrate"] {
            assert!(!is_standing(&json!({ "status": status })), "{status}");
        }
    }
}
