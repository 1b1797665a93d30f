//! What goes when images are removed, pruned or the disk is full, and what stays because a workload needs it.

use std::time::Duration;

use hypercore_fixtures::{ImageBuilder, skip_without_root, wait_until};
use serde_json::json;

use crate::node::Node;

/// Longest wait for the garbage collection that an agent begins with.
const COLLECTION_TIME_MAX: Duration = Duration::from_secs(30);

fn import(node: &Node, name: &str, content: &str) {
    let archive = node.path("image.tar");
    let image = ImageBuilder::busybox().unwrap().file("content", content).build();
    image.write_archive(&archive, name).unwrap();
    node.run(&["image", "import", archive.to_str().unwrap()]).expect(0);
}

fn names(node: &Node) -> Vec<String> {
    node.run(&["image", "ls", "-q"]).expect(0).stdout.lines().map(str::to_owned).collect()
}

#[test]
fn an_image_in_use_is_removed_by_force_only_and_pruned_never() {
    if skip_without_root("an_image_in_use_is_removed_by_force_only_and_pruned_never") {
        return;
    }
    let mut node = Node::prepare();
    node.start_agent();
    import(&node, "used:1", "used");
    import(&node, "idle:1", "idle");
    let id = node.detach(&["used:1", "--", "sleep", "1000"]);
    let refused = node.run(&["image", "rm", "used:1"]).expect(6);
    assert!(refused.stderr.contains("in use") && refused.stderr.contains("--force"), "{refused:?}");

    let nothing = node.run(&["image", "prune", "--json"]).expect(0).json();
    assert_eq!(nothing, json!({ "references": [], "freed_bytes": 0 }));
    let pruned = node.run(&["image", "prune", "--all"]).expect(0);
    assert_eq!(pruned.stdout, "docker.io/library/idle:1\n");
    assert!(pruned.stderr.contains("freed"), "{pruned:?}");
    assert_eq!(names(&node), ["docker.io/library/used:1"]);

    node.run(&["image", "rm", "--force", "used:1"]).expect(0);
    assert_eq!(names(&node), [""; 0]);
    node.run(&["image", "prune", "--all"]).expect(0);
    assert_eq!(node.run(&["exec", &id, "--", "cat", "/content"]).expect(0).stdout, "used");

    // Gone with its workload: a prune then finds its content.
    node.run(&["rm", "-f", &id]).expect(0);
    let freed = wait_until(COLLECTION_TIME_MAX, || {
        let pruned = node.run(&["image", "prune", "--json"]).expect(0).json();
        pruned["freed_bytes"].as_u64().filter(|&bytes| bytes > 0)
    });
    assert!(freed.is_some(), "the content of a removed workload's image stayed");
    node.finish();
}

#[test]
fn a_full_disk_costs_unused_images_alone() {
    if skip_without_root("a_full_disk_costs_unused_images_alone") {
        return;
    }
    let mut node = Node::prepare();
    node.start_agent();
    import(&node, "moved:1", "what runs");
    import(&node, "idle:1", "idle");
    let id = node.detach(&["moved:1", "--", "sleep", "1000"]);
    // The name means something else from here on; the workload is of what it was.
    import(&node, "moved:1", "something else");
    import(&node, "another:1", "another");
    node.kill_agent();
    // Every disk is fuller than this.
    node.set("HYPERCORE_RUNTIME_IMAGE_GC_HIGH_PERCENT", "1");
    node.set("HYPERCORE_RUNTIME_IMAGE_GC_LOW_PERCENT", "0");
    node.start_agent();
    let is_collected = || (names(&node) == ["docker.io/library/moved:1"]).then_some(());
    assert!(wait_until(COLLECTION_TIME_MAX, is_collected).is_some(), "{:?}", names(&node));
    assert_eq!(node.run(&["exec", &id, "--", "cat", "/content"]).expect(0).stdout, "what runs");
    assert!(node.agent_log().contains("removed unused images"), "{}", node.agent_log());
    node.finish();
}
