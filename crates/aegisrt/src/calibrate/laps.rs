//! Work going round between the driver and its lanes, and the time stamps that it leaves.

use aegis_cuda::HostClock;
use aegis_types::records::SegmentOutcome;
use aegis_types::{DispatchSeq, JobId, LaneId, Nanos, SegmentIndex, TaskId, Time};

use super::gaps::{Gaps, STALL};
use super::samples::Samples;
use crate::breath::Breath;
use crate::driver::Plant;
use crate::error::RuntimeError;
use crate::mailbox::{Landing, Launch};
use crate::plant::HostPlant;
use crate::system::SLOTS_PROFILED;

/// Laps that fault pages in and warm caches; they are no samples. A launcher makes so many on each of its lanes, carriers of
/// one lane each make them together.
const WARM_UP_LAPS: u64 = 64;
/// Looks at which nothing had landed between two questions.
const LOOKS_PER_QUESTION: usize = 64;
/// How long nothing may land before the device is given up.
const PATIENCE: Nanos = Nanos::from_millis(10_000);
/// Samples of each kind at most: more say nothing more, and the memory is taken before anything is timed.
const ROOM: usize = 1 << 20;

/// When lanes are given work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Situation {
    /// Every lane as soon as it is free.
    Busy,
    /// Only this lane, as soon as it is free.
    Alone(usize),
    /// All lanes at once, as soon as all are free, and all of them the same model: the burst of the model with the
    /// longest visits is then the longest sum of visits that these models can make.
    Burst,
}

/// Paths between driver and carriers.
pub(super) struct Paths {
    pub(super) poll: Samples,
    pub(super) dispatch: Samples,
    /// Taking what landed, where the driver launches: the visit that ends it is in that.
    pub(super) landing: Samples,
    /// Asking whether a segment can still end, where the driver asks.
    pub(super) question: Samples,
    /// From a post to the launcher's entry, the other lanes idle.
    pub(super) alone: Samples,
    /// The same with all lanes busy.
    pub(super) busy: Samples,
    /// From the first post of a burst, all lanes idle, to the entry of the last of its launches.
    pub(super) burst: Samples,
    /// How late the driver ran after a timer, where it sleeps; where work is done when its launch returns, also after that.
    pub(super) wakeup: Samples,
    /// Launch calls, without the signal behind them.
    pub(super) calls: Samples,
    pub(super) gaps: Gaps,
}

/// Work going round between the driver and the lanes.
pub(super) struct Laps {
    plant: HostPlant,
    clock: HostClock,
    asynchronous: bool,
    /// Laps of each lane that are no samples.
    warm_up: u64,
    /// Rests of lanes whose work keeps cores busy.
    breath: Breath,
    /// The tasks of each lane, and how many laps it made.
    tasks: Vec<Vec<TaskId>>,
    laps: Vec<u64>,
    /// When each lane was given its work.
    posted: Vec<Time>,
    flying: Vec<DispatchSeq>,
    sequence: DispatchSeq,
    poll: Vec<Nanos>,
    dispatch: Vec<Nanos>,
    landing: Vec<Nanos>,
    question: Vec<Nanos>,
    alone: Vec<Nanos>,
    busy: Vec<Nanos>,
    burst: Vec<Nanos>,
    /// How many bursts there were.
    bursts: u64,
    /// When the burst that is in flight was begun; `None` where a lane of it is not warm yet.
    begun: Option<Time>,
    /// The latest entry of its launches so far.
    entered: Time,
    wakeup: Vec<Nanos>,
    calls: Vec<Nanos>,
    gaps: Gaps,
}

