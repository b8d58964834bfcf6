//! Why a fleet does not fit, and the smallest change after which it would.

use std::collections::BTreeMap;
use std::fmt;

use aegis_types::{Bytes, LaneId, TaskId};
use serde::{Deserialize, Serialize};

use crate::plan::Demand;

/// How many tasks a shortage names as holding most.
const HOLDERS: usize = 3;

/// A change to the fleet or the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Move a task to another lane, whose scratch is large enough already or grows by less. Nothing is lost, but both
    /// lanes must be certified again.
    Move {
        /// The task.
        task: TaskId,
        /// The lane to move it to.
        to: LaneId,
        /// What it frees.
        frees: Bytes,
    },
    /// Leave one task out.
    Drop {
        /// The task.
        task: TaskId,
        /// What it frees.
        frees: Bytes,
    },
    /// No single task makes enough room.
    Grow {
        /// What the device lacks.
        by: Bytes,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Move { task, to, frees } => write!(f, "move {task} to {to}, which frees {frees}"),
            Self::Drop { task, frees } => write!(f, "leave out {task}, which frees {frees}"),
            Self::Grow { by } => write!(f, "no single task makes room; {by} more capacity would"),
        }
    }
}

/// A fleet that needs more than there is under every placement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error(
    "the fleet needs {needed}, but the capacity is {capacity}: {missing} missing; most is held by {}; {change}{}",
    list(.holders), leaving(.without)
)]
pub struct Shortage {
    /// What the fleet needs at least.
    pub needed: Bytes,
    /// What there is.
    pub capacity: Bytes,
    /// The difference.
    pub missing: Bytes,
    /// The tasks that hold most, with their exclusive bytes and own scratch, most first; ties by number.
    pub holders: Vec<(TaskId, Bytes)>,
    /// The smallest change after which the fleet fits: a move before a drop, the one that frees least; ties by number.
    pub change: Change,
    /// Where no single task makes room: tasks without which the rest fits, each the one that frees most beside those
    /// before it, and none to spare. Fewer may do in rare cases, because choosing so is no search.
    pub without: Vec<TaskId>,
}

fn list(holders: &[(TaskId, Bytes)]) -> String {
    holders.iter().map(|(task, bytes)| format!("{task} ({bytes})")).collect::<Vec<_>>().join(", ")
}

fn leaving(without: &[TaskId]) -> String {
    if without.is_empty() {
        return String::new();
    }
    let names: Vec<String> = without.iter().map(ToString::to_string).collect();
    format!(", or leaving out {}", names.join(", "))
}

impl Shortage {
    /// Explains why `demands`, with sizes already rounded to the alignment, need more than `capacity`. Their sum must
    /// fit 64 bits.
    pub(crate) fn of(demands: &[Demand], needed: Bytes, capacity: Bytes) -> Self {
        let missing = needed.saturating_sub(capacity);
        let mut holders: Vec<(TaskId, Bytes)> =
            demands.iter().map(|d| (d.task, Bytes::new(exclusive(d) + d.scratch_max().get()))).collect();
        holders.sort_by_key(|&(task, bytes)| (std::cmp::Reverse(bytes), task));
        holders.truncate(HOLDERS);
        let change = smallest_change(demands, missing);
        let without = match change {
            Change::Grow { .. } => enough(demands, missing),
            Change::Move { .. } | Change::Drop { .. } => Vec::new(),
        };
        Self { needed, capacity, missing, holders, change, without }
    }
}

fn exclusive(demand: &Demand) -> u64 {
    demand.persistent.get() + demand.exchange.get()
}

/// The two largest needs of a lane: what it holds, and what it would hold without the task that needs most.
type Needs = BTreeMap<LaneId, (u64, u64)>;

fn needs<'a>(demands: impl IntoIterator<Item = &'a Demand>) -> Needs {
    let mut needs = Needs::new();
    for demand in demands {
        let (most, second) = needs.entry(demand.lane).or_default();
        let need = demand.scratch_max().get();
        if need > *most {
            (*most, *second) = (need, *most);
        } else {
            *second = need.max(*second);
        }
    }
    needs
}

/// What a lane's scratch shrinks by without one of its tasks.
fn frees_scratch(needs: &Needs, demand: &Demand) -> u64 {
    let (most, second) = needs.get(&demand.lane).copied().unwrap_or_default();
    if demand.scratch_max().get() == most { most - second } else { 0 }
}

fn smallest_change(demands: &[Demand], missing: Bytes) -> Change {
    let needs = needs(demands);
    let moves = demands.iter().flat_map(|demand| {
        let needs = &needs;
        let others = needs.iter().filter(|(lane, _)| **lane != demand.lane);
        others.map(move |(&to, &(most, _))| {
            let grows = demand.scratch_max().get().saturating_sub(most);
            let frees = Bytes::new(frees_scratch(needs, demand).saturating_sub(grows));
            (frees, demand.task, to)
        })
    });
    if let Some((frees, task, to)) = moves.filter(|found| found.0 >= missing).min() {
        return Change::Move { task, to, frees };
    }
    let frees = |demand: &Demand| Bytes::new(exclusive(demand) + frees_scratch(&needs, demand));
    let drops = demands.iter().map(|demand| (frees(demand), demand.task));
    match drops.filter(|found| found.0 >= missing).min() {
        Some((frees, task)) => Change::Drop { task, frees },
        None => Change::Grow { by: missing },
    }
}

