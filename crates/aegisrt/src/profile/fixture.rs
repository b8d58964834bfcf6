//! Lanes in virtual time whose occupancies depend, by a rule that the test knows, on what else is in flight.

use std::collections::VecDeque;

use aegis_types::records::SegmentOutcome;
use aegis_types::{DispatchSeq, LaneId, Nanos, TaskId, Time};

use super::bed::{Ran, TestBed};
use crate::mailbox::Launch;

/// What runs beside a launch, and what ran before it on its lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scene {
    /// What is launched.
    pub launch: Launch,
    /// Tasks in flight on other lanes.
    pub beside: Vec<TaskId>,
    /// The task that ran last on the same lane.
    pub before: Option<TaskId>,
}

/// How long a launch occupies its lane.
pub type Rule = Box<dyn FnMut(&Scene) -> Nanos>;

/// Lanes in virtual time.
pub struct VirtualBed {
    now: Time,
    lanes: Vec<Lane>,
    rule: Rule,
    /// Every launch in its scene.
    pub seen: Vec<Scene>,
    /// A task that fails.
    pub broken: Option<TaskId>,
    /// Whether occupancies begin with the post.
    pub from_post: bool,
    /// What a launch waits for before its entry, for each lane that was posted to at the same instant before it.
    pub turn: Nanos,
    /// How long lanes may be busy at a stretch.
    pub busy: Nanos,
    /// How often they rested.
    pub rests: usize,
    /// Instants at which the host stalls, in order; those that were told are gone.
    pub stalls: VecDeque<Time>,
    awake: Time,
}

#[derive(Clone, Copy, Debug, Default)]
struct Lane {
    finished: DispatchSeq,
    flight: Option<(Launch, Time, Time)>,
    last: Option<(Launch, Time, Time)>,
    posted: Option<Time>,
}

impl VirtualBed {
    /// So many lanes under that rule.
    pub fn new(lanes: usize, rule: impl FnMut(&Scene) -> Nanos + 'static) -> Self {
        let lanes = vec![Lane::default(); lanes];
        let (now, awake, rule, seen) = (Time::ZERO, Time::ZERO, Box::new(rule), Vec::new());
        let (from_post, turn, busy) = (false, Nanos::ZERO, Nanos::MAX);
        let (broken, rests, stalls) = (None, 0, VecDeque::new());
        Self { now, lanes, rule, seen, broken, from_post, turn, busy, rests, stalls, awake }
    }

    fn settle(&mut self) {
        for lane in &mut self.lanes {
            if let Some((launch, _, left)) = lane.flight
                && left <= self.now
            {
                lane.last = lane.flight.take();
                lane.finished = launch.dispatch;
            }
        }
    }
}

impl TestBed for &mut VirtualBed {
    fn lanes(&self) -> usize {
        self.lanes.len()
    }

    fn counts_from_post(&self) -> bool {
        self.from_post
    }

    fn now(&self) -> Time {
        self.now
    }

    fn finished(&mut self, lane: LaneId) -> DispatchSeq {
        self.lanes[lane.index()].finished
    }

    fn post(&mut self, lane: LaneId, launch: Launch) {
        self.settle();
        let (now, this) = (self.now, lane.index());
        assert!(self.lanes[this].flight.is_none(), "{lane} is busy");
        assert_eq!(launch.dispatch, self.lanes[this].finished.next(), "numbers go on");
        let others = self.lanes.iter().enumerate().filter(|(index, _)| *index != this);
        let beside = others.filter_map(|(_, lane)| Some(lane.flight?.0.job.task)).collect();
        let before = self.lanes[this].last.map(|(launch, _, _)| launch.job.task);
        let scene = Scene { launch, beside, before };
        let occupancy = (self.rule)(&scene);
        assert!(!occupancy.is_zero(), "virtual time has to pass");
        self.seen.push(scene);
        let ahead = self.lanes.iter().filter(|lane| lane.posted == Some(now)).count() as u64;
        let entered = now.saturating_add(Nanos::new(self.turn.get() * ahead));
        self.lanes[this].posted = Some(now);
        self.lanes[this].flight = Some((launch, entered, entered.saturating_add(occupancy)));
    }

    fn ended(&mut self, lane: LaneId, dispatch: DispatchSeq) -> Option<Ran> {
        self.settle();
        let (launch, entered, left) = self.lanes[lane.index()].last?;
        let failed = self.broken == Some(launch.job.task);
        let outcome = if failed { SegmentOutcome::Failed } else { SegmentOutcome::Done };
        let ran = Ran { outcome, entered, left };
        (launch.dispatch == dispatch).then_some(ran)
    }

    fn wait(&mut self, until: Time) {
        let ends = self.lanes.iter().filter_map(|lane| Some(lane.flight?.2));
        self.now = ends.chain([until]).min().unwrap_or(until).max(self.now);
        self.settle();
    }

    fn is_lost(&self, _: LaneId) -> bool {
        false
    }

    fn is_rest_due(&self, now: Time) -> bool {
        now.since(self.awake) >= self.busy
    }

    fn rest(&mut self) {
        self.settle();
        assert!(self.lanes.iter().all(|lane| lane.flight.is_none()), "somebody does not rest");
        self.rests += 1;
        self.now = self.now.saturating_add(Nanos::from_millis(60));
        self.awake = self.now;
    }

    fn stalled(&mut self) -> bool {
        let told = self.stalls.iter().take_while(|stall| **stall <= self.now).count();
        self.stalls.drain(..told).next().is_some()
    }
}
