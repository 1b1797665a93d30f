//! Signed images: checked on demand, and where the node demands it nothing else runs.

use std::fs;

use hypercore_fixtures::{
    ImageBuilder,
    cosign::{Signature, Signer},
    skip_without_root,
};

use crate::node::{Node, registry};

#[test]
fn a_node_that_demands_signatures_runs_nothing_else() {
    if skip_without_root("a_node_that_demands_signatures_runs_nothing_else") {
        return;
    }
    let (registry, reference) = registry();
    let (signer, stranger) = (Signer::p256(), Signer::ed25519());
    let mut node = Node::prepare();
    let key = |name: &str, signer: &Signer| {
        let path = node.path(name);
        fs::write(&path, signer.public_pem()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (own, other) = (key("cosign.pub", &signer), key("other.pub", &stranger));
    node.set("HYPERCORE_RUNTIME_VERIFY_KEYS", own.as_str());
    node.start_agent();

    for arguments in [&["image", "pull", &reference][..], &["run", "-d", &reference]] {
        let refused = node.run(arguments).expect(4);
        assert!(refused.stderr.contains("not verified") && refused.stderr.contains("hint: "), "{refused:?}");
    }
    let code = node.run(&["image", "pull", &reference, "--json"]).expect(4).stderr;
    assert!(code.contains("\"image_not_verified\""), "{code}");
    node.run(&["image", "verify", &reference, "--key", &own]).expect(4);
    // What came in by another way is not believed either.
    let archive = node.path("image.tar");
    ImageBuilder::busybox().unwrap().build().write_archive(&archive, "unsigned:1").unwrap();
    let renamed = registry.reference("app/unsigned:1");
    node.run(&["image", "import", archive.to_str().unwrap(), "--as", &renamed]).expect(0);
    node.run(&["run", "-d", &renamed]).expect(4);

    let digest = ImageBuilder::busybox().unwrap().build().digest().to_owned();
    let signature = signer.signature(&digest);
    let tag = Signature::tag(&digest);
    registry.push_document(&signature.manifest, &signature.content, "app/web", &tag).unwrap();
    let view =
        node.run(&["image", "verify", &reference, "--key", &other, "--key", &own, "--json"]).expect(0).json();
    assert_eq!((&view["digest"], &view["signatures"][0]["form"]), (&digest.clone().into(), &"tag".into()));
    assert_eq!(node.run(&["image", "verify", &reference]).expect(0).stdout, format!("{digest}\n"));
    node.run(&["image", "verify", &reference, "--key", &other]).expect(4);
    assert_eq!(node.run(&["run", "--rm", &reference, "--", "echo", "signed"]).expect(0).stdout, "signed\n");

    // Known to be signed: a start needs no registry any more.
    drop(registry);
    node.run(&["run", "--rm", &reference, "--", "true"]).expect(0);
    node.finish();
}

#[test]
fn keys_that_are_none_are_told_by_name() {
    if skip_without_root("keys_that_are_none_are_told_by_name") {
        return;
    }
    let mut node = Node::prepare();
    let key = node.path("nokey.pub");
    fs::write(&key, "ssh-ed25519 AAAA").unwrap();
    let mut up = node.up();
    up.arg("--verify-key").arg(&key);
    let ended = crate::program::finish(&mut up, b"");
    assert!(ended.code != Some(0) && ended.stderr.contains("nokey.pub"), "{ended:?}");

    node.start_agent();
    let key = key.to_str().unwrap();
    node.run(&["image", "verify", "app:1", "--key", key]).expect(2);
    node.run(&["image", "verify", "app:1", "--key", "/no/such.pub"]).expect(2);
    let no_key = node.run(&["image", "verify", "app:1"]).expect(2);
    assert!(no_key.stderr.contains("--key"), "{no_key:?}");
    node.finish();
}
