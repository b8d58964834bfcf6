//! Counters that another thread may read while the driver runs.

use std::sync::atomic::{AtomicU64, Ordering};

use aegis_types::records::{AssumptionBroken, JobFinished, JobOutcome};
use aegis_types::{RawRecord, Record};

/// What happened so far, for live lines.
#[derive(Debug, Default)]
pub struct Live {
    finished: AtomicU64,
    late: AtomicU64,
    broken: AtomicU64,
}

impl Live {
    /// Jobs completed, jobs beyond the bound claimed for them or abandoned, and broken assumptions.
    pub fn counts(&self) -> (u64, u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.finished), read(&self.late), read(&self.broken))
    }

    /// Counts a record.
    pub fn see(&self, record: &RawRecord) {
        if let Some(job) = JobFinished::read(record) {
            let late = job.outcome != JobOutcome::Completed || job.response > job.bound;
            let counter = if late { &self.late } else { &self.finished };
            counter.fetch_add(1, Ordering::Relaxed);
        } else if AssumptionBroken::read(record).is_some() {
            self.broken.fetch_add(1, Ordering::Relaxed);
        }
    }
}
