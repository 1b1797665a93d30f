//! Saves a machine that runs: guest to rest, processors stopped, disk copied, state and memory written, and everything on
//! again. It refuses to leave anything behind or standing still when a step fails.

use std::{
    fs::{self, File},
    io,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{Mutex, TryLockError},
    thread,
    time::{Duration, Instant},
};

use hypercore_model::machine::MachineSpec;
use hypercore_wire::{
    ErrorCode, Flags, Message, StreamId,
    message::{Adopt, Fault, Quiesce, Snapshot, Snapshotted, Thaw, Window},
};

use super::{
    exchange::{Exchange, Keeper},
    peer::{self, Held, PeerError, Receiver},
    relay::OUTPUT_CREDIT,
    sparse,
    vmm::{MEMORY_FILE, Place, STATE_FILE, Saved, Vmm, VmmError},
};
use crate::engine::chain;

/// How long a guest may take.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// To come to rest. It writes what is on its way to its disks.
    quiesce: Duration,
    /// To take a word.
    tell: Duration,
}

const PATIENCE: Patience = Patience { quiesce: Duration::from_secs(60), tell: Duration::from_secs(10) };
/// How often a guest that lost its conversation is dialled.
const DIAL_INTERVAL: Duration = Duration::from_millis(2);
/// The serial of the disk that is the machine's own.
const WRITABLE_SERIAL: &str = "writable";
/// Its copy.
const WRITABLE_FILE: &str = "writable.ext4";
/// A filesystem with less than this is full, in bytes: engines don't always say why they could not write.
const ROOM_MIN: u64 = 1024 * 1024;

