//! The ways to certify a fleet, each with the load that it reaches.

use aegis_sched::analysis::{LaneProblem, decide};
use aegis_sched::assign::{AssignmentRequest, ContendedBudgets, Effort, LaneChoice, assign, search};
use aegis_sched::{AdmissionController, AdmissionRequest, TaskSet, charge, policy};
use aegis_types::{LaneId, Nanos};

use super::synthetic::Fleet;

/// The policy of every lane.
const POLICY: policy::EarliestDeadline = policy::EarliestDeadline;

/// Loads are multiples of it, in thousandths.
const STEP: u64 = 10;

/// How tasks get budgets and lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// One slowdown for all; largest load first, each to the emptiest lane.
    OneWorst,
    /// One slowdown for all; shortest deadline first, each to the fullest lane that holds it.
    OneBest,
    /// A slowdown for each task; shortest deadline first, each to the fullest lane that holds it.
    EachBest,
    /// The same, then repair.
    EachRepair,
    /// Budgets by company, and repair.
    Company,
    /// A slowdown for each task; one queue for all lanes, by the density test of Baruah 2006.
    Global,
    /// A slowdown for each task; lanes that are full to the last nanosecond. No assignment carries more.
    Limit,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::OneWorst,
        Self::OneBest,
        Self::EachBest,
        Self::EachRepair,
        Self::Company,
        Self::Global,
        Self::Limit,
    ];

    /// What it is called in a table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OneWorst => "one factor, worst fit",
            Self::OneBest => "one factor, best fit",
            Self::EachBest => "per task, best fit",
            Self::EachRepair => "per task, repair",
            Self::Company => "by company, repair",
            Self::Global => "per task, one queue (density)",
            Self::Limit => "per task, full lanes (limit)",
        }
    }
}

/// A fleet on so many lanes.
pub struct Bench<'a> {
    fleet: &'a Fleet,
    lanes: u16,
    each: Vec<u64>,
    one: Vec<u64>,
    effort: Effort,
}

impl<'a> Bench<'a> {
    /// `most` is the slowdown of the most sensitive task there is, in thousandths.
    pub fn new(fleet: &'a Fleet, lanes: u16, most: u64, effort: Effort) -> Self {
        let each = fleet.slowdowns(most);
        let factor = each.iter().copied().max().unwrap_or(most);
        Self { fleet, lanes, one: vec![factor; each.len()], each, effort }
    }

    /// The largest load found that the method certifies, in thousandths; for searches from `known`, which the same
    /// budgets or larger ones were certified at.
    pub fn capacity(&self, method: Method, known: u64) -> u64 {
        let limit = self.limit() / STEP;
        match method {
            Method::OneWorst | Method::OneBest | Method::EachBest | Method::Global => {
                // From above: under a heuristic a higher load may pass where a lower one does not.
                let mut loads = (1..=limit).rev().map(|count| count * STEP);
                loads.find(|&load| self.passes(method, load)).unwrap_or(0)
            }
            Method::EachRepair => self.climb(method, known, limit * STEP),
            Method::Company => self.climb(method, known, known * 3 / 2),
            Method::Limit => self.limit(),
        }
    }

    /// By halving between a load that passes and one that does not. A search that fails once may pass a little
    /// higher, so this is what it finds, not what there is.
    fn climb(&self, method: Method, known: u64, most: u64) -> u64 {
        let (mut holds, mut fails) = (known / STEP, most / STEP + 1);
        while fails - holds > 1 {
            let middle = holds + (fails - holds) / 2;
            if self.passes(method, middle * STEP) { holds = middle } else { fails = middle }
        }
        holds * STEP
    }

    /// Sum of budgets over periods equal to the number of lanes.
    fn limit(&self) -> u64 {
        let Ok(set) = self.fleet.set(1_000, self.lanes, &self.each) else { return 0 };
        let used: u128 = set.tasks().iter().map(|task| share(task.segments[0].bound, task.period)).sum();
        u64::try_from(((u128::from(self.lanes) * 1_000) << 32) / used.max(1)).unwrap_or(0)
    }

    /// Whether the method certifies a load in thousandths.
    pub fn passes(&self, method: Method, load: u64) -> bool {
        let slowdowns = match method {
            Method::OneWorst | Method::OneBest => &self.one,
            _ => &self.each,
        };
        let Ok(set) = self.fleet.set(load, self.lanes, slowdowns) else { return false };
        match method {
            Method::OneWorst => is_certified(&set, &self.worst_fit(&set)),
            Method::OneBest | Method::EachBest => {
                let found = assign(&set, &self.any(), &POLICY).ok().filter(|found| found.unplaced.is_empty());
                found.is_some_and(|found| is_certified(&set, &found.lanes))
            }
            Method::EachRepair => self.search(&set, None),
            Method::Company => self.search(&set, Some(&self.fleet.company(self.lanes, &self.each))),
            Method::Global => density(&set),
            Method::Limit => load <= self.limit(),
        }
    }

