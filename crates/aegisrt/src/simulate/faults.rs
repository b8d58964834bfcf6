//! Faults that a simulation injects, one kind a run, so that it can be said beforehand what must be left standing.

use aegis_sched::{Arrival, Certificate, OnOverrun, Task, TaskSet};
use aegis_types::{LaneId, Nanos, TaskId, Time};

use crate::feed::SplitMix;

/// Faults injected in one run.
const STRIKES: u64 = 3;

/// What goes wrong in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultClass {
    /// Nothing.
    None,
    /// One segment, at the start of a busy period, takes exactly so much longer than its budget.
    Exactly(LaneId, Nanos),
    /// Segments of one lane overrun their budgets, by no more than the lane tolerates in a busy period.
    Tolerated,
    /// Segments of one lane overrun their budgets by more than it tolerates.
    Excessive,
    /// A segment occupies its lane for a very long time and then ends.
    Hang,
    /// Segments of one lane fail after they started.
    Fails,
    /// Launches of one lane fail before anything ran.
    NotStarted,
    /// The driver's thread is stalled for longer than declared.
    HostStall,
    /// Timers are served late, by less than counts as a stall.
    LateTick,
    /// A client submits far more often than its contract allows.
    Flood,
    /// Budgets are overrun on two lanes at once.
    TwoLanes,
}

impl FaultClass {
    /// Every class that a fault run may draw.
    pub const ALL: &'static [Self] = &[
        Self::Tolerated,
        Self::Excessive,
        Self::Hang,
        Self::Fails,
        Self::NotStarted,
        Self::HostStall,
        Self::LateTick,
        Self::Flood,
        Self::TwoLanes,
    ];
}

/// What happens to one launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strike {
    /// It takes so much longer.
    Longer(Nanos),
    /// It takes its longest occupancy, and so much longer.
    Beyond(Nanos),
    /// It fails at its end.
    Fails,
    /// It is refused before anything ran.
    NotStarted,
}

/// A strike, and the launch that it meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedStrike {
    /// The lane.
    pub lane: LaneId,
    /// The first launch at or after this instant.
    pub from: Time,
    /// Only a launch that opens a busy period.
    pub opening: bool,
    /// What happens.
    pub strike: Strike,
}

/// Submissions beyond a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flood {
    /// The task.
    pub task: TaskId,
    /// When the first is visible.
    pub from: Time,
    /// How many.
    pub count: u64,
    /// Time between them.
    pub gap: Nanos,
}

/// The faults of one run.
#[derive(Clone, Debug)]
pub struct FaultPlan {
    /// What goes wrong.
    pub class: FaultClass,
    /// Faults of launches.
    pub strikes: Vec<PlannedStrike>,
    /// When the driver's thread is stalled, and for how long, by rising instant.
    pub stalls: Vec<(Time, Nanos)>,
    /// Floods.
    pub floods: Vec<Flood>,
}

impl FaultPlan {
    /// No fault.
    pub const fn none() -> Self {
        Self { class: FaultClass::None, strikes: Vec::new(), stalls: Vec::new(), floods: Vec::new() }
    }

    /// Whether nothing goes wrong.
    pub const fn is_none(&self) -> bool {
        matches!(self.class, FaultClass::None)
    }

    /// One overrun of exactly X, a random part of what a random lane tolerates; `None` if no lane tolerates any.
    pub fn exact(draw: &mut SplitMix, certificate: &Certificate) -> Option<Self> {
        let lanes: Vec<_> = certificate.lanes().iter().filter(|lane| !lane.tolerance().is_zero()).collect();
        let lane = lanes.get(draw.below(lanes.len() as u64) as usize)?;
        let most = lane.tolerance().get();
        // A quarter of them at the very edge, where a bound too small by one would show.
        let overrun = Nanos::new(if draw.below(4) == 0 { most } else { 1 + draw.below(most) });
        let strike = PlannedStrike {
            lane: lane.lane(),
            from: Time::ZERO,
            opening: true,
            strike: Strike::Beyond(overrun),
        };
        let class = FaultClass::Exactly(lane.lane(), overrun);
        Some(Self { class, strikes: vec![strike], ..Self::none() })
    }

