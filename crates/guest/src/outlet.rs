//! Where an execution tells what it has to tell: a stream of a conversation, which for the first process of a machine
//! that goes on from a snapshot becomes another one. It refuses to tell anything twice.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use hypercore_wire::{Flags, Message, StreamId};

use crate::{
    link::{Sender, Sent},
    output::Delivery,
};

/// The way to whoever takes what an execution tells.
#[derive(Debug, Clone)]
pub(crate) struct Outlet(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    route: Mutex<Route>,
    changed: Condvar,
}

/// One conversation and a stream of it.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    sender: Sender,
    stream: StreamId,
    /// Nobody will ever take it over.
    is_abandoned: bool,
}

impl Route {
    /// Sends what is of use to this conversation alone.
    pub(crate) fn send(&self, message: impl Into<Message>) {
        // Whoever takes the execution over is told the same in another way.
        let _ = self.sender.send(self.stream, Flags::NONE, message);
    }
}

impl Outlet {
    /// To that stream.
    pub(crate) fn over(sender: Sender, stream: StreamId) -> Self {
        let route = Mutex::new(Route { sender, stream, is_abandoned: false });
        Self(Arc::new(Shared { route, changed: Condvar::new() }))
    }

    /// Where it leads now.
    pub(crate) fn route(&self) -> Route {
        self.lock().clone()
    }

    /// Leads elsewhere from now on.
    pub(crate) fn move_to(&self, sender: Sender, stream: StreamId) {
        *self.lock() = Route { sender, stream, is_abandoned: false };
        self.0.changed.notify_all();
    }

    /// Leads nowhere any more.
    pub(crate) fn abandon(&self) {
        self.lock().is_abandoned = true;
        self.0.changed.notify_all();
    }

    /// Sends a message. When the conversation was left in a snapshot, waits for who takes over and says so: the message
    /// was not sent then.
    pub(crate) fn send(&self, flags: Flags, message: impl Into<Message>) -> Delivery {
        let Route { sender, stream, .. } = self.route();
        match sender.try_send(stream, flags, message) {
            Sent::Yes => Delivery::Done,
            Sent::No => Delivery::Gone,
            Sent::Left => {
                let is_waiting = |route: &mut Route| route.sender.is(&sender) && !route.is_abandoned;
                let route = self.0.changed.wait_while(self.lock(), is_waiting);
                let is_abandoned = route.unwrap_or_else(PoisonError::into_inner).is_abandoned;
                if is_abandoned { Delivery::Gone } else { Delivery::Moved }
            }
        }
    }

    /// Sends the last message, to whoever takes it.
    pub(crate) fn finish(&self, message: impl Into<Message> + Copy) {
        while self.send(Flags::END_STREAM, message) == Delivery::Moved {}
    }

    fn lock(&self) -> MutexGuard<'_, Route> {
        self.0.route.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read, pipe},
        os::fd::OwnedFd,
        thread,
    };

    use hypercore_wire::{
        Decoder,
        message::{Adopt, Done, Stdout},
    };

    use super::*;
    use crate::link::Link;

    fn link() -> (Link, File) {
        let (reader, writer) = pipe().unwrap();
        (Link::over_socket(OwnedFd::from(writer)).unwrap(), File::from(OwnedFd::from(reader)))
    }

    fn messages(mut from: File) -> Vec<(StreamId, Message)> {
        let (mut bytes, mut decoder, mut messages) = (Vec::new(), Decoder::new(), Vec::new());
        from.read_to_end(&mut bytes).unwrap();
        decoder.push(&bytes);
        while let Some(frame) = decoder.next_frame().unwrap() {
            messages.push((frame.stream, Message::decode(&frame.payload).unwrap()));
        }
        messages
    }

    #[test]
    fn what_was_held_back_goes_to_the_next_host_and_to_nobody_else() {
        let (mut old, from_old) = link();
        let (new, from_new) = link();
        let (one, two) = (StreamId(1), StreamId(2));
        let outlet = Outlet::over(old.sender(), one);
        let data = || Stdout { data: vec![7] };
        assert_eq!(outlet.send(Flags::NONE, data()), Delivery::Done);
        old.sender().hold();
        let ours = outlet.clone();
        let sends = thread::spawn(move || {
            // Before the move it is held back, after it goes the new way: both must tell it once.
            while ours.send(Flags::NONE, Stdout { data: vec![8] }) == Delivery::Moved {}
        });
        old.sender().send_last(StreamId(9), Done {});
        assert!(!old.begin_anew(false), "a pipe is no port");
        outlet.move_to(new.sender(), two);
        sends.join().unwrap();
        outlet.finish(Adopt {});
        drop(old);
        new.sender().close();
        drop(new);
        assert_eq!(messages(from_old), [(one, data().into()), (StreamId(9), Done {}.into())]);
        let held = Stdout { data: vec![8] };
        assert_eq!(messages(from_new), [(two, held.into()), (two, Adopt {}.into())]);
    }

    #[test]
    fn an_abandoned_one_waits_for_nobody() {
        let (mut old, _from_old) = link();
        let outlet = Outlet::over(old.sender(), StreamId(1));
        old.sender().hold();
        let ours = outlet.clone();
        let sends = thread::spawn(move || ours.send(Flags::NONE, Done {}));
        outlet.abandon();
        let _ = old.begin_anew(false);
        assert_eq!(sends.join().unwrap(), Delivery::Gone);
    }
}
