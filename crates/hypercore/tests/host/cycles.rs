//! Workloads that come and go leave nothing that adds up. `cargo xtask bench cycles` does it a thousand times.

use std::time::Duration;

use hypercore_fixtures::{Footprint, skip_without_root};

use crate::node::Node;

/// Cycles before it counts, and those that count.
const CYCLES: [usize; 2] = [5, 30];
/// The kernel's time to take the last one's network away.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(20);
/// So few cycles can't tell a leak from an allocator's habits: a large one only.
const RSS_GROWTH_KIB_MAX: u64 = 8 * 1024;

#[test]
fn workloads_that_come_and_go_leave_nothing_that_adds_up() {
    if skip_without_root("workloads_that_come_and_go_leave_nothing_that_adds_up") {
        return;
    }
    let node = Node::start();
    let cycle = |count| {
        for _ in 0..count {
            let id = node.detach(&["-p", "80", "busybox", "--", "sleep", "1000"]);
            node.run(&["exec", &id, "true"]).expect(0);
            node.run(&["stop", "-t", "0", &id]).expect(0);
            node.run(&["rm", &id]).expect(0);
        }
    };
    let [warm_up, counted] = CYCLES;
    cycle(warm_up);
    let (pid, directory) = (node.agent_pid(), node.path(""));
    let before = Footprint::take(pid, &directory, &node.bridge).unwrap();
    cycle(counted);
    let after = Footprint::settled(&before, SETTLE_TIME_MAX, pid, &directory, &node.bridge).unwrap();
    let grown = after.growth_since(&before, RSS_GROWTH_KIB_MAX);
    assert!(grown.is_empty(), "{grown:?}\nbefore: {before}\nafter: {after}");
    node.finish();
}
