//! Tokens: made once, named once, revoked for good, and forgotten a week after they expired.

use super::*;

const WEEK_MS: u64 = 7 * 24 * 60 * 60 * 1000;

fn id(byte: u8) -> TokenId {
    TokenId::from_bytes([byte; 8])
}

/// Applies a command that its author says was made at `unix_ms`.
fn apply_at(
    state: &mut State,
    author: &Author,
    sequence: u64,
    unix_ms: u64,
    command: Command,
) -> Result<Vec<Event>, Rejection> {
    let cluster = state.cluster().map(|cluster| cluster.id);
    let command = author.sign_exactly(AuthoredCommand { cluster, sequence, at: at(unix_ms), command });
    state.apply(&command).map(|applied| applied.events)
}

#[test]
fn a_token_is_made_once_and_repeating_it_has_no_effect() {
    let (mut state, mut author) = founded();
    assert_eq!(
        author.apply(&mut state, token(1, Some("ci"), None)),
        Ok(vec![Event::TokenCreated { id: id(1) }])
    );
    assert_eq!(author.apply(&mut state, token(1, Some("ci"), None)), Ok(vec![]));
    assert_eq!(author.apply(&mut state, token(1, Some("other"), None)), Err(Rejection::TokenExists(id(1))));
    let taken = Rejection::TokenNameTaken { name: "ci".parse().unwrap(), by: id(1) };
    assert_eq!(author.apply(&mut state, token(2, Some("ci"), None)), Err(taken));
    assert_eq!(state.tokens().count(), 1);
}

#[test]
fn a_token_that_allows_nothing_or_too_much_is_refused() {
    let (mut state, mut author) = founded();
    let with = |scopes: &[Scope], tenant: Option<&str>| {
        let tenant = tenant.map(|tenant| tenant.parse().unwrap());
        let grant =
            TokenGrant { name: None, scopes: scopes.iter().copied().collect(), tenant, expires_at: None };
        let hash = TokenSecret::from_bytes(Zeroizing::new([1; 32])).hash();
        Command::CreateToken { id: id(1), grant, hash }
    };
    assert_eq!(author.apply(&mut state, with(&[], None)), Err(Rejection::TokenScopes));
    assert_eq!(author.apply(&mut state, with(&[Scope::Admin], Some("a"))), Err(Rejection::TokenTooWide));
    assert!(author.apply(&mut state, with(&[Scope::Run], Some("a"))).is_ok());
}

#[test]
fn a_revoked_token_is_gone_and_its_name_is_free() {
    let (mut state, mut author) = founded();
    author.apply(&mut state, token(1, Some("ci"), None)).unwrap();
    let revoke = Command::RevokeToken { id: id(1) };
    assert_eq!(author.apply(&mut state, revoke.clone()), Ok(vec![Event::TokenRevoked { id: id(1) }]));
    assert_eq!(author.apply(&mut state, revoke), Ok(vec![]));
    assert!(state.token(&id(1)).is_none());
    author.apply(&mut state, token(2, Some("ci"), None)).unwrap();
}

#[test]
fn tokens_that_expired_a_week_ago_make_room() {
    let (mut state, author) = founded();
    let expires_at = Some(at(1000));
    apply_at(&mut state, &author, 2, 0, token(1, Some("ci"), expires_at)).unwrap();
    assert!(state.token(&id(1)).unwrap().grant.is_expired(at(1000)));
    assert!(!state.token(&id(1)).unwrap().grant.is_expired(at(999)));
    let taken = apply_at(&mut state, &author, 3, 1000 + WEEK_MS, token(2, Some("ci"), None));
    assert!(matches!(taken, Err(Rejection::TokenNameTaken { .. })), "it is still listed");
    apply_at(&mut state, &author, 3, 1001 + WEEK_MS, token(2, Some("ci"), None)).unwrap();
    assert_eq!(state.tokens().map(|token| token.id).collect::<Vec<_>>(), [id(2)]);
}

#[test]
fn there_is_an_end_to_tokens() {
    let (mut state, author) = founded();
    let number = |number: u64| match token(0, None, None) {
        Command::CreateToken { grant, hash, .. } => {
            Command::CreateToken { id: TokenId::from_bytes(number.to_be_bytes()), grant, hash }
        }
        other => other,
    };
    for count in 0..TOKENS_MAX as u64 {
        apply_at(&mut state, &author, count + 2, 0, number(count)).unwrap();
    }
    let last = TOKENS_MAX as u64;
    assert_eq!(apply_at(&mut state, &author, last + 2, 0, number(last)), Err(Rejection::TooManyTokens));
    apply_at(&mut state, &author, last + 2, 0, Command::RevokeToken { id: TokenId::from_bytes([0; 8]) })
        .unwrap();
    apply_at(&mut state, &author, last + 3, 0, number(last)).unwrap();
}
