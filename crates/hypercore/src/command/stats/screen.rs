//! A text that is drawn again and again at the same place of a terminal. It refuses to take the whole screen: what
//! stood above stays, and the last picture stays when the program ends.

use std::io::{self, IsTerminal as _, Write as _};

use terminal_size::{Height, Width};

use crate::table::Table;

/// Moves to where the last picture began, and takes it away.
fn back(lines: usize) -> String {
    if lines == 0 { String::new() } else { format!("\x1b[{lines}A\r\x1b[J") }
}

/// A place on the terminal that standard output is.
#[derive(Debug, Default)]
pub(super) struct Redraw {
    lines_drawn: usize,
}

impl Redraw {
    /// A place to draw, if standard output is a terminal.
    pub(super) fn on_terminal() -> Option<Self> {
        io::stdout().is_terminal().then(Self::default)
    }

    /// Draws the table in place of the one before. Lines are cut at the edge: one that wrapped could not be taken back.
    pub(super) fn draw(&mut self, mut table: Table) -> io::Result<()> {
        let (Width(columns), Height(rows)) =
            terminal_size::terminal_size_of(io::stdout()).unwrap_or((Width(80), Height(24)));
        table.fit(columns.into());
        let picture = fit(&table.to_string(), columns.into(), rows.into());
        let back = back(self.lines_drawn);
        self.lines_drawn = picture.lines().count();
        let mut stdout = io::stdout().lock();
        stdout.write_all(format!("{back}{picture}").as_bytes())?;
        stdout.flush()
    }
}

/// The text, cut to a screen: its last line says how many lines it lacks.
fn fit(text: &str, columns: usize, rows: usize) -> String {
    let lines: Vec<String> = text.lines().map(|line| line.chars().take(columns).collect()).collect();
    // The cursor stands on a line of its own below.
    let room = rows.saturating_sub(1).max(1);
    let mut picture = String::new();
    let shown = if lines.len() > room { room - 1 } else { lines.len() };
    for line in &lines[..shown] {
        picture.push_str(line);
        picture.push('\n');
    }
    if shown < lines.len() {
        picture.push_str(&format!("... and {} more\n", lines.len() - shown));
    }
    picture
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_never_wraps_nor_scrolls() {
        assert_eq!(fit("abcdef\ngh\n", 4, 10), "abcd\ngh\n");
        assert_eq!(fit("1\n2\n3\n4\n", 4, 4), "1\n2\n... and 2 more\n");
        assert_eq!(fit("1\n2\n3\n", 4, 4), "1\n2\n3\n");
        assert_eq!(fit("1\n2\n", 4, 1), "... and 2 more\n");
    }

    #[test]
    fn the_first_picture_takes_nothing_away() {
        assert_eq!(back(0), "");
        assert_eq!(back(3), "\x1b[3A\r\x1b[J");
    }
}
