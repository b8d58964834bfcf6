//! Jobs on lanes without an engine: what is launched when is the experiment's business, deadlines are only counted.
//!
//! Two kinds of experiment stand on it: lanes kept busy back to back ([`super::saturation`]) and jobs launched at their
//! arrivals ([`super::pace`]). The lanes are a trait, so that both are tested in virtual time.

use aegis_types::records::SegmentOutcome;
use aegis_types::{DispatchSeq, JobId, LaneId, Nanos, SegmentIndex, TaskId, Time};
use aegisrt::driver::Plant;
use aegisrt::mailbox::Launch;
use aegisrt::plant::HostPlant;

use super::error::ExperimentError;

/// Work that takes longer than this hangs.
const HANG: Nanos = Nanos::from_millis(10_000);

/// Lanes that take launches.
pub trait Lanes {
    /// The time.
    fn now(&self) -> Time;
    /// How many lanes there are.
    fn count(&self) -> usize;
    /// Launches on a lane that is free.
    fn post(&mut self, lane: LaneId, launch: Launch);
    /// The last dispatch that a lane finished, and how.
    fn landed(&mut self, lane: LaneId) -> (DispatchSeq, SegmentOutcome);
    /// Takes away what it left, where nobody else does.
    fn settle(&mut self, lane: LaneId) {
        let _every = lane;
    }
    /// When the launch of the dispatch that a lane finished last was entered.
    fn entered(&self, lane: LaneId) -> Time;
    /// Whether a lane will never end what was posted to it.
    fn is_lost(&self, lane: LaneId) -> bool;
    /// Waits a moment, as the driver waits between events.
    fn rest(&mut self);
}

impl Lanes for HostPlant {
    fn now(&self) -> Time {
        Plant::now(self)
    }

    fn count(&self) -> usize {
        self.lanes().len()
    }

    fn post(&mut self, lane: LaneId, launch: Launch) {
        HostPlant::post(self, lane, launch);
    }

    fn landed(&mut self, lane: LaneId) -> (DispatchSeq, SegmentOutcome) {
        Plant::landed(self, lane)
    }

    fn settle(&mut self, lane: LaneId) {
        Plant::settle(self, lane);
    }

    fn entered(&self, lane: LaneId) -> Time {
        self.lanes()[lane.index()].mailbox.landing().entered
    }

    fn is_lost(&self, lane: LaneId) -> bool {
        Plant::is_lost(self, lane)
    }

    fn rest(&mut self) {
        let soon = Plant::now(self).saturating_add(Nanos::from_micros(200));
        // How late the thread ran again is the engine's concern; here only landings are timed.
        let _late = self.wait(Some(soon));
    }
}

/// A task as it stands on its lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Its name, for messages.
    pub name: String,
    /// Its number.
    pub task: TaskId,
    /// Its lane.
    pub lane: LaneId,
    /// Segments of a job.
    pub segments: u16,
    /// Input slots that its jobs use in turn.
    pub slots: u32,
}

/// A job that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Position in the task table.
    pub task: usize,
    /// When it was posted.
    pub posted: Time,
    /// When the launch of its first segment was entered.
    pub entered: Time,
    /// When its end was seen.
    pub seen: Time,
}

impl Ended {
    /// From the entry of the launch to the end seen: what an occupancy budget is made of.
    pub fn occupancy(&self) -> Nanos {
        self.seen.since(self.entered)
    }
}

/// A job in flight.
#[derive(Clone, Copy, Debug)]
struct Flight {
    task: usize,
    segment: u16,
    slot: u32,
    dispatch: DispatchSeq,
    posted: Time,
    entered: Option<Time>,
    /// When its last segment was posted, to notice a hang.
    since: Time,
}

/// Jobs in flight, at most one on each lane.
pub struct Circuit<'a, L> {
    lanes: &'a mut L,
    tasks: &'a [Carried],
    flights: Vec<Option<Flight>>,
    sequence: Vec<DispatchSeq>,
    numbers: Vec<u64>,
}

