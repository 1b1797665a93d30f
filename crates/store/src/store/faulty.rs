//! A disk in memory that fails on demand: it fills up, and it forgets what was not flushed when the power goes.

use std::{
    io,
    sync::{Arc, Mutex},
};

use redb::StorageBackend;

/// A disk whose clones are the same disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct FaultyDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What reads see.
    seen: Vec<u8>,
    /// What a loss of power leaves, at least.
    flushed: Vec<u8>,
    /// Writes since the last flush, in order: any of them may or may not survive.
    unflushed: Vec<Unflushed>,
    /// How many bytes fit; `None` is no limit.
    capacity: Option<u64>,
}

#[derive(Debug)]
enum Unflushed {
    Write(u64, Vec<u8>),
    Length(u64),
}

impl FaultyDisk {
    /// Sets how many bytes fit.
    pub(crate) fn limit(&self, capacity: Option<u64>) {
        self.0.lock().unwrap().capacity = capacity;
    }

    pub(crate) fn size(&self) -> u64 {
        self.0.lock().unwrap().seen.len() as u64
    }

    /// What is on the disk after the power went: everything flushed, and of the rest what `survives` picks, by sector.
    pub(crate) fn after_power_loss(&self, mut survives: impl FnMut() -> bool) -> Self {
        const SECTOR: usize = 512;
        let state = self.0.lock().unwrap();
        let mut left = state.flushed.clone();
        for operation in &state.unflushed {
            match operation {
                Unflushed::Length(len) => {
                    if survives() {
                        left.resize(*len as usize, 0);
                    }
                }
                Unflushed::Write(offset, data) => {
                    for (index, chunk) in data.chunks(SECTOR).enumerate() {
                        let at = *offset as usize + index * SECTOR;
                        if survives() && at + chunk.len() <= left.len() {
                            left[at..at + chunk.len()].copy_from_slice(chunk);
                        }
                    }
                }
            }
        }
        Self(Arc::new(Mutex::new(State { seen: left.clone(), flushed: left, ..State::default() })))
    }

    /// The same bytes with one of them changed.
    pub(crate) fn with_byte(&self, at: usize, flip: u8) -> Self {
        let mut seen = self.0.lock().unwrap().seen.clone();
        seen[at] ^= flip;
        Self(Arc::new(Mutex::new(State { flushed: seen.clone(), seen, ..State::default() })))
    }

    /// The same bytes, cut off.
    pub(crate) fn cut_at(&self, len: usize) -> Self {
        let mut seen = self.0.lock().unwrap().seen.clone();
        seen.truncate(len);
        Self(Arc::new(Mutex::new(State { flushed: seen.clone(), seen, ..State::default() })))
    }
}

impl StorageBackend for FaultyDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.size())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.lock().unwrap();
        let range = offset as usize..offset as usize + out.len();
        out.copy_from_slice(state.seen.get(range).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        if state.capacity.is_some_and(|capacity| len > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.seen.resize(len as usize, 0);
        state.unflushed.push(Unflushed::Length(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.flushed = state.seen.clone();
        state.unflushed.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        let end = offset as usize + data.len();
        if state.seen.len() < end {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        state.seen[offset as usize..end].copy_from_slice(data);
        state.unflushed.push(Unflushed::Write(offset, data.to_vec()));
        Ok(())
    }
}
