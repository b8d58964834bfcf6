//! Makes certificates. Nothing else does.

use aegis_types::{LaneId, Nanos};

use super::certificate::{Certificate, CertifiedTask, LaneCertificate, Rung};
use super::{Objection, check, concrete};
use crate::admission::confidence::assumptions;
use crate::analysis::claim::{Claim, TaskClaim};
use crate::analysis::problem::{LaneProblem, LaneTask};
use crate::exclusion::Exclusion;
use crate::model::{Basis, TaskSet};
use crate::platform::charge;
use crate::policy::SchedulingPolicy;
use crate::sag::concrete::PeriodicCover;

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
    certify_by(set, policy, epoch, ladders, &check)
}

/// As [`certify`], for a policy that leaves a lane free while a job is ready: of every lane, by [`LaneId`], the one claim
/// without overrun, and the states that it rests on, where it has tasks. Such a lane tolerates no overrun.
///
/// # Errors
/// The first [`Objection`].
pub fn certify_concrete(
    set: &TaskSet,
    policy: &dyn SchedulingPolicy,
    epoch: u64,
    lanes: Vec<(Claim, Option<PeriodicCover>)>,
) -> Result<Certificate, Objection> {
    let (claims, covers): (Vec<_>, Vec<_>) =
        lanes.into_iter().map(|(claim, cover)| (vec![claim], cover)).unzip();
    certify_by(set, policy, epoch, claims, &|problem, claim| {
        let offsets: Option<Vec<Nanos>> =
            set.on_lane(problem.lane).map(|task| task.arrival.offset()).collect();
        let offsets = offsets.ok_or(Objection::Inserts { lane: problem.lane })?;
        concrete::check(problem, &offsets, claim, covers.get(problem.lane.index()).and_then(Option::as_ref))
    })
}

/// Checks one claim about one lane.
type Check<'a> = &'a dyn Fn(&LaneProblem, &Claim) -> Result<(), Objection>;

fn certify_by(
    set: &TaskSet,
    policy: &dyn SchedulingPolicy,
    epoch: u64,
    ladders: Vec<Vec<Claim>>,
    check: Check<'_>,
) -> Result<Certificate, Objection> {
    let charged = charge(set).map_err(|_| Objection::Range)?;
    let count = set.platform().lanes();
    if ladders.len() != count {
        return Err(Objection::Lanes { found: ladders.len(), lanes: count });
    }
    let lanes = LaneProblem::of_lanes(set, charged, policy)
        .into_iter()
        .zip(ladders)
        .map(|(problem, ladder)| certify_lane(set, problem, ladder, check))
        .collect::<Result<Vec<_>, _>>()?;
    let assumptions = assumptions(set, policy.class());
    Ok(Certificate { policy: policy.name(), class: policy.class(), epoch, lanes, assumptions })
}

fn certify_lane(
    set: &TaskSet,
    mut problem: LaneProblem,
    ladder: Vec<Claim>,
    check: Check<'_>,
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
    let offsets = set.on_lane(lane).map(|task| problem.class.inserts().and(task.arrival.offset()));
    let tasks = problem
        .tasks
        .into_iter()
        .zip(offsets)
        .zip(first.tasks.into_iter().zip(&top.bounds))
        .map(|((task, offset), (claimed, at_top))| certified(task, offset, claimed, *at_top, &basis))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(LaneCertificate { lane, tasks, ladder: rungs })
}

fn certified(
    task: LaneTask,
    offset: Option<Nanos>,
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
        offset,
        key: task.key,
        wcrt: claimed.bound,
        terms: claimed.terms,
        queue: u32::try_from(pending).map_err(|_| Objection::Range)?,
        basis: basis.clone(),
    })
}

/// The weakest basis of the budgets that enter the bounds of a lane: measured if any of them is, with the fewest samples
/// and the smallest margin among these, and the levels they were measured at.
pub(crate) fn weakest_basis(set: &TaskSet, lane: LaneId) -> Basis {
    let mut weakest: Option<(u64, u64)> = None;
    let mut levels: Vec<&str> = Vec::new();
    for segment in Exclusion::entering(set, lane).into_iter().flat_map(|task| &task.segments) {
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