impl<'a, L: Lanes> Circuit<'a, L> {
    /// Nothing in flight; the lanes are idle.
    pub fn new(lanes: &'a mut L, tasks: &'a [Carried]) -> Self {
        // Whoever posted before, the next number is one that the lane's flag has not shown.
        let count = lanes.count();
        let last = |lane: u16| lanes.landed(LaneId::new(lane)).0;
        let sequence: Vec<DispatchSeq> = (0..=u16::MAX).take(count).map(last).collect();
        Self { lanes, tasks, flights: vec![None; count], sequence, numbers: vec![0; tasks.len()] }
    }

    /// The time.
    pub fn now(&self) -> Time {
        self.lanes.now()
    }

    /// The tasks.
    pub const fn tasks(&self) -> &'a [Carried] {
        self.tasks
    }

    /// Whether nothing is in flight on the lane of the task at this position.
    pub fn is_free(&self, task: usize) -> bool {
        self.flights[self.tasks[task].lane.index()].is_none()
    }

    /// Whether nothing is in flight at all.
    pub fn is_idle(&self) -> bool {
        self.flights.iter().all(Option::is_none)
    }

    /// Launches the next job of the task at this position, whose lane is free.
    pub fn start(&mut self, task: usize) {
        let spec = &self.tasks[task];
        let slot = u32::try_from(self.numbers[task] % u64::from(spec.slots.max(1))).unwrap_or(0);
        let now = self.lanes.now();
        let flight = Flight {
            task,
            segment: 0,
            slot,
            dispatch: DispatchSeq::NONE,
            posted: now,
            entered: None,
            since: now,
        };
        self.post(flight);
    }

    fn post(&mut self, mut flight: Flight) {
        let spec = &self.tasks[flight.task];
        let lane = spec.lane;
        let dispatch = self.sequence[lane.index()].next();
        self.sequence[lane.index()] = dispatch;
        flight.dispatch = dispatch;
        flight.since = self.lanes.now();
        self.flights[lane.index()] = Some(flight);
        let job = JobId::new(spec.task, self.numbers[flight.task]);
        let segment = SegmentIndex::new(flight.segment);
        self.lanes.post(lane, Launch { job, segment, slot: flight.slot, dispatch });
    }

    /// Looks at every lane once, launches further segments, and tells of every job that ended.
    ///
    /// # Errors
    /// [`ExperimentError::Failed`] if a segment failed; [`ExperimentError::Hung`] if one does not end.
    pub fn look(&mut self, mut ended: impl FnMut(Ended)) -> Result<(), ExperimentError> {
        for index in 0..self.flights.len() {
            let Some(mut flight) = self.flights[index] else { continue };
            // The lanes are numbered by u16.
            let lane = LaneId::new(index as u16);
            let (dispatch, outcome) = self.lanes.landed(lane);
            let seen = self.lanes.now();
            if dispatch != flight.dispatch {
                if self.lanes.is_lost(lane) {
                    let task = self.tasks[flight.task].name.clone();
                    let reason = format!("{lane} was lost; the device is not usable any more");
                    return Err(ExperimentError::Failed { task, reason });
                }
                if seen.since(flight.since) > HANG {
                    let (what, seconds) = (self.tasks[flight.task].name.clone(), HANG.get() / 1_000_000_000);
                    return Err(ExperimentError::Hung { what, seconds });
                }
                continue;
            }
            self.lanes.settle(lane);
            if outcome != SegmentOutcome::Done {
                let task = self.tasks[flight.task].name.clone();
                let reason = format!("segment {} ended as {outcome:?}", flight.segment);
                return Err(ExperimentError::Failed { task, reason });
            }
            let entered = *flight.entered.get_or_insert(self.lanes.entered(lane));
            if flight.segment + 1 < self.tasks[flight.task].segments {
                flight.segment += 1;
                self.post(flight);
                continue;
            }
            self.flights[index] = None;
            self.numbers[flight.task] += 1;
            ended(Ended { task: flight.task, posted: flight.posted, entered, seen });
        }
        Ok(())
    }

    /// Waits a moment.
    pub fn rest(&mut self) {
        self.lanes.rest();
    }

    /// Waits until nothing is in flight.
    ///
    /// # Errors
    /// As [`look`](Self::look).
    pub fn settle(&mut self) -> Result<(), ExperimentError> {
        while !self.is_idle() {
            self.look(|_| {})?;
            self.rest();
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;

    use super::*;

    /// Lanes in virtual time: a job of `lengths[task]` takes half as long again for every other job in flight when it
    /// is launched. Every look at the clock takes 50 ns.
    pub(in super::super) struct VirtualLanes {
        pub(in super::super) lengths: Vec<Nanos>,
        pub(in super::super) clock: Cell<u64>,
        lanes: Vec<(Launch, Time, Time)>,
        pub(in super::super) crowd_max: usize,
    }

    impl VirtualLanes {
        pub(in super::super) fn new(lengths: Vec<Nanos>, lanes: usize) -> Self {
            let job = JobId::new(TaskId::new(0), 0);
            let none = Launch { job, segment: SegmentIndex::new(0), slot: 0, dispatch: DispatchSeq::NONE };
            Self {
                lengths,
                clock: Cell::new(0),
                lanes: vec![(none, Time::ZERO, Time::ZERO); lanes],
                crowd_max: 0,
            }
        }
    }

    impl Lanes for VirtualLanes {
        fn now(&self) -> Time {
            self.clock.set(self.clock.get() + 50);
            Time::new(self.clock.get())
        }

        fn count(&self) -> usize {
            self.lanes.len()
        }

        fn post(&mut self, lane: LaneId, launch: Launch) {
            let now = self.now();
            let others = self.lanes.iter().filter(|(_, _, ends)| *ends > now).count();
            self.crowd_max = self.crowd_max.max(others + 1);
            let length = self.lengths[launch.job.task.index()].get();
            let ends = now.saturating_add(Nanos::new(length + length / 2 * others as u64));
            self.lanes[lane.index()] = (launch, now, ends);
        }

        fn landed(&mut self, lane: LaneId) -> (DispatchSeq, SegmentOutcome) {
            let (launch, _, ends) = self.lanes[lane.index()];
            let before = DispatchSeq::new(launch.dispatch.get().saturating_sub(1));
            let done = ends <= self.now();
            (if done { launch.dispatch } else { before }, SegmentOutcome::Done)
        }

        fn entered(&self, lane: LaneId) -> Time {
            self.lanes[lane.index()].1
        }

        fn is_lost(&self, _: LaneId) -> bool {
            false
        }

        fn rest(&mut self) {
            self.clock.set(self.clock.get() + 500);
        }
    }

    /// One task on each lane, or all on lane 0.
    pub(in super::super) fn carried(count: u16, apart: bool) -> Vec<Carried> {
        let task = |n: u16| Carried {
            name: format!("task_{n}"),
            task: TaskId::new(n),
            lane: LaneId::new(if apart { n } else { 0 }),
            segments: 1,
            slots: 2,
        };
        (0..count).map(task).collect()
    }

    #[test]
    fn a_job_of_three_segments_is_one_job() {
        let mut lanes = VirtualLanes::new(vec![Nanos::from_micros(10)], 1);
        let mut tasks = carried(1, true);
        tasks[0].segments = 3;
        let mut circuit = Circuit::new(&mut lanes, &tasks);
        circuit.start(0);
        let mut jobs = Vec::new();
        while !circuit.is_idle() {
            circuit.look(|ended| jobs.push(ended)).expect("nothing fails");
            circuit.rest();
        }
        assert_eq!(jobs.len(), 1);
        let span = jobs[0].occupancy();
        assert!(span >= Nanos::from_micros(30) && span < Nanos::from_micros(33), "{span}");
    }

    #[test]
    fn work_that_does_not_end_is_an_error() {
        let mut lanes = VirtualLanes::new(vec![Nanos::from_millis(60_000)], 1);
        let tasks = carried(1, true);
        let mut circuit = Circuit::new(&mut lanes, &tasks);
        circuit.start(0);
        let error = circuit.settle().expect_err("a minute is a hang");
        assert!(matches!(error, ExperimentError::Hung { seconds: 10, .. }), "{error}");
    }
}
