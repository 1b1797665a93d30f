//! The commands about API tokens. It refuses to know a secret: what comes here is its hash.

use hypercore_model::{Scope, Timestamp, TokenId};
use hypercore_trust::TokenHash;

use super::Applied;
use crate::state::{
    State,
    event::Event,
    record::{TokenGrant, TokenRecord},
    rejection::Rejection,
    row::{Change, Row},
};

/// Most tokens at a time: what a person can still look through, and no way to fill the state.
pub const TOKENS_MAX: usize = 4096;
/// For how long an expired token is still listed, in milliseconds: a week. The next creation after that forgets it.
const EXPIRED_KEPT_MS: u64 = 7 * 24 * 60 * 60 * 1000;

impl State {
    /// Checks a token and puts it beside the others.
    pub(super) fn plan_create_token(
        &self,
        id: TokenId,
        grant: &TokenGrant,
        hash: TokenHash,
        created_at: Timestamp,
    ) -> Result<Applied, Rejection> {
        if grant.scopes.is_empty() {
            return Err(Rejection::TokenScopes);
        }
        if grant.tenant.is_some() && grant.scopes.contains(&Scope::Admin) {
            return Err(Rejection::TokenTooWide);
        }
        if let Some(existing) = self.token(&id) {
            let is_same = existing.grant == *grant && existing.hash == hash;
            return if is_same { Ok(Applied::default()) } else { Err(Rejection::TokenExists(id)) };
        }
        let kept_since = created_at.unix_ms().saturating_sub(EXPIRED_KEPT_MS);
        let is_old = |token: &TokenRecord| token.grant.expires_at.is_some_and(|at| at.unix_ms() < kept_since);
        let (old, kept): (Vec<&TokenRecord>, Vec<_>) = self.tokens().partition(|token| is_old(token));
        if let Some(name) = &grant.name
            && let Some(holder) = kept.iter().find(|token| token.grant.name.as_ref() == Some(name))
        {
            return Err(Rejection::TokenNameTaken { name: name.clone(), by: holder.id });
        }
        if kept.len() >= TOKENS_MAX {
            return Err(Rejection::TooManyTokens);
        }
        let mut changes: Vec<Change> = old.iter().map(|token| Change::TokenGone(token.id)).collect();
        let record = TokenRecord { id, grant: grant.clone(), hash, created_at };
        changes.push(Change::Token(id, Row::new(record)));
        Ok(Applied { events: vec![Event::TokenCreated { id }], changes })
    }

    /// Forgets a token. One that isn't there was revoked before: repeated, it has no effect.
    pub(super) fn plan_revoke_token(&self, id: TokenId) -> Applied {
        match self.token(&id) {
            None => Applied::default(),
            Some(_) => {
                Applied { events: vec![Event::TokenRevoked { id }], changes: vec![Change::TokenGone(id)] }
            }
        }
    }
}
