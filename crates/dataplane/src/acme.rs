//! Certificates from a public authority, by ACME (RFC 8555) with the HTTP-01 challenge, which the ingress answers.
//!
//! ```text
//!   wanted names --> shelf: is there one, and for long enough? --no--> order --> challenge, answered by the ingress
//!        ^                                    |                          |
//!        +--- look again, by a clock          +--> Certificates <--------+--> shelf
//! ```
//!
//! It takes no events: at each look it compares what is wanted with what is there, so that a first start, a new route and
//! a renewal are one path. It refuses to ask for names that no route has, and to ask again before the pause after a
//! failure is over, however often it is looked at.

mod challenges;
mod order;
mod shelf;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use instant_acme::{Account, AccountCredentials, NewAccount};
use tokio::time::Instant;

pub use challenges::Challenges;
pub use order::OrderError;
use shelf::Shelf;
pub use shelf::ShelfError;

use crate::{host::HostName, routes::Routes, tls::Certificates};

/// Pause after a first failure; it doubles with each further one.
const PAUSE_MIN: Duration = Duration::from_secs(60);
/// Authorities count failures; beyond an hour's patience nothing is won by asking more often.
const PAUSE_MAX: Duration = Duration::from_secs(6 * 3600);

/// Where certificates come from, and where they are kept.
#[derive(Debug, Clone)]
pub struct AcmeConfig {
    /// The authority's directory, such as `https://acme-v02.api.letsencrypt.org/directory`.
    pub directory_url: String,
    /// Whom the authority may write to.
    pub email: Option<String>,
    /// A PEM file with the root that the authority's own server is believed by; else the machine's roots.
    pub root: Option<PathBuf>,
    /// Where the account's key and the certificates are kept, made with mode 0700.
    pub store: PathBuf,
    /// How often it is compared what is wanted and what is there.
    pub look: Duration,
    /// Most names that certificates are asked for.
    pub names_max: usize,
}

impl AcmeConfig {
    /// The usual settings.
    #[must_use]
    pub const fn new(directory_url: String, email: Option<String>, store: PathBuf) -> Self {
        Self { directory_url, email, root: None, store, look: Duration::from_secs(5), names_max: 200 }
    }
}

/// Why there is no account with the authority.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// Its key can't be read or written.
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    /// What is kept is no account.
    #[error("{path} is damaged: move it away, and a new account is made", path = .0.display())]
    Damaged(PathBuf),
    /// The authority can't be reached, or refuses.
    #[error("the authority made no account")]
    Authority(#[source] instant_acme::Error),
}

/// Keeps a certificate for each name that has a route.
#[derive(Debug)]
pub struct Acme {
    config: AcmeConfig,
    base_domain: HostName,
    routes: Routes,
    certificates: Certificates,
    challenges: Challenges,
}

/// What is known of one name.
#[derive(Debug, Default)]
struct Name {
    /// When its certificate should be replaced; `None` without one.
    renew_at: Option<SystemTime>,
    failures: u32,
    /// Not before this time.
    pause_until: Option<Instant>,
}

impl Acme {
    /// Certificates for the base domain and each named route below it, shown by `certificates`.
    #[must_use]
    pub const fn new(
        config: AcmeConfig,
        base_domain: HostName,
        routes: Routes,
        certificates: Certificates,
        challenges: Challenges,
    ) -> Self {
        Self { config, base_domain, routes, certificates, challenges }
    }

    /// Runs until it is dropped. What was kept is shown at once, whether or not the authority can be reached.
    ///
    /// # Errors
    /// When the directory for keys can't be used.
    pub async fn follow(self) -> Result<(), ShelfError> {
        let shelf = Shelf::open(self.config.store.clone())?;
        let mut names: HashMap<String, Name> = HashMap::new();
        let mut account = None;
        let mut account_pause = Name::default();
        loop {
            let wanted = self.wanted();
            self.forget_others(&mut names, &wanted);
            for text in wanted {
                let name = names.entry(text.clone()).or_insert_with(|| self.take_from(&shelf, &text));
                if !name.is_due() || !account_pause.may_try() {
                    continue;
                }
                if account.is_none() {
                    account = note(&mut account_pause, "an account", self.account(&shelf).await);
                }
                let Some(account) = &account else { continue };
                let ordered = order::place(account, &text, &self.challenges).await;
                let kept = ordered.and_then(|issued| Ok((shelf.put(&text, &issued.pem)?, issued).1));
                if let Some(issued) = note(name, &text, kept) {
                    tracing::info!(name = text, "a certificate was issued");
                    name.renew_at = Some(issued.renew_at);
                    self.certificates.insert(&text, issued.key);
                }
            }
            tokio::time::sleep(self.config.look).await;
        }
    }