impl Laps {
    /// On the lanes of `plant`, by number with their tasks. Whether work is still to run when its launch returns, is for
    /// `asynchronous` to say.
    pub(super) fn new(
        plant: HostPlant,
        clock: HostClock,
        tasks: Vec<Vec<TaskId>>,
        asynchronous: bool,
    ) -> Result<Self, RuntimeError> {
        let room = || Vec::with_capacity(ROOM);
        let lanes = tasks.len();
        let warm_up = if asynchronous { WARM_UP_LAPS } else { WARM_UP_LAPS.div_ceil(lanes.max(1) as u64) };
        Ok(Self {
            plant,
            clock,
            asynchronous,
            warm_up,
            breath: Breath::start(clock.now()),
            tasks,
            laps: vec![0; lanes],
            posted: vec![Time::ZERO; lanes],
            flying: vec![DispatchSeq::NONE; lanes],
            sequence: DispatchSeq::NONE,
            poll: room(),
            dispatch: room(),
            landing: room(),
            question: room(),
            alone: room(),
            busy: room(),
            burst: room(),
            bursts: 0,
            begun: None,
            entered: Time::ZERO,
            wakeup: room(),
            calls: room(),
            gaps: Gaps::new(STALL)?,
        })
    }

    /// How many lanes there are.
    pub(super) fn lanes(&self) -> usize {
        self.flying.len()
    }

    /// Gives lanes work for `time` as the situation says, and waits until all are idle.
    pub(super) fn round(&mut self, situation: Situation, time: Nanos) -> Result<(), RuntimeError> {
        let start = self.clock.now();
        let end = start.saturating_add(time);
        let (mut next_timer, mut happened) = (start, start);
        loop {
            let look = self.clock.now();
            if self.asynchronous {
                self.gaps.look(look);
            }
            let hold = look >= end || (!self.asynchronous && self.breath.is_due(look));
            if hold && self.is_idle() {
                self.gaps.pause();
                if look >= end {
                    return Ok(());
                }
                self.breath.take(self.clock);
                continue;
            }
            if self.look(situation, hold)? {
                happened = look;
                if self.plant.launches() {
                    self.gaps.worked(self.clock.now());
                }
            } else {
                push(&mut self.poll, self.clock.now().since(look));
                if self.plant.launches() && self.poll.len().is_multiple_of(LOOKS_PER_QUESTION) {
                    self.ask();
                }
            }
            if look.since(happened) > PATIENCE || self.plant.lanes().iter().any(|lane| lane.mailbox.is_dead())
            {
                let reason = format!("nothing landed for {}", look.since(happened));
                return Err(RuntimeError::System { what: "calibrating", reason });
            }
            let late = self.plant.wait(Some(next_timer));
            let now = self.clock.now();
            if now >= next_timer {
                // A landing may end the wait first; the timer is a sample only when it was what the driver waited for.
                if self.is_warm() && !late.is_zero() {
                    push(&mut self.wakeup, late);
                }
                next_timer = now.saturating_add(Nanos::from_micros(300));
            }
        }
    }

    /// Asks as the driver does after a long segment: where it launches, nobody else does.
    fn ask(&mut self) {
        let before = self.clock.now();
        if self.plant.ask_at_once() {
            let after = self.clock.now();
            push(&mut self.question, after.since(before));
            self.gaps.worked(after);
        }
    }

    fn is_warm(&self) -> bool {
        self.laps.iter().all(|laps| *laps >= self.warm_up)
    }

    fn is_idle(&self) -> bool {
        self.flying.iter().all(|seq| *seq == DispatchSeq::NONE)
    }