/// Why a machine was not saved.
#[derive(Debug, thiserror::Error)]
enum SaveError {
    /// It is being saved already.
    #[error("the machine is being saved already")]
    Busy,
    /// Not a place to save it to.
    #[error("{} is not an empty directory", .0.display())]
    Directory(PathBuf),
    /// The guest can't be told.
    #[error("the guest can't be brought to rest")]
    Tell(#[source] io::Error),
    /// It did not answer.
    #[error("the guest did not come to rest within {} seconds", .0.as_secs_f32())]
    Restless(Duration),
    /// It is gone, or said something else.
    #[error("the guest did not come to rest")]
    Guest(#[source] PeerError),
    /// It said no.
    #[error("the guest did not come to rest: {0}")]
    Refused(Fault),
    /// It lost the conversation, which can't be taken up again.
    #[error("the guest can't be spoken with any more")]
    Reconnect(#[source] PeerError),
    /// The engine.
    #[error(transparent)]
    Vmm(#[from] VmmError),
    /// The machine's own disk.
    #[error("the disk {} can't be copied", path.display())]
    Disk {
        /// Which one.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// What saves one machine.
struct Saver {
    vmm: &'static dyn Vmm,
    place: Place,
    writable: Option<PathBuf>,
    patience: Patience,
    /// Held while it is saved.
    turn: Mutex<()>,
}

/// The keeper that saves this machine.
pub(super) fn keeper(spec: &MachineSpec, vmm: &'static dyn Vmm, place: Place) -> Keeper {
    let writable = spec.disks.iter().find(|disk| disk.serial == WRITABLE_SERIAL);
    let writable = writable.map(|disk| disk.path.clone());
    keeper_of(Saver { vmm, place, writable, patience: PATIENCE, turn: Mutex::default() })
}

fn keeper_of(saver: Saver) -> Keeper {
    Box::new(move |exchange, wanted| {
        let directory = Path::new(&wanted.directory);
        match saver.save(exchange, &wanted) {
            Ok(saved) => saved.into(),
            Err(error) => fault(&error, directory).into(),
        }
    })
}

impl Saver {
    fn save(&self, exchange: &Exchange, wanted: &Snapshot) -> Result<Snapshotted, SaveError> {
        let _turn = match self.turn.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(SaveError::Busy),
        };
        let directory = PathBuf::from(&wanted.directory);
        let is_empty = fs::read_dir(&directory).is_ok_and(|mut entries| entries.next().is_none());
        if !directory.is_absolute() || !is_empty {
            return Err(SaveError::Directory(directory));
        }
        let saved = self.at_rest(exchange, &directory);
        if saved.is_err() {
            for name in [STATE_FILE, MEMORY_FILE, WRITABLE_FILE] {
                // What was not begun is not there.
                let _ = fs::remove_file(directory.join(name));
            }
        }
        saved
    }

    /// Brings the guest to rest, saves, and lets it go on.
    fn at_rest(&self, exchange: &Exchange, directory: &Path) -> Result<Snapshotted, SaveError> {
        let (stream, mut answers) = exchange.open_stream().map_err(SaveError::Tell)?;
        let saved = match exchange.hold(Instant::now() + self.patience.tell) {
            Some(mut guest) => {
                match self.quiesce(&mut guest, stream, &mut answers) {
                    Ok(()) if !self.vmm.keeps_connection() => {
                        self.and_reconnect(exchange, &mut guest, directory)
                    }
                    rests => {
                        let saved = rests.and_then(|()| self.standing_still(directory));
                        // Even one that did not answer may come to rest later. One that is gone needs no word.
                        let _ = guest.send(stream, Thaw {}, Instant::now() + self.patience.tell);
                        saved
                    }
                }
            }
            None => Err(SaveError::Tell(io::ErrorKind::TimedOut.into())),
        };
        exchange.close_stream(stream);
        saved
    }

    /// Saves with an engine that ends the conversation, and takes it up again.
    fn and_reconnect(
        &self,
        exchange: &Exchange,
        guest: &mut Held<'_>,
        directory: &Path,
    ) -> Result<Snapshotted, SaveError> {
        exchange.expect_renewal();
        let saved = self.standing_still(directory);
        let renewed = self.reconnect(exchange, guest);
        if renewed.is_err() {
            exchange.give_up_renewal();
        }
        saved.and_then(|saved| renewed.map(|()| saved))
    }

    fn reconnect(&self, exchange: &Exchange, guest: &mut Held<'_>) -> Result<(), SaveError> {
        let stream = self.dial().map_err(|error| SaveError::Reconnect(PeerError::Broken(error)))?;
        let take_up = || {
            let renewed = stream.try_clone().map_err(PeerError::Broken)?;
            let (sender, mut receiver) = peer::split(stream).map_err(PeerError::Broken)?;
            peer::greet(&sender, &mut receiver)?;
            receiver.stream().set_read_timeout(None).map_err(PeerError::Broken)?;
            // Without a first process there would have been no rest.
            let first = exchange.first_stream().ok_or(PeerError::Closed)?;
            let credit = Window { bytes: OUTPUT_CREDIT };
            for message in [Message::from(Thaw {}), Adopt {}.into(), credit.into()] {
                sender.send(first, Flags::NONE, message).map_err(PeerError::Broken)?;
            }
            exchange.renew(guest, renewed, receiver);
            Ok(())
        };
        take_up().map_err(SaveError::Reconnect)
    }

    /// Connects to a guest that has lost its conversation, with a deadline on what it says first.
    fn dial(&self) -> io::Result<UnixStream> {
        let deadline = Instant::now() + self.patience.quiesce;
        loop {
            match self.vmm.dial(&self.place) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(self.patience.quiesce))?;
                    return Ok(stream);
                }
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => thread::sleep(DIAL_INTERVAL),
            }
        }
    }

    fn standing_still(&self, directory: &Path) -> Result<Snapshotted, SaveError> {
        let since = Instant::now();
        let saved = self.vmm.pause(&self.place).map_err(SaveError::Vmm).and_then(|()| self.write(directory));
        // Also after a pause that failed: it may have come about.
        let went_on = self.vmm.go_on(&self.place);
        let Saved { is_mapped } = saved?;
        went_on?;
        let stopped_us = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
        Ok(Snapshotted { is_mapped, stopped_us })
    }

    fn write(&self, directory: &Path) -> Result<Saved, SaveError> {
        if let Some(path) = &self.writable {
            let copied =
                File::open(path).and_then(|from| sparse::copy(&from, &directory.join(WRITABLE_FILE)));
            copied.map_err(|source| SaveError::Disk { path: path.clone(), source })?;
        }
        Ok(self.vmm.save(&self.place, directory)?)
    }

    fn quiesce(
        &self,
        guest: &mut Held<'_>,
        stream: StreamId,
        answers: &mut Receiver,
    ) -> Result<(), SaveError> {
        let Patience { quiesce, tell } = self.patience;
        guest.send(stream, Quiesce {}, Instant::now() + tell).map_err(SaveError::Tell)?;
        answers.stream().set_read_timeout(Some(quiesce)).map_err(SaveError::Tell)?;
        let frame = answers.next_frame().map_err(|error| match error {
            PeerError::Broken(error) if error.kind() == io::ErrorKind::WouldBlock => {
                SaveError::Restless(quiesce)
            }
            error => SaveError::Guest(error),
        })?;
        match Message::decode(&frame.payload) {
            Ok(Message::Done(_)) => Ok(()),
            Ok(Message::Error(fault)) => Err(SaveError::Refused(fault)),
            _ => Err(SaveError::Guest(PeerError::NoGreeting)),
        }
    }
}

fn fault(error: &SaveError, directory: &Path) -> Fault {
    let code = match error {
        SaveError::Busy => ErrorCode::TOO_MANY,
        SaveError::Directory(_) => ErrorCode::REFUSED,
        SaveError::Refused(fault) => fault.code,
        SaveError::Vmm(VmmError::Unsupported { .. }) => ErrorCode::UNSUPPORTED,
        SaveError::Disk { source, .. } if source.kind() == io::ErrorKind::StorageFull => ErrorCode::FULL,
        SaveError::Vmm(VmmError::File { source, .. }) if source.kind() == io::ErrorKind::StorageFull => {
            ErrorCode::FULL
        }
        SaveError::Vmm(_) | SaveError::Disk { .. } if !has_room(directory) => ErrorCode::FULL,
        _ => ErrorCode::ENGINE,
    };
    Fault::new(code, chain(error))
}

fn has_room(directory: &Path) -> bool {
    nix::sys::statvfs::statvfs(directory)
        .is_ok_and(|found| found.blocks_available() * found.fragment_size() >= ROOM_MIN)
}

#[cfg(test)]
mod tests;
