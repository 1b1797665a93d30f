//! What a workload is given in confidence: no other user of the machine can read it.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use hypercore_fixtures::skip_without_root;

use crate::node::Node;

const SECRET: &str = "hct-secret-7c1f";

/// Files below `directory` that hold the secret, those of the workload's own view left out.
fn holders(directory: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() && entry.file_name() != "rootfs" {
            holders(&path, found);
        } else if kind.is_file() && fs::read(&path).is_ok_and(|bytes| contains(&bytes)) {
            found.push(path);
        }
    }
}

fn contains(bytes: &[u8]) -> bool {
    bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes())
}

#[test]
fn the_environment_of_a_workload_is_kept_from_other_users() {
    if skip_without_root("the_environment_of_a_workload_is_kept_from_other_users") {
        return;
    }
    let node = Node::start();
    let given = format!("TOKEN={SECRET}");
    node.detach(&["--name", "box", "-e", &given, "-v", "kept:/data", "busybox", "--", "sleep", "1000"]);
    let mut found = Vec::new();
    for directory in ["data", "run"] {
        let top = node.path(directory);
        assert_eq!(fs::metadata(&top).unwrap().mode() & 0o077, 0, "{}", top.display());
        holders(&top, &mut found);
    }
    // The runtime's own description, at least, or nothing was looked at.
    assert!(found.iter().any(|path| path.ends_with("config.json")), "{found:?}");
    for path in &found {
        let mode = fs::metadata(path).unwrap().mode();
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
    }
    // Arguments can be read by everybody.
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let is_ours =
            line.windows(16).any(|window| window == b"hypercore-engine" || window == b"hypercore-shim\0-");
        assert!(!(is_ours && contains(&line)), "{}", process.path().display());
    }
    node.finish();
}
