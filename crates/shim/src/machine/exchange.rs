//! One connection to the guest, shared by everybody who has something to say to it: each connection's streams become
//! streams of the guest's, under numbers of their own. It refuses to look into what it passes on.

use std::{
    collections::BTreeMap,
    io,
    os::unix::net::{UnixListener, UnixStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use hypercore_wire::{Flags, Frame, StreamId, message::ExecSignal};
use nix::libc::SIGKILL;

use super::peer::{self, Receiver, Sender};

/// Most streams at once.
const STREAMS_MAX: usize = 512;

/// The table of who speaks on which of the guest's streams.
#[derive(Debug, Clone)]
pub(super) struct Exchange(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    guest: Sender,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    routes: BTreeMap<u32, Route>,
    last: u32,
    is_closed: bool,
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
    /// Begins to pass on what the guest says. `on_end` is called when it says nothing more.
    pub(super) fn open(guest: Sender, from_guest: Receiver, on_end: impl FnOnce() + Send + 'static) -> Self {
        let table = Table { routes: BTreeMap::new(), last: 0, is_closed: false };
        let exchange = Self(Arc::new(Shared { guest, table: Mutex::new(table) }));
        let ours = exchange.clone();
        thread::spawn(move || {
            ours.pass_on(from_guest);
            ours.close();
            on_end();
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

    /// Serves one connection.
    pub(super) fn join(&self, connection: UnixStream) -> io::Result<()> {
        let (sender, receiver) = peer::split(connection)?;
        let client = {
            let mut table = self.lock();
            table.last += 1;
            table.last
        };
        let ours = self.clone();
        thread::spawn(move || ours.hear(client, &sender, receiver));
        Ok(())
    }

    fn hear(&self, client: u32, sender: &Sender, mut receiver: Receiver) {
        if peer::greet(sender, &mut receiver).is_ok() {
            while let Ok(frame) = receiver.next_frame() {
                let Some(stream) = self.route(client, sender, frame.stream) else { break };
                if self.0.guest.forward(&Frame { stream, ..frame }).is_err() {
                    break;
                }
            }
        }
        sender.close();
        self.forget(client);
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
        let mut table = self.lock();
        let gone: Vec<u32> = table
            .routes
            .iter()
            .filter(|(_, route)| route.client == client)
            .map(|(number, _)| *number)
            .collect();
        for number in gone {
            table.routes.remove(&number);
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
