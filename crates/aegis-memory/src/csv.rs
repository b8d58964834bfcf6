//! MiniMalloc's text format for instances and their solutions: comma-separated rows under a head of column names.
//!
//! | column | what it says |
//! |---|---|
//! | `id` (or `buffer_id`, `buffer`) | any name, once each |
//! | `lower` (or `start`) | first instant at which the buffer is live |
//! | `upper`, or `end` | first instant at which it is not, or the last at which it is |
//! | `size` | bytes |
//! | `alignment` | optional: a power of two; none is 1 |
//! | `offset` | optional: the offset that it must have; empty or -1 is none |
//! | `hint` | optional: checked and not used |
//! | `gaps` | optional: `l-u` or `l-u@first:behind`, separated by blanks |
//!
//! A cell may stand in quotation marks, which are not written again; a comma parts cells there too. A byte order mark and
//! blank lines are passed over.
//!
//! A solution is the same text with the column `offset` filled in, or added as the last one.

use std::collections::BTreeMap;
use std::fmt::Write;

use aegis_types::{Bytes, LaneId, MemoryClass, TaskId};

use crate::error::MemoryError;
use crate::problem::{Buffer, BufferId, Gap, MOST_BUFFERS, Placement, Problem};

/// Why a text is no instance.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CsvError {
    /// There is no head.
    #[error("line 1: the text is empty; legal: a head with the columns id, lower, upper, size")]
    Empty,
    /// A column is missing.
    #[error(
        "line {line}: there is no column {column} in {head:?}; legal: {legal}, and commas between columns"
    )]
    NoColumn {
        /// The line of the head, from 1 on.
        line: usize,
        /// How the head begins.
        head: String,
        /// The column.
        column: &'static str,
        /// What would be legal.
        legal: &'static str,
    },
    /// A column stands twice, or means the same as another.
    #[error("line {line}: column {column} says what an earlier column says; legal: one of them")]
    DoubleColumn {
        /// The line of the head, from 1 on.
        line: usize,
        /// The second column.
        column: String,
    },
    /// A row has too few or too many cells.
    #[error("line {line}: {found} cells; legal: {legal}, as in the head")]
    Cells {
        /// The line, from 1 on.
        line: usize,
        /// Cells found.
        found: usize,
        /// Cells of the head.
        legal: usize,
    },
    /// A cell cannot be read, or contradicts another.
    #[error("line {line}, column {column}: {value:?}; legal: {legal}")]
    Cell {
        /// The line, from 1 on.
        line: usize,
        /// The column's name.
        column: String,
        /// How the cell begins.
        value: String,
        /// What would be legal.
        legal: String,
    },
    /// A placement has an offset that the format has no number for.
    #[error(
        "buffer `{buffer}` is placed at offset {offset}; legal in this format: offsets from 0 to 2^63 - 1"
    )]
    Offset {
        /// The buffer's name.
        buffer: String,
        /// The offset.
        offset: Bytes,
    },
    /// The rows are read, and the problem they make is none.
    #[error(transparent)]
    Problem(#[from] MemoryError),
}

/// What a column means. The position is that in [`Columns`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Id,
    Lower,
    Upper,
    Size,
    Alignment,
    Offset,
    Hint,
    Gaps,
}

const COLUMNS: usize = 8;

/// Characters of a cell or a head that a message shows.
const SHOWN_MOST: usize = 80;

/// Every name of a column, and whether it names the last instant in place of the one behind it.
const NAMES: [(&str, Column, bool); 11] = [
    ("id", Column::Id, false),
    ("buffer_id", Column::Id, false),
    ("buffer", Column::Id, false),
    ("lower", Column::Lower, false),
    ("start", Column::Lower, false),
    ("upper", Column::Upper, false),
    ("end", Column::Upper, true),
    ("size", Column::Size, false),
    ("alignment", Column::Alignment, false),
    ("offset", Column::Offset, false),
    ("hint", Column::Hint, false),
];

/// An instance as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
    buffers: Vec<Buffer>,
    gaps: Vec<Gap>,
    offset: Option<usize>,
}

