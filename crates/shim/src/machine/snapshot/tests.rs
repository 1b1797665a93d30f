//! With a guest and an engine that do what the test wants. Real ones are in `tests/host/snapshot.rs`.

use std::{
    os::{
        fd::BorrowedFd,
        unix::net::{UnixListener, UnixStream},
    },
    process::{Child, Command},
    sync::mpsc,
    thread,
};

use hypercore_wire::{
    Flags,
    message::{AskRelease, Done},
};

use super::*;
use crate::machine::peer::{self, Sender};

/// What happens to an engine, and how it takes that.
#[derive(Debug)]
struct Engine {
    told: Mutex<mpsc::Sender<&'static str>>,
    fails_to: &'static str,
    /// Takes the guest's end of a new connection, where machines lose theirs.
    dialled: Option<Mutex<mpsc::Sender<UnixStream>>>,
}

impl Engine {
    fn take(&self, step: &'static str) -> Result<(), VmmError> {
        self.told.lock().unwrap().send(step).unwrap();
        let failed = VmmError::Refused { step, reason: "broken".to_owned() };
        if step == self.fails_to { Err(failed) } else { Ok(()) }
    }
}

impl Vmm for Engine {
    fn command(&self, _: &MachineSpec, _: &Place, _: Option<BorrowedFd<'_>>) -> Result<Command, VmmError> {
        unreachable!("nothing is started")
    }

    fn begin(&self, _: &MachineSpec, _: &Place, _: &mut Child, _: Instant) -> Result<(), VmmError> {
        unreachable!("nothing is started")
    }

    fn keeps_connection(&self) -> bool {
        self.dialled.is_none()
    }

    fn dial(&self, _: &Place) -> io::Result<UnixStream> {
        let (ours, guests) = UnixStream::pair()?;
        self.dialled.as_ref().unwrap().lock().unwrap().send(guests).unwrap();
        Ok(ours)
    }

    fn pause(&self, _: &Place) -> Result<(), VmmError> {
        self.take("pause")
    }

    fn go_on(&self, _: &Place) -> Result<(), VmmError> {
        self.take("go on")
    }

    fn save(&self, _: &Place, directory: &Path) -> Result<Saved, VmmError> {
        fs::write(directory.join(STATE_FILE), "half of it").unwrap();
        self.take("save").map(|()| Saved { is_mapped: true })
    }
}

/// A machine made of parts that the test holds.
struct Scene {
    scratch: tempfile::TempDir,
    exchange: Exchange,
    engine_told: mpsc::Receiver<&'static str>,
    to_monitor: Sender,
    from_monitor: Receiver,
}

impl Scene {
    fn new(fails_to: &'static str) -> Self {
        Self::with(fails_to, None)
    }

