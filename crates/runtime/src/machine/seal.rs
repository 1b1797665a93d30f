//! What a file was when it was made, kept beside it: so that a machine never boots from one that the disk, or somebody,
//! has changed since. It refuses to believe a file that nothing was noted of.
//!
//! A file is read whole once in each run of the agent, and again when its size, its times or its inode are other ones
//! than then. In between, a look at these is enough: what changes a file by the kernel changes its times.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

/// What was read whole in this run, and how it looked.
static READ: Mutex<BTreeMap<PathBuf, Look>> = Mutex::new(BTreeMap::new());

/// What is noted of a file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seal {
    len: u64,
    /// BLAKE3 of its content, in hex.
    blake3: String,
}

/// How a file looks without being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    len: u64,
    device: u64,
    inode: u64,
    modified_ns: (i64, i64),
    changed_ns: (i64, i64),
}

/// Where the note of a file is.
pub(super) fn path_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".seal");
    name.into()
}

/// Notes what `file` is, which will be at `path`. The note is there first: a file without one is made again.
///
/// # Errors
/// What the disk says.
pub(super) fn write(file: &Path, path: &Path) -> io::Result<()> {
    let seal = read_whole(file)?;
    let (note, new) = (path_of(path), path_of(file));
    let mut written = File::create(&new)?;
    written.write_all(&serde_json::to_vec(&seal)?)?;
    written.sync_all()?;
    fs::rename(new, note)
}

/// Whether the file is there and looks as it did when it was read whole in this run. Takes microseconds.
pub(super) fn is_known(file: &Path) -> bool {
    Look::at(file).is_ok_and(|look| lock().get(file) == Some(&look))
}

/// Whether the file is what was noted of it. Reads it whole unless it [`is_known`].
pub(super) fn holds(file: &Path) -> bool {
    is_known(file) || compare(file).unwrap_or(false)
}

fn compare(file: &Path) -> io::Result<bool> {
    let seal: Seal = serde_json::from_slice(&fs::read(path_of(file))?)?;
    // Before it is read: whatever changes it meanwhile changes this too.
    let look = Look::at(file)?;
    let is_same = look.len == seal.len && read_whole(file)? == seal;
    if is_same {
        lock().insert(file.to_owned(), look);
    }
    Ok(is_same)
}

fn read_whole(file: &Path) -> io::Result<Seal> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(file)?)?;
    Ok(Seal { len: hasher.count(), blake3: hasher.finalize().to_string() })
}

fn lock() -> MutexGuard<'static, BTreeMap<PathBuf, Look>> {
    READ.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Look {
    fn at(file: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(file)?;
        Ok(Self {
            len: metadata.len(),
            device: metadata.dev(),
            inode: metadata.ino(),
            modified_ns: (metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    fn sealed() -> (tempfile::TempDir, PathBuf) {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("image");
        fs::write(&path, vec![7; 100_000]).unwrap();
        write(&path, &path).unwrap();
        (scratch, path)
    }

    #[test]
    fn a_changed_byte_is_found_and_so_is_a_shorter_file() {
        let (_scratch, path) = sealed();
        assert!(!is_known(&path) && holds(&path) && is_known(&path));
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(&[8], 50_000).unwrap();
        assert!(!is_known(&path) && !holds(&path), "a changed byte was believed");
        file.write_all_at(&[7], 50_000).unwrap();
        assert!(holds(&path));
        file.set_len(99_999).unwrap();
        assert!(!holds(&path), "a shorter file was believed");
    }

    #[test]
    fn what_nothing_was_noted_of_is_not_believed() {
        let (_scratch, path) = sealed();
        fs::write(path_of(&path), "{").unwrap();
        assert!(!holds(&path));
        fs::remove_file(path_of(&path)).unwrap();
        assert!(!holds(&path));
    }

    #[test]
    fn a_copy_in_the_place_of_a_file_is_read_again() {
        let (scratch, path) = sealed();
        assert!(holds(&path));
        let copy = scratch.path().join("copy");
        fs::copy(&path, &copy).unwrap();
        fs::rename(&copy, &path).unwrap();
        assert!(!is_known(&path) && holds(&path));
    }
}
