//! What every row measures in: a release-built node and a private containerd that hold the same image.
//!
//! It refuses to share anything with other nodes or daemons of this machine.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hypercore_fixtures::ImageBuilder;

use super::containerd::Containerd;
use crate::node::Node;
use crate::{interrupt, shell};

/// The node's bridge.
pub(super) const BRIDGE: &str = "hcbench0";
const CIDR: &str = "10.214.0.0/22";
const IMAGE: &str = "localhost/bench/sleep:1";

/// Both sides, ready to run containers.
#[derive(Debug)]
pub(super) struct World {
    pub(super) node: Node,
    pub(super) peer: Containerd,
    /// The image's name on our side, and on the peer's.
    pub(super) image: &'static str,
    pub(super) peer_image: String,
}

impl World {
    /// Starts both sides and gives them the image: a busybox that sleeps.
    ///
    /// # Errors
    /// When one of them doesn't come up or refuses the image.
    pub(super) fn open() -> Result<Self> {
        let programs = shell::workspace().join("target/release");
        let mut node = Node::prepare(programs, BRIDGE, CIDR)?;
        let image = ImageBuilder::busybox()?.cmd(["sleep", "1000000"]).build();
        let archive = node.directory().join("image.tar");
        image.write_archive(&archive, IMAGE).context("writing the image")?;
        node.start()?;
        shell::read(node.command(&["image", "import"]).arg(&archive))?;
        let peer = Containerd::start()?;
        let peer_image = peer.import(&archive)?;
        Ok(Self { node, peer, image: IMAGE, peer_image })
    }

    /// Runs one more container on our side, answers its id and how long `run -d` took.
    ///
    /// # Errors
    /// When it doesn't run.
    pub(super) fn run_ours(&self, flags: &[&str]) -> Result<(String, Duration)> {
        let arguments = [&["run", "-d"], flags, &[self.image]].concat();
        let (id, took) = timed(|| shell::read(&mut self.node.command(&arguments)))?;
        Ok((id.trim().to_owned(), took))
    }

    /// Runs one more container named `id` on the peer's side and answers how long `ctr run -d` took.
    ///
    /// # Errors
    /// When it doesn't run.
    pub(super) fn run_peer(&self, id: &str) -> Result<Duration> {
        let mut command = self.peer.ctr(&["run", "--detach", "--null-io", &self.peer_image, id]);
        Ok(timed(|| shell::read(&mut command))?.1)
    }

    /// Removes one of our containers, running or not.
    ///
    /// # Errors
    /// When that fails.
    pub(super) fn remove_ours(&self, id: &str) -> Result<()> {
        shell::read(&mut self.node.command(&["rm", "--force", id])).map(drop)
    }
}

/// Does it and says how long it took.
///
/// # Errors
/// Its own, or that the user pressed Ctrl-C.
pub(super) fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    interrupt::check()?;
    let start = Instant::now();
    let result = work()?;
    Ok((result, start.elapsed()))
}
