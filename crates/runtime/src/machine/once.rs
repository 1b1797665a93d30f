//! Files that machines share, each made by one thread however many need it at once. It refuses to hold up who needs
//! another file, or one that is there.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

/// What is being made right now, by path.
static UNDER_WAY: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
/// Told whenever something has been made, or could not be.
static ENDED: Condvar = Condvar::new();

/// Has `make` make the file at `path` unless it is there. Blocks while another thread makes it; if that one fails, we
/// try ourselves.
///
/// # Errors
/// What `make` says.
pub(super) fn once<E>(path: &Path, make: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
    if path.is_file() {
        return Ok(());
    }
    alone(path, || if path.is_file() { Ok(()) } else { make() })
}

/// Does `work` on the file at `path` while no other thread does.
pub(super) fn alone<T>(path: &Path, work: impl FnOnce() -> T) -> T {
    let _turn = Turn::take(path);
    work()
}

/// The right to make a file, given back when it is dropped.
struct Turn<'a>(&'a Path);

impl<'a> Turn<'a> {
    fn take(path: &'a Path) -> Self {
        let is_taken = |under_way: &mut BTreeSet<PathBuf>| under_way.contains(path);
        let mut under_way = ENDED.wait_while(lock(), is_taken).unwrap_or_else(PoisonError::into_inner);
        under_way.insert(path.to_owned());
        Self(path)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        lock().remove(self.0);
        ENDED.notify_all();
    }
}

fn lock() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        sync::atomic::{AtomicU32, Ordering},
        thread,
    };

    use super::*;

    #[test]
    fn many_need_it_and_one_makes_it() {
        let directory = tempfile::tempdir().unwrap();
        let (path, made) = (directory.path().join("file"), AtomicU32::new(0));
        let make = || {
            made.fetch_add(1, Ordering::SeqCst);
            // Whoever else makes it at the same time has the time to.
            thread::yield_now();
            fs::File::create_new(&path).map(drop)
        };
        thread::scope(|scope| {
            let makers: Vec<_> = (0..8).map(|_| scope.spawn(|| once(&path, make))).collect();
            makers.into_iter().for_each(|maker| maker.join().unwrap().unwrap());
        });
        assert_eq!(made.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_failure_is_not_the_end_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        assert_eq!(once(&path, || Err("full")), Err("full"));
        once(&path, || fs::write(&path, "made")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"made");
    }
}
