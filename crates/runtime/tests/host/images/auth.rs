//! Registries that ask who we are: Debian's docker-registry with passwords, and scripted ones with tokens. Whoever
//! isn't the registry or its token server never sees a credential.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use hypercore_fixtures::{OciImage, Registry, registry::LOGIN, skip_without_root};
use hypercore_runtime::image::{Credentials, LoginError, Logins, RegistrySettings, Secret, TransferError};

use super::{
    Store, cause, parsed,
    server::{Answer, MANIFEST, Server},
    two_layers,
};

/// `ada:open sesame` in base64.
const AUTH: &str = "YWRhOm9wZW4gc2VzYW1l";

/// Where a mirror has `docker.io/library/app:1`.
const HUB_MANIFEST: &str = "/v2/library/app/manifests/1";

/// Settings with a docker configuration of that content.
fn docker_config(place: &Path, content: &str) -> RegistrySettings {
    let path = place.join("config.json");
    fs::write(&path, content).unwrap();
    RegistrySettings { credentials: Credentials::new(None, Some(path)), ..RegistrySettings::default() }
}

fn auths(registry: &str) -> String {
    format!(r#"{{"auths": {{"{registry}": {{"auth": "{AUTH}"}}}}}}"#)
}

async fn pull(store: &Store, reference: &str, settings: &RegistrySettings) -> Result<String, TransferError> {
    match store.images.pull(&parsed(reference), settings, &|_| {}).await {
        Ok(pulled) => Ok(pulled.image.digest.to_string()),
        Err(error) => Err(cause(error, reference)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dockers_configuration_opens_a_registry_with_passwords() {
    if skip_without_root("dockers_configuration_opens_a_registry_with_passwords") {
        return;
    }
    let (registry, place) = (Registry::start_with_password().unwrap(), tempfile::tempdir().unwrap());
    let made = two_layers();
    let reference = registry.push(&made, "private/app:1").unwrap();
    let settings = docker_config(place.path(), &auths(registry.address()));
    assert_eq!(pull(&Store::new(), &reference, &settings).await.unwrap(), made.digest());

    let nobody = pull(&Store::new(), &reference, &RegistrySettings::default()).await.unwrap_err();
    assert!(matches!(nobody, TransferError::Unauthorized), "{nobody:?}");
    let other_host = docker_config(place.path(), &auths("registry.example"));
    let stranger = pull(&Store::new(), &reference, &other_host).await.unwrap_err();
    assert!(matches!(stranger, TransferError::Unauthorized), "{stranger:?}");
    let wrong =
        format!(r#"{{"auths": {{"{}": {{"username": "ada", "password": "guess"}}}}}}"#, registry.address());
    let wrong = pull(&Store::new(), &reference, &docker_config(place.path(), &wrong)).await.unwrap_err();
    assert!(matches!(&wrong, TransferError::LoginRefused { user } if user == "ada"), "{wrong:?}");
    assert!(!format!("{wrong:?} {wrong}").contains("guess"));
    let damaged = pull(&Store::new(), &reference, &docker_config(place.path(), "{")).await.unwrap_err();
    assert!(matches!(damaged, TransferError::Credentials(_)), "{damaged:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_checked_before_it_is_kept() {
    if skip_without_root("a_login_is_checked_before_it_is_kept") {
        return;
    }
    let (registry, place) = (Registry::start_with_password().unwrap(), tempfile::tempdir().unwrap());
    let reference = registry.push(&two_layers(), "private/app:1").unwrap();
    let (store, logins) = (Store::new(), Logins::open(&place.path().join("logins.json")).unwrap());
    let credentials = Credentials::new(Some(logins.clone()), None);
    let settings = RegistrySettings { credentials, ..RegistrySettings::default() };
    let login = async |password: &str| {
        let password = Secret::new(password.to_owned());
        store.images.login(registry.address(), LOGIN.0, password, &logins, &settings).await
    };
    let refused = login("guess").await.unwrap_err();
    let LoginError::Registry { registry: name, cause: TransferError::LoginRefused { .. } } = &refused else {
        panic!("{refused:?}")
    };
    assert_eq!((name.as_str(), logins.list().len()), (registry.address(), 0));

    login(LOGIN.1).await.unwrap();
    pull(&store, &reference, &settings).await.unwrap();
    assert!(store.images.logout(registry.address(), &logins).await.unwrap().is_some());
    assert!(store.images.logout(registry.address(), &logins).await.unwrap().is_none());
    assert!(pull(&store, &reference, &settings).await.is_err());
    let nowhere = store.images.login("a/b", "ada", Secret::new(String::new()), &logins, &settings).await;
    assert!(matches!(nowhere, Err(LoginError::Name(_))), "{nowhere:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_helper_is_asked_and_its_failure_told() {
    if skip_without_root("a_credential_helper_is_asked_and_its_failure_told") {
        return;
    }
    let (registry, place) = (Registry::start_with_password().unwrap(), tempfile::tempdir().unwrap());
    let reference = registry.push(&two_layers(), "private/app:1").unwrap();
    // Helpers are looked up in PATH. A name of its own: nothing else of the machine may have it.
    let name = format!("hypercore-test-{}", std::process::id());
    let helper = HelperProgram::install(&name);
    let settings =
        docker_config(place.path(), &format!(r#"{{"credHelpers": {{"{}": "{name}"}}}}"#, registry.address()));
    helper.says(&format!(r#"test "$1 $(cat)" = "get {}" && echo '{{"ServerURL":"x","Username":"ada","Secret":"open sesame"}}'"#, registry.address()));
    pull(&Store::new(), &reference, &settings).await.unwrap();
    helper.says("echo 'credentials not found in native keychain'; exit 1");
    let none = pull(&Store::new(), &reference, &settings).await.unwrap_err();
    assert!(matches!(none, TransferError::Unauthorized), "{none:?}");
    for broken in ["echo 'the safe is locked'; exit 3", "echo '{\"Secret\": \"open sesame\"}'"] {
        helper.says(broken);
        let error = pull(&Store::new(), &reference, &settings).await.unwrap_err();
        assert!(matches!(error, TransferError::Credentials(_)), "{error:?}");
        assert!(!format!("{error:?}").contains("open sesame"));
    }
    let escape = docker_config(place.path(), r#"{"credsStore": "../../../bin/sh"}"#);
    let error = pull(&Store::new(), &reference, &escape).await.unwrap_err();
    assert!(matches!(error, TransferError::Credentials(_)), "{error:?}");
}

/// A program in `/usr/local/bin`, removed when dropped.
struct HelperProgram {
    path: std::path::PathBuf,
}

impl HelperProgram {
    fn install(name: &str) -> Self {
        Self { path: format!("/usr/local/bin/docker-credential-{name}").into() }
    }

    fn says(&self, script: &str) {
        fs::write(&self.path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&self.path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

impl Drop for HelperProgram {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.path));
    }
}

fn challenge(text: String) -> Answer {
    Answer { status: 401, headers: vec![("WWW-Authenticate".to_owned(), text)], ..Answer::ok(Vec::new()) }
}

/// A registry that asks for a token of that realm; its own `/token` gives one.
fn with_tokens(image: &OciImage, realm: impl FnOnce(&str) -> String) -> Server {
    Server::serve(image, |script| {
        let realm = realm(&script.url);
        let manifest = script.get(MANIFEST).clone();
        script.set(
            MANIFEST,
            [
                challenge(format!("Bearer realm=\"{realm}\",service=\"s\",scope=\"repository:app:pull\"")),
                manifest,
            ],
        );
        script.set("/token", [Answer::ok(br#"{"access_token":"for-ada"}"#.to_vec())]);
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_bought_with_the_password_or_the_identity_token() {
    if skip_without_root("a_token_is_bought_with_the_password_or_the_identity_token") {
        return;
    }
    let (image, place) = (two_layers(), tempfile::tempdir().unwrap());
    let registry = with_tokens(&image, |url| format!("{url}/token"));
    let settings = docker_config(place.path(), &auths(registry.address()));
    pull(&Store::new(), &registry.reference(), &settings).await.unwrap();
    let requests = registry.requests();
    let bought: Vec<_> = requests.iter().filter(|request| request.contains("/token?")).collect();
    let [bought] = &bought[..] else { panic!("one token for all: {requests:?}") };
    assert!(bought.contains("account=ada") && bought.contains("service=s"), "{bought}");
    assert!(bought.contains(&format!("authorization: Basic {AUTH}")), "{bought}");
    let with_password = requests.iter().filter(|request| request.contains("Basic"));
    assert_eq!(with_password.count(), 1, "the registry itself only sees the token: {requests:?}");
    assert!(requests.last().unwrap().contains("authorization: Bearer for-ada"), "{requests:?}");

    let registry = with_tokens(&image, |url| format!("{url}/token"));
    let config = format!(r#"{{"auths": {{"{}": {{"identitytoken": "long-lived"}}}}}}"#, registry.address());
    pull(&Store::new(), &registry.reference(), &docker_config(place.path(), &config)).await.unwrap();
    let requests = registry.requests();
    assert!(requests.iter().any(|request| request.starts_with("POST /token ")), "{requests:?}");
    assert!(!requests.iter().any(|request| request.contains("long-lived")), "it belongs into the body alone");
}

/// A host that answers whatever it is asked with a demand for a password, and must never get one.
struct Thief {
    server: Server,
    url: String,
}

impl Thief {
    fn lurk(image: &OciImage) -> Self {
        let server = Server::serve(image, |script| {
            for path in ["/token", "/stolen", MANIFEST, HUB_MANIFEST] {
                script.set(path, [challenge("Basic realm=\"give\"".to_owned())]);
            }
        });
        let url = format!("http://{}", server.address());
        Self { server, url }
    }

    fn assert_empty_handed(&self) {
        let seen = self.server.requests();
        assert!(!seen.iter().any(|request| request.to_lowercase().contains("authorization")), "{seen:?}");
    }
}

/// A redirect.
fn away(to: String) -> Answer {
    Answer { status: 307, headers: vec![("Location".to_owned(), to)], ..Answer::ok(Vec::new()) }
}

/// Why a pull fails at a registry that docker's configuration has a password for.
async fn refused(registry: &Server) -> TransferError {
    let place = tempfile::tempdir().unwrap();
    let settings = docker_config(place.path(), &auths(registry.address()));
    pull(&Store::new(), &registry.reference(), &settings).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_server_elsewhere_gets_a_credential_without_tls() {
    let image = two_layers();
    let thief = Thief::lurk(&image);
    let error = refused(&with_tokens(&image, |_| format!("{}/token", thief.url))).await;
    assert!(matches!(error, TransferError::TokenServerPlain { .. }), "{error:?}");
    assert_eq!(thief.server.requests().len(), 0, "it isn't even asked");

    // The registry's own token server, which sends us elsewhere.
    let registry = Server::serve(&image, |script| {
        let realm = format!("Bearer realm=\"{}/token\"", script.url);
        script.set(MANIFEST, [challenge(realm)]);
        script.set("/token", [away(format!("{}/token", thief.url))]);
    });
    assert!(matches!(refused(&registry).await, TransferError::Refused { status: 307, .. }));
    assert_eq!(thief.server.requests().len(), 0, "it isn't even asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_host_that_a_registry_redirects_to_gets_a_credential() {
    let image = two_layers();
    let thief = Thief::lurk(&image);
    // A redirect to a host that asks who we are.
    let registry =
        Server::serve(&image, |script| script.set(MANIFEST, [away(format!("{}/stolen", thief.url))]));
    assert!(matches!(refused(&registry).await, TransferError::Unauthorized));

    // A redirect after the registry itself got what it asked for.
    let registry = Server::serve(&image, |script| {
        let asked = challenge("Basic realm=\"x\"".to_owned());
        script.set(MANIFEST, [asked, away(format!("{}{MANIFEST}", thief.url))]);
    });
    refused(&registry).await;
    assert!(registry.requests().iter().any(|request| request.contains(AUTH)));
    assert_eq!(thief.server.requests().len(), 2);
    thief.assert_empty_handed();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_mirror_gets_the_credential_of_docker_hub() {
    if skip_without_root("no_mirror_gets_the_credential_of_docker_hub") {
        return;
    }
    let (image, place) = (two_layers(), tempfile::tempdir().unwrap());
    let (thief, honest) = (Thief::lurk(&image), Registry::start().unwrap());
    honest.push(&image, "library/app:1").unwrap();
    // The names by which docker and its users call the hub.
    for hub in ["https://index.docker.io/v1/", "docker.io", "registry-1.docker.io"] {
        let mirrors = vec![thief.url.clone(), honest.address().to_owned()];
        let settings = RegistrySettings { mirrors, ..docker_config(place.path(), &auths(hub)) };
        assert_eq!(pull(&Store::new(), "app:1", &settings).await.unwrap(), image.digest());
    }
    let seen = thief.server.requests();
    assert!(seen.iter().any(|request| request.contains(HUB_MANIFEST)), "it asked for nothing: {seen:?}");
    thief.assert_empty_handed();
}
