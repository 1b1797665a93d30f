//! Private registries: in by login or by docker's configuration, and the password is nowhere to be seen.

use std::{fs, os::unix::fs::MetadataExt};

use hypercore_fixtures::{ImageBuilder, Registry, registry::LOGIN, skip_without_root};

use crate::{
    node::Node,
    program::{Ended, finish},
};

/// A registry with a password, and an image in it.
fn private() -> (Registry, String) {
    let registry = Registry::start_with_password().unwrap();
    let image = ImageBuilder::busybox().unwrap().cmd(["echo", "private"]).build();
    let reference = registry.push(&image, "private/app:1").unwrap();
    (registry, reference)
}

fn login(node: &Node, registry: &Registry, password: &str) -> Ended {
    let words = ["image", "login", registry.address(), "-u", LOGIN.0, "--password-stdin"];
    finish(&mut node.command(&words), format!("{password}\n").as_bytes())
}

#[test]
fn a_login_opens_a_registry_until_the_logout() {
    if skip_without_root("a_login_opens_a_registry_until_the_logout") {
        return;
    }
    let (registry, reference) = private();
    let mut node = Node::prepare();
    // Whatever the machine's own docker knows is not this test's.
    node.set("DOCKER_CONFIG", node.path("no-docker").to_str().unwrap());
    node.start_agent();
    let denied = node.run(&["image", "pull", &reference]).expect(4);
    assert!(denied.stderr.contains("hypercore image login"), "{denied:?}");
    let refused = login(&node, &registry, "guess").expect(4);
    assert!(refused.stderr.contains(registry.address()) && !refused.stderr.contains("guess"), "{refused:?}");
    login(&node, &registry, "").expect(2);

    let accepted = login(&node, &registry, LOGIN.1).expect(0);
    assert!(accepted.stderr.contains("logged in as ada") && accepted.stdout.is_empty(), "{accepted:?}");
    let file = node.path("data/registry-logins.json");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    node.kill_agent();
    node.start_agent();
    assert_eq!(node.run(&["run", "--rm", &reference]).expect(0).stdout, "private\n");

    node.run(&["image", "rm", &reference]).expect(0);
    let json = node.run(&["image", "logout", registry.address(), "--json"]).expect(0).json();
    assert_eq!(json["registry"], registry.address());
    node.run(&["image", "logout", registry.address()]).expect(3);
    node.run(&["run", "-d", &reference]).expect(4);
    assert!(!fs::read_to_string(&file).unwrap().contains(LOGIN.1));
    assert!(!node.agent_log().contains(LOGIN.1), "{}", node.agent_log());
    node.finish();
}

#[test]
fn dockers_own_login_works_as_it_is() {
    if skip_without_root("dockers_own_login_works_as_it_is") {
        return;
    }
    let (registry, reference) = private();
    let mut node = Node::prepare();
    let docker = node.path("docker");
    fs::create_dir(&docker).unwrap();
    let config = format!(r#"{{"auths": {{"{}": {{"auth": "YWRhOm9wZW4gc2VzYW1l"}}}}}}"#, registry.address());
    fs::write(docker.join("config.json"), config).unwrap();
    node.set("DOCKER_CONFIG", docker.to_str().unwrap());
    node.start_agent();
    assert_eq!(node.run(&["run", "--rm", &reference]).expect(0).stdout, "private\n");
    node.finish();
}
