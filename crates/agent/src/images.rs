//! What the node has to do with images besides running them: how it asks registries, whom it believes, and which images
//! its workloads need. It refuses to touch the store's files.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use hypercore_runtime::image::{
    Credentials, DiskMarks, ImageStore, InUse, KeyError, Logins, LoginsError, OpenError, RegistrySettings,
    VerifyKey, docker_config_path,
};

use crate::{config::AgentConfig, directory::Directory, keeper, node::Node};

/// Largest key file that is read, in bytes.
const KEY_FILE_BYTES_MAX: u64 = 64 * 1024;

/// The store of a node, and how it is used.
#[derive(Debug)]
pub(crate) struct Images {
    pub(crate) store: ImageStore,
    pub(crate) settings: RegistrySettings,
    pub(crate) logins: Logins,
    pub(crate) marks: DiskMarks,
}

/// Why images can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImagesError {
    /// The store can't be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The registry logins can't be read.
    #[error(transparent)]
    Logins(#[from] LoginsError),
    /// A key of `runtime.verify_keys` can't be read.
    #[error("the key {} of runtime.verify_keys can't be read", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is no key for images.
    #[error("the key {} of runtime.verify_keys can't be used", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: KeyError,
    },
}

impl Images {
    /// Opens the store, the logins and the keys. Blocks.
    pub(crate) fn open(config: &AgentConfig, directory: &Directory) -> Result<Self, ImagesError> {
        let store = ImageStore::open(&directory.images())?;
        let logins = Logins::open(&directory.registry_logins())?;
        let settings = RegistrySettings {
            mirrors: config.registry_mirrors.clone(),
            insecure_registries: config.insecure_registries.clone(),
            credentials: Credentials::new(Some(logins.clone()), docker_config()),
            verify_keys: config.verify_keys.iter().map(|path| read_key(path)).collect::<Result<_, _>>()?,
        };
        let (high_percent, low_percent) = (config.image_gc_high_percent, config.image_gc_low_percent);
        let marks = DiskMarks { high_percent, low_percent: low_percent.min(high_percent) };
        Ok(Self { store, settings, logins, marks })
    }
}

/// Where the user that the agent runs as keeps docker's configuration. A service manager may not have told `HOME`.
fn docker_config() -> Option<PathBuf> {
    let home = || nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.dir);
    let home = std::env::var_os("HOME").map(PathBuf::from).or_else(home);
    let directory = std::env::var_os("DOCKER_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
    docker_config_path(directory.as_deref(), home.as_deref())
}

fn read_key(path: &Path) -> Result<VerifyKey, ImagesError> {
    let read = || {
        if fs::metadata(path)?.len() > KEY_FILE_BYTES_MAX {
            return Err(io::Error::other("it is too large for a key"));
        }
        fs::read_to_string(path)
    };
    let text = read().map_err(|source| ImagesError::KeyFile { path: path.to_owned(), source })?;
    VerifyKey::from_pem(&text).map_err(|source| ImagesError::Key { path: path.to_owned(), source })
}

/// What workloads need now, to be asked whenever something is about to be removed. Blocks.
pub(crate) fn in_use(node: &Arc<Node>) -> impl Fn() -> InUse + Send + Sync + 'static {
    let node = Arc::clone(node);
    move || {
        let read = |state: &hypercore_cluster::state::State| {
            state.workloads().map(|record| (record.id, record.spec.image.clone())).collect::<BTreeMap<_, _>>()
        };
        let wanted = node.ledger.read(read);
        let named = wanted.values().filter_map(|name| node.images.store.get(name)).map(|image| image.digest);
        let mut in_use = InUse { manifests: named.collect(), ..InUse::default() };
        // A name may have moved on since a workload started: what runs holds what it was made of. Its keeper knows, and
        // after a restart of the agent its record knows before any keeper does.
        let ids = node.directory.workload_ids().unwrap_or_default();
        let recorded = ids.into_iter().filter_map(|id| {
            keeper::read_surroundings(&node.directory.workload(id)).map(|given| (id, given.image_digest))
        });
        for (id, digest) in recorded.chain(node.board.image_digests()) {
            let held = if wanted.contains_key(&id) { &mut in_use.manifests } else { &mut in_use.leaving };
            held.insert(digest);
        }
        in_use.names = wanted.into_values().collect();
        in_use
    }
}
