//! What a workload is given to keep: volumes and directories of the host, whatever holds them.

use std::fs;

use super::House;

pub(super) fn a_volume_outlives_it(house: &mut House) {
    // It begins with what the image has there, and what was written last is there also after a kill.
    let write = "ls /bin | grep -c busybox > /bin/count; echo last >> /bin/file; echo written; sleep 1000";
    house.detach("job", &["-v", "kept:/bin"], &["/bin/busybox", "sh", "-c", write]);
    house.wait_for_log("job", "written\n");
    house.node.run(&["rm", "-f", "job"]).expect(0);
    let read = "cat /data/count /data/file; touch /data/x 2>/dev/null || echo read-only";
    let said = house.run(&["--rm", "-v", "kept:/data:ro"], &["sh", "-c", read]).expect(0).stdout;
    assert_eq!(said, "1\nlast\nread-only\n");
    // The same one again, at two places.
    let flags = ["--rm", "-v", "kept:/one", "-v", "kept:/deep/two"];
    let said =
        house.run(&flags, &["sh", "-c", "echo more >> /one/file; cat /deep/two/file"]).expect(0).stdout;
    assert_eq!(said, "last\nmore\n");
    let volumes = house.node.run(&["volume", "ls", "--json"]).expect(0).json();
    let form = if house.is_container() { "directory" } else { "block" };
    assert_eq!((&volumes[0]["name"], &volumes[0]["form"]), (&"kept".into(), &form.into()));
    let inspected = house.node.run(&["volume", "inspect", "kept"]).expect(0).json();
    assert!(inspected[0]["size_bytes"].as_u64().unwrap() > 0, "{inspected}");
    house.node.run(&["volume", "rm", "kept"]).expect(0);
}

pub(super) fn a_directory_of_the_host_is_shared(house: &mut House) {
    let shared = tempfile::tempdir().unwrap();
    fs::write(shared.path().join("in"), "from the host\n").unwrap();
    let at = |target: &str| format!("{}:{target}", shared.path().display());
    let script = "cat /mnt/in; echo made > /mnt/out; touch /ro/x 2>/dev/null || echo read-only";
    let ended = house.run(&["--rm", "-v", &at("/mnt"), "-v", &at("/ro:ro")], &["sh", "-c", script]);
    if ended.code != Some(0) {
        // A node without virtiofsd says what to install.
        assert!(!house.is_container() && ended.stderr.contains("virtiofsd"), "{ended:?}");
        return;
    }
    assert_eq!(ended.stdout, "from the host\nread-only\n");
    assert_eq!(fs::read_to_string(shared.path().join("out")).unwrap(), "made\n");
    assert!(!shared.path().join("x").exists());
    let own = format!("{}:/mnt", house.node.path("data").display());
    let refused = house.run(&["--rm", "-v", &own], &["ls", "/mnt"]);
    assert!(refused.code != Some(0) && refused.stderr.contains("belongs to the node"), "{refused:?}");
}
