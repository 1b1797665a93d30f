//! The image that the demo and the benchmarks run: a web server that counts, so that a restart would show.
//!
//! It refuses to depend on anything but busybox.

use anyhow::Result;
use hypercore_fixtures::{ImageBuilder, OciImage};

/// The port the server listens on inside the container.
pub(crate) const PORT: u16 = 8080;

/// Its page is `run <random> tick <n>`: the random part is drawn once when the process starts, the number grows
/// ten times a second. Only a process that was never restarted shows the same run with a larger tick.
const SERVE: &str = r#"#!/bin/sh
trap 'echo "stopping after $tick ticks"; exit 0' TERM
run=$(cut -c1-8 /proc/sys/kernel/random/uuid)
tick=0
echo "serving run $run as $(hostname)"
httpd -p 8080 -h /var/www
while :; do
    tick=$((tick + 1))
    echo "run $run tick $tick" > /var/www/next
    mv /var/www/next /var/www/index.html
    [ $((tick % 10)) -eq 0 ] && echo "tick $tick"
    sleep 0.1 &
    wait $!
done
"#;

/// Makes the image.
///
/// # Errors
/// When this machine has no static busybox.
pub(crate) fn counting_server() -> Result<OciImage> {
    let builder =
        ImageBuilder::busybox()?.layer().executable("bin/serve", SERVE).file("var/www/index.html", "");
    Ok(builder.entrypoint(["/bin/serve"]).expose(PORT).build())
}

/// What one answer of the server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) run: String,
    pub(crate) tick: u64,
}

impl Page {
    /// Reads `run <random> tick <n>`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let ("run", run, "tick", tick) = (words.next()?, words.next()?, words.next()?, words.next()?) else {
            return None;
        };
        Some(Self { run: run.to_owned(), tick: tick.parse().ok()? })
    }

    /// Whether `later` comes from the same process, further on.
    pub(crate) fn goes_on_in(&self, later: &Self) -> bool {
        self.run == later.run && self.tick < later.tick
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_run_with_more_ticks_went_on() {
        let first = Page::parse("run 0badcafe tick 7\n").unwrap();
        assert!(first.goes_on_in(&Page::parse("run 0badcafe tick 8").unwrap()));
        assert!(!first.goes_on_in(&first));
        assert!(!first.goes_on_in(&Page::parse("run 12345678 tick 900").unwrap()));
        assert_eq!(Page::parse(""), None);
    }
}
