//! Seeded task sets: what a simulation is about, the same on every machine.
//!
//! Only integers are drawn, so that no library of mathematics makes two machines disagree. Periods are log-uniform by
//! rejection; the utilisations of a lane are a uniform point of the simplex, as UUniFast draws them (Bini, Buttazzo
//! 2005), by cutting a stick at sorted places. A set that admission refuses has its budgets shrunk, lane by lane, a few
//! times: what is left refused is counted as such.

use aegis_sched::analysis::{LaneProblem, decide};
use aegis_sched::exclusion::{Exclusion, ExclusionError};
use aegis_sched::{
    Arrival, Basis, Criticality, ModelError, OccupancyBudget, OnOverrun, Overheads, PartitionModel, Platform,
    PolicyClass, SchedulingPolicy, Task, TaskSet, charge,
};
use aegis_types::{LaneId, Nanos, TaskId};

use super::policy::PolicyChoice;
use crate::feed::SplitMix;

/// Shortest period.
const PERIOD_MIN: u64 = 1_000_000;
/// Longest period.
const PERIOD_MAX: u64 = 100_000_000;
/// One, in parts per million.
const WHOLE: u64 = 1_000_000;
/// How often the budgets of a lane are shrunk before the set counts as refused.
const SHRINKS: u32 = 8;

/// How the simulated runtime spends the time that the analysis charges for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Latency {
    /// The runtime takes no time of its own, and segments take all that is charged for them: occupancies reach C'
    /// and releases reach J' to the nanosecond, which is the worst that the theorem allows.
    Crisp,
    /// Every step of the runtime takes a drawn share of its calibrated maximum.
    Drawn,
    /// Every step of the runtime takes its calibrated maximum.
    Slowest,
}

/// One seeded world to simulate.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The seed it was drawn from.
    pub seed: u64,
    /// The tasks on their platform.
    pub set: TaskSet,
    /// The policy.
    pub policy: PolicyChoice,
    /// What the runtime itself takes.
    pub latency: Latency,
    /// By number of other busy lanes: how much a segment is stretched, in parts per million.
    pub slowdown: Vec<u64>,
    /// By task: the shortest occupancy as a share of the longest, in parts per million.
    pub shortest: Vec<u64>,
    /// By task: how many of 256 segments take their longest occupancy.
    pub longest_share: Vec<u64>,
    /// By task: the part of each of its budgets that is waiting for excluded segments, and no execution.
    pub waits: Vec<Nanos>,
}

impl Scenario {
    /// The scenario of a seed.
    ///
    /// # Errors
    /// [`ModelError`] if the generator drew a set that is no model, which is a defect of the generator.
    pub fn generate(seed: u64) -> Result<Self, ModelError> {
        let mut draw = SplitMix(seed ^ 0x5851_F42D_4C95_7F2D);
        let platform = platform(&mut draw)?;
        let policy = PolicyChoice::ALL[draw.below(PolicyChoice::ALL.len() as u64) as usize];
        let count = if seed.is_multiple_of(3) { 15 + draw.below(16) } else { 2 + draw.below(13) };
        let mut tasks = tasks(&mut draw, count as usize, platform.lanes(), policy.class());
        let latency =
            [Latency::Crisp, Latency::Crisp, Latency::Drawn, Latency::Slowest][draw.below(4) as usize];
        let contended = latency != Latency::Crisp && draw.below(2) == 0;
        let slowdown = if contended { slowdown(&mut draw, platform.lanes()) } else { Vec::new() };
        shrink(&mut tasks, &platform, policy)?;
        let shortest = tasks.iter().map(|_| [WHOLE, 900_000, 300_000][draw.below(3) as usize]).collect();
        let longest_share = tasks.iter().map(|_| [256, 200, 64][draw.below(3) as usize]).collect();
        let waits = keep_apart(seed, &mut tasks, &platform, policy)?;
        let set = TaskSet::new(tasks, platform)?;
        Ok(Self { seed, set, policy, latency, slowdown, shortest, longest_share, waits })
    }