    /// Faults of a random class that this set can suffer, within `horizon`.
    pub fn draw(draw: &mut SplitMix, set: &TaskSet, certificate: &Certificate, horizon: Nanos) -> Self {
        let class = FaultClass::ALL[draw.below(FaultClass::ALL.len() as u64) as usize];
        let mut plan = Self { class, ..Self::none() };
        let lanes: Vec<LaneId> = certificate
            .lanes()
            .iter()
            .filter(|lane| !lane.tasks().is_empty())
            .map(|lane| lane.lane())
            .collect();
        let lane = lanes[draw.below(lanes.len() as u64) as usize];
        let mut instants: Vec<Time> =
            (0..STRIKES).map(|_| Time::new(draw.below(horizon.get() / 4 * 3))).collect();
        instants.sort_unstable();
        let stall = set.platform().overheads.stall.get();
        for &from in &instants {
            match class {
                FaultClass::HostStall => {
                    plan.stalls.push((from, Nanos::new(stall + 1 + draw.below(20 * stall))));
                }
                FaultClass::LateTick => {
                    plan.stalls.push((from, Nanos::new(stall / 2 + draw.below(stall / 2))))
                }
                FaultClass::Flood => plan.floods.extend(flood(draw, set, from)),
                FaultClass::TwoLanes => {
                    plan.strike(draw, certificate, lane, from);
                    let other = lanes[draw.below(lanes.len() as u64) as usize];
                    plan.strike(draw, certificate, other, from);
                }
                _ => plan.strike(draw, certificate, lane, from),
            }
        }
        plan
    }

    /// The lane that every strike of the plan meets, if there is exactly one.
    pub fn only_lane(&self) -> Option<LaneId> {
        let first = self.strikes.first()?.lane;
        self.strikes.iter().all(|strike| strike.lane == first).then_some(first)
    }

    fn strike(&mut self, draw: &mut SplitMix, certificate: &Certificate, lane: LaneId, from: Time) {
        let Some(lane) = certificate.lanes().iter().find(|it| it.lane() == lane) else { return };
        let tolerance = lane.tolerance().get();
        let largest =
            lane.tasks().iter().flat_map(|task| &task.segments).map(|it| it.get()).max().unwrap_or(1);
        let (opening, strike) = match self.class {
            FaultClass::Tolerated if tolerance == 0 => return,
            FaultClass::Tolerated => (true, Strike::Longer(Nanos::new(1 + draw.below(tolerance)))),
            FaultClass::Excessive | FaultClass::TwoLanes => {
                (false, Strike::Beyond(Nanos::new(tolerance + 1 + draw.below(2 * largest))))
            }
            FaultClass::Hang => {
                (false, Strike::Beyond(Nanos::new(tolerance + 20_000_000 + draw.below(50_000_000))))
            }
            FaultClass::Fails => (false, Strike::Fails),
            FaultClass::NotStarted => (false, Strike::NotStarted),
            FaultClass::None
            | FaultClass::Exactly(..)
            | FaultClass::HostStall
            | FaultClass::LateTick
            | FaultClass::Flood => return,
        };
        self.strikes.push(PlannedStrike { lane: lane.lane(), from, opening, strike });
    }
}

fn flood(draw: &mut SplitMix, set: &TaskSet, from: Time) -> Option<Flood> {
    let clients: Vec<TaskId> =
        set.tasks().iter().filter(|task| task.arrival == Arrival::Sporadic).map(|task| task.id).collect();
    let task = *clients.get(draw.below(clients.len() as u64) as usize)?;
    Some(Flood { task, from, count: 5 + draw.below(40), gap: Nanos::new(draw.below(200_000)) })
}

/// Whether queued jobs of a task may be dropped.
pub fn sheds(task: &Task) -> bool {
    task.on_overrun == OnOverrun::Skip
}
