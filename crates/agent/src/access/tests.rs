//! Tokens that are wrong in every way there is, and what tenants and scopes keep from each other.

use std::collections::BTreeSet;

use hypercore_cluster::state::{Command, TokenGrant};
use hypercore_model::{Allowance, Mount, MountSource, Scope, TenantName, Timestamp, TokenId, WorkloadSpec};
use hypercore_store::Store;
use hypercore_trust::{Fingerprint, Identity, TokenSecret};
use zeroize::Zeroizing;

use super::*;
use crate::{ledger::Ledger, supervisor::Supervisor};

struct Cluster {
    access: Access,
    ledger: Ledger,
    _supervisor: Supervisor,
}

impl Cluster {
    async fn new() -> Self {
        let (identity, supervisor) = (Identity::from_seed(&[1; 32]), Supervisor::new());
        let node = identity.node_id();
        let store = Store::open_in_memory().unwrap();
        let ledger = Ledger::on_store(store, identity, &supervisor).unwrap();
        let subnet = "172.16.0.0/16".parse().unwrap();
        ledger.submit(Command::AdmitNode { node, subnet }).await.unwrap();
        Self { access: Access::new(ledger.clone()), ledger, _supervisor: supervisor }
    }

    async fn token(&self, byte: u8, grant: TokenGrant) -> ApiToken {
        let secret = TokenSecret::from_bytes(Zeroizing::new([byte; 32]));
        let id = TokenId::from_bytes([byte; 8]);
        self.ledger.submit(Command::CreateToken { id, grant, hash: secret.hash() }).await.unwrap();
        ApiToken { id, secret, authority: Some(Fingerprint::from_bytes([9; 32])) }
    }

    fn ask(&self, header: &str) -> Result<Caller, Stranger> {
        self.access.authorize(Some(header.as_bytes()))
    }
}

fn grant(scope: Scope, tenant: Option<&str>, expires_at: Option<Timestamp>) -> TokenGrant {
    let tenant = tenant.map(|tenant| tenant.parse().unwrap());
    TokenGrant { name: None, scopes: [scope].into(), tenant, expires_at }
}

fn bearer(token: &ApiToken) -> String {
    format!("Bearer {}", *token.reveal())
}

#[tokio::test]
async fn a_token_is_its_holder_with_or_without_its_last_part() {
    let cluster = Cluster::new().await;
    let token = cluster.token(1, grant(Scope::Run, None, None)).await;
    let caller = cluster.ask(&bearer(&token)).unwrap();
    assert!(caller.may(Scope::Run) && caller.may(Scope::Read) && !caller.may(Scope::Admin));
    assert_eq!(caller.to_string(), "token 0101010101010101");
    let without = ApiToken { authority: None, ..token };
    assert_eq!(cluster.ask(&bearer(&without)), Ok(caller.clone()));
    assert_eq!(cluster.ask(&bearer(&without).replace("Bearer", "bEARER")), Ok(caller));
}

#[tokio::test]
async fn whatever_else_is_shown_is_a_strangers() {
    let cluster = Cluster::new().await;
    let token = cluster.token(1, grant(Scope::Admin, None, None)).await;
    let whole = bearer(&token);
    assert_eq!(cluster.access.authorize(None), Err(Stranger::NoToken));
    assert_eq!(cluster.access.authorize(Some(&[0xff, 0xfe])), Err(Stranger::Unknown));
    let short_secret = bearer(&ApiToken { authority: None, ..token.clone() }).len();
    for length in (0..whole.len()).filter(|length| *length != short_secret) {
        assert_eq!(cluster.ask(&whole[..length]), Err(Stranger::Unknown), "the first {length} characters");
    }
    for header in
        [whole.replace("Bearer", "Basic"), whole.replace("Bearer ", "Bearer"), whole.replace(".01", ".02")]
    {
        assert_eq!(cluster.ask(&header), Err(Stranger::Unknown), "{header}");
    }
    for bit in 0..256 {
        let mut secret = [1; 32];
        secret[bit / 8] ^= 1 << (bit % 8);
        let secret = TokenSecret::from_bytes(Zeroizing::new(secret));
        let forged = ApiToken { secret, ..token.clone() };
        assert_eq!(cluster.ask(&bearer(&forged)), Err(Stranger::Unknown), "bit {bit}");
    }
}