    /// Whether some tasks must not run beside each other: lanes then wait for each other, and what one overruns
    /// others may overrun too.
    pub fn excludes(&self) -> bool {
        self.set.tasks().iter().any(|task| !task.excludes.is_empty())
    }

    /// The tasks that clients submit to.
    pub fn sporadic(&self) -> impl Iterator<Item = &Task> {
        self.set.tasks().iter().filter(|task| task.arrival == Arrival::Sporadic)
    }
}

fn platform(draw: &mut SplitMix) -> Result<Platform, ModelError> {
    let lanes = 1 + draw.below(8);
    let count = 1 + draw.below(lanes.min(4));
    let mut partitions: Vec<PartitionModel> =
        (0..count).map(|index| PartitionModel { name: format!("part_{index}"), lanes: 1 }).collect();
    for _ in count..lanes {
        let grows = draw.below(count) as usize;
        partitions[grows].lanes += 1;
    }
    Platform::new(partitions, overheads(draw))
}

/// Every overhead is above zero. The stall limit lies above the wake-up, or every wake-up would be a stall.
fn overheads(draw: &mut SplitMix) -> Overheads {
    let mut span = |low: u64, high: u64| Nanos::new(low + draw.below(high - low));
    Overheads {
        poll: span(50, 500),
        release: span(20, 200),
        arrival: span(20, 200),
        completion: span(20, 200),
        decision: span(50, 400),
        dispatch: span(50, 400),
        control: span(20, 200),
        handoff: span(200, 5_000),
        launch_lock: span(1, 500),
        wakeup: span(500, 10_000),
        client: span(500, 10_000),
        notify: span(500, 10_000),
        stall: span(10_000, 200_000),
    }
}

fn tasks(draw: &mut SplitMix, count: usize, lanes: usize, class: PolicyClass) -> Vec<Task> {
    let mut periods: Vec<u64> = (0..count).map(|_| period(draw)).collect();
    // Tasks of similar periods together, as an assignment by deadline leaves them, but for a quarter of the sets.
    let together = draw.below(4) != 0;
    if together {
        periods.sort_unstable();
    }
    let lane_of: Vec<u64> = (0..count)
        .map(|index| if together { (index * lanes / count) as u64 } else { draw.below(lanes as u64) })
        .collect();
    let mut shares = vec![0; count];
    for lane in 0..lanes as u64 {
        let mine: Vec<usize> = (0..count).filter(|&index| lane_of[index] == lane).collect();
        let total = 200_000 + draw.below(750_001);
        for (index, share) in mine.iter().zip(simplex(draw, mine.len(), total)) {
            shares[*index] = share;
        }
    }
    (0..count).map(|index| task(draw, index, lane_of[index], periods[index], shares[index], class)).collect()
}

/// Log-uniform: a uniform draw is kept with a probability proportional to its inverse.
fn period(draw: &mut SplitMix) -> u64 {
    loop {
        let period = PERIOD_MIN + draw.below(PERIOD_MAX - PERIOD_MIN + 1);
        if draw.below(period) < PERIOD_MIN {
            return period;
        }
    }
}

/// `count` parts of `total`, uniform over the simplex.
fn simplex(draw: &mut SplitMix, count: usize, total: u64) -> Vec<u64> {
    let mut cuts: Vec<u64> = (1..count).map(|_| draw.below(total + 1)).collect();
    cuts.extend([0, total]);
    cuts.sort_unstable();
    cuts.windows(2).take(count).map(|pair| pair[1] - pair[0]).collect()
}

