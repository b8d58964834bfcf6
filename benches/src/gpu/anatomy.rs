//! What bounds are made of: blocking, interference, the job itself, and what the runtime adds to each of them.

use aegis_sched::{Certificate, CertifiedTask, TaskSet, TermKind};
use aegis_types::{Nanos, TaskId};
use serde::{Deserialize, Serialize};

/// One bound, taken apart. The parts add up to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are the terms of a bound, with units in their names")]
pub struct BoundRow {
    pub task: String,
    pub lane: u16,
    pub bound_ns: u64,
    /// Occupancy budget of a less urgent segment.
    pub blocking_ns: u64,
    /// Occupancy budgets of more urgent jobs, and of earlier ones of its own.
    pub interference_ns: u64,
    /// Its own occupancy budgets.
    pub own_ns: u64,
    /// Release jitter, and what the runtime adds to every segment counted here.
    pub overheads_ns: u64,
}

/// One task of each lane, the one whose bound is the middle one there.
pub fn anatomy(set: &TaskSet, certificate: &Certificate) -> Vec<BoundRow> {
    let middle = |lane: &aegis_sched::LaneCertificate| {
        let mut tasks: Vec<&CertifiedTask> = lane.tasks().iter().collect();
        tasks.sort_by_key(|task| (task.wcrt, task.task));
        tasks.get(tasks.len() / 2).map(|task| row(set, certificate, task, lane.lane().get()))
    };
    certificate.lanes().iter().filter_map(middle).collect()
}

fn row(set: &TaskSet, certificate: &Certificate, task: &CertifiedTask, lane: u16) -> BoundRow {
    let (mut blocking, mut interference, mut own) = (Nanos::ZERO, Nanos::ZERO, Nanos::ZERO);
    for term in &task.terms {
        let bare = match term.kind {
            TermKind::Blocking { by } => term.span.saturating_sub(added(set, certificate, by, 1)),
            TermKind::Interference { by, jobs } => {
                term.span.saturating_sub(added(set, certificate, by, jobs))
            }
            TermKind::Own | TermKind::Carry => {
                term.span.saturating_sub(added(set, certificate, task.task, 1))
            }
            _ => continue,
        };
        let part = match term.kind {
            TermKind::Blocking { .. } => &mut blocking,
            TermKind::Own => &mut own,
            _ => &mut interference,
        };
        *part = part.saturating_add(bare);
    }
    let named = blocking.saturating_add(interference).saturating_add(own);
    BoundRow {
        task: set.tasks()[task.task.index()].name.clone(),
        lane,
        bound_ns: task.wcrt.get(),
        blocking_ns: blocking.get(),
        interference_ns: interference.get(),
        own_ns: own.get(),
        overheads_ns: task.wcrt.saturating_sub(named).get(),
    }
}

/// What the runtime adds to so many jobs of a task: C' less C^B of each segment.
fn added(set: &TaskSet, certificate: &Certificate, task: TaskId, jobs: u64) -> Nanos {
    let certified = certificate.task(task).map(|(lane, position)| &lane.tasks()[position].segments);
    let charged: u64 = certified.into_iter().flatten().map(|segment| segment.get()).sum();
    let bare: u64 = set.tasks()[task.index()].segments.iter().map(|segment| segment.bound.get()).sum();
    Nanos::new(charged.saturating_sub(bare).saturating_mul(jobs))
}

#[cfg(test)]
mod tests {
    use aegis_sched::{AdmissionController, AdmissionRequest, Overheads, policy};

    use super::super::case::Fit;
    use super::super::case::tests::case;
    use super::*;

    #[test]
    fn the_parts_of_a_bound_add_up_and_overheads_are_told_apart() {
        let mut case = case(8, 2);
        case.platform.overheads = Overheads { handoff: Nanos::from_micros(7), ..Overheads::default() };
        let fitted = case.capacity(&Fit::Best, 10, 2_000).expect("fits");
        let set = case.set(fitted.load, &fitted.lanes).expect("a set");
        let controller = AdmissionController::new(Box::new(policy::EarliestDeadline));
        let report = controller.analyze(&AdmissionRequest::new(&set).tight());
        let rows = anatomy(&set, report.certificate().expect("admitted"));
        assert_eq!(rows.len(), 2);
        for row in rows {
            let sum = row.blocking_ns + row.interference_ns + row.own_ns + row.overheads_ns;
            assert_eq!(sum, row.bound_ns, "{row:?}");
            let task = case.tasks.iter().find(|task| task.name == row.task).expect("it is there");
            assert_eq!(row.own_ns, task.budgets[0].get(), "{row:?}");
            assert!(row.overheads_ns >= 7_000 && row.overheads_ns.is_multiple_of(7_000), "{row:?}");
        }
    }
}
