//! What those are told who may not see a page. It refuses to say what of a token was wrong.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use hypercore_model::Scope;

use crate::access::{Caller, Denial, Stranger};

/// Why a caller doesn't get a page.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// The token was shown without TLS to everybody between there and here.
    #[error(
        "a token was sent without TLS, for everybody on the way to read: `hypercore token revoke` it, and ask by https"
    )]
    InTheOpen,
    /// Nobody knows who calls.
    #[error("{0}; `hypercore token create` makes one on the node: send it as `Authorization: Bearer TOKEN`")]
    Stranger(Stranger),
    /// The caller is known, and may not.
    #[error(transparent)]
    Denied(#[from] Denial),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let text = format!("{self}\n");
        match self {
            Self::Stranger(_) => {
                let challenge = [(header::WWW_AUTHENTICATE, "Bearer realm=\"hypercore\"")];
                (StatusCode::UNAUTHORIZED, challenge, text).into_response()
            }
            Self::InTheOpen | Self::Denied(_) => (StatusCode::FORBIDDEN, text).into_response(),
        }
    }
}

/// Lets those read what the node counts whose token is no tenant's.
pub(super) fn may_count(caller: &Caller) -> Result<(), Refusal> {
    caller.require(Scope::Read, "metrics")?;
    Ok(caller.require_unbound("the node's metrics")?)
}
