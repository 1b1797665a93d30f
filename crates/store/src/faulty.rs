//! A disk in memory that fails on demand: it fills up, its flushes fail, and it forgets what was not flushed when the
//! power goes. It refuses to be fast: whoever measures uses a real one.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use redb::StorageBackend;

/// A disk whose clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct FaultyDisk(Arc<Mutex<State>>);

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
    /// How many more flushes succeed; `None` is all.
    flushes_left: Option<u32>,
}

#[derive(Debug)]
enum Unflushed {
    Write(u64, Vec<u8>),
    Length(u64),
}

impl FaultyDisk {
    /// Sets how many bytes fit.
    pub fn limit(&self, capacity: Option<u64>) {
        self.state().capacity = capacity;
    }

    /// Sets how many more flushes succeed, `None` for all. Those that fail leave what was written readable, as a disk
    /// does whose answer got lost.
    pub fn limit_flushes(&self, count: Option<u32>) {
        self.state().flushes_left = count;
    }

    /// How many bytes there are.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.state().seen.len() as u64
    }

    /// What is on the disk after the power went: everything flushed, and of the rest what `survives` picks, by sector.
    #[must_use]
    pub fn after_power_loss(&self, mut survives: impl FnMut() -> bool) -> Self {
        const SECTOR: usize = 512;
        let state = self.state();
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
        Self::of(left)
    }

    /// The same bytes with one of them changed.
    #[must_use]
    pub fn with_byte(&self, at: usize, flip: u8) -> Self {
        let mut seen = self.state().seen.clone();
        seen[at] ^= flip;
        Self::of(seen)
    }

    /// The same bytes, cut off.
    #[must_use]
    pub fn cut_at(&self, len: usize) -> Self {
        let mut seen = self.state().seen.clone();
        seen.truncate(len);
        Self::of(seen)
    }
}

impl FaultyDisk {
    fn of(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State { flushed: bytes.clone(), seen: bytes, ..State::default() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StorageBackend for FaultyDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.size())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        let range = offset as usize..offset as usize + out.len();
        out.copy_from_slice(state.seen.get(range).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        if state.capacity.is_some_and(|capacity| len > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.seen.resize(len as usize, 0);
        state.unflushed.push(Unflushed::Length(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        match &mut state.flushes_left {
            Some(0) => return Err(io::Error::other("the flush failed")),
            Some(left) => *left -= 1,
            None => {}
        }
        state.flushed = state.seen.clone();
        state.unflushed.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let end = offset as usize + data.len();
        if state.seen.len() < end {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        state.seen[offset as usize..end].copy_from_slice(data);
        state.unflushed.push(Unflushed::Write(offset, data.to_vec()));
        Ok(())
    }
}