impl Instance {
    /// Reads an instance. All buffers are scratch of one lane.
    ///
    /// ```
    /// use aegis_memory::csv::Instance;
    /// use aegis_types::Bytes;
    ///
    /// let instance = Instance::read("id,lower,upper,size\na,0,3,4\nb,3,9,4\n")?;
    /// assert_eq!(instance.problem(Bytes::new(8))?.lower_bound(), Bytes::new(4));
    /// # Ok::<(), aegis_memory::csv::CsvError>(())
    /// ```
    ///
    /// # Errors
    /// [`CsvError`] naming line, column, value and what would be legal. More rows than a problem may have buffers are
    /// refused before any is read.
    pub fn read(text: &str) -> Result<Self, CsvError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
        let (line, head) = lines.next().ok_or(CsvError::Empty)?;
        let columns = Columns::of(line, head)?;
        let head = cells(head);
        let found = lines.clone().count();
        if found > MOST_BUFFERS {
            return Err(MemoryError::TooManyBuffers { found, most: MOST_BUFFERS }.into());
        }
        let mut instance = Self {
            head,
            rows: Vec::new(),
            buffers: Vec::new(),
            gaps: Vec::new(),
            offset: columns.at[Column::Offset as usize],
        };
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for (line, text) in lines {
            let row = cells(text);
            if row.len() != instance.head.len() {
                return Err(CsvError::Cells { line, found: row.len(), legal: instance.head.len() });
            }
            let reader = Row { line, head: &instance.head, cells: &row, columns: &columns };
            let id = BufferId(u32::try_from(instance.buffers.len()).unwrap_or(u32::MAX));
            if let Some(first) = reader.text(Column::Id).and_then(|name| seen.insert(name.to_owned(), line)) {
                return Err(reader.bad(Column::Id, &format!("a name that line {first} does not have")));
            }
            let buffer = reader.buffer(id)?;
            instance.gaps.extend(reader.gaps(&buffer)?);
            instance.buffers.push(buffer);
            instance.rows.push(row);
        }
        Ok(instance)
    }

    /// The problem of placing the instance within a capacity.
    ///
    /// # Errors
    /// [`MemoryError`] as of [`Problem::new`].
    pub fn problem(&self, capacity: Bytes) -> Result<Problem, MemoryError> {
        Problem::new(self.buffers.clone(), capacity)?.with_gaps(self.gaps.clone())
    }

    /// The name of a buffer, as the first column that names it says.
    pub fn name(&self, buffer: BufferId) -> Option<&str> {
        let column =
            self.head.iter().position(|name| meaning(name).is_some_and(|(column, _)| column == Column::Id));
        self.rows.get(buffer.index()).and_then(|row| row.get(column?)).map(String::as_str)
    }

    /// The instance with the offsets of a placement. A buffer without a place gets an empty cell.
    ///
    /// # Errors
    /// [`CsvError::Offset`] for an offset that could not be read again.
    pub fn write(&self, placement: &Placement) -> Result<String, CsvError> {
        let mut offsets = vec![String::new(); self.rows.len()];
        for placed in &placement.placed {
            if i64::try_from(placed.offset.get()).is_err() {
                let buffer = self.name(placed.buffer).unwrap_or_default().to_owned();
                return Err(CsvError::Offset { buffer, offset: placed.offset });
            }
            if let Some(slot) = offsets.get_mut(placed.buffer.index()) {
                *slot = placed.offset.get().to_string();
            }
        }
        let mut text = self.head.join(",");
        text.push_str(if self.offset.is_none() { ",offset\n" } else { "\n" });
        for (row, offset) in self.rows.iter().zip(&offsets) {
            for (at, cell) in row.iter().enumerate() {
                let cell = if self.offset == Some(at) { offset } else { cell };
                // Writing to a string does not fail.
                let _written = write!(text, "{}{cell}", if at == 0 { "" } else { "," });
            }
            let _written = if self.offset.is_none() { writeln!(text, ",{offset}") } else { writeln!(text) };
        }
        Ok(text)
    }
}

fn cells(line: &str) -> Vec<String> {
    line.split(',').map(|cell| bare(cell).to_owned()).collect()
}

/// A cell without the blanks around it, and without a pair of quotation marks.
fn bare(cell: &str) -> &str {
    let cell = cell.trim();
    let inner = cell.strip_prefix('"').and_then(|cell| cell.strip_suffix('"'));
    inner.filter(|inner| !inner.contains('"')).map_or(cell, str::trim)
}

/// The beginning of what was read, for a message: a cell may be as long as the text.
fn beginning(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MOST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

fn meaning(name: &str) -> Option<(Column, bool)> {
    let named = NAMES.iter().find(|(known, ..)| known.eq_ignore_ascii_case(name));
    let named = named.map(|&(_, column, last)| (column, last));
    named.or_else(|| name.eq_ignore_ascii_case("gaps").then_some((Column::Gaps, false)))
}

/// Where each column stands.
#[derive(Debug)]
struct Columns {
    at: [Option<usize>; COLUMNS],
    /// Whether the end that is written is the last instant.
    inclusive: bool,
}

impl Columns {
    fn of(line: usize, head: &str) -> Result<Self, CsvError> {
        let mut columns = Self { at: [None; COLUMNS], inclusive: false };
        for (at, name) in cells(head).iter().enumerate() {
            // Columns of other programs are carried along.
            let Some((column, last)) = meaning(name) else { continue };
            columns.inclusive |= last;
            if columns.at[column as usize].replace(at).is_some() {
                return Err(CsvError::DoubleColumn { line, column: name.clone() });
            }
        }
        let needed = [
            (Column::Id, "id", "id, buffer_id or buffer"),
            (Column::Lower, "lower", "lower or start"),
            (Column::Upper, "upper", "upper, or end for the last instant"),
            (Column::Size, "size", "size"),
        ];
        match needed.into_iter().find(|&(column, ..)| columns.at[column as usize].is_none()) {
            Some((_, column, legal)) => {
                Err(CsvError::NoColumn { line, head: beginning(head), column, legal })
            }
            None => Ok(columns),
        }
    }
}

/// One row under the head.
struct Row<'a> {
    line: usize,
    head: &'a [String],
    cells: &'a [String],
    columns: &'a Columns,
}