    /// Whether the search finds lanes for everybody, and admission agrees.
    fn search(&self, set: &TaskSet, contended: Option<&dyn ContendedBudgets>) -> bool {
        let choices = self.any();
        let request =
            AssignmentRequest { set, choices: &choices, policy: &POLICY, contended, effort: self.effort };
        let found = search(&request).ok().filter(|found| found.is_complete());
        let admitted = found.and_then(|found| found.admitted(set).ok());
        admitted.is_some_and(|set| admits(&set))
    }

    fn any(&self) -> Vec<LaneChoice> {
        let lanes: Vec<LaneId> = (0..self.lanes).map(LaneId::new).collect();
        vec![LaneChoice::Among(lanes); self.fleet.alone.len()]
    }

    fn worst_fit(&self, set: &TaskSet) -> Vec<LaneId> {
        let used = |task: usize| share(set.tasks()[task].segments[0].bound, set.tasks()[task].period);
        let mut order: Vec<usize> = (0..set.tasks().len()).collect();
        order.sort_by_key(|&task| (std::cmp::Reverse(used(task)), task));
        let mut loads: Vec<(u128, u16)> = (0..self.lanes).map(|lane| (0, lane)).collect();
        let mut lanes = vec![LaneId::default(); order.len()];
        for task in order {
            if let Some(emptiest) = loads.iter_mut().min() {
                lanes[task] = LaneId::new(emptiest.1);
                emptiest.0 += used(task);
            }
        }
        lanes
    }
}

/// C / T in fractions of 2^-32, rounded up.
fn share(cost: Nanos, period: Nanos) -> u128 {
    (u128::from(cost.get()) << 32).div_ceil(u128::from(period.get()))
}

/// Whether admission, referee included, admits the set on these lanes.
fn is_certified(set: &TaskSet, lanes: &[LaneId]) -> bool {
    let mut tasks = set.tasks().to_vec();
    tasks.iter_mut().zip(lanes).for_each(|(task, lane)| task.lane = *lane);
    TaskSet::new(tasks, set.platform().clone()).is_ok_and(|set| admits(&set))
}

/// The lane test comes first: admission would search for a remedy before it refuses.
fn admits(set: &TaskSet) -> bool {
    let Ok(charged) = charge(set) else { return false };
    let fits = LaneProblem::of_lanes(set, charged, &POLICY).iter().all(|problem| decide(problem).is_ok());
    fits && AdmissionController::new(Box::new(POLICY)).analyze(&AdmissionRequest::new(set)).is_admitted()
}

/// Baruah, The non-preemptive scheduling of periodic tasks upon multiprocessors, Real-Time Systems 32 (2006):
/// with `V_i = C_i / (T_i - C_max)`, a set fits m lanes with one queue if `sum V_i <= m - (m - 1) max V_i`.
fn density(set: &TaskSet) -> bool {
    let cost = |task: &aegis_sched::Task| task.segments[0].bound;
    let longest = set.tasks().iter().map(cost).max().unwrap_or(Nanos::ZERO);
    let parts: Option<Vec<u128>> = set
        .tasks()
        .iter()
        .map(|task| {
            let room = task.period.checked_sub(longest).filter(|room| !room.is_zero())?;
            Some(share(cost(task), room))
        })
        .collect();
    parts.is_some_and(|parts| {
        let (sum, most) = (parts.iter().sum::<u128>(), parts.iter().max().copied().unwrap_or(0));
        let lanes = set.platform().lanes() as u128;
        sum + (lanes - 1) * most <= lanes << 32
    })
}

#[cfg(test)]
mod tests {
    use super::super::synthetic::SLOWDOWNS;
    use super::*;

    const LITTLE: Effort = Effort { seed: 1, steps: 20_000 };

    #[test]
    fn better_methods_never_certify_less_and_none_exceeds_the_limit() {
        for seed in 1..=2 {
            let fleet = Fleet::draw(seed);
            let (lanes, most) = SLOWDOWNS[1];
            let bench = Bench::new(&fleet, lanes, most, LITTLE);
            let of = |method, known| bench.capacity(method, known);
            let (one, each) = (of(Method::OneBest, 0), of(Method::EachBest, 0));
            let (repair, limit) = (of(Method::EachRepair, each), of(Method::Limit, 0));
            assert!(of(Method::OneWorst, 0) < one && one < each, "seed {seed}: {one} {each}");
            assert!(each <= repair && repair <= limit, "seed {seed}: {each} {repair} {limit}");
            assert!(of(Method::Company, each) >= repair, "seed {seed}");
        }
    }

    #[test]
    fn one_queue_is_charged_its_longest_segment() {
        let fleet = Fleet::draw(1);
        let set = |load| fleet.set(load, 8, &fleet.slowdowns(3_800)).expect("legal");
        assert!(density(&set(300)));
        assert!(!density(&set(2_000)), "blocking alone exceeds the shortest period");
    }
}
