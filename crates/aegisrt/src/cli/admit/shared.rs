//! What one queue over the lanes of a partition could certify, beside the queue that each lane has: an analysis only.

use aegis_sched::analysis::LaneProblem;
use aegis_sched::global::{Outcome, SharedQueueReport, TestReport, shared_queue};
use aegis_sched::{ModelError, charge};
use aegis_types::PartitionId;
use serde_json::{Value, json};

use crate::cli::setup::Setup;

/// Tasks of one partition: every test is asked some thirty times, and its work grows with the square of their number.
const TASKS_MAX: usize = 200;

/// A partition whose lanes could be looked at as one queue.
pub(super) struct Shared {
    partition: String,
    report: SharedQueueReport,
}

/// Looks at every partition of several lanes that has tasks, and not too many of them.
///
/// # Errors
/// [`ModelError`] where overheads leave the range of time.
pub(super) fn judge(setup: &Setup) -> Result<Vec<Shared>, ModelError> {
    let (set, fleet) = (&setup.prepared.set, setup.system.fleet());
    let problems = LaneProblem::of_lanes(set, charge(set)?, setup.system.policy().as_ref());
    let mut found = Vec::new();
    for (id, partition) in (0..=u16::MAX).map(PartitionId::new).zip(fleet.partitions()) {
        let range = fleet.lanes_of(id);
        let lanes = problems.get(usize::from(range.start)..usize::from(range.end)).unwrap_or_default();
        let tasks: usize = lanes.iter().map(|lane| lane.tasks.len()).sum();
        // Nothing is known of windows of a lane that stays free while a job is ready, nor of a queue of such lanes.
        let inserts = lanes.iter().any(|lane| lane.class.inserts().is_some());
        if inserts || lanes.len() < 2 || !(1..=TASKS_MAX).contains(&tasks) {
            continue;
        }
        if let Ok(report) = shared_queue(lanes) {
            found.push(Shared { partition: partition.name.clone(), report });
        }
    }
    Ok(found)
}

impl Shared {
    /// The test that certifies most, or why no test can be asked.
    fn best(&self) -> Result<Option<&TestReport>, &'static str> {
        let tests = &self.report.tests;
        let why = |test: &TestReport| match test.outcome {
            Outcome::NotApplicable { why } => Some(why),
            _ => None,
        };
        let reasons: Option<Vec<&'static str>> = tests.iter().map(why).collect();
        if let Some(why) = reasons.and_then(|reasons| reasons.last().copied()) {
            return Err(why);
        }
        // Of equals the first, so that equal fleets are answered alike.
        let scaled = tests.iter().rev().filter(|test| test.scale_ppm.is_some());
        Ok(scaled.max_by_key(|test| test.scale_ppm))
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let SharedQueueReport { servers, lanes_certified, lanes_scale_ppm, .. } = self.report;
        let one = match self.best() {
            Err(why) => format!("cannot be judged: {why}"),
            Ok(best) => {
                let by = best.map_or(String::new(), |best| format!(" ({})", best.test));
                certified(self.report.shared_certified(), self.report.shared_scale_ppm()) + &by
            }
        };
        format!(
            "partition {}: lanes beside a shared queue (analysis only, no runtime for it):\n  \
             a queue for each lane: {}\n  one queue for {servers} lanes: {one}\n",
            self.partition,
            certified(lanes_certified, lanes_scale_ppm),
        )
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let SharedQueueReport { servers, lanes_certified, lanes_scale_ppm, .. } = self.report;
        json!({
            "partition": self.partition, "lanes": servers, "runtime": false,
            "queue_per_lane": { "certified": lanes_certified, "scale_ppm": lanes_scale_ppm },
            "one_queue": {
                "certified": self.report.shared_certified(), "scale_ppm": self.report.shared_scale_ppm(),
                "test": self.best().ok().flatten().map(|best| best.test.to_string()),
                "not_judged": self.best().err(),
            },
        })
    }
}

/// A verdict, and the largest factor for all budgets that is certified, rounded down.
fn certified(yes: bool, scale_ppm: Option<u64>) -> String {
    let factor = |ppm: u64| format!("{}.{:03}", ppm / 1_000_000, ppm % 1_000_000 / 1_000);
    match (yes, scale_ppm) {
        (true, Some(ppm)) => format!("certified, up to {} times the budgets", factor(ppm)),
        (false, Some(ppm)) => format!("not certified; it would be at {} times the budgets", factor(ppm)),
        (true, None) => "certified".to_owned(),
        (false, None) => "not certified at any share of the budgets".to_owned(),
    }
}
