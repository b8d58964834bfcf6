//! Deadlines and phases under which bounds can be seen: on every lane a rank for each task, and a critical instant that
//! comes back.
//!
//! Where tasks of a lane share period and deadline, every one of them may come last and is bounded so, but only one ever
//! does. So the tasks of a lane are ranked by their budgets, and each is given as much time as its rank needs: blocking,
//! the ranks before it, itself. The longest is last, and is released a moment before all others: each of those then
//! waits for it as the bound says. With harmonic periods this happens on all lanes together, again and again, and every
//! other lane is as busy then as budgets assume.

use std::cmp::Reverse;

use aegis_sched::ModelError;
use aegis_sched::platform::charge;
use aegis_types::{LaneId, Nanos};

use super::case::{Case, WHOLE};

/// How much later than the longest task all others of a lane are released, in thousandths of the shortest period: long
/// enough that the longest is on its way, and short beside what it takes.
const LATER: u64 = 4;

/// Lanes with about the same sum of weights: the heaviest first, each to the lightest of the lanes that it may use.
pub fn balanced(weights: &[Nanos], allowed: &[Vec<LaneId>]) -> Vec<LaneId> {
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|&task| (Reverse(weights[task]), task));
    let count = allowed.iter().flatten().map(|lane| lane.index() + 1).max().unwrap_or(1);
    let mut loads = vec![Nanos::ZERO; count];
    let mut lanes = vec![LaneId::default(); weights.len()];
    for task in order {
        let lightest = allowed[task].iter().min_by_key(|lane| (loads[lane.index()], **lane));
        lanes[task] = lightest.copied().unwrap_or_default();
        let load = &mut loads[lanes[task].index()];
        *load = load.saturating_add(weights[task]);
    }
    lanes
}

/// The case with deadlines and phases by rank, for these lanes. The deadlines of a lane reach up to the shortest period
/// of all tasks, so that no job of a lane meets the next one of another.
///
/// # Errors
/// As [`Case::set`] and [`charge`].
pub fn ranked(case: &Case, lanes: &[LaneId]) -> Result<Case, ModelError> {
    // Any load will do: charges depend on the lanes and their tasks alone.
    let charged = charge(&case.set(1, lanes)?)?;
    let cost = |task: usize| charged[task].segments.iter().fold(Nanos::ZERO, |sum, c| sum.saturating_add(*c));
    let longest = |task: usize| charged[task].segments.iter().copied().max().unwrap_or(Nanos::ZERO);
    let base = case.tasks.iter().map(|task| task.natural.get()).min().unwrap_or(1).max(1);
    let mut ranked = case.clone();
    for lane in 0..case.platform.lanes() {
        let mut own: Vec<usize> = (0..case.tasks.len()).filter(|&task| lanes[task].index() == lane).collect();
        own.sort_by_key(|&task| (cost(task), task));
        let mut before = Nanos::ZERO;
        let mut needs = Vec::with_capacity(own.len());
        for (rank, &task) in own.iter().enumerate() {
            before = before.saturating_add(cost(task));
            let blocking = own[rank + 1..].iter().map(|&other| longest(other)).max().unwrap_or(Nanos::ZERO);
            needs.push(charged[task].jitter.saturating_add(before).saturating_add(blocking));
        }
        let most = needs.iter().copied().max().unwrap_or(Nanos::ZERO).get().max(1);
        for (rank, (&task, need)) in own.iter().zip(&needs).enumerate() {
            let open = &mut ranked.tasks[task];
            let multiple = (open.natural.get() / base).max(1);
            let share = u128::from(need.get()) * u128::from(WHOLE) / u128::from(most);
            // The last rank has all of the time: what stands before it may need as much, because it is blocked by it.
            let share = if rank + 1 == own.len() { WHOLE } else { u64::try_from(share).unwrap_or(WHOLE) };
            open.deadline_ppm = (share / multiple).max(1);
            open.phase = if rank + 1 == own.len() { 0 } else { (LATER / multiple).max(1) };
        }
    }
    Ok(ranked)
}

#[cfg(test)]
mod tests {
    use aegis_sched::{AdmissionController, AdmissionRequest, policy};

    use super::super::case::tests::case;
    use super::super::case::{Fit, WHOLE};
    use super::*;

