//! The directory with the account's key and the certificates with theirs, for their owner's eyes alone.
//! It refuses names that are no host names, so that no path leads out of it.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::PathBuf,
};

use crate::host::HostName;

/// Why something can't be kept or found.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    /// The directory can't be made.
    #[error("{path} can't be made", path = .0.display())]
    Make(PathBuf, #[source] io::Error),
    /// A file can't be read.
    #[error("{path} can't be read", path = .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// A file can't be written.
    #[error("{path} can't be written", path = .0.display())]
    Write(PathBuf, #[source] io::Error),
}

/// The directory.
#[derive(Debug)]
pub(super) struct Shelf {
    directory: PathBuf,
}

impl Shelf {
    /// Opens it, and makes it with mode 0700 if it isn't there.
    pub(super) fn open(directory: PathBuf) -> Result<Self, ShelfError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        made.map_err(|error| ShelfError::Make(directory.clone(), error))?;
        Ok(Self { directory })
    }

    pub(super) fn account_path(&self) -> PathBuf {
        self.directory.join("account.json")
    }

    /// The account's key, if there is one.
    pub(super) fn account(&self) -> Result<Option<String>, ShelfError> {
        read(self.account_path())
    }

    pub(super) fn put_account(&self, text: &str) -> Result<(), ShelfError> {
        write(self.account_path(), text)
    }

    /// A certificate's chain and key in PEM, if they were kept.
    pub(super) fn get(&self, name: &str) -> Result<Option<String>, ShelfError> {
        self.path(name).map_or(Ok(None), read)
    }

    pub(super) fn put(&self, name: &str, pem: &str) -> Result<(), ShelfError> {
        self.path(name).map_or(Ok(()), |path| write(path, pem))
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        let name: HostName = name.parse().ok()?;
        Some(self.directory.join(format!("{name}.pem")))
    }
}

fn read(path: PathBuf) -> Result<Option<String>, ShelfError> {
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ShelfError::Read(path, error)),
    }
}

/// Whole or not at all, also when the power fails.
fn write(path: PathBuf, text: &str) -> Result<(), ShelfError> {
    let beside = path.with_extension("new");
    let written = || {
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, &path)
    };
    written().map_err(|error| ShelfError::Write(path.clone(), error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_kept_is_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(directory.path().join("acme")).unwrap();
        assert_eq!(shelf.get("web.test").unwrap(), None);
        shelf.put("web.test", "one").unwrap();
        shelf.put("web.test", "two").unwrap();
        assert_eq!(shelf.get("web.test").unwrap().as_deref(), Some("two"));
        shelf.put_account("key").unwrap();
        assert_eq!(shelf.account().unwrap().as_deref(), Some("key"));
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(shelf.directory.clone()), 0o700);
        assert_eq!((mode(shelf.account_path()), mode(shelf.directory.join("web.test.pem"))), (0o600, 0o600));
    }

    #[test]
    fn no_name_leads_out_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(directory.path().join("acme")).unwrap();
        shelf.put("../outside", "x").unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
