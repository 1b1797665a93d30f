//! Who a workload belongs to, and what it may reach beyond its own tenant. Denied is the default.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::text::label;

label! {
    /// A tenant: the people or programs whose workloads may reach each other. A DNS label; `default` when none was named.
    TenantName
}

impl Default for TenantName {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

/// Why a text is not an allowance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` can't be allowed: choose host, metadata or tenants")]
pub struct AllowanceError(String);

/// Something a workload's network may reach only when it was allowed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Allowance {
    /// The node's own ports, at any of its addresses.
    Host,
    /// Link-local addresses, where clouds serve credentials to whoever asks: 169.254.0.0/16, fe80::/10, fd00:ec2::/32.
    Metadata,
    /// Workloads of other tenants.
    Tenants,
}

impl Allowance {
    /// `host`, `metadata` or `tenants`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Metadata => "metadata",
            Self::Tenants => "tenants",
        }
    }
}

impl fmt::Display for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Allowance {
    type Err = AllowanceError;

    fn from_str(text: &str) -> Result<Self, AllowanceError> {
        let all = [Self::Host, Self::Metadata, Self::Tenants];
        let found = all.into_iter().find(|allowance| allowance.as_str() == text);
        found.ok_or_else(|| AllowanceError(text.escape_default().to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_without_a_tenant_has_the_default_one() {
        assert_eq!(TenantName::default().as_str(), "default");
        assert_eq!("default".parse(), Ok(TenantName::default()));
        assert!("Acme Inc".parse::<TenantName>().is_err());
    }

    #[test]
    fn allowances_read_back_as_themselves() {
        for text in ["host", "metadata", "tenants"] {
            assert_eq!(text.parse::<Allowance>().unwrap().to_string(), text);
        }
        assert!("everything".parse::<Allowance>().is_err());
    }
}
