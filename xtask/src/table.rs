//! Closing tables: plain aligned columns that read the same in a terminal and in a log.

use std::time::Duration;

/// Lays `rows` out in columns as wide as their widest cell, under the given headings.
pub fn aligned<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = headings.map(|heading| heading.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let heading = headings.map(str::to_owned);
    std::iter::once(&heading).chain(rows).map(|row| line(row, &widths)).collect()
}

/// Minutes and seconds, as in `3 min 07.4 s`.
pub fn spelled(span: Duration) -> String {
    let seconds = span.as_secs_f64();
    let minutes = span.as_secs() / 60;
    format!("{minutes} min {:04.1} s", seconds - minutes as f64 * 60.0)
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let padded: Vec<String> =
        cells.iter().zip(widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
    format!("{}\n", padded.join("  ").trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a".to_owned(), "1".to_owned()], ["longer".to_owned(), "22".to_owned()]];
        assert_eq!(aligned(["name", "n"], &rows), "name    n\na       1\nlonger  22\n");
    }

    #[test]
    fn spans_are_spelled_in_minutes_and_seconds() {
        assert_eq!(spelled(Duration::from_millis(187_400)), "3 min 07.4 s");
        assert_eq!(spelled(Duration::ZERO), "0 min 00.0 s");
    }
}