fn task(draw: &mut SplitMix, index: usize, lane: u64, period: u64, share: u64, class: PolicyClass) -> Task {
    let work = (period / WHOLE * share).max(3_000);
    let segments = 1 + draw.below(3);
    let deadline = deadline(draw, period, class);
    let sporadic = draw.below(2) == 0;
    let jitter = if draw.below(2) == 0 { 0 } else { draw.below(period / 5) };
    let offset = if draw.below(2) == 0 { 0 } else { draw.below(period) };
    let id = u16::try_from(index).expect("a generated set has at most 30 tasks");
    Task {
        id: TaskId::new(id),
        name: format!("model_{index}"),
        lane: LaneId::new(u16::try_from(lane).expect("a generated platform has at most 8 lanes")),
        period: Nanos::new(period),
        deadline: Nanos::new(deadline),
        jitter: Nanos::new(jitter),
        arrival: if sporadic { Arrival::Sporadic } else { Arrival::Periodic { offset: Nanos::new(offset) } },
        segments: simplex(draw, segments as usize, work).into_iter().map(budget).collect(),
        priority: (draw.below(8) != 0).then(|| draw.below(20) as u32),
        criticality: [Criticality::Low, Criticality::Medium, Criticality::High][draw.below(3) as usize],
        on_overrun: if draw.below(2) == 0 { OnOverrun::Skip } else { OnOverrun::Keep },
        retries: [0, 0, 0, 1, 2][draw.below(5) as usize],
        weight: 1 + draw.below(3) as u32,
        excludes: Vec::new(),
    }
}

/// Implicit, constrained or arbitrary. Classes that know no urgency are certified only where deadlines leave room.
fn deadline(draw: &mut SplitMix, period: u64, class: PolicyClass) -> u64 {
    let patient =
        matches!(class, PolicyClass::ArrivalOrder | PolicyClass::WorkConserving | PolicyClass::Fair);
    match draw.below(if patient { 5 } else { 3 }) {
        0 => period,
        1 => period * (60 + draw.below(41)) / 100,
        2 => period + draw.below(3 * period),
        _ => period + draw.below(10 * period),
    }
}

fn budget(span: u64) -> OccupancyBudget {
    OccupancyBudget { bound: Nanos::new(span.max(1_000)), basis: Basis::Declared }
}

/// What contention costs beside so many busy lanes: it never falls as lanes are added.
fn slowdown(draw: &mut SplitMix, lanes: usize) -> Vec<u64> {
    let mut ppm = WHOLE;
    (0..lanes)
        .map(|others| {
            ppm += if others == 0 { 0 } else { draw.below(300_000) };
            ppm
        })
        .collect()
}

/// Shrinks the budgets of every lane that is not feasible, by a third at a time.
fn shrink(tasks: &mut [Task], platform: &Platform, policy: PolicyChoice) -> Result<(), ModelError> {
    let policy: Box<dyn SchedulingPolicy> = policy.make();
    for _ in 0..SHRINKS {
        let set = TaskSet::new(tasks.to_vec(), platform.clone())?;
        let tight = tight_lanes(&set, policy.as_ref())?;
        if tight.is_empty() {
            return Ok(());
        }
        tasks.iter_mut().filter(|task| tight.contains(&task.lane)).for_each(by_a_third);
    }
    Ok(())
}

fn by_a_third(task: &mut Task) {
    for segment in &mut task.segments {
        *segment = budget(segment.bound.get() * 2 / 3);
    }
}

/// Lanes that are not feasible.
fn tight_lanes(set: &TaskSet, policy: &dyn SchedulingPolicy) -> Result<Vec<LaneId>, ModelError> {
    let charged = charge(set)?;
    let lanes = (0..set.platform().lanes()).filter_map(|lane| u16::try_from(lane).ok()).map(LaneId::new);
    let tight = |lane: &LaneId| decide(&LaneProblem::of_lane(set, &charged, policy, *lane)).is_err();
    Ok(lanes.filter(tight).collect())
}

