//! Tables for people: aligned columns without lines, as docker and kubectl draw them, so that `awk` works on them too.
//! On a terminal that is too narrow the widest cells are shortened; elsewhere nothing is ever cut.

use std::fmt;

use comfy_table::{ContentArrangement, presets};

/// Blanks between two columns.
const GAP: usize = 3;
/// No column is shortened below this.
const WIDTH_MIN: usize = 10;

/// A table being filled.
#[derive(Debug)]
pub(crate) struct Table {
    heads: Vec<String>,
    rows: Vec<Vec<String>>,
    is_whole: bool,
}

impl Table {
    /// A table with these column heads.
    pub(crate) fn new(heads: &[&str]) -> Self {
        let heads = heads.iter().map(|&head| head.to_owned()).collect();
        Self { heads, rows: Vec::new(), is_whole: false }
    }

    /// Adds a row. Control characters, which could steer the reader's terminal, are shown escaped.
    pub(crate) fn row<const N: usize>(&mut self, cells: [&str; N]) {
        self.cells(cells);
    }

    /// Adds a row of as many cells as there are heads, where that isn't known beforehand.
    pub(crate) fn cells<'a>(&mut self, cells: impl IntoIterator<Item = &'a str>) {
        self.rows.push(cells.into_iter().map(printable).collect());
    }

    /// Keeps every cell as it is, however narrow the terminal.
    pub(crate) const fn keep_whole(&mut self) {
        self.is_whole = true;
    }

    /// Shortens the widest cells until a line fits into so many columns, as far as that goes.
    pub(crate) fn fit(&mut self, columns: usize) {
        if self.is_whole {
            return;
        }
        let mut widths: Vec<usize> = self.heads.iter().map(|head| head.chars().count()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let gaps = GAP * widths.len().saturating_sub(1);
        while widths.iter().sum::<usize>() + gaps > columns {
            let Some(widest) = widths.iter_mut().max().filter(|width| **width > WIDTH_MIN) else { break };
            *widest -= 1;
        }
        for row in &mut self.rows {
            for (width, cell) in widths.iter().zip(row) {
                shorten(cell, *width);
            }
        }
    }
}

/// Cuts a cell, and shows that it did.
fn shorten(cell: &mut String, width: usize) {
    if cell.chars().count() > width {
        *cell = cell.chars().take(width.saturating_sub(1)).chain(['\u{2026}']).collect();
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = comfy_table::Table::new();
        // What is still too wide runs past the edge: wrapped cells could not be copied or piped.
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(&self.heads);
        for column in table.column_iter_mut() {
            column.set_padding((0, 3));
        }
        for row in &self.rows {
            table.add_row(row);
        }
        writeln!(f, "{}", table.trim_fmt())
    }
}

/// Text that came from elsewhere, safe to print on a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            let plain = escaped.is_none().then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_blanks() {
        let mut table = Table::new(&["ID", "NAME"]);
        table.row(["1b4e28ba-2fa", "web"]);
        table.row(["x", ""]);
        assert_eq!(table.to_string(), "ID             NAME\n1b4e28ba-2fa   web\nx\n");
    }

    #[test]
    fn the_widest_cells_give_way_on_a_narrow_terminal() {
        let mut table = Table::new(&["ID", "NAME", "IMAGE"]);
        table.row(["1b4e28ba-2fa", "a-rather-long-name-of-a-workload", "busybox:latest"]);
        table.fit(50);
        let line = table.to_string().lines().nth(1).unwrap().to_owned();
        assert_eq!(line.chars().count(), 50, "{line}");
        assert!(line.contains("a-rather-long-nam…") && line.ends_with("busybox:latest"), "{line}");
        let mut whole = Table::new(&["NAME"]);
        whole.row(["a-rather-long-name-of-a-workload"]);
        whole.keep_whole();
        whole.fit(5);
        assert!(whole.to_string().contains("of-a-workload"));
    }

    #[test]
    fn control_characters_are_shown_not_obeyed() {
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
    }
}
