//! One connection to the guest, shared by everybody who has something to say to it: each connection's streams become
//! streams of the guest's, under numbers of their own. It looks at what opens a stream, because a request to save the
//! machine is not for the guest; it refuses to look into what it passes on.

use std::{
    collections::BTreeMap,
    fmt, io,
    os::unix::net::{UnixListener, UnixStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock},
    thread,
    time::Instant,
};

use hypercore_wire::{
    Flags, Frame, Message, StreamId,
    message::{ExecSignal, Snapshot},
};
use nix::libc::SIGKILL;

use super::peer::{self, Held, Receiver, Sender};

/// Most streams at once.
const STREAMS_MAX: usize = 512;

/// The table of who speaks on which of the guest's streams.
#[derive(Debug, Clone)]
pub(super) struct Exchange(Arc<Shared>);

struct Shared {
    guest: Sender,
    table: Mutex<Table>,
    /// Answers what is for the machine itself.
    keeper: Keeper,
    /// Read by those whom it answers.
    answering: RwLock<()>,
    /// Whether there is another connection to the guest.
    renewed: Condvar,
}

/// Saves the machine, whose guest is reached through the exchange; what it says is the answer.
pub(super) type Keeper = Box<dyn Fn(&Exchange, Snapshot) -> Message + Send + Sync>;

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("guest", &self.guest)
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Table {
    routes: BTreeMap<u32, Route>,
    last: u32,
    is_closed: bool,
    /// Who has the machine's first process.
    first: Option<u32>,
    renewal: Renewal,
}

/// What comes after the end of the connection to the guest.
#[derive(Debug, Default)]
enum Renewal {
    /// Nothing.
    #[default]
    None,
    /// Perhaps another one.
    Possible,
    /// This one.
    Done(Receiver),
}

/// Who speaks on a stream.
#[derive(Debug, Clone)]
struct Route {
    sender: Sender,
    /// Its own number for the stream.
    stream: StreamId,
    client: u32,
}

impl Exchange {
    /// Begins to pass on what the guest says.
    pub(super) fn open(guest: Sender, from_guest: Receiver, keeper: Keeper) -> Self {
        let exchange = Self(Arc::new(Shared {
            guest,
            table: Mutex::default(),
            keeper,
            answering: RwLock::default(),
            renewed: Condvar::new(),
        }));
        let ours = exchange.clone();
        thread::spawn(move || {
            let mut connection = Some(from_guest);
            while let Some(from_guest) = connection {
                ours.pass_on(from_guest);
                connection = ours.next_connection();
            }
            ours.close();
        });
        exchange
    }