/// Keeps some tasks of one set in five apart, and adds their waiting to the budgets; returns it by task. Waiting comes
/// from other lanes, so that budgets are shrunk on all of them. Drawn from a stream of its own: sets without exclusion are
/// what they would be if there were none.
fn keep_apart(
    seed: u64,
    tasks: &mut Vec<Task>,
    platform: &Platform,
    policy: PolicyChoice,
) -> Result<Vec<Nanos>, ModelError> {
    let mut draw = SplitMix(seed ^ 0x4558_434C_5544_4531);
    let count = tasks.len() as u64;
    if platform.lanes() > 1 && draw.below(5) == 0 {
        for _ in 0..1 + draw.below(4) {
            let (one, other) = (draw.below(count) as usize, draw.below(count) as usize);
            if tasks[one].lane != tasks[other].lane {
                let other = tasks[other].id;
                tasks[one].excludes.push(other);
            }
        }
    }
    if tasks.iter().all(|task| task.excludes.is_empty()) {
        return Ok(vec![Nanos::ZERO; tasks.len()]);
    }
    let mut shrinks = 0;
    loop {
        let apart = TaskSet::new(tasks.clone(), platform.clone())?;
        let beside = match Exclusion::of(&apart).beside(&apart) {
            Ok(beside) => beside,
            Err(ExclusionError::Model(error)) => return Err(error),
            Err(error) => return Err(ModelError::Platform { reason: error.to_string() }),
        };
        if shrinks == SHRINKS || tight_lanes(&beside, policy.make().as_ref())?.is_empty() {
            *tasks = beside.tasks().to_vec();
            return Ok(waits(&beside, &apart));
        }
        tasks.iter_mut().for_each(by_a_third);
        shrinks += 1;
    }
}

/// By task, what each budget of a set has more than that of the same set without waiting.
pub fn waits(beside: &TaskSet, apart: &TaskSet) -> Vec<Nanos> {
    let first = |task: &Task| task.segments.first().map_or(Nanos::ZERO, |segment| segment.bound);
    let pairs = beside.tasks().iter().zip(apart.tasks());
    pairs.map(|(beside, apart)| first(beside).saturating_sub(first(apart))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_cover_what_they_are_meant_to() {
        let scenarios: Vec<Scenario> =
            (0..90).map(|seed| Scenario::generate(seed).expect("a model")).collect();
        let count = |holds: fn(&Scenario) -> bool| scenarios.iter().filter(|it| holds(it)).count();
        assert_eq!(count(|it| it.set.tasks().len() >= 15), 30);
        assert!(scenarios.iter().all(|it| (2..=30).contains(&it.set.tasks().len())));
        for lanes in 1..=8 {
            assert!(scenarios.iter().any(|it| it.set.platform().lanes() == lanes), "{lanes} lanes");
        }
        assert!(count(|it| it.set.platform().partitions.len() == 4) > 0);
        assert!(count(|it| it.sporadic().count() > 0) > 80);
        assert!(count(|it| !it.slowdown.is_empty()) > 10);
        assert!(count(|it| it.excludes() && it.waits.iter().any(|wait| !wait.is_zero())) > 5);
        assert!(count(|it| it.waits.len() == it.set.tasks().len()) == 90);
        for policy in PolicyChoice::ALL {
            assert!(scenarios.iter().any(|it| it.policy == *policy), "{policy:?}");
        }
        let periods = scenarios.iter().flat_map(|it| it.set.tasks()).map(|task| task.period.get());
        let (short, all) =
            periods.fold((0, 0), |(short, all), it| (short + u32::from(it < 10_000_000), all + 1));
        assert!(
            short * 100 > all * 40 && short * 100 < all * 60,
            "half of the periods lie below 10 ms: {short}/{all}"
        );
    }

    #[test]
    fn equal_seeds_give_equal_scenarios() {
        let text = |seed| format!("{:?}", Scenario::generate(seed).expect("a model"));
        assert_eq!(text(5), text(5));
        assert_ne!(text(5), text(6));
    }

    #[test]
    fn parts_add_up() {
        let mut draw = SplitMix(3);
        for count in 1..9 {
            let parts = simplex(&mut draw, count, 1_000);
            assert_eq!((parts.len(), parts.iter().sum::<u64>()), (count, 1_000));
        }
        assert!(simplex(&mut draw, 0, 1_000).is_empty());
    }
}
