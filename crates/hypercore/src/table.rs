//! Tables for people: aligned columns without lines, as docker and kubectl draw them, so that `awk` works on them too.

use std::fmt;

use comfy_table::{ContentArrangement, presets};

/// A table being filled.
#[derive(Debug)]
pub(crate) struct Table(comfy_table::Table);

impl Table {
    /// A table with these column heads.
    pub(crate) fn new(heads: &[&str]) -> Self {
        let mut table = comfy_table::Table::new();
        // Wide rows run past the edge: wrapped cells could not be copied or piped.
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(heads);
        for column in table.column_iter_mut() {
            column.set_padding((0, 3));
        }
        Self(table)
    }

    /// Adds a row. Control characters, which could steer the reader's terminal, are shown escaped.
    pub(crate) fn row<const N: usize>(&mut self, cells: [&str; N]) {
        self.cells(cells);
    }

    /// Adds a row of as many cells as there are heads, where that isn't known beforehand.
    pub(crate) fn cells<'a>(&mut self, cells: impl IntoIterator<Item = &'a str>) {
        self.0.add_row(cells.into_iter().map(printable));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.0.trim_fmt())
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
    fn control_characters_are_shown_not_obeyed() {
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
    }
}
