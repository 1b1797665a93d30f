//! Cgroups against the host's real hierarchies, under a parent of the test's own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use hypercore_fixtures::{skip_without_root, wait_until};
use hypercore_model::WorkloadId;
use hypercore_runtime::cgroup::{CgroupLayout, CgroupParent, Cgroups, RemoveError, UsageError};

const PATIENCE: Duration = Duration::from_secs(5);

/// A parent cgroup that is gone when the test ends, with every process in it.
struct Sandbox {
    cgroups: Cgroups,
    parent: String,
    children: Vec<Child>,
}

impl Sandbox {
    fn new(test: &str) -> Self {
        let parent = CgroupParent::new(&format!("{test}-{}", std::process::id())).unwrap();
        let path = parent.path().to_owned();
        Self {
            cgroups: Cgroups::new(CgroupLayout::detect().unwrap(), parent),
            parent: path,
            children: vec![],
        }
    }

    /// Where a workload's cgroup is in each hierarchy.
    fn directories(&self, id: WorkloadId) -> Vec<PathBuf> {
        let path = self.cgroups.path_of(id);
        self.cgroups.layout().hierarchies().map(|mount| mount.join(&path[1..])).collect()
    }

    /// Makes a workload's cgroup, as the engine does.
    fn make(&self, id: WorkloadId) {
        self.directories(id).iter().for_each(|directory| fs::create_dir_all(directory).unwrap());
        if let CgroupLayout::V2 { unified } = self.cgroups.layout() {
            for directory in [unified.clone(), unified.join(&self.parent[1..])] {
                fs::write(directory.join("cgroup.subtree_control"), "+cpu +memory +pids").unwrap();
            }
        }
    }

    /// The directories that a process of the workload joins: not v1's cpuset, which would first need CPUs of its own.
    fn joined(&self, id: WorkloadId) -> Vec<PathBuf> {
        let is_v1 = self.cgroups.layout().controller("cpuset").is_some();
        let needs_cpus = |path: &Path| is_v1 && path.join("cpuset.cpus").exists();
        self.directories(id).into_iter().filter(|path| !needs_cpus(path)).collect()
    }

    /// Starts a shell that joins a workload's cgroup and then runs `script`. Returns its process id.
    fn run(&mut self, id: WorkloadId, script: &str) -> u32 {
        let joins: String = self
            .joined(id)
            .iter()
            .map(|directory| format!("echo $$ > {}/cgroup.procs; ", directory.display()))
            .collect();
        let mut command = Command::new("/bin/sh");
        command.arg("-ec").arg(format!("{joins}{script}")).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let pid = child.id();
        self.children.push(child);
        pid
    }

    fn end_all(&mut self) {
        for mut child in self.children.drain(..) {
            // It may have ended by itself.
            let _ = child.kill();
            child.wait().unwrap();
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.end_all();
        self.cgroups.close().unwrap();
    }
}

fn id(byte: u8) -> WorkloadId {
    WorkloadId::from_entropy([byte; 16])
}

fn exists(paths: &[PathBuf]) -> bool {
    paths.iter().any(|path| path.exists())
}

/// Loops in the shell itself: no child that outlives a killed shell.
const FOREVER: &str = "while :; do :; done";

#[test]
fn use_is_counted_for_the_workload_alone() {
    if skip_without_root("use_is_counted_for_the_workload_alone") {
        return;
    }
    let mut sandbox = Sandbox::new("usage");
    assert!(matches!(sandbox.cgroups.usage(id(1)), Err(UsageError::Absent(_))));
    sandbox.make(id(1));
    sandbox.make(id(2));
    let pid = sandbox.run(id(1), FOREVER);
    let busy = wait_until(PATIENCE, || {
        sandbox.cgroups.usage(id(1)).ok().filter(|usage| usage.cpu_usage_us > 20_000 && usage.pids == 1)
    });
    assert!(busy.unwrap().memory_bytes > 0);
    assert_eq!(sandbox.cgroups.processes(id(1)).unwrap(), BTreeSet::from([pid]));
    let idle = sandbox.cgroups.usage(id(2)).unwrap();
    assert_eq!((idle.cpu_usage_us, idle.pids), (0, 0));
    assert_eq!(sandbox.cgroups.oom_kills(id(1)).unwrap(), 0);
}

#[test]
fn a_workload_that_outgrows_its_memory_is_counted() {
    if skip_without_root("a_workload_that_outgrows_its_memory_is_counted") {
        return;
    }
    let mut sandbox = Sandbox::new("oom");
    sandbox.make(id(1));
    let limit = match sandbox.cgroups.layout().controller("memory") {
        Some(memory) => memory.join(&sandbox.cgroups.path_of(id(1))[1..]).join("memory.limit_in_bytes"),
        None => sandbox.directories(id(1))[0].join("memory.max"),
    };
    fs::write(limit, "8388608").unwrap();
    sandbox.run(id(1), "x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done");
    let kills = wait_until(PATIENCE, || sandbox.cgroups.oom_kills(id(1)).ok().filter(|kills| *kills > 0));
    assert!(kills.is_some());
}

#[test]
fn a_cgroup_with_processes_stays_and_names_them() {
    if skip_without_root("a_cgroup_with_processes_stays_and_names_them") {
        return;
    }
    let mut sandbox = Sandbox::new("busy");
    sandbox.make(id(1));
    // Deeper cgroups, as a workload with its own cgroup namespace may make.
    sandbox.directories(id(1)).iter().for_each(|path| fs::create_dir_all(path.join("a/b")).unwrap());
    let pid = sandbox.run(id(1), FOREVER);
    let directories = sandbox.directories(id(1));
    let has_joined =
        |path: &Path| fs::read_to_string(path.join("cgroup.procs")).unwrap() == format!("{pid}\n");
    let joined = sandbox.joined(id(1));
    wait_until(PATIENCE, || joined.iter().all(|path| has_joined(path)).then_some(())).unwrap();
    match sandbox.cgroups.remove(id(1)) {
        Err(RemoveError::Busy { pids, .. }) => assert_eq!(pids, BTreeSet::from([pid])),
        other => panic!("{other:?}"),
    }
    assert!(directories.iter().all(|path| path.join("a/b").exists()), "nothing was removed");
    sandbox.end_all();
    sandbox.cgroups.remove(id(1)).unwrap();
    assert!(!exists(&directories));
    sandbox.cgroups.remove(id(1)).unwrap();
}

#[test]
fn a_sweep_removes_what_is_empty_and_not_to_be_kept() {
    if skip_without_root("a_sweep_removes_what_is_empty_and_not_to_be_kept") {
        return;
    }
    let mut sandbox = Sandbox::new("sweep");
    (1..=3).for_each(|n| sandbox.make(id(n)));
    let foreign = sandbox.directories(id(1))[0].with_file_name("not-a-workload");
    fs::create_dir(&foreign).unwrap();
    let pid = sandbox.run(id(3), FOREVER);
    wait_until(PATIENCE, || sandbox.cgroups.processes(id(3)).ok().filter(|pids| !pids.is_empty())).unwrap();
    let swept = sandbox.cgroups.sweep(|| BTreeSet::from([id(1)])).unwrap();
    assert_eq!(swept.removed, BTreeSet::from([id(2)]));
    assert_eq!(swept.busy, BTreeMap::from([(id(3), BTreeSet::from([pid]))]));
    assert!(exists(&sandbox.directories(id(1))) && !exists(&sandbox.directories(id(2))));
    assert!(foreign.exists());
    sandbox.end_all();
    assert_eq!(sandbox.cgroups.sweep(BTreeSet::new).unwrap().removed.len(), 2);
}
