//! `aegis admit --what-if`: the smallest single changes under which a refused fleet would be admitted.

use aegis_sched::whatif::{
    WhatIf, what_if_budget, what_if_deadline, what_if_lane, what_if_partition, what_if_period,
    what_if_priority, what_if_segment,
};
use aegis_sched::{AdmissionRequest, Basis, ModelError, TaskSet};
use aegis_types::{LaneId, Nanos, PartitionId, TaskId};
use serde_json::{Value, json};

use crate::cli::figures;
use crate::cli::setup::Setup;
use crate::cli::verdict;

/// Changes of a kind that people are shown; programs get all.
const SHOWN: usize = 3;

/// A change of one kind that would be enough.
pub(super) struct Found {
    kind: &'static str,
    change: WhatIf,
    /// Whether admission with the measured files as they are confirms it; `false` where budgets would have to be
    /// measured again first, because they hold beside the tasks that they were measured beside.
    confirmed: bool,
}

/// Searches for changes of every kind.
///
/// # Errors
/// [`ModelError`] where overheads leave the range of time.
pub(super) fn search(setup: &Setup) -> Result<Vec<Found>, ModelError> {
    let (set, policy) = (&setup.prepared.set, setup.system.policy().as_ref());
    let elsewhere = |task: TaskId, _: PartitionId| declared(set, task);
    let ordered = setup.system.fleet().policy() == "fp";
    let kinds: [(&'static str, Vec<WhatIf>); 7] = [
        ("lane", what_if_lane(set, policy)?),
        ("partition", what_if_partition(set, policy, &elsewhere)?),
        ("priority", if ordered { what_if_priority(set, policy)? } else { Vec::new() }),
        ("period", what_if_period(set, policy)?),
        ("deadline", what_if_deadline(set, policy)?),
        ("budget", what_if_budget(set, policy)?),
        ("segments", what_if_segment(set, policy, Nanos::ZERO)?),
    ];
    let found =
        |(kind, changes): (&'static str, Vec<WhatIf>)| changes.into_iter().map(move |change| (kind, change));
    let judged = |(kind, change): (&'static str, WhatIf)| {
        let confirmed = moved_to(&change).is_none_or(|lane| confirmed(setup, change.task(), lane));
        Found { kind, change, confirmed }
    };
    Ok(kinds.into_iter().flat_map(found).map(judged).collect())
}

/// Budgets that were declared hold wherever the task runs; measured ones in the partition where they were measured.
fn declared(set: &TaskSet, task: TaskId) -> Option<Vec<Nanos>> {
    let task = set.task(task)?;
    let known =
        |segment: &aegis_sched::OccupancyBudget| (segment.basis == Basis::Declared).then_some(segment.bound);
    task.segments.iter().map(known).collect()
}

const fn moved_to(change: &WhatIf) -> Option<LaneId> {
    match change {
        WhatIf::Lane { lane, .. } | WhatIf::Partition { lane, .. } => Some(*lane),
        _ => None,
    }
}

/// Whether the fleet with the task on that lane is admitted with what was measured, and nothing is missing there that
/// is not missing already.
fn confirmed(setup: &Setup, task: TaskId, lane: LaneId) -> bool {
    let mut lanes = setup.system.lanes().to_vec();
    lanes[task.index()] = lane;
    let fleet = setup.system.fleet().on_lanes(&lanes);
    let Ok(prepared) = setup.prepare_as(&fleet, &lanes) else { return false };
    let known = |gap: &crate::config::ContextGap| setup.prepared.gaps.contains(gap);
    prepared.gaps.iter().all(known)
        && setup.controller().analyze(&AdmissionRequest::new(&prepared.set)).is_admitted()
}

/// For people.
pub(super) fn text(found: &[Found], set: &TaskSet, admitted: bool) -> String {
    if admitted {
        return "what if: every deadline holds, and no change is needed for that\n".to_owned();
    }
    if found.is_empty() {
        return "what if: no single change of a lane, partition, priority, period, deadline, budget or segment \
                was found that would admit the fleet\n"
            .to_owned();
    }
    let mut out = "What would admit the fleet, each alone, the smallest of its kind first:\n".to_owned();
    for (index, one) in found.iter().enumerate() {
        let before = found[..index].iter().filter(|other| other.kind == one.kind).count();
        if before < SHOWN {
            let note = if one.confirmed { "" } else { " (its budgets must be measured there first)" };
            out.push_str(&format!("  {}: {}{note}\n", one.kind, words(&one.change, set)));
        }
    }
    out
}

fn words(change: &WhatIf, set: &TaskSet) -> String {
    let name = format!("`{}`", verdict::name(change.task(), set));
    match change {
        WhatIf::Period { period, .. } => format!("{} for {name}", figures::span_up(*period)),
        WhatIf::Deadline { deadline, .. } => format!("{} for {name}", figures::span_up(*deadline)),
        WhatIf::Segments { pieces, longest, .. } => {
            format!("{name} in {pieces} segments of at most {}", figures::span(*longest))
        }
        WhatIf::Budget { ppm, .. } => {
            // Rounded down: a budget that is larger would not fit.
            format!("{name} at {}.{:02}% of its budgets", ppm / 10_000, ppm % 10_000 / 100)
        }
        other => other.describe(set),
    }
}

/// For programs.
pub(super) fn json(found: &[Found], set: &TaskSet) -> Value {
    let one = |one: &Found| {
        let mut json = json!({
            "kind": one.kind, "task": verdict::name(one.change.task(), set), "confirmed": one.confirmed,
        });
        match &one.change {
            WhatIf::Lane { lane, .. } => json["lane"] = lane.get().into(),
            WhatIf::Partition { partition, lane, .. } => {
                let known = set.platform().partitions.get(partition.index());
                json["partition"] = known.map_or(Value::Null, |known| known.name.clone().into());
                json["lane"] = lane.get().into();
            }
            WhatIf::Priority { priority, .. } => json["priority"] = (*priority).into(),
            WhatIf::Period { period, .. } => json["period_ns"] = period.get().into(),
            WhatIf::Deadline { deadline, .. } => json["deadline_ns"] = deadline.get().into(),
            WhatIf::Budget { ppm, .. } => json["budget_ppm"] = (*ppm).into(),
            WhatIf::Segments { pieces, longest, .. } => {
                json["segments"] = (*pieces).into();
                json["longest_ns"] = longest.get().into();
            }
            other => json["change"] = other.describe(set).into(),
        }
        json
    };
    found.iter().map(one).collect()
}
