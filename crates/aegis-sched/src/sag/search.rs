//! What all explorations share: the table, the bounds found, the limits, and why one ends early.

use aegis_types::Time;

use super::job::Job;
use super::level::{Index, Level, OutOfRoom};
use super::report::{Effort, Exactness, JobBounds, Limit, Limits, OnMiss, SagReport, SagVerdict};
use super::table::Table;

/// How much work is done between two questions whether to go on; about a millisecond.
const TICK: u64 = 1 << 16;

/// Why an exploration ends early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Halt {
    /// A deadline can be missed, and nobody wants to know more.
    Miss,
    /// A limit.
    Limit(Limit),
}

impl From<OutOfRoom> for Halt {
    fn from(_: OutOfRoom) -> Self {
        Self::Limit(Limit::Memory)
    }
}

/// A job that may run next, and when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dispatch {
    pub(super) position: usize,
    pub(super) start_min: u64,
    pub(super) start_max: u64,
}

/// The state of an exploration that does not depend on how many cores there are.
pub(super) struct Search<'a> {
    pub(super) table: Table,
    pub(super) limits: Limits,
    pub(super) on_miss: OnMiss,
    pub(super) effort: Effort,
    keep_going: &'a mut dyn FnMut() -> bool,
    work: u64,
    /// Earliest and latest completion, by position in the table.
    pub(super) bounds: Vec<[u64; 2]>,
    /// The first miss found: a position and its completion.
    miss: Option<(usize, u64)>,
}

/// No completion was seen yet.
const UNSEEN: [u64; 2] = [u64::MAX, 0];

impl<'a> Search<'a> {
    pub(super) fn new(
        table: Table,
        limits: Limits,
        on_miss: OnMiss,
        keep_going: &'a mut dyn FnMut() -> bool,
    ) -> Self {
        let bounds = vec![UNSEEN; table.len()];
        let effort = Effort::default();
        Self { table, limits, on_miss, effort, keep_going, work: 0, bounds, miss: None }
    }

    /// Goes on with more jobs; those known keep their positions.
    pub(super) fn extend(&mut self, table: Table) {
        self.bounds.resize(table.len(), UNSEEN);
        self.table = table;
    }

    /// Counts a state that took so much work, and asks whether to go on.
    #[inline]
    pub(super) fn spend(&mut self, work: usize) -> Result<(), Halt> {
        if self.effort.states >= self.limits.states {
            return Err(Halt::Limit(Limit::States));
        }
        self.effort.states += 1;
        self.work += work as u64 + 8;
        // One state may take the work of many.
        while self.work >= TICK {
            self.work -= TICK;
            self.ask()?;
        }
        Ok(())
    }

    /// Asks whether to go on.
    #[cold]
    pub(super) fn ask(&mut self) -> Result<(), Halt> {
        if (self.keep_going)() { Ok(()) } else { Err(Halt::Limit(Limit::Stopped)) }
    }

    /// Takes down the completions of a dispatch.
    #[inline]
    pub(super) fn complete(&mut self, position: usize, min: u64, max: u64) -> Result<(), Halt> {
        self.effort.edges += 1;
        let bounds = &mut self.bounds[position];
        bounds[0] = bounds[0].min(min);
        if max > bounds[1] {
            bounds[1] = max;
            if max > self.table.costs[position].deadline {
                self.miss.get_or_insert((position, max));
                if self.on_miss == OnMiss::Stop {
                    return Err(Halt::Miss);
                }
            }
        }
        Ok(())
    }

    /// How many bytes the next level may hold.
    pub(super) fn room(&self, current: &Level, index: &Index) -> usize {
        let held = self.table.bytes() + current.bytes() + index.bytes();
        usize::try_from(self.limits.bytes.get()).unwrap_or(usize::MAX).saturating_sub(held)
    }

    /// Takes down what a finished level took.
    pub(super) fn account(&mut self, parents: &Level, children: &Level, index: &Index) {
        let held = self.table.bytes() + parents.bytes() + children.bytes() + index.bytes();
        self.effort.bytes_peak = self.effort.bytes_peak.max(held as u64);
        self.effort.nodes += parents.len() as u64;
        self.effort.width = self.effort.width.max(parents.len() as u64);
    }

    /// The verdict of an exploration that ended so; `jobs` are those that the table was made of.
    pub(super) fn verdict(&self, halt: Option<Halt>, jobs: &[Job]) -> SagVerdict {
        match (self.miss, halt) {
            (Some((position, completion)), _) => {
                let job = &jobs[self.table.origin[position]];
                SagVerdict::Miss { job: job.key, completion: Time::new(completion), deadline: job.deadline }
            }
            (None, Some(Halt::Limit(limit))) => SagVerdict::Undecided { limit },
            (None, Some(Halt::Miss) | None) => SagVerdict::Schedulable,
        }
    }

    /// The answer.
    pub(super) fn report(&self, halt: Option<Halt>, jobs: &[Job], exactness: Exactness) -> SagReport {
        let mut bounds = vec![None; jobs.len()];
        for (position, &[min, max]) in self.bounds.iter().enumerate() {
            if min <= max {
                let found = JobBounds { completion_min: Time::new(min), completion_max: Time::new(max) };
                bounds[self.table.origin[position]] = Some(found);
            }
        }
        let (verdict, effort) = (self.verdict(halt, jobs), self.effort);
        SagReport { verdict, exactness, complete: halt.is_none(), bounds, effort }
    }
}
