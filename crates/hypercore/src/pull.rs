//! A pull as people watch it: one bar per layer, on a terminal only. Elsewhere it is silent.

use std::collections::BTreeMap;

use hypercore_api::v1::{PullProgress, PullStep};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::console::Console;

/// How a layer under way is drawn.
const TEMPLATE: &str = "{prefix}  {msg:<12} {bar:30} {bytes:>10} / {total_bytes}";
/// How a layer that needs no bar any more is drawn.
const TEMPLATE_DONE: &str = "{prefix}  {msg}";
/// Characters of a layer's digest that are shown.
const DIGEST_SHORT_LEN: usize = 12;

/// The bars of one pull.
#[derive(Debug)]
pub(crate) struct PullBars {
    drawn: Option<MultiProgress>,
    layers: BTreeMap<String, ProgressBar>,
}

impl PullBars {
    /// Bars on stderr, or none where the console may not draw.
    pub(crate) fn new(console: &Console) -> Self {
        Self { drawn: console.may_draw().then(MultiProgress::new), layers: BTreeMap::new() }
    }

    /// Shows how far a layer is.
    pub(crate) fn update(&mut self, progress: &PullProgress) {
        let Some(drawn) = &self.drawn else { return };
        let bar = self.layers.entry(progress.layer.clone()).or_insert_with(|| {
            let digest = progress.layer.strip_prefix("sha256:").unwrap_or(&progress.layer);
            let short = digest.get(..DIGEST_SHORT_LEN).unwrap_or(digest).to_owned();
            drawn.add(ProgressBar::new(progress.total).with_style(style(TEMPLATE)).with_prefix(short))
        });
        bar.set_length(progress.total);
        bar.set_position(progress.received.min(progress.total));
        let word = match progress.step() {
            PullStep::Waiting => "waiting",
            PullStep::Downloading => "downloading",
            PullStep::Unpacking => "unpacking",
            PullStep::Done => "done",
            PullStep::Present => "already here",
        };
        if matches!(progress.step(), PullStep::Done | PullStep::Present) {
            bar.set_style(style(TEMPLATE_DONE));
            bar.finish_with_message(word);
        } else {
            bar.set_message(word);
        }
    }

    /// Takes the bars away; what follows on the terminal is the workload's.
    pub(crate) fn finish(&mut self) {
        if let Some(drawn) = &self.drawn {
            // A terminal that can't be written to any more shows no bars either.
            let _ = drawn.clear();
        }
    }
}

impl Drop for PullBars {
    fn drop(&mut self) {
        self.finish();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("both templates are constants that the tests draw")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_templates_are_sound() {
        let _ = (style(TEMPLATE), style(TEMPLATE_DONE));
    }
}
