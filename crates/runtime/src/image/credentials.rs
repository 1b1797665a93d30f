//! Who this node is to a registry: what `hypercore image login` left, or else what docker's `config.json` has.
//!
//! It refuses to show a secret in any message or debug output, to read a file of unreasonable size, and to decide to
//! whom a credential is sent: that is the registry client's care.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

mod docker_config;
mod helper;
mod logins;

pub use docker_config::DockerConfigError;
pub use helper::HelperError;
pub use logins::{Logins, LoginsError};

use docker_config::DockerConfig;

/// The registry that docker knows by several names.
pub(super) const DOCKER_HUB: &str = "docker.io";

/// A password or token: erased when dropped, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

/// What a registry may be shown of us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A name with its password or access token.
    Password {
        /// Who we are.
        user: String,
        /// What proves it.
        password: Secret,
    },
    /// A token that is exchanged for short-lived ones (OAuth2 refresh token).
    IdentityToken(Secret),
}

/// Where credentials are looked for, when a registry asks for them and not before.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    only: Option<Credential>,
    logins: Option<Logins>,
    docker_config: Option<PathBuf>,
}

/// Why credentials that should be there can't be had.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// Docker's configuration can't be used.
    #[error(transparent)]
    DockerConfig(#[from] DockerConfigError),
    /// A credential helper that docker's configuration names failed.
    #[error(transparent)]
    Helper(#[from] HelperError),
}

impl Credentials {
    /// Looks into the node's own logins first, then into docker's configuration at that path.
    #[must_use]
    pub fn new(logins: Option<Logins>, docker_config: Option<PathBuf>) -> Self {
        Self { only: None, logins, docker_config }
    }

    /// This one for whoever asks.
    pub(super) fn only(credential: Credential) -> Self {
        Self { only: Some(credential), ..Self::default() }
    }

    /// The credential for a registry (`docker.io`, `quay.io`, `127.0.0.1:5000`). May read a file and run a helper.
    ///
    /// # Errors
    /// [`CredentialError`] when what is configured can't be used; nothing configured is no error.
    pub(super) async fn find(&self, registry: &str) -> Result<Option<Credential>, CredentialError> {
        if let Some(only) = &self.only {
            return Ok(Some(only.clone()));
        }
        if let Some(login) = self.logins.as_ref().and_then(|logins| logins.get(registry)) {
            return Ok(Some(login));
        }
        let Some(path) = &self.docker_config else { return Ok(None) };
        let config = DockerConfig::read(path).await?;
        if let Some(name) = config.helper(registry)
            && let Some(credential) = helper::get(name, docker_config::server_address(registry)).await?
        {
            return Ok(Some(credential));
        }
        Ok(config.auth(registry)?)
    }
}

/// Where docker keeps its configuration for a user with that home: `$DOCKER_CONFIG/config.json`, or
/// `HOME/.docker/config.json`.
#[must_use]
pub fn docker_config_path(docker_config: Option<&Path>, home: Option<&Path>) -> Option<PathBuf> {
    let directory = docker_config.map(Path::to_owned).or_else(|| Some(home?.join(".docker")))?;
    Some(directory.join("config.json"))
}

impl Secret {
    /// Takes it over.
    #[must_use]
    pub fn new(secret: String) -> Self {
        Self(Zeroizing::new(secret))
    }

    /// The secret itself, to be sent or written and for nothing else.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Credential {
    /// Reads what docker's tools write: a user called `<token>` means that the password is an identity token.
    pub(super) fn from_docker(user: String, secret: String) -> Self {
        let secret = Secret::new(secret);
        if user == "<token>" {
            Self::IdentityToken(secret)
        } else {
            Self::Password { user, password: secret }
        }
    }

    /// Who it is, as messages say it.
    pub(super) fn user(&self) -> &str {
        match self {
            Self::Password { user, .. } => user,
            Self::IdentityToken(_) => "(identity token)",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let credential = Credential::from_docker("ada".to_owned(), "hunter2".to_owned());
        let shown = format!("{credential:?} {:?}", Credentials::only(credential.clone()));
        assert!(shown.contains("ada") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn docker_says_where_its_configuration_is() {
        let path = |config: Option<&str>, home: Option<&str>| {
            docker_config_path(config.map(Path::new), home.map(Path::new))
        };
        assert_eq!(path(Some("/etc/docker-cli"), Some("/root")), Some("/etc/docker-cli/config.json".into()));
        assert_eq!(path(None, Some("/root")), Some("/root/.docker/config.json".into()));
        assert_eq!(path(None, None), None);
    }
}