    /// Names of routes, and the domain itself: what nobody routes is nobody's to ask for.
    fn wanted(&self) -> Vec<String> {
        let names = self.routes.names().into_iter().map(|name| format!("{name}.{}", self.base_domain));
        std::iter::once(self.base_domain.to_string()).chain(names).take(self.config.names_max).collect()
    }

    fn forget_others(&self, names: &mut HashMap<String, Name>, wanted: &[String]) {
        names.retain(|name, _| {
            let is_wanted = wanted.contains(name);
            if !is_wanted {
                self.certificates.remove(name);
            }
            is_wanted
        });
    }

    /// What is known of a name at first sight: the certificate of an earlier run, if it was kept.
    fn take_from(&self, shelf: &Shelf, name: &str) -> Name {
        let issued = match shelf.get(name) {
            Ok(pem) => pem.and_then(|pem| order::Issued::read(pem).ok()),
            Err(error) => {
                tracing::warn!(name, %error, "a kept certificate can't be read; another one is asked for");
                None
            }
        };
        let renew_at = issued.map(|issued| {
            self.certificates.insert(name, Arc::clone(&issued.key));
            issued.renew_at
        });
        Name { renew_at, ..Name::default() }
    }

    /// The account of an earlier run, or a new one.
    async fn account(&self, shelf: &Shelf) -> Result<Account, AccountError> {
        let builder = match &self.config.root {
            Some(root) => Account::builder_with_root(root),
            None => Account::builder(),
        };
        let builder = builder.map_err(AccountError::Authority)?;
        if let Some(text) = shelf.account()? {
            let damaged = || AccountError::Damaged(shelf.account_path());
            let credentials: AccountCredentials = serde_json::from_str(&text).map_err(|_| damaged())?;
            return builder.from_credentials(credentials).await.map_err(AccountError::Authority);
        }
        let contact = self.config.email.as_ref().map(|email| format!("mailto:{email}"));
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let new =
            NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let made = builder.create(&new, self.config.directory_url.clone(), None).await;
        let (account, credentials) = made.map_err(AccountError::Authority)?;
        let text = serde_json::to_string(&credentials).expect("credentials are text");
        shelf.put_account(&text)?;
        Ok(account)
    }
}

impl Name {
    fn is_due(&self) -> bool {
        let is_old = self.renew_at.is_none_or(|at| SystemTime::now() >= at);
        is_old && self.may_try()
    }

    fn may_try(&self) -> bool {
        self.pause_until.is_none_or(|until| Instant::now() >= until)
    }

    /// The pause after one more failure.
    fn fail(&mut self) -> Duration {
        let pause = PAUSE_MIN.saturating_mul(1 << self.failures.min(16)).min(PAUSE_MAX);
        self.failures += 1;
        self.pause_until = Some(Instant::now() + pause);
        pause
    }
}

/// Counts a failure, or forgets the earlier ones.
fn note<T, E: std::error::Error>(name: &mut Name, what: &str, result: Result<T, E>) -> Option<T> {
    match result {
        Ok(done) => {
            (name.failures, name.pause_until) = (0, None);
            Some(done)
        }
        Err(error) => {
            let pause = name.fail();
            let source = error.source().map(ToString::to_string);
            tracing::warn!(what, %error, source, retry_s = pause.as_secs(), "the authority gave no certificate");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_success_forgets_them() {
        let mut name = Name::default();
        assert!(name.is_due());
        assert_eq!([name.fail(), name.fail(), name.fail()], [1, 2, 4].map(|factor| PAUSE_MIN * factor));
        assert!(!name.is_due());
        for _ in 0..40 {
            name.fail();
        }
        assert_eq!(name.fail(), PAUSE_MAX);
        assert_eq!(note(&mut name, "x", Ok::<_, std::fmt::Error>(1)), Some(1));
        assert!(name.is_due() && name.failures == 0);
    }
}
