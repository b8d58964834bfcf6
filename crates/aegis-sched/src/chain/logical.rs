//! Chains of periodic tasks with logical execution time: reads at the release, writes at the deadline. Exact.

use aegis_types::Nanos;

use super::{ChainBounds, ChainError};

/// The most jobs that are followed through a chain.
const JOBS_MAX: u64 = 1_000_000;

/// A periodic task that reads exactly at its releases and writes exactly at its deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogicalTask {
    /// First release, from a common start.
    pub phase: Nanos,
    /// T: time between releases.
    pub period: Nanos,
    /// D: from a release to its write.
    pub deadline: Nanos,
}

/// Reaction time and data age of a chain in its steady state (after the first complete chain), exact: every chain of
/// one hyperperiod is followed. What is written at an instant is read at that instant.
///
/// The reaction counts from just after a read of the first task, so it equals the held age (Guenzel et al., ECRTS
/// 2023).
///
/// # Errors
/// [`ChainError`] for an empty chain, a zero period or deadline, and a hyperperiod with too many jobs.
pub fn logical_bounds(chain: &[LogicalTask]) -> Result<ChainBounds, ChainError> {
    let tasks = chain.iter().enumerate().map(|(position, task)| Grid::of(position, task));
    let tasks = tasks.collect::<Result<Vec<_>, _>>()?;
    let (Some(first), Some(last)) = (tasks.first(), tasks.last()) else { return Err(ChainError::Empty) };
    let hyperperiod = hyperperiod(&tasks)?;
    let (mut reaction, mut age) = (0i128, 0i128);
    for read in first.reads(hyperperiod)? {
        let written = tasks[1..]
            .iter()
            .fold(read + first.deadline, |write, task| task.read_from(write) + task.deadline);
        reaction = reaction.max(written - (read - first.period));
    }
    let before = &tasks[..tasks.len() - 1];
    for read in last.reads(hyperperiod)? {
        let origin = before.iter().rev().fold(read, |read, task| task.read_before(read - task.deadline));
        age = age.max(read + last.deadline - origin);
    }
    let span = |value: i128| u64::try_from(value).map(Nanos::new).map_err(|_| ChainError::Range);
    Ok(ChainBounds { reaction: span(reaction)?, age: span(age)?, held_age: span(age + last.period)? })
}

/// The reads of a task as points of a line without ends, which is what the steady state is.
struct Grid {
    phase: i128,
    period: i128,
    deadline: i128,
}

impl Grid {
    fn of(position: usize, task: &LogicalTask) -> Result<Self, ChainError> {
        for (field, span) in [("period", task.period), ("deadline", task.deadline)] {
            if span.is_zero() {
                return Err(ChainError::Zero { position, field });
            }
        }
        let wide = |span: Nanos| i128::from(span.get());
        Ok(Self { phase: wide(task.phase), period: wide(task.period), deadline: wide(task.deadline) })
    }

    /// The last read at or before an instant.
    const fn read_before(&self, instant: i128) -> i128 {
        (instant - self.phase).div_euclid(self.period) * self.period + self.phase
    }

    /// The first read at or after an instant.
    const fn read_from(&self, instant: i128) -> i128 {
        let before = self.read_before(instant);
        if before < instant { before + self.period } else { before }
    }

    /// The reads of one hyperperiod.
    fn reads(&self, hyperperiod: u64) -> Result<impl Iterator<Item = i128> + use<'_>, ChainError> {
        let jobs = u64::try_from(i128::from(hyperperiod) / self.period).unwrap_or(u64::MAX);
        if jobs > JOBS_MAX {
            return Err(ChainError::TooLong { jobs, max: JOBS_MAX });
        }
        Ok((0..jobs).map(|job| self.phase + i128::from(job) * self.period))
    }
}

fn hyperperiod(tasks: &[Grid]) -> Result<u64, ChainError> {
    let mut common = 1i128;
    for task in tasks {
        // Both factors are below 2^64, so a product that leaves i128 is no u64 either.
        let multiple = (common / greatest_divisor(common, task.period)).checked_mul(task.period);
        common = multiple
            .filter(|&multiple| multiple <= i128::from(u64::MAX))
            .ok_or(ChainError::TooLong { jobs: u64::MAX, max: JOBS_MAX })?;
    }
    u64::try_from(common).map_err(|_| ChainError::Range)
}

const fn greatest_divisor(mut a: i128, mut b: i128) -> i128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
