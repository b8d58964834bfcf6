//! Budgets from memory traffic: level 2, a joint fixed point over all lanes.
//!
//! ```text
//! W_s = C_s + l min( sum over tasks k of other lanes of etac_k(W_s) M_k,  f M_s )
//! etac_k(d) = floor((d + R_k) / T_k) + 1
//! ```
//!
//! with C_s the budget of segment s in isolation, M transactions of a segment or of a whole job, l the longest delay
//! by one conflicting transaction, and R_k the response bound of task k with the budgets W of its lane. A segment is
//! not preempted, so the window is its own occupancy and not the response of its job. A job of k that issues a
//! transaction in the window arrived at most R_k before it. f caps how many transactions delay one of s; it needs an
//! arbiter that is fair per transaction, so it is not assumed unless given.
//!
//! Altmeyer et al., RTNS 2015; Davis et al., Real-Time Systems 2018. W depends on R and R on W. Both grow with each
//! other, so iteration from C rises to the least solution or past a deadline. *Any* W and R that satisfy W >= right side
//! and R = bounds under W are safe, least or not: take the first instant at which a segment outlasts W or a job outlasts
//! R. Until then all jobs of other lanes ended within R, so at that instant the segment was delayed by no more than the
//! right side, and the job's lane ran within the budgets its bound rests on. [`settled`] checks just that.
//!
//! The price of windows: R is the bound without overrun. A job that outlasts it, even within the tolerance of its own
//! lane, voids the budgets of all other lanes. Levels 0 and 1 do not have this coupling.

use aegis_types::Nanos;

use super::{ContentionError, with_budgets};
use crate::analysis::{LaneProblem, Stop, respond};
use crate::model::{Task, TaskSet};
use crate::platform::charge;
use crate::policy::SchedulingPolicy;
use crate::referee::certificate::Certificate;

/// Rounds after which budgets and responses are given up on.
const ROUNDS_MAX: u32 = 10_000;

/// Memory traffic of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// M: the most transactions that each segment issues, by task and segment.
    pub transactions: Vec<Vec<u64>>,
    /// l: longest delay by one conflicting transaction.
    pub delay: Nanos,
    /// f: how many transactions of others delay one at most; `None` where the arbiter promises nothing.
    pub per_transaction: Option<u64>,
}

/// A set with contended budgets, and the responses that these rest on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contended {
    /// The set; to be certified with response times, not for feasibility alone.
    pub set: TaskSet,
    /// R of every task under these budgets, by number.
    pub responses: Vec<Nanos>,
    /// Rounds until nothing changed.
    pub rounds: u32,
}

/// The set with its budgets, which are those in isolation, replaced by the least that its own traffic allows.
///
/// # Errors
/// [`ContentionError`] where traffic does not fit the set, or a deadline is passed on the way up: then no solution meets
/// all deadlines.
pub fn contended(
    set: &TaskSet,
    policy: &dyn SchedulingPolicy,
    traffic: &Traffic,
) -> Result<Contended, ContentionError> {
    traffic.check(set)?;
    let mut current = set.clone();
    let mut responses = vec![Nanos::ZERO; set.tasks().len()];
    for rounds in 1..=ROUNDS_MAX {
        let found = bounds(&current, policy)?;
        // Bounds of a lane grow with its budgets; the maximum keeps the iteration rising whatever a solver does.
        let next: Vec<Nanos> = found.into_iter().zip(&responses).map(|(new, old)| new.max(*old)).collect();
        if next == responses {
            return Ok(Contended { set: current, responses, rounds });
        }
        responses = next;
        current = with_budgets(set, |task, segment| traffic.least_budget(set, task, segment, &responses))?;
    }
    Err(ContentionError::Unsettled { rounds: ROUNDS_MAX })
}

