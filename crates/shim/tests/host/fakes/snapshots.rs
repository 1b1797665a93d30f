//! Saving a machine and going on from what was saved, as another one.

use std::{fs, os::unix::net::UnixStream, path::Path, time::Duration};

use hypercore_fixtures::skip_without_root;
use hypercore_wire::{
    Decoder, Flags, Message, StreamId,
    message::{Snapshot, Snapshotted},
    negotiation::greeting,
};
use nix::sys::signal::Signal;

use super::{MONITORS, Node};

/// Longest wait for an answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// Asks for a snapshot over the socket of a machine's stand-ins.
fn save(socket: &Path, directory: &Path) -> Result<Snapshotted, String> {
    use std::io::{Read as _, Write as _};
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(ANSWER_TIME_MAX)).unwrap();
    let mut bytes = Vec::new();
    Message::from(greeting()).encode_to(StreamId::CONNECTION, Flags::NONE, &mut bytes).unwrap();
    let wanted = Snapshot { directory: directory.to_str().unwrap().to_owned() };
    Message::from(wanted).encode_to(StreamId(1), Flags::NONE, &mut bytes).unwrap();
    stream.write_all(&bytes).unwrap();
    let (mut decoder, mut buffer) = (Decoder::new(), [0; 4096]);
    loop {
        while let Some(frame) = decoder.next_frame().unwrap() {
            match Message::decode(&frame.payload).unwrap() {
                Message::Hello(_) => {}
                Message::Snapshotted(saved) => return Ok(saved),
                Message::Error(fault) => return Err(fault.to_string()),
                other => panic!("{other:?}"),
            }
        }
        let len = stream.read(&mut buffer).unwrap();
        assert!(len > 0, "the machine hung up");
        decoder.push(&buffer[..len]);
    }
}

#[test]
fn a_saved_machine_goes_on_as_others_beside_it() {
    if skip_without_root("a_saved_machine_goes_on_as_others_beside_it") {
        return;
    }
    for monitor in MONITORS {
        let node = Node::new(monitor, "");
        let first = node.create("one", &node.spec("one", &["sleep"]));
        let saved = save(&first.socket(), &node.path("snapshot")).unwrap();
        assert!(saved.is_mapped);
        let mut names: Vec<_> =
            fs::read_dir(node.path("snapshot")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["memory", "state", "writable.ext4"]);
        let clones = ["two", "three"].map(|id| node.create(id, &node.resuming(id)));
        for clone in &clones {
            assert!(clone.report.contains("pid"), "{monitor}: {}", clone.report);
            assert_eq!(clone.exec(&["echo", "again"]).wait(), (0, "again\n".to_owned()));
        }
        // What resumed can be saved again, and what it came from is as it was.
        let memory = fs::read(node.path("snapshot/memory")).unwrap();
        let second = node.path("second");
        fs::create_dir(&second).unwrap();
        save(&clones[0].socket(), &second).unwrap();
        assert_eq!(fs::read(node.path("snapshot/memory")).unwrap(), memory);
        assert_eq!(first.exec(&["echo", "still"]).wait(), (0, "still\n".to_owned()));
        for machine in [first].into_iter().chain(clones) {
            machine.signal(Signal::SIGTERM);
            assert_eq!(machine.wait().0, 128 + Signal::SIGTERM as i32);
        }
        for id in ["one", "two", "three"] {
            node.delete(id);
        }
    }
}

#[test]
fn a_machine_that_can_not_be_saved_goes_on() {
    if skip_without_root("a_machine_that_can_not_be_saved_goes_on") {
        return;
    }
    for monitor in MONITORS {
        let node = Node::new(monitor, "refuses-to-save");
        let machine = node.create("one", &node.spec("one", &["sleep"]));
        let refused = save(&machine.socket(), &node.path("snapshot")).unwrap_err();
        assert!(refused.contains("not paused"), "{refused}");
        assert_eq!(fs::read_dir(node.path("snapshot")).unwrap().count(), 0);
        assert_eq!(machine.exec(&["echo", "still"]).wait(), (0, "still\n".to_owned()));
        drop(machine);
        node.delete("one");
    }
}

#[test]
fn what_is_no_snapshot_is_not_gone_on_from() {
    if skip_without_root("what_is_no_snapshot_is_not_gone_on_from") {
        return;
    }
    for monitor in MONITORS {
        let node = Node::new(monitor, "");
        for state in [None, Some(""), Some("garbage")] {
            if let Some(state) = state {
                for name in ["state", "memory"] {
                    fs::write(node.path("snapshot").join(name), state).unwrap();
                }
            }
            let machine = node.create("one", &node.resuming("one"));
            assert!(machine.report.contains("error"), "{monitor}, {state:?}: {}", machine.report);
            assert_eq!(machine.wait().0, 1);
            node.delete("one");
        }
    }
}