impl Row<'_> {
    fn text(&self, column: Column) -> Option<&str> {
        self.columns.at[column as usize].map(|at| self.cells[at].as_str())
    }

    fn bad(&self, column: Column, legal: &str) -> CsvError {
        let at = self.columns.at[column as usize].unwrap_or(0);
        let (column, value) = (self.head[at].clone(), beginning(&self.cells[at]));
        CsvError::Cell { line: self.line, column, value, legal: legal.to_owned() }
    }

    fn number(&self, column: Column) -> Result<u64, CsvError> {
        const LEGAL: &str = "a whole number from 0 to 2^63 - 1";
        let number = self.text(column).and_then(|text| text.parse::<i64>().ok());
        number.and_then(|number| u64::try_from(number).ok()).ok_or_else(|| self.bad(column, LEGAL))
    }

    /// A number that need not be there.
    fn option(&self, column: Column) -> Result<Option<u64>, CsvError> {
        match self.text(column) {
            None | Some("" | "-1") => Ok(None),
            Some(_) => self.number(column).map(Some),
        }
    }

    fn buffer(&self, id: BufferId) -> Result<Buffer, CsvError> {
        let (lower, end) = (self.number(Column::Lower)?, self.number(Column::Upper)?);
        let upper = end + u64::from(self.columns.inclusive);
        if lower >= upper {
            return Err(self.bad(Column::Upper, &format!("more than the lower end, which is {lower}")));
        }
        let align = self.option(Column::Alignment)?.unwrap_or(1);
        if !align.is_power_of_two() {
            return Err(self.bad(Column::Alignment, "a power of two"));
        }
        let fixed = self.option(Column::Offset)?;
        if fixed.is_some_and(|fixed| !fixed.is_multiple_of(align)) {
            return Err(self.bad(Column::Offset, &format!("a multiple of the alignment, which is {align}")));
        }
        self.option(Column::Hint)?;
        Ok(Buffer {
            id,
            size: Bytes::new(self.number(Column::Size)?),
            align: Bytes::new(align),
            lower,
            upper,
            owner: TaskId::new(0),
            lane: LaneId::new(0),
            class: MemoryClass::Scratch,
            fixed: fixed.map(Bytes::new),
        })
    }

    fn gaps(&self, buffer: &Buffer) -> Result<Vec<Gap>, CsvError> {
        let mut gaps: Vec<Gap> = Vec::new();
        for text in self.text(Column::Gaps).unwrap_or_default().split_whitespace() {
            let bad = |legal: &str| self.bad(Column::Gaps, &format!("{legal}, not {text:?}"));
            let gap =
                gap(buffer.id, text).ok_or_else(|| bad("l-u or l-u@first:behind, separated by blanks"))?;
            if gap.lower >= gap.upper || gap.lower < buffer.lower || gap.upper > buffer.upper {
                let (lower, upper) = (buffer.lower, buffer.upper);
                return Err(bad(&format!("gaps that are not empty, within [{lower}, {upper})")));
            }
            if gap.window.is_some_and(|(first, behind)| first >= behind || behind > buffer.size) {
                return Err(bad(&format!("windows that are not empty, within [0, {})", buffer.size.get())));
            }
            if gaps.iter().any(|other| other.lower < gap.upper && gap.lower < other.upper) {
                return Err(bad("gaps that do not overlap"));
            }
            gaps.push(gap);
        }
        Ok(gaps)
    }
}

fn gap(buffer: BufferId, text: &str) -> Option<Gap> {
    let (times, window) = text.split_once('@').map_or((text, None), |(times, window)| (times, Some(window)));
    let (lower, upper) = times.split_once('-')?;
    let window = match window {
        None => None,
        Some(window) => {
            let (first, behind) = window.split_once(':')?;
            Some((Bytes::new(first.parse().ok()?), Bytes::new(behind.parse().ok()?)))
        }
    };
    Some(Gap { buffer, lower: lower.parse().ok()?, upper: upper.parse().ok()?, window })
}
