//! The question of capacity, without a device: a fleet whose periods are scaled together until it just fits.
//!
//! Load is counted as execution alone over period, summed over the tasks, in thousandths (1,000 is a device that one
//! job at a time keeps busy). Every load that is reported was certified by admission itself, referee included; the
//! search in between uses the lane test only.

use aegis_sched::admission::{AdmissionController, AdmissionRequest};
use aegis_sched::analysis::decide;
use aegis_sched::analysis::problem::LaneProblem;
use aegis_sched::assign::{LaneChoice, assign};
use aegis_sched::platform::charge;
use aegis_sched::{
    Arrival, Basis, Criticality, ModelError, OccupancyBudget, OnOverrun, Platform, Task, TaskSet, policy,
};
use aegis_types::{LaneId, Nanos, TaskId};

/// A deadline that equals the period.
pub const WHOLE: u64 = 1_000_000;

/// The policy of every experiment.
const POLICY: policy::EarliestDeadline = policy::EarliestDeadline;

/// A task whose period is still open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// Its name.
    pub name: String,
    /// Execution alone: median from launch to completion seen, with the device to itself.
    pub alone: Nanos,
    /// Its period at the load of [`Case::natural_load`].
    pub natural: Nanos,
    /// Its deadline in millionths of its period: [`WHOLE`] for one that equals it.
    pub deadline_ppm: u64,
    /// First release, in thousandths of its period.
    pub phase: u64,
    /// C^B of each segment.
    pub budgets: Vec<Nanos>,
    /// Lanes that it may use.
    pub lanes: Vec<LaneId>,
    /// Where the budgets come from.
    pub basis: Basis,
}

/// A fleet with open periods on a platform.
#[derive(Clone, Debug)]
pub struct Case {
    /// The platform with its overheads.
    pub platform: Platform,
    /// The tasks.
    pub tasks: Vec<Open>,
}

/// How lanes are found for tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fit {
    /// Largest utilisation first, each to the emptiest lane; the lanes are tested when all are placed.
    Worst,
    /// Shortest deadline first, each to the fullest lane that still meets every deadline.
    Best,
    /// These.
    Fixed(Vec<LaneId>),
}

/// A load that is certified, with the lanes that do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fitted {
    /// Sum of execution alone over period, in thousandths.
    pub load: u64,
    /// The lanes, by task.
    pub lanes: Vec<LaneId>,
}

impl Open {
    /// Its deadline at a period, rounded down.
    pub fn deadline(&self, period: Nanos) -> Nanos {
        let span = u128::from(period.get()) * u128::from(self.deadline_ppm.min(WHOLE)) / u128::from(WHOLE);
        Nanos::new(u64::try_from(span).unwrap_or(u64::MAX).max(1))
    }

    /// First release at a period.
    pub fn offset(&self, period: Nanos) -> Nanos {
        let offset = u128::from(period.get()) * u128::from(self.phase) / 1_000;
        Nanos::new(u64::try_from(offset).unwrap_or(0))
    }
}

impl Case {
    /// The load with natural periods, in thousandths.
    pub fn natural_load(&self) -> u64 {
        let shares =
            self.tasks.iter().map(|task| task.alone.get() as f64 * 1e3 / task.natural.get().max(1) as f64);
        shares.sum::<f64>().round() as u64
    }

    /// The periods at a load: natural ones times one factor.
    pub fn periods(&self, load: u64) -> Vec<Nanos> {
        let shares: f64 =
            self.tasks.iter().map(|task| task.alone.get() as f64 / task.natural.get().max(1) as f64).sum();
        let factor = shares * 1e3 / load.max(1) as f64;
        let period = |task: &Open| Nanos::new(((task.natural.get() as f64 * factor).round() as u64).max(1));
        self.tasks.iter().map(period).collect()
    }

    /// The task set at a load, each task on its lane.
    ///
    /// # Errors
    /// As [`TaskSet::new`].
    pub fn set(&self, load: u64, lanes: &[LaneId]) -> Result<TaskSet, ModelError> {
        let periods = self.periods(load);
        let task = |(position, open): (usize, &Open)| {
            let period = periods[position];
            let offset = open.offset(period);
            Task {
                // A fleet of an experiment has tens of tasks.
                id: TaskId::new(position as u16),
                name: open.name.clone(),
                lane: lanes.get(position).copied().unwrap_or_default(),
                period,
                deadline: open.deadline(period),
                jitter: Nanos::ZERO,
                arrival: Arrival::Periodic { offset },
                segments: open.budgets.iter().map(|bound| budget(*bound, &open.basis)).collect(),
                priority: None,
                criticality: Criticality::Medium,
                on_overrun: OnOverrun::Keep,
                retries: 0,
                weight: 1,
                excludes: Vec::new(),
            }
        };
        TaskSet::new(self.tasks.iter().enumerate().map(task).collect(), self.platform.clone())
    }

