//! Keeps room on the disk of the data directory: when it is fuller than the high mark, images that no workload uses go,
//! the least recently used first, until it is at most as full as the low mark.
//! It refuses to take what a workload, a pull or a starting workload needs, however full the disk is.

use std::{sync::Arc, time::Duration};

use hypercore_model::units::format_size;

use crate::{
    events::{Action, Event},
    failure::chain,
    images::in_use,
    node::Node,
};

/// How often the disk is looked at. A look costs one system call.
const PERIOD: Duration = Duration::from_secs(30);

/// Runs until it is dropped.
pub(crate) async fn run(node: Arc<Node>) {
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // Whether the disk is full of something else, so that it is said once and not every time.
    let mut is_stuck = false;
    loop {
        ticks.tick().await;
        match node.images.store.make_room(node.images.marks, in_use(&node)).await {
            Ok(None) => is_stuck = false,
            Ok(Some(pruned)) if pruned.freed_bytes == 0 => {
                if !is_stuck {
                    let percent = node.images.marks.high_percent;
                    tracing::warn!(
                        "the disk of the data directory is over {percent} % full, but not of unused images"
                    );
                }
                is_stuck = true;
            }
            Ok(Some(pruned)) => {
                is_stuck = false;
                let freed = format_size(pruned.freed_bytes);
                tracing::info!(
                    images = pruned.removed.len(),
                    "removed unused images from a full disk: {freed} freed"
                );
                for reference in pruned.removed {
                    node.events.publish(Event::image(Action::Pruned, reference.to_string()));
                }
            }
            Err(error) => tracing::warn!(error = chain(&error), "could not make room on the disk"),
        }
    }
}
