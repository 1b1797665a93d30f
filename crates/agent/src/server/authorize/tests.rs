//! The table of rules against the descriptors that the API really has.

use std::collections::BTreeSet;

use prost::Message as _;
use prost_types::FileDescriptorSet;

use super::{
    rules::{Rule, rule},
    *,
};

/// The paths of every method of every service that is served.
fn served() -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for set in [hypercore_api::v1::FILE_DESCRIPTOR_SET, tonic_health::pb::FILE_DESCRIPTOR_SET] {
        for file in FileDescriptorSet::decode(set).unwrap().file {
            for service in &file.service {
                for method in &service.method {
                    paths.insert(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
                }
            }
        }
    }
    paths
}

#[test]
fn every_method_has_a_rule() {
    let served = served();
    assert!(served.len() > 30, "{served:?}");
    for path in &served {
        assert!(rule(path).is_some(), "{path} has no rule: say in authorize/rules.rs who may call it");
    }
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    assert_eq!(rule(reflection), Some(Rule::Needs(Scope::Read)));
}

#[test]
fn anybody_may_ask_for_the_nodes_health_and_nothing_else() {
    let open: Vec<_> = served().into_iter().filter(|path| rule(path) == Some(Rule::Open)).collect();
    assert_eq!(open, ["/grpc.health.v1.Health/Check"]);
}

#[test]
fn what_nobody_serves_has_no_rule() {
    for path in [
        "",
        "/",
        "hypercore.v1.ClusterService/Spawn",
        "/hypercore.v1.ClusterService/spawn",
        "/hypercore.v1.ClusterService/Spawn/",
        "/hypercore.v1.ClusterService//Spawn",
        "//hypercore.v1.ClusterService/Spawn",
        "/hypercore.v1.NodeService/Drain",
        "/hypercore.v2.ClusterService/List",
    ] {
        assert_eq!(rule(path), None, "{path}");
    }
}

#[test]
fn what_reaches_beyond_tenants_is_kept_from_them() {
    let unbound = |path: &str| matches!(rule(path), Some(Rule::NeedsUnbound(_)));
    for path in served() {
        let is_about_the_node =
            ["TokenService", "VolumeService"].iter().any(|service| path.contains(service));
        assert!(!is_about_the_node || unbound(&path), "{path}");
    }
    for method in ["Import", "Login", "Logout", "Prune", "Remove"] {
        assert!(unbound(&format!("/hypercore.v1.ImageService/{method}")), "{method}");
    }
}