    fn with(fails_to: &'static str, dialled: Option<mpsc::Sender<UnixStream>>) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let writable = scratch.path().join("disk");
        fs::write(&writable, "disk").unwrap();
        fs::create_dir(scratch.path().join("snapshot")).unwrap();
        let (told, engine_told) = mpsc::channel();
        // One of the few that live as long as the process, in its real life too.
        let vmm: &'static Engine = Box::leak(Box::new(Engine {
            told: Mutex::new(told),
            fails_to,
            dialled: dialled.map(Mutex::new),
        }));
        let patience = Patience { quiesce: Duration::from_millis(300), tell: Duration::from_millis(300) };
        let place = Place::within(scratch.path().to_owned());
        let saver = Saver { vmm, place, writable: Some(writable), patience, turn: Mutex::default() };
        let (ours, guests) = UnixStream::pair().unwrap();
        let (sender, receiver) = peer::split(ours).unwrap();
        let exchange = Exchange::open(sender, receiver, keeper_of(saver));
        exchange.serve(UnixListener::bind(scratch.path().join("sock")).unwrap());
        let (to_monitor, from_monitor) = peer::split(guests).unwrap();
        Self { scratch, exchange, engine_told, to_monitor, from_monitor }
    }

    /// Asks over a connection of its own; the answer comes by the channel.
    fn ask(&self, request: impl Into<Message>) -> mpsc::Receiver<Message> {
        let stream = UnixStream::connect(self.scratch.path().join("sock")).unwrap();
        let (sender, mut receiver) = peer::split(stream).unwrap();
        peer::greet(&sender, &mut receiver).unwrap();
        sender.send(StreamId(1), Flags::NONE, request).unwrap();
        let (answer, answers) = mpsc::channel();
        thread::spawn(move || {
            while let Ok(frame) = receiver.next_frame() {
                let _ = answer.send(Message::decode(&frame.payload).unwrap());
            }
        });
        answers
    }

    fn snapshot(&self) -> mpsc::Receiver<Message> {
        let directory = self.scratch.path().join("snapshot").to_str().unwrap().to_owned();
        self.ask(Snapshot { directory })
    }

    /// What the guest hears next, and on which stream.
    fn hears(&mut self) -> (StreamId, Message) {
        let frame = self.from_monitor.next_frame().unwrap();
        (frame.stream, Message::decode(&frame.payload).unwrap())
    }

    /// The guest comes to rest when it is told.
    fn rest(&mut self) {
        let (stream, message) = self.hears();
        assert!(matches!(message, Message::Quiesce(_)), "{message:?}");
        self.to_monitor.send(stream, Flags::END_STREAM, Done {}).unwrap();
    }

    fn files(&self) -> usize {
        fs::read_dir(self.scratch.path().join("snapshot")).unwrap().count()
    }
}

