//! MiniMalloc (Moffitt 2023) as a program beside ours: it gets the same file, its answer goes through our verifier, and its
//! CPU time is what the system counts for a process that ended.
//!
//! The program is the user's; `AEGIS_MINIMALLOC` names it. What it must do: read `--input=FILE`, write the same rows with
//! the column `offset` to `--output=FILE`, keep to `--capacity=BYTES`, and end with another status than zero where it
//! finds nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use aegis_memory::csv::{CsvError, Instance};
use aegis_memory::verify::{Fault, check_placement};
use aegis_memory::{BufferId, MemoryError, Placed, Placement};
use aegis_types::Bytes;

/// The program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MiniMalloc {
    program: PathBuf,
}

/// What it made of an instance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Solved {
    /// Milliseconds of CPU, in whole ticks of the system's clock.
    pub cpu_ms: f64,
    /// The peak of its placement.
    pub peak: Bytes,
}

/// Why there is no placement of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MiniMallocError {
    /// The program cannot be started.
    #[error("`{}` cannot be started: {reason}; legal: the path of the program", program.display())]
    Absent {
        /// What was to be started.
        program: PathBuf,
        /// What the system says.
        reason: std::io::Error,
    },
    /// It ended without a placement.
    #[error("it ended with {status}")]
    Gave {
        /// How it ended.
        status: std::process::ExitStatus,
    },
    /// A file cannot be read, or no folder made for it.
    #[error("`{}`: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        reason: std::io::Error,
    },
    /// A file is no instance.
    #[error(transparent)]
    Csv(#[from] CsvError),
    /// An instance is no problem.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// It left a buffer without a place.
    #[error("buffer `{0}` has no offset in its answer")]
    Missing(String),
    /// Its placement is not one.
    #[error("its placement is none: {0:?}")]
    Fault(Fault),
    /// The system does not say what CPU time processes took.
    #[error("the system does not say in /proc/self/stat what CPU time processes took")]
    Unmeasured,
}

impl MiniMalloc {
    /// The program at a path; nothing is started yet.
    pub const fn new(program: PathBuf) -> Self {
        Self { program }
    }

    /// The program that `AEGIS_MINIMALLOC` names, if it names one.
    pub fn named() -> Option<Self> {
        std::env::var_os("AEGIS_MINIMALLOC").map(|program| Self::new(program.into()))
    }

    /// Lets it place the buffers of a file within a capacity, and verifies what it writes. No other child of this process
    /// may end meanwhile: its time would be counted.
    ///
    /// # Errors
    /// [`MiniMallocError`].
    pub fn solve(&self, input: &Path, capacity: Bytes) -> Result<Solved, MiniMallocError> {
        let file = |path: &Path, reason| MiniMallocError::File { path: path.to_owned(), reason };
        let folder = std::env::temp_dir().join(format!("aegis-minimalloc-{}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(|reason| file(&folder, reason))?;
        let output = folder.join("answer.csv");
        let solved = self.run(input, &output, capacity).and_then(|cpu_ms| {
            let read = |path: &Path| std::fs::read_to_string(path).map_err(|reason| file(path, reason));
            let peak = verified(&read(input)?, &read(&output)?, capacity)?;
            Ok(Solved { cpu_ms, peak })
        });
        // Best effort: the folder is temporary.
        let _left = std::fs::remove_dir_all(&folder);
        solved
    }

    fn run(&self, input: &Path, output: &Path, capacity: Bytes) -> Result<f64, MiniMallocError> {
        let before = children_ms().ok_or(MiniMallocError::Unmeasured)?;
        let mut command = Command::new(&self.program);
        command.arg(format!("--input={}", input.display()));
        command.arg(format!("--output={}", output.display()));
        command.arg(format!("--capacity={}", capacity.get()));
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        let status =
            status.map_err(|reason| MiniMallocError::Absent { program: self.program.clone(), reason })?;
        let after = children_ms().ok_or(MiniMallocError::Unmeasured)?;
        if status.success() { Ok(after - before) } else { Err(MiniMallocError::Gave { status }) }
    }
}

/// The peak of an answer, as our verifier sees it.
fn verified(input: &str, output: &str, capacity: Bytes) -> Result<Bytes, MiniMallocError> {
    let (asked, answer) = (Instance::read(input)?, Instance::read(output)?);
    let answered = answer.problem(capacity)?;
    // Rows may come back in another order.
    let offsets: BTreeMap<&str, Bytes> =
        answered.buffers().iter().filter_map(|row| Some((answer.name(row.id)?, row.fixed?))).collect();
    let problem = asked.problem(capacity)?;
    let place = |buffer: BufferId| {
        let name = asked.name(buffer).unwrap_or_default();
        let offset = offsets.get(name).copied();
        offset
            .map(|offset| Placed { buffer, offset })
            .ok_or_else(|| MiniMallocError::Missing(name.to_owned()))
    };
    let placed = problem.buffers().iter().map(|row| place(row.id)).collect::<Result<_, _>>()?;
    check_placement(&problem, &Placement { placed }).map_err(MiniMallocError::Fault)
}

/// CPU time of all processes that this one started and that ended, in milliseconds; `None` where the system does not
/// say.
fn children_ms() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name, which may hold anything, ends at the last bracket. Behind it the state is field 3, and the user's and
    // the system's time of waited-for children are fields 16 and 17.
    let (_, fields) = text.rsplit_once(')')?;
    let ticks: Vec<u64> =
        fields.split_whitespace().skip(13).take(2).map_while(|field| field.parse().ok()).collect();
    let [user, system] = ticks[..] else { return None };
    Some((user + system) as f64 * 1e3 / rustix::param::clock_ticks_per_second() as f64)
}
