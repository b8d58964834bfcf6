//! Where capacity goes: the same analysis with one term after the other switched off, in a fixed order.
//!
//! Each line is the highest load that passes when its term and all before it are gone, so that the differences add up
//! to the whole distance between what is certified and what the lanes would hold.

use aegis_sched::analysis::decide;
use aegis_sched::analysis::problem::LaneProblem;
use aegis_sched::platform::{ChargedTask, charge};
use aegis_sched::{TaskSet, policy};
use aegis_types::{LaneId, Nanos};
use serde::{Deserialize, Serialize};

use super::case::Case;

/// A load after a term was switched off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossLine {
    /// What was switched off last.
    pub term: String,
    /// The highest load that passes then, in thousandths.
    pub load: u64,
}

/// What is known of each job's length, by task.
#[derive(Clone, Debug)]
pub struct Lengths {
    /// C^B as certified.
    pub certified: Vec<Vec<Nanos>>,
    /// Largest occupancy in the campaign: the budget without its margin.
    pub saturated: Vec<Nanos>,
    /// Largest occupancy in the run at the certified load: what saturated lanes add is gone.
    pub served: Vec<Nanos>,
}

/// What remains in the analysis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kept {
    overheads: bool,
    jitter: bool,
    blocking: bool,
}

/// The loads on the certified lanes, one term after the other gone: overheads of the runtime in C', release jitter,
/// the margin, the part of the slowdown that the served load did not show, the rest of the slowdown, blocking, and at
/// last the division into lanes.
pub fn lines(case: &Case, lanes: &[LaneId], lengths: &Lengths, most: u64) -> Vec<LossLine> {
    let alone: Vec<Nanos> = case.tasks.iter().map(|task| task.alone).collect();
    let all = Kept { overheads: true, jitter: true, blocking: true };
    let bare = Kept { overheads: false, ..all };
    let prompt = Kept { jitter: false, ..bare };
    let free = Kept { blocking: false, ..prompt };
    let one = |spans: &[Nanos]| spans.iter().map(|span| vec![*span]).collect::<Vec<_>>();
    let (saturated, served) = (one(&lengths.saturated), one(&lengths.served));
    let steps: [(&str, &[Vec<Nanos>], Kept); 7] = [
        ("as certified", &lengths.certified, all),
        ("overheads in C'", &lengths.certified, bare),
        ("release jitter J'", &lengths.certified, prompt),
        ("margin", &saturated, prompt),
        ("slowdown beyond what the served load showed", &served, prompt),
        ("slowdown", &one(&alone), prompt),
        ("blocking", &one(&alone), free),
    ];
    let mut lines: Vec<LossLine> = steps
        .iter()
        .map(|(term, budgets, kept)| LossLine {
            term: (*term).to_owned(),
            load: highest(most, |load| passes(&case.with_budgets(budgets), lanes, load, *kept)),
        })
        .collect();
    lines.push(LossLine {
        term: "assignment: load spread evenly over the lanes".to_owned(),
        load: case.platform.lanes() as u64 * 1_000,
    });
    lines
}

/// The highest load that passes, to a hundredth of itself.
fn highest(most: u64, passes: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (0u64, most);
    while high - low > (high / 200).max(1) {
        let middle = low.midpoint(high);
        if passes(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

fn passes(case: &Case, lanes: &[LaneId], load: u64, kept: Kept) -> bool {
    let Ok(set) = case.set(load, lanes) else { return false };
    let Ok(charged) = charge(&set) else { return false };
    let charged = strip(&set, charged, kept);
    if !kept.blocking {
        return preemptible(&set, &charged);
    }
    LaneProblem::of_lanes(&set, charged, &policy::EarliestDeadline)
        .iter()
        .all(|problem| problem.tasks.is_empty() || decide(problem).is_ok())
}

/// Takes the runtime's own charges out again.
fn strip(set: &TaskSet, charged: Vec<ChargedTask>, kept: Kept) -> Vec<ChargedTask> {
    let task = |(mut charged, task): (ChargedTask, &aegis_sched::Task)| {
        if !kept.overheads {
            charged.segments = task.segments.iter().map(|segment| segment.bound).collect();
        }
        if !kept.jitter {
            charged.jitter = task.jitter;
        }
        charged
    };
    charged.into_iter().zip(set.tasks()).map(task).collect()
}

/// Whether each lane is asked for at most all of its time: exact for preemptive deadline order with deadlines that
/// equal the periods (Liu and Layland 1973).
fn preemptible(set: &TaskSet, charged: &[ChargedTask]) -> bool {
    (0..set.platform().lanes()).all(|lane| {
        let tasks = set.tasks().iter().zip(charged).filter(|(task, _)| task.lane.index() == lane);
        let share = |(task, charged): (&aegis_sched::Task, &ChargedTask)| {
            let cost: u64 = charged.segments.iter().map(|segment| segment.get()).sum();
            cost as f64 / task.period.get() as f64
        };
        tasks.map(share).sum::<f64>() <= 1.0
    })
}

#[cfg(test)]
mod tests {
    use aegis_sched::Overheads;

    use super::super::case::Fit;
    use super::super::case::tests::case;
    use super::*;

    #[test]
    fn every_term_that_goes_leaves_more_and_the_first_line_is_what_admission_says() {
        let mut case = case(16, 4);
        case.platform.overheads = Overheads {
            poll: Nanos::from_micros(1),
            release: Nanos::new(200),
            handoff: Nanos::from_micros(8),
            launch_lock: Nanos::from_micros(4),
            ..Overheads::default()
        };
        let fitted = case.capacity(&Fit::Best, 5, 4_000).expect("fits");
        let of = |factor: u64| -> Vec<Nanos> {
            case.tasks.iter().map(|task| Nanos::new(task.alone.get() * factor / 10)).collect()
        };
        let lengths = Lengths {
            certified: case.tasks.iter().map(|task| task.budgets.clone()).collect(),
            saturated: of(18),
            served: of(13),
        };
        let lines = lines(&case, &fitted.lanes, &lengths, 8_000);
        assert!(lines.is_sorted_by_key(|line| line.load), "{lines:?}");
        assert!(lines[0].load.abs_diff(fitted.load) <= 5 + fitted.load / 100, "{lines:?} {fitted:?}");
        assert_eq!(lines.last().map(|line| line.load), Some(4_000));
        assert!(lines[1].load > lines[0].load && lines[5].load > lines[4].load, "{lines:?}");
    }
}