    /// Collects what landed and, unless lanes are held, gives free lanes more. Returns whether anything was done.
    fn look(&mut self, situation: Situation, hold: bool) -> Result<bool, RuntimeError> {
        let mut acted = false;
        for index in 0..self.flying.len() {
            let lane = LaneId::new(index as u16);
            let free = self.flying[index] == DispatchSeq::NONE;
            if !free {
                // Elsewhere a look that lands is no longer than others, and reading the clock would be in all of them.
                let before = self.plant.launches().then(|| self.clock.now());
                let (landed, outcome) = self.plant.landed(lane);
                if landed != self.flying[index] {
                    continue;
                }
                acted = true;
                self.plant.settle(lane);
                if let Some(before) = before.filter(|_| self.laps[index] >= self.warm_up) {
                    push(&mut self.landing, self.clock.now().since(before));
                }
                self.land(index, situation);
                if outcome != SegmentOutcome::Done {
                    let reason = format!("a model of the rehearsal ended as {outcome:?} on {lane}");
                    return Err(RuntimeError::System { what: "calibrating", reason });
                }
            }
            let next = match situation {
                Situation::Busy => true,
                Situation::Alone(only) => only == index,
                Situation::Burst => false,
            };
            if next && !hold {
                acted = true;
                self.post(index, self.laps[index]);
            }
        }
        if situation == Situation::Burst && self.is_idle() {
            self.end_burst();
            if !hold {
                acted = true;
                self.begin_burst();
            }
        }
        Ok(acted)
    }

    fn begin_burst(&mut self) {
        let (warm, begun) = (self.is_warm(), self.clock.now());
        self.entered = begun;
        for index in 0..self.flying.len() {
            self.post(index, self.bursts);
        }
        self.bursts += 1;
        self.begun = warm.then_some(begun);
    }

    /// The last lane of a burst landed; nothing happens without one.
    fn end_burst(&mut self) {
        if let Some(begun) = self.begun.take() {
            push(&mut self.burst, self.entered.since(begun));
        }
    }

    fn land(&mut self, index: usize, situation: Situation) {
        let seen = self.clock.now();
        self.flying[index] = DispatchSeq::NONE;
        self.laps[index] += 1;
        let Landing { entered, left, .. } = self.plant.lanes()[index].mailbox.landing();
        self.entered = self.entered.max(entered);
        if self.laps[index] <= self.warm_up {
            return;
        }
        let handoff = entered.since(self.posted[index]);
        match situation {
            Situation::Busy => push(&mut self.busy, handoff),
            Situation::Alone(_) => push(&mut self.alone, handoff),
            Situation::Burst => {}
        }
        push(&mut self.calls, left.since(entered));
        if !self.asynchronous {
            push(&mut self.wakeup, seen.since(left));
        }
    }

    /// Posts the lane's model whose turn `turn` is.
    fn post(&mut self, index: usize, turn: u64) {
        let tasks = &self.tasks[index];
        // A lane without a task has nothing to run: it never becomes busy.
        let Some(&task) = tasks.get(turn as usize % tasks.len().max(1)) else { return };
        self.sequence = self.sequence.next();
        let (dispatch, job) = (self.sequence, JobId::new(task, self.laps[index]));
        let before = self.clock.now();
        let slot = (self.laps[index] % u64::from(SLOTS_PROFILED)) as u32;
        self.plant
            .post(LaneId::new(index as u16), Launch { job, segment: SegmentIndex::new(0), slot, dispatch });
        self.posted[index] = self.clock.now();
        if self.laps[index] >= self.warm_up {
            push(&mut self.dispatch, self.posted[index].since(before));
        }
        self.flying[index] = dispatch;
    }

    pub(super) fn finish(self) -> Paths {
        Paths {
            poll: Samples::trimmed(self.poll),
            dispatch: Samples::trimmed(self.dispatch),
            landing: Samples::trimmed(self.landing),
            question: Samples::trimmed(self.question),
            alone: Samples::trimmed(self.alone),
            // Where every carrier has its lane alone, what is late is the system's waking it, which comes in any run.
            busy: if self.asynchronous { Samples::trimmed(self.busy) } else { Samples::new(self.busy) },
            burst: Samples::trimmed(self.burst),
            wakeup: Samples::new(self.wakeup),
            calls: Samples::trimmed(self.calls),
            gaps: self.gaps,
        }
    }
}

/// Keeps a sample while there is room: nothing is allocated between a post and a landing.
fn push(samples: &mut Vec<Nanos>, sample: Nanos) {
    if samples.len() < samples.capacity() {
        samples.push(sample);
    }
}