fn code(answer: &mpsc::Receiver<Message>) -> ErrorCode {
    match answer.recv_timeout(Duration::from_secs(30)).unwrap() {
        Message::Error(fault) => fault.code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_goes_to_a_guest_at_rest_but_that_it_may_go_on() {
    let mut scene = Scene::new("");
    let answer = scene.snapshot();
    let (stream, message) = scene.hears();
    assert!(matches!(message, Message::Quiesce(_)), "{message:?}");
    // While the guest takes its time, somebody else asks it something.
    let _other = scene.ask(AskRelease {});
    scene.to_monitor.send(stream, Flags::END_STREAM, Done {}).unwrap();
    assert!(matches!(scene.hears(), (told, Message::Thaw(_)) if told == stream));
    assert!(matches!(scene.hears(), (_, Message::AskRelease(_))));
    let saved = answer.recv_timeout(Duration::from_secs(30)).unwrap();
    assert!(matches!(saved, Message::Snapshotted(Snapshotted { is_mapped: true, .. })), "{saved:?}");
    let copied = fs::read_to_string(scene.scratch.path().join("snapshot").join(WRITABLE_FILE)).unwrap();
    assert_eq!(copied, "disk");
    scene.exchange.wait_for_keeper();
    assert_eq!(scene.engine_told.try_iter().collect::<Vec<_>>(), ["pause", "save", "go on"]);
}

#[test]
fn a_guest_that_does_not_rest_is_let_go_on() {
    let mut scene = Scene::new("");
    let answer = scene.snapshot();
    assert!(matches!(scene.hears(), (_, Message::Quiesce(_))));
    assert!(matches!(scene.hears(), (_, Message::Thaw(_))));
    assert_eq!(code(&answer), ErrorCode::ENGINE);
    assert_eq!((scene.engine_told.try_iter().count(), scene.files()), (0, 0));
}

#[test]
fn a_guest_may_refuse() {
    let mut scene = Scene::new("");
    let answer = scene.snapshot();
    let (stream, _) = scene.hears();
    let fault = Fault::new(ErrorCode::NOT_RUNNING, "it has ended");
    scene.to_monitor.send(stream, Flags::END_STREAM, fault).unwrap();
    assert_eq!(code(&answer), ErrorCode::NOT_RUNNING);
    assert_eq!((scene.engine_told.try_iter().count(), scene.files()), (0, 0));
}

#[test]
fn a_machine_goes_on_whatever_step_failed_and_nothing_is_left() {
    for fails_to in ["pause", "save", "go on"] {
        let mut scene = Scene::new(fails_to);
        let answer = scene.snapshot();
        scene.rest();
        assert!(matches!(scene.hears(), (_, Message::Thaw(_))));
        assert_eq!(code(&answer), ErrorCode::ENGINE, "{fails_to}");
        assert_eq!(scene.engine_told.try_iter().last(), Some("go on"), "{fails_to}");
        assert_eq!(scene.files(), 0, "{fails_to}");
    }
}

#[test]
fn a_conversation_that_was_lost_is_taken_up_for_the_first_process_alone() {
    let (dialled, connections) = mpsc::channel();
    let mut scene = Scene::with("", Some(dialled));
    let (ours, theirs) = UnixStream::pair().unwrap();
    scene.exchange.join_first(theirs).unwrap();
    let (first, mut to_first) = peer::split(ours).unwrap();
    peer::greet(&first, &mut to_first).unwrap();
    first.send(StreamId(1), Flags::NONE, AskRelease {}).unwrap();
    let (number, _) = scene.hears();
    let other = scene.ask(AskRelease {});
    scene.hears();
    let answer = scene.snapshot();
    scene.rest();
    let (guest, mut to_guest) = peer::split(connections.recv().unwrap()).unwrap();
    // The guest's end of the old connection is gone before it takes the new one.
    scene.to_monitor.close();
    peer::greet(&guest, &mut to_guest).unwrap();
    let mut hears = || {
        let frame = to_guest.next_frame().unwrap();
        assert_eq!(frame.stream, number);
        Message::decode(&frame.payload).unwrap()
    };
    assert!(matches!(hears(), Message::Thaw(_)));
    assert!(matches!(hears(), Message::Adopt(_)));
    assert!(matches!(hears(), Message::Window(_)));
    guest.send(number, Flags::NONE, Done {}).unwrap();
    let frame = to_first.next_frame().unwrap();
    assert_eq!(frame.stream, StreamId(1));
    assert!(matches!(Message::decode(&frame.payload), Ok(Message::Done(_))));
    assert!(other.recv_timeout(Duration::from_secs(30)).is_err(), "whoever else spoke is hung up on");
    let saved = answer.recv_timeout(Duration::from_secs(30)).unwrap();
    assert!(matches!(saved, Message::Snapshotted(_)), "{saved:?}");
}

#[test]
fn one_at_a_time() {
    let mut scene = Scene::new("");
    let first = scene.snapshot();
    assert!(matches!(scene.hears(), (_, Message::Quiesce(_))));
    assert_eq!(code(&scene.snapshot()), ErrorCode::TOO_MANY);
    assert_eq!(code(&first), ErrorCode::ENGINE);
}

#[test]
fn a_client_that_hangs_up_meanwhile_holds_nobody_up() {
    let mut scene = Scene::new("");
    let arguing = UnixStream::connect(scene.scratch.path().join("sock")).unwrap();
    let (sender, mut receiver) = peer::split(arguing).unwrap();
    peer::greet(&sender, &mut receiver).unwrap();
    sender.send(StreamId(1), Flags::NONE, AskRelease {}).unwrap();
    assert!(matches!(scene.hears(), (_, Message::AskRelease(_))));
    let answer = scene.snapshot();
    let (stream, _) = scene.hears();
    sender.close();
    scene.to_monitor.send(stream, Flags::END_STREAM, Done {}).unwrap();
    let saved = answer.recv_timeout(Duration::from_secs(30)).unwrap();
    assert!(matches!(saved, Message::Snapshotted(_)), "{saved:?}");
}

#[test]
fn what_is_no_empty_directory_is_not_written_to() {
    let scene = Scene::new("");
    fs::write(scene.scratch.path().join("snapshot/mine"), "").unwrap();
    assert_eq!(code(&scene.snapshot()), ErrorCode::REFUSED);
    for directory in ["", "snapshot", "/nowhere"] {
        assert_eq!(code(&scene.ask(Snapshot { directory: directory.to_owned() })), ErrorCode::REFUSED);
    }
    assert_eq!(scene.files(), 1);
}