    /// Serves whoever connects.
    pub(super) fn serve(&self, listener: UnixListener) {
        let ours = self.clone();
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                // One that can't be served is closed, and finds out by that.
                let _ = ours.join(connection);
            }
        });
    }

    /// Serves the connection of whoever has the machine's first process, on its one stream.
    pub(super) fn join_first(&self, connection: UnixStream) -> io::Result<()> {
        let client = self.new_client();
        self.lock().first = Some(client);
        self.join_as(client, connection)
    }

    fn join(&self, connection: UnixStream) -> io::Result<()> {
        self.join_as(self.new_client(), connection)
    }

    fn new_client(&self) -> u32 {
        let mut table = self.lock();
        table.last += 1;
        table.last
    }

    fn join_as(&self, client: u32, connection: UnixStream) -> io::Result<()> {
        let (sender, receiver) = peer::split(connection)?;
        let ours = self.clone();
        thread::spawn(move || ours.hear(client, &sender, receiver));
        Ok(())
    }

    fn hear(&self, client: u32, sender: &Sender, mut receiver: Receiver) {
        if peer::greet(sender, &mut receiver).is_ok() {
            while let Ok(frame) = receiver.next_frame() {
                if let Some(wanted) = self.snapshot(client, &frame) {
                    let _answering = self.0.answering.read().unwrap_or_else(PoisonError::into_inner);
                    let answer = (self.0.keeper)(self, wanted);
                    if sender.send(frame.stream, Flags::END_STREAM, answer).is_err() {
                        break;
                    }
                    continue;
                }
                let Some(stream) = self.route(client, sender, frame.stream) else { break };
                if self.0.guest.forward(&Frame { stream, ..frame }).is_err() {
                    break;
                }
            }
        }
        sender.close();
        self.forget(client);
    }

    /// The request to save the machine, if the frame is one. It is one only as the first of its stream.
    fn snapshot(&self, client: u32, frame: &Frame) -> Option<Snapshot> {
        let is_it = |route: &Route| route.client == client && route.stream == frame.stream;
        if self.lock().routes.values().any(is_it) {
            return None;
        }
        match Message::decode(&frame.payload) {
            Ok(Message::Snapshot(wanted)) => Some(wanted),
            _ => None,
        }
    }

    /// Waits until everybody has the keeper's answer.
    pub(super) fn wait_for_keeper(&self) {
        drop(self.0.answering.write());
    }

    /// A stream to the guest for the keeper itself; [`Self::close_stream`] it.
    pub(super) fn open_stream(&self) -> io::Result<(StreamId, Receiver)> {
        let (ours, theirs) = UnixStream::pair()?;
        let (sender, _) = peer::split(theirs)?;
        let (_, receiver) = peer::split(ours)?;
        // The number is the guest's too: nobody looks it up.
        let stream = self.route(self.new_client(), &sender, StreamId::CONNECTION);
        Ok((stream.ok_or(io::ErrorKind::NotConnected)?, receiver))
    }

    /// What the guest still says on the stream is for nobody.
    pub(super) fn close_stream(&self, stream: StreamId) {
        self.lock().routes.remove(&stream.0);
    }

    /// Holds back what everybody else sends to the guest.
    pub(super) fn hold(&self, deadline: Instant) -> Option<Held<'_>> {
        self.0.guest.hold(deadline)
    }

    /// Waits, when the connection to the guest ends, for [`Self::renew`] or [`Self::give_up_renewal`].
    pub(super) fn expect_renewal(&self) {
        self.lock().renewal = Renewal::Possible;
    }

    /// The connection to the guest is the last one.
    pub(super) fn give_up_renewal(&self) {
        self.lock().renewal = Renewal::None;
        self.0.renewed.notify_all();
    }

    /// The guest's number for the stream of its first process.
    pub(super) fn first_stream(&self) -> Option<StreamId> {
        let table = self.lock();
        let of_first = |route: &Route| Some(route.client) == table.first;
        table.routes.iter().find(|(_, route)| of_first(route)).map(|(number, _)| StreamId(*number))
    }

    /// Goes on over another connection to the guest, with the first process. Whoever else spoke with the guest is hung up
    /// on: what they had there has ended.
    pub(super) fn renew(&self, guest: &mut Held<'_>, by: UnixStream, from_guest: Receiver) {
        {
            let mut table = self.lock();
            let first = table.first;
            for route in table.routes.values().filter(|route| Some(route.client) != first) {
                route.sender.close();
            }
            table.renewal = Renewal::Done(from_guest);
        }
        guest.replace(by);
        self.0.renewed.notify_all();
    }

    fn next_connection(&self) -> Option<Receiver> {
        let is_open = |table: &mut Table| matches!(table.renewal, Renewal::Possible);
        let table = self.0.renewed.wait_while(self.lock(), is_open);
        let mut table = table.unwrap_or_else(PoisonError::into_inner);
        match std::mem::take(&mut table.renewal) {
            Renewal::Done(receiver) => Some(receiver),
            Renewal::None | Renewal::Possible => None,
        }
    }

    /// The guest's number for a client's stream, given when it is first used.
    fn route(&self, client: u32, sender: &Sender, stream: StreamId) -> Option<StreamId> {
        let mut table = self.lock();
        let is_it = |route: &Route| route.client == client && route.stream == stream;
        if let Some(number) = table.routes.iter().find(|(_, route)| is_it(route)).map(|(number, _)| *number) {
            return Some(StreamId(number));
        }
        if table.is_closed || table.routes.len() >= STREAMS_MAX {
            return None;
        }
        table.last = table.last.checked_add(1)?;
        let number = table.last;
        table.routes.insert(number, Route { sender: sender.clone(), stream, client });
        Some(StreamId(number))
    }

    fn pass_on(&self, mut from_guest: Receiver) {
        while let Ok(frame) = from_guest.next_frame() {
            let route = {
                let mut table = self.lock();
                if frame.flags.is_end() {
                    table.routes.remove(&frame.stream.0)
                } else {
                    table.routes.get(&frame.stream.0).cloned()
                }
            };
            // Of a stream whose client is gone: nobody wants to know.
            if let Some(route) = route {
                // A client that is gone is forgotten by who hears it.
                let _ = route.sender.forward(&Frame { stream: route.stream, ..frame });
            }
        }
    }

    /// A stand-in that is gone was killed: so is what it stood for.
    fn forget(&self, client: u32) {
        let gone: Vec<u32> = {
            let mut table = self.lock();
            let of = |route: &Route| route.client == client;
            let gone =
                table.routes.iter().filter(|(_, route)| of(route)).map(|(number, _)| *number).collect();
            table.routes.retain(|_, route| !of(route));
            gone
        };
        // Not with the table in hand: while the machine is saved, nothing goes to the guest.
        for number in gone {
            // A guest that is gone has no process to kill.
            let _ = self.0.guest.send(StreamId(number), Flags::NONE, ExecSignal { number: SIGKILL });
        }
    }

    fn close(&self) {
        let mut table = self.lock();
        table.is_closed = true;
        for route in std::mem::take(&mut table.routes).into_values() {
            route.sender.close();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