    fn on_lanes(count: u64, lanes: u16) -> (Case, Vec<LaneId>) {
        let mut case = case(count, lanes);
        for (n, task) in case.tasks.iter_mut().enumerate() {
            task.natural = Nanos::from_millis(if n % 3 == 2 { 2 } else { 1 });
        }
        let weights: Vec<Nanos> = case.tasks.iter().map(|task| task.budgets[0]).collect();
        let allowed: Vec<Vec<LaneId>> = case.tasks.iter().map(|task| task.lanes.clone()).collect();
        let lanes = balanced(&weights, &allowed);
        (case, lanes)
    }

    #[test]
    fn lanes_are_balanced_among_those_that_are_allowed() {
        let weights: Vec<Nanos> = (1..=30).map(Nanos::from_micros).collect();
        let allowed: Vec<Vec<LaneId>> = (0..30)
            .map(|n| if n % 2 == 0 { vec![LaneId::new(0), LaneId::new(1)] } else { vec![LaneId::new(2)] })
            .collect();
        let lanes = balanced(&weights, &allowed);
        assert!(lanes.iter().zip(&allowed).all(|(lane, allowed)| allowed.contains(lane)));
        let load = |lane: u16| -> u64 {
            lanes.iter().zip(&weights).filter(|(own, _)| own.get() == lane).map(|(_, w)| w.get()).sum()
        };
        assert!(load(0).abs_diff(load(1)) <= 2_000, "{} {}", load(0), load(1));
        assert_eq!(load(2), weights.iter().skip(1).step_by(2).map(|w| w.get()).sum::<u64>());
    }

    #[test]
    fn a_rank_has_the_time_that_it_needs_and_its_bound_is_what_a_critical_instant_shows() {
        let (case, lanes) = on_lanes(14, 2);
        let ranked = ranked(&case, &lanes).expect("a case");
        assert!(ranked.tasks.iter().all(|task| task.deadline_ppm <= WHOLE));
        let fitted = ranked.capacity(&Fit::Fixed(lanes.clone()), 5, 4_000).expect("fits");
        // Each lane holds its budgets once in the shortest period, less what steps of the load leave.
        let shortest = ranked.periods(fitted.load).into_iter().min().expect("tasks");
        let heaviest = (0..2).map(|lane| demand(&ranked, &lanes, lane)).max().expect("lanes");
        assert!(heaviest <= shortest.get() && heaviest * 100 >= shortest.get() * 96, "{heaviest} {shortest}");
        let set = ranked.set(fitted.load, &lanes).expect("a set");
        let controller = AdmissionController::new(Box::new(policy::EarliestDeadline));
        let report = controller.analyze(&AdmissionRequest::new(&set).tight());
        for lane in 0..2 {
            let own = |task: &usize| lanes[*task].index() == lane;
            let mut order: Vec<usize> = (0..14).filter(own).collect();
            order.sort_by_key(|&task| ranked.tasks[task].budgets[0]);
            let last = ranked.tasks[order[order.len() - 1]].budgets[0].get();
            let mut before = 0;
            for (rank, &task) in order.iter().enumerate() {
                before += ranked.tasks[task].budgets[0].get();
                let shown = if rank + 1 == order.len() { before } else { before + last };
                let bound = report.tasks[task].wcrt.expect("bounded").get();
                // A segment that blocks has begun a nanosecond before.
                assert!(bound <= shown && bound + 2 >= shown, "rank {rank}: {bound} and {shown}");
            }
        }
    }

    fn demand(case: &Case, lanes: &[LaneId], lane: usize) -> u64 {
        let tasks = case.tasks.iter().zip(lanes).filter(|(_, own)| own.index() == lane);
        tasks.map(|(task, _)| task.budgets[0].get()).sum()
    }

    #[test]
    fn the_longest_task_of_a_lane_comes_first_and_all_others_together() {
        let (case, lanes) = on_lanes(14, 2);
        let ranked = ranked(&case, &lanes).expect("a case");
        let set = ranked.set(500, &lanes).expect("a set");
        for lane in 0..2 {
            let own = |task: &&aegis_sched::Task| task.lane.index() == lane;
            let offset = |task: &aegis_sched::Task| match task.arrival {
                aegis_sched::Arrival::Periodic { offset } => offset,
                _ => panic!("periodic"),
            };
            let longest = set.tasks().iter().filter(own).max_by_key(|task| task.segments[0].bound);
            let first = longest.expect("tasks");
            assert_eq!(offset(first), Nanos::ZERO);
            let others: Vec<Nanos> =
                set.tasks().iter().filter(own).filter(|task| task.id != first.id).map(offset).collect();
            assert!(
                others.iter().all(|later| !later.is_zero() && later.get().abs_diff(others[0].get()) <= 1)
            );
        }
    }
}
