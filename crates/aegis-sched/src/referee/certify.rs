//! Makes certificates. Nothing else does.

use aegis_types::{LaneId, Nanos};

use super::certificate::{Certificate, CertifiedTask, LaneCertificate, Rung};
use super::{Objection, check};
use crate::analysis::claim::{Claim, TaskClaim};
use crate::analysis::problem::{LaneProblem, LaneTask};
use crate::model::{Basis, TaskSet};
use crate::platform::charge;
use crate::policy::SchedulingPolicy;

/// Checks the ladder of claims of every lane, by [`LaneId`], against the set, and certifies it. A ladder rises from
/// an overrun of zero; the claims of a lane without tasks are empty ones. Their parts become the certificate's.
///
/// # Errors
/// The first [`Objection`].
pub fn certify(
    set: &TaskSet,
    policy: &dyn SchedulingPolicy,
    epoch: u64,
    ladders: Vec<Vec<Claim>>,
) -> Result<Certificate, Objection> {
    let charged = charge(set).map_err(|_| Objection::Range)?;
    let count = set.platform().lanes();
    if ladders.len() != count {
        return Err(Objection::Lanes { found: ladders.len(), lanes: count });
    }
    let lanes = LaneProblem::of_lanes(set, charged, policy)
        .into_iter()
        .zip(ladders)
        .map(|(problem, ladder)| certify_lane(set, problem, ladder))
        .collect::<Result<Vec<_>, _>>()?;
    let assumptions = assumptions(set);
    Ok(Certificate { policy: policy.name(), class: policy.class(), epoch, lanes, assumptions })
}

fn certify_lane(
    set: &TaskSet,
    mut problem: LaneProblem,
    ladder: Vec<Claim>,
) -> Result<LaneCertificate, Objection> {
    let lane = problem.lane;
    let rising = ladder.is_sorted_by(|low, high| low.overrun < high.overrun);
    if !rising || ladder.first().is_none_or(|first| !first.overrun.is_zero()) {
        return Err(Objection::Ladder { lane });
    }
    for claim in &ladder {
        problem.overrun = claim.overrun;
        check(&problem, claim)?;
    }
    let rung = |claim: &Claim| {
        let bounds = claim.tasks.iter().map(|task| task.bound).collect();
        Rung { overrun: claim.overrun, bounds }
    };
    let rungs: Vec<Rung> = ladder.iter().map(rung).collect();
    let (Some(first), Some(top)) = (ladder.into_iter().next(), rungs.last()) else {
        return Err(Objection::Ladder { lane });
    };
    let basis = weakest_basis(set, lane);
    let tasks = problem
        .tasks
        .into_iter()
        .zip(first.tasks.into_iter().zip(&top.bounds))
        .map(|(task, (claimed, at_top))| certified(task, claimed, *at_top, &basis))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(LaneCertificate { lane, tasks, ladder: rungs })
}

fn certified(
    task: LaneTask,
    claimed: TaskClaim,
    at_top: Nanos,
    basis: &Basis,
) -> Result<CertifiedTask, Objection> {
    let pending = at_top.get().div_ceil(task.period.get());
    Ok(CertifiedTask {
        task: task.id,
        segments: task.segments,
        period: task.period,
        deadline: task.deadline,
        jitter: task.jitter,
        key: task.key,
        wcrt: claimed.bound,
        terms: claimed.terms,
        queue: u32::try_from(pending).map_err(|_| Objection::Range)?,
        basis: basis.clone(),
    })
}

/// The weakest basis of the budgets on a lane: measured if any of them is, with the fewest samples and the smallest
/// margin among these, and the levels they were measured at.
pub(crate) fn weakest_basis(set: &TaskSet, lane: LaneId) -> Basis {
    let mut weakest: Option<(u64, u64)> = None;
    let mut levels: Vec<&str> = Vec::new();
    for segment in set.on_lane(lane).flat_map(|task| &task.segments) {
        if let Basis::Measured { samples, margin_ppm, level } = &segment.basis {
            let known = weakest.unwrap_or((u64::MAX, u64::MAX));
            weakest = Some((known.0.min(*samples), known.1.min(*margin_ppm)));
            if !levels.contains(&level.as_str()) {
                levels.push(level);
            }
        }
    }
    match weakest {
        None => Basis::Declared,
        Some((samples, margin_ppm)) => Basis::Measured { samples, margin_ppm, level: levels.join(", ") },
    }
}

/// What must hold for the bounds to hold, for people.
pub(crate) fn assumptions(set: &TaskSet) -> Vec<String> {
    let mut list = vec![
        "every segment stays within its occupancy budget (watched; overruns up to the lane's tolerance are absorbed)"
            .to_owned(),
        "arrivals keep their period and jitter (enforced)".to_owned(),
        "a free lane with a ready job decides at once, and one segment runs on a lane at a time (watched)".to_owned(),
        "the runtime's own overheads stay within their charges, which are measured (watched through budgets and releases)"
            .to_owned(),
        "regime and exclusivity of the device are those of the profile (watched only through overruns)".to_owned(),
    ];
    let platform = set.platform();
    let stall = platform.overheads.stall;
    list.push(match stall {
        Nanos::ZERO => "the driver's thread is never stalled by the host: no OS guarantee".to_owned(),
        stall => {
            format!("the driver's thread is not stalled for more than {stall} (watched): no OS guarantee")
        }
    });
    if platform.decider_shares_cores {
        list.push(
            "decider shares cores with lanes: its interference lies inside the measured budgets".to_owned(),
        );
    }
    let budgets = || set.tasks().iter().flat_map(|task| &task.segments);
    let measured = budgets().filter(|budget| budget.basis != Basis::Declared).count();
    if measured > 0 {
        list.push(format!("{measured} budgets are measured: untested mixes of co-runners are excluded"));
    }
    if measured < budgets().count() {
        list.push(format!("{} budgets are declared: nothing was measured", budgets().count() - measured));
    }
    list
}
