//! One certificate, from the order to the chain (RFC 8555 §7.4). Its key is new each time.
//! It refuses challenges other than HTTP-01, and a chain that doesn't fit the key.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Identifier, NewOrder, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};

use super::{Challenges, ShelfError};
use crate::tls::files::{CertificateError, certified_key};

/// How long an authority may take for each of its steps.
const STEP_TIME_MAX: Duration = Duration::from_secs(60);

/// Why there is no certificate. Each variant is the step that failed.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// The authority can't be reached, or refuses a step.
    #[error("the authority did not {0}")]
    Authority(&'static str, #[source] instant_acme::Error),
    /// The authority offers no challenge that can be answered here.
    #[error("the authority offers no http-01 challenge for this name")]
    NoChallenge,
    /// The authority did not see the answer to its challenge.
    #[error("the authority did not find the name to lead here: the order is {0:?}")]
    NotReady(OrderStatus),
    /// No key or no request for a certificate could be made.
    #[error("making the request failed")]
    Request(#[source] rcgen::Error),
    /// What came is no certificate for the key.
    #[error("the authority's certificate can't be used")]
    Certificate(#[from] CertificateError),
    /// What came has no end, or is no X.509.
    #[error("the authority's certificate can't be read")]
    Unreadable,
    /// It could not be kept.
    #[error(transparent)]
    Shelf(#[from] ShelfError),
}

/// A certificate with its key.
#[derive(Debug)]
pub(super) struct Issued {
    /// Chain and key, as they are kept.
    pub(super) pem: String,
    pub(super) key: Arc<CertifiedKey>,
    /// When two thirds of its time are over.
    pub(super) renew_at: SystemTime,
}

impl Issued {
    /// Reads what was kept.
    pub(super) fn read(pem: String) -> Result<Self, OrderError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        let chain = chain.map_err(|_| OrderError::Unreadable)?;
        let renew_at =
            renew_at(chain.first().ok_or(OrderError::Unreadable)?).ok_or(OrderError::Unreadable)?;
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| OrderError::Unreadable)?;
        Ok(Self { key: certified_key(chain, key)?, pem, renew_at })
    }
}

/// Asks for a certificate for one name.
pub(super) async fn place(
    account: &Account,
    name: &str,
    challenges: &Challenges,
) -> Result<Issued, OrderError> {
    let step = |what| move |error| OrderError::Authority(what, error);
    let patience = RetryPolicy::new().initial_delay(Duration::from_millis(100)).timeout(STEP_TIME_MAX);
    let identifiers = [Identifier::Dns(name.to_owned())];
    let mut order = account.new_order(&NewOrder::new(&identifiers)).await.map_err(step("take the order"))?;
    let mut answered = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(step("tell what it wants to see"))?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let mut challenge = authorization.challenge(ChallengeType::Http01).ok_or(OrderError::NoChallenge)?;
        answered.push(challenges.put(&challenge.token, challenge.key_authorization().as_str()));
        challenge.set_ready().await.map_err(step("take the challenge as answered"))?;
    }
    let status = order.poll_ready(&patience).await.map_err(step("find the name to lead here"))?;
    drop(answered);
    if !matches!(status, OrderStatus::Ready | OrderStatus::Valid) {
        return Err(OrderError::NotReady(status));
    }
    let key = KeyPair::generate().map_err(OrderError::Request)?;
    let params = CertificateParams::new(vec![name.to_owned()]).map_err(OrderError::Request)?;
    let request = params.serialize_request(&key).map_err(OrderError::Request)?;
    order.finalize_csr(request.der()).await.map_err(step("take the request for a certificate"))?;
    let chain = order.poll_certificate(&patience).await.map_err(step("give the certificate"))?;
    Issued::read(format!("{}\n{}", chain.trim_end(), key.serialize_pem()))
}

/// When two thirds of its time are over, whatever that is: some authorities give 90 days, some 6.
fn renew_at(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let (from, until) = (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
    let (from, until) = (u64::try_from(from).ok()?, u64::try_from(until).ok()?);
    let after = until.checked_sub(from)? / 3 * 2;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(from + after))
}
