//! What the processes of a workload may do: their capabilities and resource limits.
//! It refuses to give more open files than the node itself may have: setting them would fail.

use std::collections::BTreeSet;

use hypercore_model::{WorkloadSpec, capability};
use nix::sys::resource::{Resource, getrlimit};
use oci_spec::runtime::{
    Capabilities, Capability, LinuxCapabilities, PosixRlimit, PosixRlimitBuilder, PosixRlimitType,
};

/// Docker's default capabilities but MKNOD: what makes device nodes harmless there is a device filter, which cgroup v2
/// has only as a BPF program. Device nodes are made by the engine; a workload has no need to.
const DEFAULT: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Open files, as systemd gives to services and so docker to containers: few by default, as programs that close all of
/// them one by one expect, but a server may ask for many.
const OPEN_FILES_SOFT: u64 = 1024;
/// How far a program may raise its own limit; less if the node itself may not.
const OPEN_FILES_HARD: u64 = 524_288;

/// The default set, without what is dropped, with what is added.
pub(super) fn capabilities(spec: &WorkloadSpec) -> LinuxCapabilities {
    let names = names(spec);
    let set: Capabilities = names.iter().filter_map(|name| name.parse::<Capability>().ok()).collect();
    let mut capabilities = LinuxCapabilities::default();
    capabilities
        .set_bounding(Some(set.clone()))
        .set_permitted(Some(set.clone()))
        .set_effective(Some(set))
        .set_inheritable(None)
        .set_ambient(None);
    capabilities
}

fn names(spec: &WorkloadSpec) -> BTreeSet<&'static str> {
    let mut names = BTreeSet::from(DEFAULT);
    for dropped in &spec.cap_drop {
        names.retain(|name| *dropped != capability::Capability::ALL && dropped.as_str() != *name);
    }
    for added in &spec.cap_add {
        if *added == capability::Capability::ALL {
            names.extend(capability::CAPABILITIES);
        } else {
            names.insert(added.as_str());
        }
    }
    names
}

/// What the spec limits, and open files in any case.
pub(super) fn limits(spec: &WorkloadSpec) -> Vec<PosixRlimit> {
    let mut limits: Vec<PosixRlimit> = spec
        .ulimits
        .iter()
        .filter_map(|limit| Some(rlimit(kind(limit.resource())?, limit.soft(), limit.hard())))
        .collect();
    if !spec.ulimits.iter().any(|limit| limit.resource() == "nofile") {
        // Even root can't raise it beyond its own without CAP_SYS_RESOURCE.
        let own = getrlimit(Resource::RLIMIT_NOFILE).map_or(OPEN_FILES_HARD, |(_, hard)| hard);
        let hard = own.min(OPEN_FILES_HARD);
        limits.push(rlimit(PosixRlimitType::RlimitNofile, hard.min(OPEN_FILES_SOFT), hard));
    }
    limits
}

fn rlimit(kind: PosixRlimitType, soft: u64, hard: u64) -> PosixRlimit {
    let builder = PosixRlimitBuilder::default().typ(kind).soft(soft).hard(hard);
    builder.build().expect("every field of the builder has a default")
}

fn kind(resource: &str) -> Option<PosixRlimitType> {
    Some(match resource {
        "as" => PosixRlimitType::RlimitAs,
        "core" => PosixRlimitType::RlimitCore,
        "cpu" => PosixRlimitType::RlimitCpu,
        "data" => PosixRlimitType::RlimitData,
        "fsize" => PosixRlimitType::RlimitFsize,
        "locks" => PosixRlimitType::RlimitLocks,
        "memlock" => PosixRlimitType::RlimitMemlock,
        "msgqueue" => PosixRlimitType::RlimitMsgqueue,
        "nice" => PosixRlimitType::RlimitNice,
        "nofile" => PosixRlimitType::RlimitNofile,
        "nproc" => PosixRlimitType::RlimitNproc,
        "rss" => PosixRlimitType::RlimitRss,
        "rtprio" => PosixRlimitType::RlimitRtprio,
        "rttime" => PosixRlimitType::RlimitRttime,
        "sigpending" => PosixRlimitType::RlimitSigpending,
        "stack" => PosixRlimitType::RlimitStack,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(add: &[&str], drop: &[&str]) -> WorkloadSpec {
        let mut spec = WorkloadSpec::of_image("web:1".parse().unwrap());
        spec.cap_add = add.iter().map(|name| name.parse().unwrap()).collect();
        spec.cap_drop = drop.iter().map(|name| name.parse().unwrap()).collect();
        spec
    }

    #[test]
    fn capabilities_are_dropped_before_others_are_added() {
        let default = names(&spec(&[], &[]));
        assert_eq!(default, BTreeSet::from(DEFAULT));
        assert!(!default.contains("MKNOD") && !default.contains("SYS_ADMIN"));
        assert!(capabilities(&spec(&["ALL"], &[])).ambient().is_none());
        assert!(names(&spec(&[], &["ALL"])).is_empty());
        assert_eq!(names(&spec(&["NET_ADMIN"], &["ALL"])), BTreeSet::from(["NET_ADMIN"]));
        assert!(!names(&spec(&[], &["CHOWN"])).contains("CHOWN"));
        assert_eq!(names(&spec(&["ALL"], &["ALL"])).len(), capability::CAPABILITIES.len());
    }

    #[test]
    fn every_name_of_the_model_is_one_of_the_engines() {
        for name in capability::CAPABILITIES {
            assert!(name.parse::<Capability>().is_ok(), "{name}");
        }
        for resource in hypercore_model::ulimit::RESOURCES {
            assert!(kind(resource).is_some(), "{resource}");
        }
    }

    #[test]
    fn a_limit_of_open_files_replaces_the_default_one() {
        let mut spec = spec(&[], &[]);
        assert_eq!(limits(&spec).len(), 1);
        spec.ulimits = vec!["nofile=10:20".parse().unwrap(), "core=0".parse().unwrap()];
        let limits = limits(&spec);
        assert_eq!(limits.len(), 2);
        assert_eq!((limits[0].soft(), limits[0].hard()), (10, 20));
    }
}
