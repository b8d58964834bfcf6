//! Where the time of a job went: terms that add up to its response exactly, from the records of a trace.
//!
//! The interval from a job's arrival to its end is cut at the stamps of releases, dispatches and completions on its
//! lane, so that its parts cannot but add up. Where records are missing the answer is [`Explanation::Unknown`], never
//! a guess.
//!
//! | file | what it holds |
//! |---|---|
//! | `history` | records sorted by job and by lane, and the gaps between them |
//! | `blame` | the terms of one job |
//! | `text` | lines for people |

mod blame;
mod history;
mod text;

#[cfg(test)]
pub(crate) mod tests;

pub use blame::{Blame, BlameKind, BlameTerm, Explanation, Part, Unknown};
pub use history::{Ended, JobTrace, Released, TraceGap};
pub(crate) use history::{decision_ring, gap_between, is_decision};

use aegis_types::records::JobOutcome;
use aegis_types::{JobId, RawRecord, TaskId};

use crate::referee::certificate::Certificate;

use history::History;

/// Explains the jobs of a trace.
#[derive(Debug)]
pub struct Explainer<'a> {
    certificate: &'a Certificate,
    history: History,
}

impl<'a> Explainer<'a> {
    /// Reads the records of a trace, in the order of the trace. The ring of decisions must be given in full, for a
    /// jump in its sequence counts as a gap; records of others (such as carriers) may be among them or absent.
    pub fn new(records: &[RawRecord], certificate: &'a Certificate) -> Self {
        Self { certificate, history: History::read(records) }
    }

    /// Where the time of a job went, or `None` if the trace does not know the job.
    pub fn explain(&self, job: JobId) -> Option<Explanation> {
        blame::explain(&self.history, self.certificate, job)
    }

    /// The `count` completed jobs of a task with the longest responses, longest first, ties by number.
    pub fn worst(&self, task: TaskId, count: usize) -> Vec<JobId> {
        let mut jobs: Vec<(std::cmp::Reverse<u64>, JobId)> = self
            .history
            .jobs_of(task)
            .filter_map(|(id, job)| {
                let ended = job.ended?;
                let response = ended.finished.response.get();
                (ended.finished.outcome == JobOutcome::Completed).then_some((std::cmp::Reverse(response), id))
            })
            .collect();
        jobs.sort_unstable();
        jobs.into_iter().take(count).map(|(_, id)| id).collect()
    }

    /// Every job of a task that the trace knows, by number.
    pub fn jobs(&self, task: TaskId) -> impl Iterator<Item = (JobId, &JobTrace)> {
        self.history.jobs_of(task)
    }

    /// Where records of the ring of decisions are missing, in order.
    pub fn gaps(&self) -> &[TraceGap] {
        &self.history.gaps
    }
}
