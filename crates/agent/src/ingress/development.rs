//! Certificates of the node's own authority for the ingress: for machines without a name in the world. It refuses to
//! make anybody believe in that authority; browsers say that they don't know it.

use std::{sync::Arc, time::Duration};

use hypercore_dataplane::{HostName, tls::Certificates};

use crate::{
    certificates::{Authority, IssueError},
    clock,
};

/// How often it is checked whether the certificate has grown old: a machine may sleep, and its clock may be set.
const LOOK: Duration = Duration::from_secs(60);

/// Shows a certificate for the domain and everything right below it, and another one before it expires. Runs until it
/// is dropped.
///
/// # Errors
/// When the authority makes none.
pub(super) async fn follow(
    authority: Arc<Authority>,
    base_domain: HostName,
    certificates: Certificates,
) -> Result<(), IssueError> {
    let names = [format!("*.{base_domain}"), base_domain.to_string()];
    loop {
        let issued = authority.issue(&names, clock::now())?;
        certificates.set_default(issued.key);
        while (issued.good_from..issued.renew_at).contains(&clock::now()) {
            tokio::time::sleep(LOOK).await;
        }
    }
}