/// Whether a certificate's budgets cover the contention that its own bounds allow. `isolated` has the budgets in
/// isolation, `set` those that `certificate` was made for. One evaluation of the equation for each segment; nothing of
/// the search is used.
pub fn settled(isolated: &TaskSet, set: &TaskSet, certificate: &Certificate, traffic: &Traffic) -> bool {
    let bound = |task: &Task| certificate.task(task.id).map(|(lane, position)| lane.tasks()[position].wcrt);
    let responses: Option<Vec<Nanos>> = set.tasks().iter().map(bound).collect();
    let Some(responses) = responses.filter(|_| traffic.check(isolated).is_ok()) else { return false };
    set.tasks().len() == isolated.tasks().len()
        && set.tasks().iter().zip(isolated.tasks()).all(|(task, alone)| {
            let same = task.segments.len() == alone.segments.len()
                && (task.lane, task.period) == (alone.lane, alone.period);
            same && (0..task.segments.len()).all(|segment| {
                let budget = task.segments[segment].bound;
                traffic
                    .occupancy(isolated, alone, segment, budget, &responses)
                    .is_some_and(|least| least <= budget)
            })
        })
}

/// Response bounds of every task, by number.
fn bounds(set: &TaskSet, policy: &dyn SchedulingPolicy) -> Result<Vec<Nanos>, ContentionError> {
    let mut bounds = vec![Nanos::ZERO; set.tasks().len()];
    for problem in LaneProblem::of_lanes(set, charge(set)?, policy) {
        let lane = problem.lane;
        let claim = respond(&problem, Stop::AtDeadline)
            .map_err(|failure| ContentionError::Lane { lane, failure: Box::new(failure) })?;
        for task in &claim.tasks {
            bounds[task.task.index()] = task.bound;
        }
    }
    Ok(bounds)
}

impl Traffic {
    fn check(&self, set: &TaskSet) -> Result<(), ContentionError> {
        let (found, needed) = (self.transactions.len(), set.tasks().len());
        if found != needed {
            return Err(ContentionError::Count { place: "transactions".to_owned(), found, needed });
        }
        for (task, transactions) in set.tasks().iter().zip(&self.transactions) {
            let (found, needed) = (transactions.len(), task.segments.len());
            if found != needed {
                let place = format!("transactions of {}", task.id);
                return Err(ContentionError::Count { place, found, needed });
            }
        }
        Ok(())
    }

    /// The least W_s, from below.
    fn least_budget(
        &self,
        set: &TaskSet,
        task: &Task,
        segment: usize,
        responses: &[Nanos],
    ) -> Result<Nanos, ContentionError> {
        let mut window = task.segments[segment].bound;
        for _ in 0..ROUNDS_MAX {
            if window > task.deadline {
                return Err(ContentionError::BeyondDeadline { task: task.id, deadline: task.deadline });
            }
            let next = self.occupancy(set, task, segment, window, responses);
            let next = next.ok_or(ContentionError::Range { task: task.id })?;
            if next == window {
                return Ok(window);
            }
            window = next;
        }
        Err(ContentionError::Unsettled { rounds: ROUNDS_MAX })
    }

    /// The right side of the equation for one segment; `task` is the one with the budget in isolation.
    fn occupancy(
        &self,
        set: &TaskSet,
        task: &Task,
        segment: usize,
        window: Nanos,
        responses: &[Nanos],
    ) -> Option<Nanos> {
        let mut conflicts = 0u64;
        for other in set.tasks().iter().filter(|other| other.lane != task.lane) {
            let id = other.id.index();
            let span = window.checked_add(responses[id])?.get();
            let jobs = (span / other.period.get()).checked_add(1)?;
            let each = self.transactions[id].iter().try_fold(0u64, |sum, more| sum.checked_add(*more))?;
            conflicts = conflicts.checked_add(jobs.checked_mul(each)?)?;
        }
        if let Some(per_transaction) = self.per_transaction {
            let own = self.transactions[task.id.index()][segment];
            conflicts = conflicts.min(per_transaction.saturating_mul(own));
        }
        task.segments[segment].bound.checked_add(self.delay.checked_mul(conflicts)?)
    }
}
