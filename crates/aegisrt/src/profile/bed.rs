//! What a campaign drives: lanes that take a launch each, and a clock.

use aegis_cuda::HostClock;
use aegis_types::records::SegmentOutcome;
use aegis_types::{DispatchSeq, LaneId, Nanos, Time};

use crate::breath::Breath;
use crate::driver::Plant;
use crate::mailbox::Launch;
use crate::plant::HostPlant;

/// A launch that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ran {
    /// How it ended.
    pub outcome: SegmentOutcome,
    /// When the launch call was entered.
    pub entered: Time,
    /// When the flag was visible.
    pub left: Time,
}

/// Lanes to be driven in closed loop. The campaign on a plant and its tests in virtual time differ in this only.
pub trait TestBed {
    /// How many lanes there are.
    fn lanes(&self) -> usize;

    /// Whether an occupancy begins with the post, so that what the launch waited for on its way is in it; otherwise it
    /// begins with the entry of the launch call.
    fn counts_from_post(&self) -> bool;

    /// The time. Never goes back.
    fn now(&self) -> Time;

    /// The last dispatch that a lane finished, by whomever it was posted.
    fn finished(&mut self, lane: LaneId) -> DispatchSeq;

    /// Posts a launch to a lane, which is free.
    fn post(&mut self, lane: LaneId, launch: Launch);

    /// How the launch with that number ended, once it did.
    fn ended(&mut self, lane: LaneId, dispatch: DispatchSeq) -> Option<Ran>;

    /// Waits until something may have ended, at the latest at `until`.
    fn wait(&mut self, until: Time);

    /// Whether a lane will never end what was posted to it.
    fn is_lost(&self, lane: LaneId) -> bool;

    /// Whether lanes that are free must stay so until [`TestBed::rest`].
    fn is_rest_due(&self, now: Time) -> bool;

    /// Rests; every lane is idle.
    fn rest(&mut self);

    /// Whether the host was seen to stall since this was asked last, for longer than is declared.
    fn stalled(&mut self) -> bool;
}

/// The carriers of a plant as a test bed.
pub struct CrewBed<'a> {
    plant: &'a mut HostPlant,
    clock: HostClock,
    asynchronous: bool,
    stall: Nanos,
    breath: Breath,
}

impl<'a> CrewBed<'a> {
    /// The lanes of a plant whose carriers are ready. On an asynchronous device a launch call returns before the work is
    /// done, and the occupancy ends when the flag is seen here; there it begins with the post. Stalls up to `stall` are
    /// declared.
    pub fn new(plant: &'a mut HostPlant, clock: HostClock, asynchronous: bool, stall: Nanos) -> Self {
        Self { plant, clock, asynchronous, stall, breath: Breath::start(clock.now()) }
    }
}

impl TestBed for CrewBed<'_> {
    fn lanes(&self) -> usize {
        self.plant.lanes().len()
    }

    fn counts_from_post(&self) -> bool {
        self.asynchronous
    }

    fn now(&self) -> Time {
        self.plant.now()
    }

    fn finished(&mut self, lane: LaneId) -> DispatchSeq {
        self.plant.landed(lane).0
    }

    fn post(&mut self, lane: LaneId, launch: Launch) {
        self.plant.post(lane, launch);
    }

    fn ended(&mut self, lane: LaneId, dispatch: DispatchSeq) -> Option<Ran> {
        let (landed, outcome) = self.plant.landed(lane);
        if landed != dispatch {
            return None;
        }
        let landing = self.plant.lanes()[lane.index()].mailbox.landing();
        let left = if self.asynchronous { self.plant.now() } else { landing.left };
        self.plant.settle(lane);
        Some(Ran { outcome, entered: landing.entered, left })
    }

    fn wait(&mut self, until: Time) {
        // Lateness is no cost of the work; calibration measures it.
        let _late = self.plant.wait(Some(until));
    }

    fn is_lost(&self, lane: LaneId) -> bool {
        self.plant.lanes()[lane.index()].mailbox.is_dead()
    }

    fn is_rest_due(&self, now: Time) -> bool {
        self.breath.is_due(now)
    }

    fn rest(&mut self) {
        self.breath.take(self.clock);
        // A rest is no stall.
        let _rested = (self.plant.now(), self.plant.gap());
    }

    /// Where segments run on their carriers, these take down when they ended, and nobody's looks are in between.
    fn stalled(&mut self) -> bool {
        self.asynchronous && self.plant.gap() > self.stall
    }
}