    /// The same case with other budgets, by task.
    #[must_use]
    pub fn with_budgets(&self, budgets: &[Vec<Nanos>]) -> Self {
        let mut case = self.clone();
        for (task, budgets) in case.tasks.iter_mut().zip(budgets) {
            task.budgets.clone_from(budgets);
        }
        case
    }

    /// Lanes for every task at a load, if the fit finds any on which every lane passes its test.
    pub fn fit(&self, load: u64, fit: &Fit) -> Option<Vec<LaneId>> {
        let start: Vec<LaneId> =
            self.tasks.iter().map(|task| task.lanes.first().copied().unwrap_or_default()).collect();
        let lanes = match fit {
            Fit::Fixed(lanes) => lanes.clone(),
            Fit::Worst => worst_fit(&self.set(load, &start).ok()?, &self.tasks),
            Fit::Best => {
                let set = self.set(load, &start).ok()?;
                let choices: Vec<LaneChoice> =
                    self.tasks.iter().map(|task| LaneChoice::Among(task.lanes.clone())).collect();
                let found = assign(&set, &choices, &POLICY).ok()?;
                if !found.unplaced.is_empty() {
                    return None;
                }
                found.lanes
            }
        };
        passes(&self.set(load, &lanes).ok()?).then_some(lanes)
    }

    /// The highest load, a multiple of `step` thousandths up to `most`, that is certified. A lane holds a load of one
    /// at most, because no budget is shorter than the execution alone.
    pub fn capacity(&self, fit: &Fit, step: u64, most: u64) -> Option<Fitted> {
        let (step, most) = (step.max(1), most.min(self.platform.lanes() as u64 * 1_000));
        // From above, and not by halving: under a heuristic fit a higher load may pass where a lower one does not.
        (1..=most / step).rev().map(|count| count * step).find_map(|load| {
            let lanes = self.fit(load, fit)?;
            let set = self.set(load, &lanes).ok()?;
            is_certified(&set).then_some(Fitted { load, lanes })
        })
    }

    /// The highest load on these lanes, to 1 %, by halving: for searches that ask thousands of times.
    pub fn quick_capacity(&self, lanes: &[LaneId], most: u64) -> u64 {
        highest(most, 100, |load| self.set(load, lanes).is_ok_and(|set| passes(&set)))
    }

    /// By how much all deadlines could be shortened at a load on these lanes, in millionths of themselves, to a
    /// thousandth; zero if they are not met as they are. By halving, as [`quick_capacity`](Self::quick_capacity).
    pub fn quick_slack(&self, lanes: &[LaneId], load: u64) -> u64 {
        highest(WHOLE, 1_000, |slack| {
            let mut case = self.clone();
            for task in &mut case.tasks {
                task.deadline_ppm = task.deadline_ppm * WHOLE.saturating_sub(slack) / WHOLE;
            }
            case.set(load, lanes).is_ok_and(|set| passes(&set))
        })
    }

    /// Lanes that share out what all tasks ask for, whether or not that is more than they can carry.
    pub fn balanced(&self) -> Option<Vec<LaneId>> {
        let anywhere = vec![LaneId::default(); self.tasks.len()];
        Some(worst_fit(&self.set(self.natural_load(), &anywhere).ok()?, &self.tasks))
    }
}

