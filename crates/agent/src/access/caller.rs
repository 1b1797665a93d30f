//! One caller: a [`Caller`] travels with each request, and handlers ask it before they look at anything.

use std::fmt;

use hypercore_cluster::state::TokenRecord;
use hypercore_model::{MountSource, Scope, TenantName, TokenId, WorkloadSpec};

/// Why a caller who is known may not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denial {
    /// A scope is missing.
    #[error("{what} needs a token with the scope `{needed}`")]
    Scope {
        /// What was asked for.
        what: &'static str,
        /// The least that allows it.
        needed: Scope,
    },
    /// The token is about one tenant, and this is not.
    #[error("a token of one tenant may not touch {what}")]
    Tenant {
        /// What was asked for.
        what: &'static str,
    },
    /// The workload would be another tenant's.
    #[error("this token is for the tenant {own}, not for {asked}")]
    OtherTenant {
        /// The token's tenant.
        own: TenantName,
        /// The one that was asked for.
        asked: TenantName,
    },
}

/// Who makes a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// `None` is the node's own root.
    token: Option<TokenId>,
    scope: Scope,
    tenant: Option<TenantName>,
}

impl Caller {
    /// Whoever opened the node's Unix socket: its mode lets only root do that.
    pub(crate) const fn local() -> Self {
        Self { token: None, scope: Scope::Admin, tenant: None }
    }

    /// The holder of a token; nobody, if the token allows nothing.
    pub(super) fn of_token(record: &TokenRecord) -> Option<Self> {
        let scope = record.grant.scope()?;
        Some(Self { token: Some(record.id), scope, tenant: record.grant.tenant.clone() })
    }

    /// Whether the caller's scope includes this one.
    pub(crate) fn may(&self, scope: Scope) -> bool {
        self.scope >= scope
    }

    /// Refuses `what` to callers without this scope.
    pub(crate) fn require(&self, needed: Scope, what: &'static str) -> Result<(), Denial> {
        if self.may(needed) { Ok(()) } else { Err(Denial::Scope { what, needed }) }
    }

    /// Refuses `what`, which belongs to no tenant, to callers who are one tenant's.
    pub(crate) const fn require_unbound(&self, what: &'static str) -> Result<(), Denial> {
        if self.is_bound() { Err(Denial::Tenant { what }) } else { Ok(()) }
    }

    /// Whether the caller is one tenant's.
    pub(crate) const fn is_bound(&self) -> bool {
        self.tenant.is_some()
    }

    /// Whether the caller may know of things of this tenant at all.
    pub(crate) fn sees(&self, tenant: &TenantName) -> bool {
        self.tenant.as_ref().is_none_or(|own| own == tenant)
    }

    /// Checks what a workload would reach beyond itself, and puts it into the caller's tenant. `names_tenant` says
    /// whether the request named one, or the spec has the default.
    pub(crate) fn admit(&self, spec: &mut WorkloadSpec, names_tenant: bool) -> Result<(), Denial> {
        if let Some(own) = &self.tenant {
            // Clients write the default out: it names nobody.
            if names_tenant && spec.tenant != *own && spec.tenant != TenantName::default() {
                return Err(Denial::OtherTenant { own: own.clone(), asked: spec.tenant.clone() });
            }
            spec.tenant = own.clone();
        }
        for mount in &spec.mounts {
            match &mount.source {
                MountSource::Bind(_) => self.require(Scope::Admin, "mounting a directory of the node")?,
                MountSource::Volume(_) => self.require_unbound("volumes, which are every tenant's")?,
                MountSource::Tmpfs { .. } => {}
            }
        }
        if !spec.allow.is_empty() {
            self.require(Scope::Admin, "reaching the host, link-local addresses or other tenants")?;
        }
        if !spec.cap_add.is_empty() {
            self.require(Scope::Admin, "adding capabilities")?;
        }
        Ok(())
    }
}

impl fmt::Display for Caller {
    /// For the log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.token {
            None => f.write_str("local"),
            Some(id) => write!(f, "token {id}"),
        }
    }
}
