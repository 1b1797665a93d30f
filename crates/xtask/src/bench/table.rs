//! The table that a benchmark prints, in Markdown, so that it can go into SPECIFICATION.md as it is.
//!
//! It refuses to round a miss away: the target stands beside the number.

use super::samples::Samples;

/// One line of the table.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) what: String,
    pub(super) ours: String,
    pub(super) peer: String,
    pub(super) ratio: Option<f64>,
    pub(super) target: &'static str,
}

impl Line {
    /// Medians and their ratio.
    pub(super) fn times(what: &str, ours: &Samples, peer: (&str, &Samples), target: &'static str) -> Self {
        let ratio = ours.p50().as_secs_f64() / peer.1.p50().as_secs_f64();
        Self {
            what: what.to_owned(),
            ours: ours.to_string(),
            peer: format!("{}: {}", peer.0, peer.1),
            ratio: Some(ratio),
            target,
        }
    }

    /// Two amounts of the same unit and their ratio.
    pub(super) fn amounts(
        what: &str,
        unit: &str,
        ours: f64,
        peer: Option<(&str, f64)>,
        target: &'static str,
    ) -> Self {
        Self {
            what: what.to_owned(),
            ours: format!("{ours:.2} {unit}"),
            peer: peer.map_or_else(|| "-".to_owned(), |(name, amount)| format!("{name}: {amount:.2} {unit}")),
            ratio: peer.map(|(_, amount)| ours / amount),
            target,
        }
    }

    fn cells(&self) -> [String; 5] {
        let ratio = self.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}x"));
        [self.what.clone(), self.ours.clone(), self.peer.clone(), ratio, self.target.to_owned()]
    }
}

/// Prints the table to stdout, unless it would be empty.
pub(super) fn print(lines: &[Line]) {
    if !lines.is_empty() {
        print!("{}", render(lines));
    }
}

fn render(lines: &[Line]) -> String {
    let head = ["what", "ours", "peer", "ratio", "target"].map(str::to_owned);
    let rows: Vec<[String; 5]> = std::iter::once(head).chain(lines.iter().map(Line::cells)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(width);
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(widths) {
            text.push_str(&format!("| {cell:width$} "));
        }
        text.push_str("|\n");
        if index == 0 {
            widths.iter().for_each(|width| text.push_str(&format!("|{}", "-".repeat(width + 2))));
            text.push_str("|\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_markdown() {
        let lines = [Line::amounts("size", "MiB", 1.0, Some(("peer", 4.0)), "<= 0.5x")];
        let expected = "\
            | what | ours     | peer           | ratio | target  |\n\
            |------|----------|----------------|-------|---------|\n\
            | size | 1.00 MiB | peer: 4.00 MiB | 0.25x | <= 0.5x |\n";
        assert_eq!(render(&lines), expected);
    }
}
