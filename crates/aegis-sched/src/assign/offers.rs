//! Which of several platforms to take: how many lanes, and partitions of which size.
//!
//! Budgets and overheads differ from platform to platform, so each offer comes with its own task set: the same tasks
//! in the same order, with what was measured of them there.

use aegis_types::{LaneId, Nanos};

use super::order::Loss;
use super::search::{Assigned, AssignmentRequest, Effort, search};
use super::{ContendedBudgets, LaneChoice};
use crate::error::ModelError;
use crate::model::{Criticality, TaskSet};
use crate::policy::SchedulingPolicy;

/// A platform on which the fleet could run.
#[derive(Clone, Copy)]
pub struct Offer<'a> {
    /// The tasks with their budgets on this platform.
    pub set: &'a TaskSet,
    /// One per task.
    pub choices: &'a [LaneChoice],
    /// Budgets by company, if they depend on it.
    pub contended: Option<&'a dyn ContendedBudgets>,
}

/// The offer that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Its position among the offers.
    pub offer: usize,
    /// The lanes there.
    pub assigned: Assigned,
    /// Load that it carries, in millionths: `work` over period, summed over the tasks that have lanes, rounded down.
    pub load_ppm: u64,
}

/// Searches every offer and takes the one that leaves out the least critical tasks and the fewest of them, then the
/// one that carries most load, then the first. `work` is what a job of each task means to the user, by task, the same
/// on every platform: its execution alone, say. `None` without an offer.
///
/// # Errors
/// As [`search`], of the first offer that has one; [`ModelError::Platform`] where an offer has another number of
/// tasks than `work` has entries.
pub fn choose(
    offers: &[Offer<'_>],
    work: &[Nanos],
    policy: &dyn SchedulingPolicy,
    effort: Effort,
) -> Result<Option<Choice>, ModelError> {
    let mut best: Option<([usize; 3], Choice)> = None;
    for (offer, &Offer { set, choices, contended }) in offers.iter().enumerate() {
        if set.tasks().len() != work.len() {
            return Err(ModelError::Platform {
                reason: format!("offer {offer} has {} tasks; legal is {}", set.tasks().len(), work.len()),
            });
        }
        let assigned = search(&AssignmentRequest { set, choices, policy, contended, effort })?;
        let load_ppm = load_ppm(set, &assigned.lanes, work);
        let loss = Loss::counts(set.tasks().iter().map(|task| task.criticality), &assigned.lanes);
        let better = best.as_ref().is_none_or(|(least, known)| {
            (loss, std::cmp::Reverse(load_ppm)) < (*least, std::cmp::Reverse(known.load_ppm))
        });
        if better {
            best = Some((loss, Choice { offer, assigned, load_ppm }));
        }
        // Nothing beats an offer that carries everything.
        if loss == [0; 3] {
            break;
        }
    }
    Ok(best.map(|(_, choice)| choice))
}

fn load_ppm(set: &TaskSet, lanes: &[Option<LaneId>], work: &[Nanos]) -> u64 {
    let placed = set.tasks().iter().zip(work).zip(lanes).filter(|(_, lane)| lane.is_some());
    let shares = placed
        .map(|((task, work), _)| u128::from(work.get()) * 1_000_000_000_000 / u128::from(task.period.get()));
    let sum: u128 = shares.fold(0, u128::saturating_add);
    u64::try_from(sum / 1_000_000).unwrap_or(u64::MAX)
}

impl Loss {
    /// Tasks left out, by falling criticality.
    fn counts(criticality: impl Iterator<Item = Criticality>, lanes: &[Option<LaneId>]) -> [usize; 3] {
        let mut counts = [0; 3];
        for (criticality, _) in criticality.zip(lanes).filter(|(_, lane)| lane.is_none()) {
            counts[match criticality {
                Criticality::High => 0,
                Criticality::Medium => 1,
                Criticality::Low => 2,
            }] += 1;
        }
        counts
    }
}
