//! Tables for terminals: plain ASCII, names to the left, numbers to the right.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

/// Rows under a header.
pub struct Grid {
    table: Table,
    left: usize,
}

impl Grid {
    /// A table whose first `left` columns hold words; the others hold numbers.
    pub fn new(left: usize, header: &[&str]) -> Self {
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(header.iter().copied());
        Self { table, left }
    }

    /// Adds a row. What would break its line, such as a name in a model, is replaced.
    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let line = |cell: String| cell.replace(char::is_control, "\u{fffd}");
        self.table.add_row(cells.into_iter().map(|cell| line(cell.into())).collect::<Vec<String>>());
    }

    /// The table as lines, each with a line break.
    pub fn text(mut self) -> String {
        for (index, column) in self.table.column_iter_mut().enumerate() {
            let right = if index < self.left { CellAlignment::Left } else { CellAlignment::Right };
            column.set_cell_alignment(right);
            column.set_padding((0, 2));
        }
        let lines = self.table.lines().map(|line| format!("{}\n", line.trim_end()));
        lines.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_left_and_numbers_right() {
        let mut grid = Grid::new(1, &["task", "max"]);
        grid.row(["a", "1ms"]);
        grid.row(["longer", "12.5ms"]);
        assert_eq!(grid.text(), "task       max\na          1ms\nlonger  12.5ms\n");
    }

    #[test]
    fn a_cell_cannot_break_its_line() {
        let mut grid = Grid::new(1, &["cut behind", "n"]);
        grid.row(["a\nADMITTED\u{1b}[2J", "1"]);
        let text = grid.text();
        assert!(text.lines().count() == 2 && text.contains("a\u{fffd}ADMITTED\u{fffd}[2J"), "{text}");
    }
}
