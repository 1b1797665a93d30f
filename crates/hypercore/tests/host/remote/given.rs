//! The API with a certificate of somebody else's: from files, followed when they are exchanged.

use std::{fs, path::PathBuf, time::Duration};

use hypercore_fixtures::{skip_without_root, wait_until};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::{
    node::{Node, free_address},
    program::{Ended, finish, hypercore},
};

/// Longest wait for exchanged files to be seen.
const EXCHANGE_TIME_MAX: Duration = Duration::from_secs(60);

/// Somebody's authority, and a certificate of it.
struct Given {
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Given {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { authority }
    }

    /// Writes a new certificate for this machine, its key, and the authority of both to `name.{pem,key,ca}`.
    fn write(&self, node: &Node, name: &str) -> [PathBuf; 3] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        let paths = ["pem", "key", "ca"].map(|end| node.path(&format!("{name}.{end}")));
        let texts = [certificate.pem(), key.serialize_pem(), self.authority.pem()];
        for (path, text) in paths.iter().zip(texts) {
            // Whole or not at all, as those do who renew certificates.
            let beside = path.with_extension("new");
            fs::write(&beside, text).unwrap();
            fs::rename(&beside, path).unwrap();
        }
        paths
    }
}

#[test]
fn a_given_certificate_is_served_and_exchanged_while_the_node_runs() {
    if skip_without_root("a_given_certificate_is_served_and_exchanged_while_the_node_runs") {
        return;
    }
    let (mut node, address) = (Node::prepare(), free_address());
    let (first, second) = (Given::new(), Given::new());
    let [certificate, key, authority] = first.write(&node, "given");
    node.set("HYPERCORE_UP_GRPC_BIND_ADDR", address.to_string());
    node.set("HYPERCORE_CLUSTER_TLS_CERT", certificate.to_str().unwrap());
    node.set("HYPERCORE_CLUSTER_TLS_KEY", key.to_str().unwrap());
    node.start_agent();
    let token = node.run(&["token", "create"]).expect(0).stdout.trim().to_owned();
    assert_eq!(token.split('.').count(), 3, "a token must not name an authority that is not shown: {token}");
    let ask = |authority: &PathBuf| -> Ended {
        let mut command = hypercore();
        command.args(["--api", &format!("https://{address}"), "--json", "ps", "--api-ca"]).arg(authority);
        finish(command.env("HYPERCORE_TOKEN", &token), b"")
    };
    ask(&authority).expect(0);
    let own = ask(&node.path("data/ca.pem")).expect(4);
    assert!(own.stderr.contains("server_not_believed"), "{own:?}");

    // A pair that doesn't fit together changes nothing; the whole next one does.
    let kept = fs::read(&certificate).unwrap();
    let [_, _, other_authority] = second.write(&node, "other");
    fs::copy(node.path("other.pem"), &certificate).unwrap();
    let warned = || node.agent_log().contains("was not exchanged").then_some(());
    assert!(wait_until(EXCHANGE_TIME_MAX, warned).is_some(), "{}", node.agent_log());
    ask(&authority).expect(0);
    fs::write(&certificate, kept).unwrap();

    second.write(&node, "given");
    fs::copy(&other_authority, node.path("next.ca")).unwrap();
    let next = node.path("next.ca");
    let exchanged = wait_until(EXCHANGE_TIME_MAX, || (ask(&next).code == Some(0)).then_some(()));
    assert!(exchanged.is_some(), "{}", node.agent_log());
    node.finish();
}
