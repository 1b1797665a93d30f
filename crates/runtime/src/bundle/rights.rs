//! What the processes of a workload may do: their capabilities and resource limits.
//! It refuses to give more open files than the node itself may have: setting them would fail.

use std::{collections::BTreeSet, fs};

use hypercore_model::{WorkloadSpec, capability};
use nix::sys::resource::{Resource, getrlimit};
use oci_spec::runtime::{
    Capabilities, Capability, LinuxCapabilities, PosixRlimit, PosixRlimitBuilder, PosixRlimitType,
};

use super::BundleError;

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
///
/// # Errors
/// [`BundleError::Capability`]: one is added that this process hasn't.
pub(super) fn capabilities(spec: &WorkloadSpec) -> Result<LinuxCapabilities, BundleError> {
    let names = if spec.cap_add.is_empty() { names(spec, &[])? } else { names(spec, &own())? };
    let set: Capabilities = names.iter().filter_map(|name| name.parse::<Capability>().ok()).collect();
    let mut capabilities = LinuxCapabilities::default();
    capabilities
        .set_bounding(Some(set.clone()))
        .set_permitted(Some(set.clone()))
        .set_effective(Some(set))
        .set_inheritable(None)
        .set_ambient(None);
    Ok(capabilities)
}

fn names(spec: &WorkloadSpec, own: &[&'static str]) -> Result<BTreeSet<&'static str>, BundleError> {
    let mut names = BTreeSet::from(DEFAULT);
    for dropped in &spec.cap_drop {
        names.retain(|name| *dropped != capability::Capability::ALL && dropped.as_str() != *name);
    }
    for added in &spec.cap_add {
        if *added == capability::Capability::ALL {
            names.extend(own);
        } else if own.contains(&added.as_str()) {
            names.insert(added.as_str());
        } else {
            return Err(BundleError::Capability(added.as_str()));
        }
    }
    Ok(names)
}

/// The capabilities of this process (proc_pid_status(5)): nobody can give others.
fn own() -> Vec<&'static str> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let digits = status.lines().find_map(|line| line.strip_prefix("CapPrm:")).unwrap_or_default();
    let bits = u64::from_str_radix(digits.trim(), 16).unwrap_or(0);
    let has = |number: usize| bits & (1 << number) != 0;
    capability::CAPABILITIES
        .into_iter()
        .enumerate()
        .filter(|(number, _)| has(*number))
        .map(|(_, name)| name)
        .collect()
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
        let own = ["CHOWN", "NET_ADMIN"];
        let names = |add: &[&str], drop: &[&str]| names(&spec(add, drop), &own).unwrap();
        let default = names(&[], &[]);
        assert_eq!(default, BTreeSet::from(DEFAULT));
        assert!(!default.contains("MKNOD") && !default.contains("SYS_ADMIN"));
        assert!(capabilities(&spec(&[], &[])).unwrap().ambient().is_none());
        assert!(names(&[], &["ALL"]).is_empty());
        assert_eq!(names(&["NET_ADMIN"], &["ALL"]), BTreeSet::from(["NET_ADMIN"]));
        assert!(!names(&[], &["CHOWN"]).contains("CHOWN"));
        // All is what there is to give.
        assert_eq!(names(&["ALL"], &["ALL"]), BTreeSet::from(own));
        let beyond = super::names(&spec(&["SYS_TIME"], &[]), &own);
        assert!(matches!(beyond, Err(BundleError::Capability("SYS_TIME"))));
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
