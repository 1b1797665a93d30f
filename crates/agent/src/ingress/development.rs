//! Certificates of the node's own authority for the ingress: for machines without a name in the world. It refuses to
//! make anybody believe in that authority; browsers say that they don't know it.

use std::{sync::Arc, time::Duration};

use hypercore_dataplane::{HostName, Routes, tls::Certificates};

use crate::{
    certificates::{Authority, IssueError, Issued},
    clock,
};

/// How often it is looked whether there is a new name, or the certificate has grown old: a machine may sleep, and its
/// clock may be set.
const LOOK: Duration = Duration::from_millis(500);
/// Most workloads that are named: a certificate travels in every handshake.
const WORKLOADS_MAX: usize = 100;

/// Shows a certificate for the domain, everything right below it and each workload's own name, and another one when
/// there is another name or before it expires. Runs until it is dropped.
///
/// # Errors
/// When the authority makes none.
pub(super) async fn follow(
    authority: Arc<Authority>,
    base_domain: HostName,
    routes: Routes,
    certificates: Certificates,
) -> Result<(), IssueError> {
    loop {
        let names = names(&base_domain, &routes);
        let issued = authority.issue(&names, clock::now())?;
        certificates.set_default(Arc::clone(&issued.key));
        while is_good(&issued) && self::names(&base_domain, &routes) == names {
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn is_good(issued: &Issued) -> bool {
    (issued.good_from..issued.renew_at).contains(&clock::now())
}

/// The wildcard would do for all, but many clients take none right below a domain without a dot, and `localhost` is
/// one.
fn names(base_domain: &HostName, routes: &Routes) -> Vec<String> {
    let workloads = routes.names().into_iter().map(|name| format!("{name}.{base_domain}"));
    [format!("*.{base_domain}"), base_domain.to_string()]
        .into_iter()
        .chain(workloads.take(WORKLOADS_MAX))
        .collect()
}
