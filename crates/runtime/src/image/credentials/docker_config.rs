//! Docker's `config.json`, as far as it tells credentials (docker/cli, `configfile`): `auths`, `credsStore`,
//! `credHelpers`. It refuses to write, and reads the file anew each time: `docker login` may have changed it.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use tokio::io::AsyncReadExt;
use zeroize::Zeroizing;

use super::{Credential, DOCKER_HUB};

/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// What docker itself files the logins of docker.io under.
const DOCKER_HUB_SERVER: &str = "https://index.docker.io/v1/";
/// All hosts that mean docker.io.
const DOCKER_HUB_HOSTS: [&str; 3] = [DOCKER_HUB, "index.docker.io", "registry-1.docker.io"];

/// Why docker's configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DockerConfigError {
    /// The file is there but can't be read.
    #[error("docker's configuration {} can't be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is not JSON of docker's form.
    #[error("docker's configuration {} is malformed", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where it is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// An entry's `auth` is not base64 of `user:password`.
    #[error("docker's configuration has a malformed `auth` for {registry}")]
    Auth {
        /// Whose entry it is.
        registry: String,
    },
}

/// The file's content.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct DockerConfig {
    auths: BTreeMap<String, Auth>,
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
}

/// What it has for one registry.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: Option<Zeroizing<String>>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

impl DockerConfig {
    /// Reads the file; none is an empty one.
    pub(super) async fn read(path: &Path) -> Result<Self, DockerConfigError> {
        let read = async {
            let mut content = Zeroizing::new(Vec::new());
            let file = tokio::fs::File::open(path).await?;
            file.take(FILE_BYTES_MAX + 1).read_to_end(&mut content).await?;
            if content.len() as u64 > FILE_BYTES_MAX {
                return Err(io::Error::other("it is too large"));
            }
            Ok(content)
        };
        match read.await {
            Ok(content) => serde_json::from_slice(&content)
                .map_err(|source| DockerConfigError::Malformed { path: path.to_owned(), source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(DockerConfigError::Read { path: path.to_owned(), source }),
        }
    }

    /// The credential helper that is in charge of a registry.
    pub(super) fn helper(&self, registry: &str) -> Option<&str> {
        let own = self.cred_helpers.iter().find(|(key, _)| is_for(key, registry)).map(|(_, name)| name);
        own.or(self.creds_store.as_ref()).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// What the file itself has for a registry.
    pub(super) fn auth(&self, registry: &str) -> Result<Option<Credential>, DockerConfigError> {
        let Some((_, entry)) = self.auths.iter().find(|(key, _)| is_for(key, registry)) else {
            return Ok(None);
        };
        if let Some(token) = entry.identitytoken.as_ref().filter(|token| !token.is_empty()) {
            return Ok(Some(Credential::from_docker("<token>".to_owned(), token.clone())));
        }
        if let (Some(user), Some(password)) = (&entry.username, &entry.password) {
            return Ok(Some(Credential::from_docker(user.clone(), password.clone())));
        }
        let Some(auth) = entry.auth.as_ref().filter(|auth| !auth.is_empty()) else { return Ok(None) };
        let malformed = || DockerConfigError::Auth { registry: registry.to_owned() };
        let text = STANDARD.decode(auth.as_str()).map(Zeroizing::new).map_err(|_| malformed())?;
        let text = std::str::from_utf8(&text).map_err(|_| malformed())?;
        let (user, password) = text.split_once(':').ok_or_else(malformed)?;
        // Docker leaves out what its first releases padded with.
        Ok(Some(Credential::from_docker(user.to_owned(), password.trim_matches('\0').to_owned())))
    }
}

/// What credential helpers are asked for.
pub(super) fn server_address(registry: &str) -> &str {
    if registry == DOCKER_HUB { DOCKER_HUB_SERVER } else { registry }
}

/// Whether a key, which may be a URL, means a registry.
fn is_for(key: &str, registry: &str) -> bool {
    let host = key.split_once("://").map_or(key, |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or(host);
    host == registry || (registry == DOCKER_HUB && DOCKER_HUB_HOSTS.contains(&host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> DockerConfig {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn entries_are_found_under_every_spelling() {
        let config = config(
            r#"{"auths": {
                "https://index.docker.io/v1/": {"auth": "YWRhOnNlY3JldDp3aXRoOmNvbG9ucw=="},
                "https://reg.example:5000": {"username": "bob", "password": "b"},
                "quay.io": {"identitytoken": "tok"},
                "empty.example": {}
            }, "HttpHeaders": {"x": "y"}}"#,
        );
        let auth = |registry: &str| config.auth(registry).unwrap();
        let password = |user: &str, secret: &str| Some(Credential::from_docker(user.into(), secret.into()));
        assert_eq!(auth("docker.io"), password("ada", "secret:with:colons"));
        assert_eq!(auth("reg.example:5000"), password("bob", "b"));
        assert_eq!(auth("quay.io"), password("<token>", "tok"));
        for nobody in ["reg.example", "empty.example", "index.docker.io.evil.example", "example"] {
            assert_eq!(auth(nobody), None, "{nobody}");
        }
    }

    #[test]
    fn helpers_of_a_registry_come_before_the_one_for_all() {
        let config = config(r#"{"credsStore": "all", "credHelpers": {"gcr.io": "gcloud"}}"#);
        assert_eq!((config.helper("gcr.io"), config.helper("quay.io")), (Some("gcloud"), Some("all")));
        assert_eq!(DockerConfig::default().helper("quay.io"), None);
    }

    #[test]
    fn malformed_entries_are_errors_that_show_no_secret() {
        for auth in ["!!!", "bm9jb2xvbg=="] {
            let config = config(&format!(r#"{{"auths": {{"a.example": {{"auth": "{auth}"}}}}}}"#));
            let error = config.auth("a.example").unwrap_err().to_string();
            assert!(error.contains("a.example") && !error.contains(auth), "{error}");
        }
    }
}
