//! What `hypercore image login` left on this node: one credential per registry, in a file that only its owner reads.
//! It refuses to show passwords, and a file that others may read. It doesn't seal them: the key would lie beside it.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Credential, Secret};

/// Version of the file's format.
const VERSION: u32 = 1;
/// Most registries with a login.
const LOGINS_COUNT_MAX: usize = 1000;
/// Largest file, in bytes.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The node's logins. Clones share one list.
#[derive(Debug, Clone)]
pub struct Logins {
    path: Arc<Path>,
    known: Arc<Mutex<BTreeMap<String, Credential>>>,
}

/// Why logins can't be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum LoginsError {
    /// The file can't be read or written.
    #[error("can't {step} the registry logins in {}", path.display())]
    File {
        /// What was being done.
        step: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Others than its owner can read the file.
    #[error("the registry logins in {} can be read by others; run: chmod 600 {}", .0.display(), .0.display())]
    Mode(PathBuf),
    /// The file is not what this release writes.
    #[error("the registry logins in {} are damaged or of a newer release", .0.display())]
    Damaged(PathBuf),
    /// More logins than any node needs.
    #[error("there are {LOGINS_COUNT_MAX} registry logins already; log out of some")]
    TooMany,
}

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    logins: BTreeMap<String, Login>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    user: String,
    password: Zeroizing<String>,
}

impl Logins {
    /// Reads the file; none is an empty list. Blocks.
    ///
    /// # Errors
    /// [`LoginsError`] when the file is there but can't be used.
    pub fn open(path: &Path) -> Result<Self, LoginsError> {
        let known = read(path)?;
        Ok(Self { path: path.into(), known: Arc::new(Mutex::new(known)) })
    }

    /// Who is logged in where: registry and user, ordered by registry.
    #[must_use]
    pub fn list(&self) -> Vec<(String, String)> {
        let users = |(registry, login): (&String, &Credential)| (registry.clone(), login.user().to_owned());
        self.lock().iter().map(users).collect()
    }

    /// Forgets a login; says whether there was one. Blocks.
    ///
    /// # Errors
    /// [`LoginsError`] when the file can't be written; the login stays then.
    pub fn remove(&self, registry: &str) -> Result<bool, LoginsError> {
        let mut known = self.lock();
        let Some(removed) = known.remove(registry) else { return Ok(false) };
        if let Err(error) = self.write(&known) {
            known.insert(registry.to_owned(), removed);
            return Err(error);
        }
        Ok(true)
    }

    /// Keeps a login in place of the one before. Blocks.
    pub(in crate::image) fn put(
        &self,
        registry: &str,
        user: String,
        password: Secret,
    ) -> Result<(), LoginsError> {
        let mut known = self.lock();
        let mut changed = known.clone();
        changed.insert(registry.to_owned(), Credential::Password { user, password });
        if changed.len() > LOGINS_COUNT_MAX {
            return Err(LoginsError::TooMany);
        }
        self.write(&changed)?;
        *known = changed;
        Ok(())
    }

    pub(super) fn get(&self, registry: &str) -> Option<Credential> {
        self.lock().get(registry).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Credential>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the file at once and durably.
    fn write(&self, known: &BTreeMap<String, Credential>) -> Result<(), LoginsError> {
        let logins = known.iter().filter_map(|(registry, credential)| match credential {
            Credential::Password { user, password } => {
                let password = Zeroizing::new(password.expose().to_owned());
                Some((registry.clone(), Login { user: user.clone(), password }))
            }
            Credential::IdentityToken(_) => None,
        });
        let content = Content { version: VERSION, logins: logins.collect() };
        let write = || {
            let content = Zeroizing::new(serde_json::to_vec_pretty(&content)?);
            let unfinished = self.path.with_extension("new");
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
            file.write_all(&content)?;
            file.sync_all()?;
            fs::rename(&unfinished, &self.path)?;
            self.path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
        };
        let failed = |source| LoginsError::File { step: "write", path: self.path.to_path_buf(), source };
        write().map_err(failed)
    }
}

fn read(path: &Path) -> Result<BTreeMap<String, Credential>, LoginsError> {
    let failed = |source| LoginsError::File { step: "read", path: path.to_owned(), source };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        opened => opened.map_err(failed)?,
    };
    if file.metadata().map_err(failed)?.mode() & 0o077 != 0 {
        return Err(LoginsError::Mode(path.to_owned()));
    }
    let mut content = Zeroizing::new(Vec::new());
    file.take(FILE_BYTES_MAX).read_to_end(&mut content).map_err(failed)?;
    // The parser's message could quote a password.
    let damaged = || LoginsError::Damaged(path.to_owned());
    let content: Content = serde_json::from_slice(&content).map_err(|_| damaged())?;
    if content.version != VERSION {
        return Err(damaged());
    }
    let credential = |login: Login| Credential::Password {
        user: login.user,
        password: Secret::new(login.password.to_string()),
    };
    Ok(content.logins.into_iter().map(|(registry, login)| (registry, credential(login))).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn logins_outlive_a_restart_in_a_file_that_others_cannot_read() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("registry-logins.json");
        let logins = Logins::open(&path).unwrap();
        assert_eq!(logins.list(), []);
        logins.put("quay.io", "ada".into(), Secret::new("one".into())).unwrap();
        logins.put("quay.io", "ada".into(), Secret::new("two".into())).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);

        let again = Logins::open(&path).unwrap();
        assert_eq!(again.list(), [("quay.io".to_owned(), "ada".to_owned())]);
        assert_eq!(again.get("quay.io"), Some(Credential::from_docker("ada".into(), "two".into())));
        assert_eq!(again.get("docker.io"), None);
        assert!(again.remove("quay.io").unwrap() && !again.remove("quay.io").unwrap());
        assert_eq!(Logins::open(&path).unwrap().list(), []);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "nothing unfinished is left");
    }

    #[test]
    fn readable_and_damaged_files_are_refused() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("registry-logins.json");
        fs::write(&path, "hunter2").unwrap();
        assert!(matches!(Logins::open(&path), Err(LoginsError::Mode(_))));
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        let error = Logins::open(&path).unwrap_err();
        assert!(matches!(error, LoginsError::Damaged(_)) && !error.to_string().contains("hunter2"));
    }
}