/// The highest number below `most` that fits, to one `part`th of it, where whatever is less than a number that fits does
/// so too.
fn highest(most: u64, part: u64, fits: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (0u64, most);
    while high - low > (high / part).max(1) {
        let middle = low.midpoint(high);
        if fits(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

fn budget(bound: Nanos, basis: &Basis) -> OccupancyBudget {
    OccupancyBudget { bound: bound.max(Nanos::new(1)), basis: basis.clone() }
}

/// Whether every lane meets its deadlines, by the solvers alone.
fn passes(set: &TaskSet) -> bool {
    let Ok(charged) = charge(set) else { return false };
    LaneProblem::of_lanes(set, charged, &POLICY)
        .iter()
        .all(|problem| problem.tasks.is_empty() || decide(problem).is_ok())
}

/// Whether admission certifies the set with response times, as a run needs it.
pub fn is_certified(set: &TaskSet) -> bool {
    AdmissionController::new(Box::new(POLICY)).analyze(&AdmissionRequest::new(set).tight()).is_admitted()
}

fn worst_fit(set: &TaskSet, open: &[Open]) -> Vec<LaneId> {
    let demand = |task: &Task| {
        let cost: u64 = task.segments.iter().map(|segment| segment.bound.get()).sum();
        u64::try_from(u128::from(cost) * 1_000_000_000 / u128::from(task.period.get())).unwrap_or(u64::MAX)
    };
    let mut order: Vec<&Task> = set.tasks().iter().collect();
    order.sort_by_key(|task| (std::cmp::Reverse(demand(task)), task.id));
    let mut loads = vec![0u64; set.platform().lanes()];
    let mut lanes = vec![LaneId::default(); set.tasks().len()];
    for task in order {
        let allowed = &open[task.id.index()].lanes;
        let emptiest = allowed.iter().min_by_key(|lane| (loads[lane.index()], **lane)).copied();
        let lane = emptiest.unwrap_or_default();
        loads[lane.index()] = loads[lane.index()].saturating_add(demand(task));
        lanes[task.id.index()] = lane;
    }
    lanes
}

#[cfg(test)]
pub(super) mod tests {
    use aegis_sched::{Overheads, PartitionModel};

    use super::*;

    /// `count` tasks of 100 to 290 us with budgets twice as long, on `lanes` lanes; each gets an equal share.
    pub(in super::super) fn case(count: u64, lanes: u16) -> Case {
        let partitions = vec![PartitionModel { name: "all".into(), lanes }];
        let platform = Platform::new(partitions, Overheads::default()).expect("lanes");
        let tasks = (0..count).map(|n| {
            let alone = Nanos::from_micros(100 + n * 10);
            Open {
                name: format!("task_{n}"),
                alone,
                natural: Nanos::new(alone.get() * count),
                deadline_ppm: WHOLE,
                phase: n * 37 % 1_000,
                budgets: vec![Nanos::new(alone.get() * 2)],
                lanes: (0..lanes).map(LaneId::new).collect(),
                basis: Basis::Declared,
            }
        });
        Case { platform, tasks: tasks.collect() }
    }

    #[test]
    fn periods_give_the_load_that_was_asked_for() {
        let case = case(20, 4);
        assert_eq!(case.natural_load(), 1_000);
        for load in [100, 1_000, 2_250] {
            let periods = case.periods(load);
            let total: f64 =
                case.tasks.iter().zip(&periods).map(|(t, p)| t.alone.get() as f64 / p.get() as f64).sum();
            assert!((total * 1e3 - load as f64).abs() < 0.1, "{load}: {total}");
        }
    }

    #[test]
    fn no_fit_certifies_more_than_the_lanes_hold() {
        for lanes in [1, 2, 4] {
            let case = case(20, lanes);
            for fit in [Fit::Worst, Fit::Best] {
                let found = case.capacity(&fit, 10, 4_000).expect("a light load fits");
                // Budgets are twice the execution alone, so each lane holds at most half a load.
                assert!(found.load <= 500 * u64::from(lanes), "{lanes} {fit:?}: {}", found.load);
                assert!(found.load > 100 * u64::from(lanes), "{lanes} {fit:?}: {}", found.load);
                assert!(is_certified(&case.set(found.load, &found.lanes).expect("a set")));
                assert_eq!(case.fit(found.load, &Fit::Fixed(found.lanes.clone())), Some(found.lanes));
            }
        }
    }

    #[test]
    fn halving_agrees_with_the_scan() {
        let case = case(12, 2);
        let found = case.capacity(&Fit::Best, 5, 2_000).expect("fits");
        let quick = case.quick_capacity(&found.lanes, 2_000);
        assert!(quick + 20 >= found.load, "{quick} is far below {}", found.load);
        assert!(is_certified(&case.set(quick, &found.lanes).expect("a set")));
    }

    #[test]
    fn slack_is_what_deadlines_can_do_without() {
        let case = case(12, 2);
        let found = case.capacity(&Fit::Best, 5, 2_000).expect("fits");
        let slack = |load: u64| case.quick_slack(&found.lanes, load);
        assert!(slack(found.load / 4) > slack(found.load / 2) && slack(found.load / 2) > slack(found.load));
        let mut shorter = case.clone();
        shorter.tasks.iter_mut().for_each(|task| task.deadline_ppm = WHOLE - slack(found.load / 4));
        assert!(is_certified(&shorter.set(found.load / 4, &found.lanes).expect("a set")));
        assert_eq!(slack(found.load * 3), 0);
        let lanes = case.balanced().expect("a set");
        let demand = |lane: u16| {
            let own = case.tasks.iter().zip(&lanes).filter(|(_, on)| on.get() == lane);
            own.map(|(task, _)| task.alone.get() as f64 / task.natural.get() as f64).sum::<f64>()
        };
        assert!((demand(0) - demand(1)).abs() < 0.1, "{lanes:?}");
    }

    #[test]
    fn tasks_stay_on_the_lanes_that_they_may_use() {
        let mut case = case(10, 4);
        for (n, task) in case.tasks.iter_mut().enumerate() {
            task.lanes = if n % 2 == 0 { vec![LaneId::new(0), LaneId::new(1)] } else { vec![LaneId::new(3)] };
        }
        for fit in [Fit::Worst, Fit::Best] {
            let found = case.capacity(&fit, 10, 2_000).expect("fits");
            for (task, lane) in case.tasks.iter().zip(&found.lanes) {
                assert!(task.lanes.contains(lane), "{fit:?}");
            }
        }
    }
}
