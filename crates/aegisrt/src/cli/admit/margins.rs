//! `aegis admit --sensitivity`: how far every number of a fleet can move before a deadline is missed.

use aegis_sched::analysis::LaneProblem;
use aegis_sched::analysis::sensitivity::{Sensitivity, TaskMargin, sensitivity};
use aegis_sched::{SchedulingPolicy, TaskSet, charge};
use aegis_types::{LaneId, Nanos};
use serde_json::{Value, json};

use crate::cli::answer::CliError;
use crate::cli::figures::{self, span};
use crate::cli::table::Grid;
use crate::cli::verdict;

/// Tasks of one lane: each number of each is searched for, so that the work grows with their square and more.
const TASKS_MAX: usize = 500;

/// What is known about the numbers of a lane.
pub(super) struct LaneMargins {
    lane: LaneId,
    found: Sensitivity,
    /// C', T, D and J' of each task as they are.
    now: Vec<[Nanos; 4]>,
}

/// Searches every lane that has tasks.
///
/// # Errors
/// [`CliError`] where a lane has too many tasks, or overheads leave the range of time.
pub(super) fn search(set: &TaskSet, policy: &dyn SchedulingPolicy) -> Result<Vec<LaneMargins>, CliError> {
    let problems = LaneProblem::of_lanes(set, charge(set)?, policy);
    let used = problems.into_iter().filter(|problem| !problem.tasks.is_empty());
    used.map(|problem| {
        let count = problem.tasks.len();
        if count > TASKS_MAX {
            return Err(CliError::Input(format!(
                "--sensitivity: {} has {count} tasks; legal: at most {TASKS_MAX} on each lane",
                problem.lane
            )));
        }
        let now = problem.tasks.iter().map(|task| {
            let cost = task.segments.iter().fold(Nanos::ZERO, |sum, span| sum.saturating_add(*span));
            [cost, task.period, task.deadline, task.jitter]
        });
        let now = now.collect();
        Ok(LaneMargins { lane: problem.lane, found: sensitivity(&problem), now })
    })
    .collect()
}

/// The largest factor for all budgets of the fleet at once, in millionths; `None` where a lane fits with none.
fn uniform(lanes: &[LaneMargins]) -> Option<u64> {
    lanes.iter().map(|lane| lane.found.scale_ppm).min().flatten()
}

/// For people.
pub(super) fn text(lanes: &[LaneMargins], set: &TaskSet) -> String {
    let header = ["task", "lane", "C' <=", "now", "T >=", "now", "D >=", "now", "J' <=", "now", "delay <="];
    let mut grid = Grid::new(2, &header);
    let up = |value: Option<Nanos>| value.map_or_else(|| "-".to_owned(), figures::span_up);
    let down = |value: Option<Nanos>| value.map_or_else(|| "-".to_owned(), figures::span_down);
    for lane in lanes {
        for (margin, [cost, period, deadline, jitter]) in lane.found.tasks.iter().zip(&lane.now) {
            grid.row([
                verdict::name(margin.task, set),
                lane.lane.to_string(),
                down(margin.cost),
                span(*cost),
                up(margin.period),
                span(*period),
                up(margin.deadline),
                span(*deadline),
                down(margin.jitter),
                span(*jitter),
                down(margin.delay),
            ]);
        }
    }
    let mut out = format!(
        "How far each number can move, alone and with everything else as it is (overheads included, the\n\
         order of urgency kept; a dash: no value of it keeps every deadline); delay: how long the lane may\n\
         be held up on top, with the task still in time:\n{}",
        grid.text()
    );
    for lane in lanes {
        out.push_str(&format!("{}: {}\n", lane.lane, scale(lane.found.scale_ppm)));
    }
    out.push_str(&format!("the fleet: {}\n", scale(uniform(lanes))));
    out
}

/// A factor in words, rounded down: a larger one would not fit.
fn scale(ppm: Option<u64>) -> String {
    match ppm {
        Some(ppm) => {
            let (whole, rest) = (ppm / 1_000_000, ppm % 1_000_000 / 1_000);
            format!("deadlines hold with all budgets times {whole}.{rest:03}")
        }
        None => "deadlines hold with no budgets above zero".to_owned(),
    }
}

/// For programs.
pub(super) fn json(lanes: &[LaneMargins], set: &TaskSet) -> Value {
    let task = |lane: LaneId, margin: &TaskMargin| {
        let ns = |value: Option<Nanos>| value.map(Nanos::get);
        json!({
            "task": verdict::name(margin.task, set), "lane": lane.get(),
            "cost_max_ns": ns(margin.cost), "period_min_ns": ns(margin.period),
            "deadline_min_ns": ns(margin.deadline), "jitter_max_ns": ns(margin.jitter),
            "delay_max_ns": ns(margin.delay),
        })
    };
    let tasks = lanes.iter().flat_map(|lane| lane.found.tasks.iter().map(|margin| task(lane.lane, margin)));
    let scales =
        lanes.iter().map(|lane| json!({ "lane": lane.lane.get(), "scale_ppm": lane.found.scale_ppm }));
    json!({
        "scale_ppm": uniform(lanes),
        "lanes": scales.collect::<Vec<_>>(),
        "tasks": tasks.collect::<Vec<_>>(),
    })
}