/// Tasks without which the rest fits: one after the other the one that frees most, ties by number, and then without
/// those that turned out to be superfluous.
fn enough(demands: &[Demand], missing: Bytes) -> Vec<TaskId> {
    let mut left: Vec<&Demand> = demands.iter().collect();
    let (before, mut chosen) = (total(&left), Vec::new());
    while before - total(&left) < missing.get() && !left.is_empty() {
        let needs = needs(left.iter().copied());
        let frees = |demand: &Demand| exclusive(demand) + frees_scratch(&needs, demand);
        let best = (0..left.len()).max_by_key(|&at| (frees(left[at]), std::cmp::Reverse(left[at].task)));
        chosen.extend(best.map(|at| left.remove(at)));
    }
    // The first are the largest, so that a superfluous one is among them.
    let mut kept = chosen.clone();
    for candidate in chosen {
        left.push(candidate);
        if before - total(&left) < missing.get() {
            left.pop();
        } else {
            kept.retain(|demand| demand.task != candidate.task);
        }
    }
    kept.iter().map(|demand| demand.task).collect()
}

/// Exclusive bytes, and the largest need of each lane.
fn total(demands: &[&Demand]) -> u64 {
    let scratch: u64 = needs(demands.iter().copied()).values().map(|(most, _)| most).sum();
    demands.iter().map(|demand| exclusive(demand)).sum::<u64>() + scratch
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(task: u16, lane: u16, exclusive: u64, scratch: u64) -> Demand {
        Demand {
            task: TaskId::new(task),
            lane: LaneId::new(lane),
            persistent: Bytes::new(exclusive),
            exchange: Bytes::ZERO,
            scratch: vec![Bytes::new(scratch)],
        }
    }

    fn check(demands: &[Demand], missing: u64, expected: Change) {
        assert_eq!(smallest_change(demands, Bytes::new(missing)), expected);
    }

    #[test]
    fn the_smallest_change_is_named() {
        let (t0, t1, frees) = (TaskId::new(0), TaskId::new(1), Bytes::new);
        // Lane 0 holds 100, lane 1 holds 90: moving task 1 over leaves max(100, 90) and 20.
        let fleet = [demand(0, 0, 10, 100), demand(1, 1, 500, 90), demand(2, 1, 10, 20)];
        check(&fleet, 70, Change::Move { task: t1, to: LaneId::new(0), frees: frees(70) });
        // No move frees more; leaving out task 0 frees 110, task 1 frees 570.
        check(&fleet, 95, Change::Drop { task: t0, frees: frees(110) });
        check(&fleet, 111, Change::Drop { task: t1, frees: frees(570) });
        check(&fleet, 571, Change::Grow { by: frees(571) });
    }

    #[test]
    fn a_tie_for_the_largest_need_frees_nothing() {
        let fleet = [demand(0, 0, 1, 100), demand(1, 0, 2, 100), demand(2, 1, 0, 100)];
        // Task 2 may join lane 0 for free.
        check(&fleet, 1, Change::Move { task: TaskId::new(2), to: LaneId::new(0), frees: Bytes::new(100) });
        check(&fleet[..2], 2, Change::Drop { task: TaskId::new(1), frees: Bytes::new(2) });
    }

    #[test]
    fn tasks_that_make_room_together_are_named_and_none_to_spare() {
        let fleet = [demand(0, 0, 50, 100), demand(1, 0, 60, 100), demand(2, 1, 10, 20), demand(3, 1, 5, 0)];
        let without = |fleet: &[Demand], missing| -> Vec<u16> {
            enough(fleet, Bytes::new(missing)).iter().map(|task| task.get()).collect()
        };
        // The first to go frees 60, the next 150, because the lane's scratch goes with it.
        assert_eq!(without(&fleet, 210), [1, 0]);
        assert_eq!(without(&fleet, 245), [1, 0, 2, 3]);
        // Task 0 frees most at first, and is not missed once both users of the scratch are gone.
        let fleet_of_three = [demand(0, 1, 60, 0), demand(1, 0, 55, 100), demand(2, 0, 50, 100)];
        assert_eq!(without(&fleet_of_three, 200), [1, 2]);
        let short = Shortage::of(&fleet, Bytes::new(245), Bytes::new(35));
        assert_eq!((short.change, short.without.len()), (Change::Grow { by: Bytes::new(210) }, 2));
        assert!(short.to_string().ends_with("or leaving out task1, task0"), "{short}");
    }

    #[test]
    fn the_text_names_everything() {
        let fleet = [demand(0, 0, 1024, 0), demand(7, 0, 4096, 0)];
        let text = Shortage::of(&fleet, Bytes::new(5120), Bytes::new(4096)).to_string();
        for part in ["5KiB", "4KiB", "1KiB missing", "task7", "leave out task0"] {
            assert!(text.contains(part), "{part:?} is not in {text:?}");
        }
    }
}