#[tokio::test]
async fn a_revoked_token_is_worth_nothing_at_once() {
    let cluster = Cluster::new().await;
    let token = cluster.token(1, grant(Scope::Read, None, None)).await;
    assert!(cluster.ask(&bearer(&token)).is_ok());
    cluster.ledger.submit(Command::RevokeToken { id: token.id }).await.unwrap();
    assert_eq!(cluster.ask(&bearer(&token)), Err(Stranger::Unknown));
}

#[tokio::test]
async fn only_who_has_the_secret_is_told_that_a_token_expired() {
    let cluster = Cluster::new().await;
    let past = Timestamp::from_unix_ms(clock::now().unix_ms() - 1);
    let token = cluster.token(1, grant(Scope::Read, None, Some(past))).await;
    assert_eq!(cluster.ask(&bearer(&token)), Err(Stranger::Expired));
    let secret = TokenSecret::from_bytes(Zeroizing::new([2; 32]));
    let forged = ApiToken { secret, ..token };
    assert_eq!(cluster.ask(&bearer(&forged)), Err(Stranger::Unknown));
    let future = Timestamp::from_unix_ms(clock::now().unix_ms() + 3_600_000);
    let token = cluster.token(2, grant(Scope::Read, None, Some(future))).await;
    assert!(cluster.ask(&bearer(&token)).is_ok());
}

fn tenant(name: &str) -> TenantName {
    name.parse().unwrap()
}

async fn caller(scope: Scope, tenant: Option<&str>) -> Caller {
    let cluster = Cluster::new().await;
    let token = cluster.token(1, grant(scope, tenant, None)).await;
    cluster.ask(&bearer(&token)).unwrap()
}

#[tokio::test]
async fn a_tenants_token_sees_its_own_and_makes_its_own() {
    let caller = caller(Scope::Run, Some("acme")).await;
    assert!(caller.sees(&tenant("acme")));
    assert!(!caller.sees(&tenant("other")) && !caller.sees(&TenantName::default()));
    let mut spec = WorkloadSpec::of_image("web:1".parse().unwrap());
    caller.admit(&mut spec, false).unwrap();
    assert_eq!(spec.tenant, tenant("acme"));
    caller.admit(&mut spec, true).unwrap();
    spec.tenant = tenant("other");
    assert!(matches!(caller.admit(&mut spec, true), Err(Denial::OtherTenant { .. })));
    assert!(matches!(caller.require_unbound("this"), Err(Denial::Tenant { .. })));
}

#[tokio::test]
async fn what_reaches_beyond_a_workload_needs_more_than_run() {
    let (run, bound) = (caller(Scope::Run, None).await, caller(Scope::Run, Some("acme")).await);
    let mounting = |source| Mount { source, target: "/data".to_owned(), read_only: false };
    let plain = WorkloadSpec::of_image("web:1".parse().unwrap());
    let bind = vec![mounting(MountSource::Bind("/etc".into()))];
    let volume = vec![mounting(MountSource::Volume("data".parse().unwrap()))];
    let reaching = [
        WorkloadSpec { mounts: bind, ..plain.clone() },
        WorkloadSpec { allow: [Allowance::Host].into(), ..plain.clone() },
        WorkloadSpec { cap_add: BTreeSet::from(["NET_ADMIN".parse().unwrap()]), ..plain.clone() },
    ];
    for mut spec in reaching {
        assert!(Caller::local().admit(&mut spec, false).is_ok());
        for caller in [&run, &bound] {
            let denied = caller.admit(&mut spec.clone(), false);
            assert!(matches!(denied, Err(Denial::Scope { needed: Scope::Admin, .. })), "{denied:?}");
        }
    }
    let mut spec = WorkloadSpec { mounts: volume, ..plain };
    assert!(run.admit(&mut spec, false).is_ok());
    assert!(matches!(bound.admit(&mut spec, false), Err(Denial::Tenant { .. })));
}
