//! Who calls the API, and what they may do. Callers on the node's own Unix socket are its root; everybody else shows a
//! token. It refuses by default: a call of which nobody said who makes it is carried out for nobody.

mod caller;

#[cfg(test)]
mod tests;

use crate::{clock, ledger::Ledger};
use hypercore_trust::ApiToken;

pub(crate) use caller::{Caller, Denial};

/// What a bearer's header begins with (RFC 6750 §2.1); the word may be in any case (RFC 9110 §11.1).
const BEARER: &str = "bearer ";

/// Why a caller is not believed. None of them tells which part of a token was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stranger {
    /// Nothing was shown.
    #[error("this needs an API token")]
    NoToken,
    /// What was shown is not a token, not one that exists, or not with this secret.
    #[error("the API token is not valid here")]
    Unknown,
    /// The token was good once.
    #[error("the API token has expired")]
    Expired,
}

/// Knows callers by their tokens.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    ledger: Ledger,
}

impl Access {
    /// Knows the tokens of this ledger's state, at every look.
    pub(crate) const fn new(ledger: Ledger) -> Self {
        Self { ledger }
    }

    /// Who shows this `authorization` header, which is worth what the state says at this moment.
    pub(crate) fn authorize(&self, header: Option<&[u8]>) -> Result<Caller, Stranger> {
        let header = header.ok_or(Stranger::NoToken)?;
        let text = std::str::from_utf8(header).map_err(|_| Stranger::Unknown)?;
        let (scheme, token) = text.split_at_checked(BEARER.len()).ok_or(Stranger::Unknown)?;
        if !scheme.eq_ignore_ascii_case(BEARER) {
            return Err(Stranger::Unknown);
        }
        let token: ApiToken = token.trim().parse().map_err(|_| Stranger::Unknown)?;
        let record = self.ledger.read(|state| state.token(&token.id).cloned());
        let record = record.filter(|record| record.hash.is_of(&token.secret)).ok_or(Stranger::Unknown)?;
        // Only who has the secret is told that the token existed.
        if record.grant.is_expired(clock::now()) {
            return Err(Stranger::Expired);
        }
        Caller::of_token(&record).ok_or(Stranger::Unknown)
    }
}
