//! Logs this node in to a registry: a name and password that the registry accepted are kept for later pulls.
//! It refuses to keep what was not checked.

use hypercore_model::ImageReference;

use super::{
    Credential, Credentials, ImageStore, LoginError, RegistrySettings, Secret, TransferError,
    blocking::{ShuttingDown, blocking},
    credentials::Logins,
    endpoint::Endpoint,
    registry::Registry,
};

impl ImageStore {
    /// Asks the registry whether it knows that user and password, and keeps them in `logins` when it does. Returns the
    /// registry as image references name it.
    ///
    /// # Errors
    /// [`LoginError`], which names the registry and never the password.
    pub async fn login(
        &self,
        registry: &str,
        user: &str,
        password: Secret,
        logins: &Logins,
        settings: &RegistrySettings,
    ) -> Result<String, LoginError> {
        let name = registry_name(registry)?;
        let failed = |cause| LoginError::Registry { registry: name.clone(), cause };
        let endpoint = Endpoint::registry(&name, settings);
        let credential = Credential::Password { user: user.to_owned(), password: password.clone() };
        let registry = Registry::new(&self.inner.clients, &endpoint, "", &Credentials::only(credential));
        registry.map_err(failed)?.ping().await.map_err(failed)?;
        let (logins, user, kept) = (logins.clone(), user.to_owned(), name.clone());
        blocking(move || logins.put(&kept, user, password).map_err(LoginError::from)).await?;
        Ok(name)
    }

    /// Forgets a login. Returns the registry as image references name it, `None` when there was no login.
    ///
    /// # Errors
    /// [`LoginError`] when that can't be a registry, or the list can't be written.
    pub async fn logout(&self, registry: &str, logins: &Logins) -> Result<Option<String>, LoginError> {
        let (logins, name) = (logins.clone(), registry_name(registry)?);
        blocking(move || Ok(logins.remove(&name)?.then_some(name))).await
    }
}

impl From<ShuttingDown> for LoginError {
    fn from(down: ShuttingDown) -> Self {
        Self::Registry { registry: "(any)".to_owned(), cause: TransferError::from(down) }
    }
}

/// The registry that image references call so. Docker's own names for docker.io are understood.
fn registry_name(text: &str) -> Result<String, LoginError> {
    let host = text.split_once("://").map_or(text, |(_, rest)| rest);
    let host = host.strip_suffix("/v1/").unwrap_or(host).trim_end_matches('/');
    if matches!(host, "index.docker.io" | "registry-1.docker.io") {
        return Ok("docker.io".to_owned());
    }
    let named: Option<ImageReference> = format!("{host}/image").parse().ok();
    match named {
        Some(image) if image.registry() == host => Ok(host.to_owned()),
        _ => Err(LoginError::Name(hypercore_copy::shown::shown(text))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_named_as_images_name_them() {
        for (text, name) in [
            ("docker.io", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("127.0.0.1:5000", "127.0.0.1:5000"),
            ("https://quay.io/", "quay.io"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(registry_name(text).unwrap(), name, "{text}");
        }
        for bad in ["", "team", "quay.io/team", "a b", "quay.io:x", "../x", "quay.io@evil.example"] {
            assert!(registry_name(bad).is_err(), "{bad}");
        }
    }
}
