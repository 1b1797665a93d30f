//! The checks of the kernel's limits that many workloads run into.

use std::{fs, path::Path};

use super::{Finding, fix::Fix};

/// Watchers of files that a node with many followed logs needs: one for each.
const INOTIFY_INSTANCES_MIN: u64 = 1024;
/// User namespaces that workloads with `--userns` need: one for each.
const USER_NAMESPACES_MIN: u64 = 1024;

/// Whether the limits leave room for many workloads.
pub(super) fn all() -> Vec<Finding> {
    vec![
        at_least("inotify", "fs.inotify.max_user_instances", INOTIFY_INSTANCES_MIN, "followed logs"),
        at_least(
            "user namespaces",
            "user.max_user_namespaces",
            USER_NAMESPACES_MIN,
            "workloads with --userns",
        ),
    ]
}

fn at_least(check: &'static str, key: &'static str, value: u64, of_what: &str) -> Finding {
    let path = Path::new("/proc/sys").join(key.replace('.', "/"));
    let is = fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    match is {
        Some(is) if is >= value => Finding::ok(check, format!("{key} is {is}")),
        Some(is) => Finding::warn(
            check,
            format!("{key} is {is}: not enough for many {of_what}"),
            format!("`sysctl {key}={value}`"),
        )
        .fixed_by(Fix::Sysctl { key, value }),
        None => Finding::warn(check, format!("the kernel has no {key}"), "use a kernel that has it"),
    }
}
