//! Paths between driver and launcher on a device whose work runs later than it is launched.
//!
//! Every lane runs models back to back while the driver waits as it does in production. Two situations are measured. With
//! all lanes busy: how long a visit of the launcher to one lane takes, which the others wait for. With one lane at a
//! time: how long a post takes to reach a launcher that has nothing else to do. Together they must explain what was seen
//! between post and entry with all lanes busy; what they do not is added to the hand-off.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aegis_sched::Overheads;
use aegis_types::records::SegmentOutcome;
use aegis_types::{DispatchSeq, JobId, LaneId, Nanos, SegmentIndex, TaskId, Time};

use super::gaps::{Gaps, STALL};
use super::rehearsal::Rehearsal;
use super::samples::Samples;
use super::steps::{self, Steps, Synthetic};
use super::turns::{self, Turns};
use super::{CalibrateOptions, Calibration, enough, floors};
use crate::carrier::{Crew, CrewOptions};
use crate::config::Figure;
use crate::driver::Plant;
use crate::error::RuntimeError;
use crate::mailbox::{Landing, Launch};
use crate::plant::{ControlRequest, HostPlant};
use crate::system::System;
use crate::waiting::Waiting;

/// Laps that fault pages in and warm caches, on each lane; they are no samples.
const WARM_UP_LAPS: u64 = 64;
/// How long one lane has the launcher to itself before the next does.
const SOLO: Nanos = Nanos::from_millis(5);
/// How long nothing may land before the device is given up.
const PATIENCE: Nanos = Nanos::from_millis(10_000);
/// Samples of each kind at most: more say nothing more, and the memory is taken before anything is timed.
const ROOM: usize = 1 << 20;

/// Calibrates the machine with this system's device, which `rehearsal` keeps busy.
///
/// # Errors
/// What the device refuses; a lane that is lost.
pub fn calibrate(
    system: &System,
    rehearsal: &Rehearsal,
    synthetic: &mut Synthetic,
    options: CalibrateOptions,
    carriers: CrewOptions,
) -> Result<Calibration, RuntimeError> {
    let part = |share: u64| Nanos::new(options.duration.get() / 10 * share);
    let mut figures = floors::measure(system, &rehearsal.loader, &rehearsal.floor, part(2))?;
    let beside = rehearsal.system(system)?;
    let (mut paths, turns) = measure_paths(&beside, part(5), part(3), carriers)?;
    let steps = steps::measure(synthetic, system.clock())?;
    for (what, samples) in [("handoff", &paths.alone), ("turns of a lane", &turns.launching)] {
        enough(what, samples, options)?;
    }
    let lanes = system.partitions().iter().map(|(_, lanes)| u64::from(*lanes)).sum();
    let tasks = system.models().len() as u64;
    let stalls = paths.gaps.stalls();
    let facts =
        Facts { paths: &paths, turns: &turns, steps: &steps, largest_gap: stalls.largest, lanes, tasks };
    let overheads = facts.charge(options.margin_ppm, carriers.waiting);
    figures.extend(paths.gaps.figure("look_to_look"));
    figures.extend(seen(&paths, &turns));
    let spins = !carriers.waiting.sleeps();
    let samples = vec![
        ("poll", paths.poll),
        ("release", steps.tick),
        ("completion", steps.completion),
        ("decision", steps.decision),
        ("dispatch", paths.dispatch),
        ("handoff", paths.alone),
        ("wakeup", paths.wakeup),
    ];
    Ok(Calibration { overheads, samples, figures, stalls: spins.then_some(stalls) })
}

/// What is written down and not charged as it is.
fn seen(paths: &Paths, turns: &Turns) -> Vec<Figure> {
    [
        paths.busy.figure("handoff_all_busy"),
        paths.calls.figure("launch_call"),
        turns.launching.figure("turn_launching"),
        turns.ending.figure("turn_ending"),
        turns.both.figure("turn_both"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Everything that charges are made of.
struct Facts<'a> {
    paths: &'a Paths,
    turns: &'a Turns,
    steps: &'a Steps,
    largest_gap: Nanos,
    lanes: u64,
    tasks: u64,
}

impl Facts<'_> {
    fn charge(&self, margin_ppm: u64, waiting: Waiting) -> Overheads {
        let Self { paths, turns, steps, .. } = self;
        let charge = |samples: &Samples| samples.charged(margin_ppm);
        let turn = turns.longest(margin_ppm);
        let others = turn.checked_mul(self.lanes.saturating_sub(1)).unwrap_or(Nanos::MAX);
        let handoff = charge(&paths.alone).max(charge(&paths.busy).saturating_sub(others));
        let dispatch = charge(&paths.dispatch);
        let (wakeup, client, stall) = match waiting.sleeps() {
            true => (charge(&paths.wakeup), charge(&paths.wakeup), charge(&paths.wakeup)),
            false => {
                let gap = self.largest_gap;
                (Nanos::ZERO, dispatch, gap.scale_ppm_up(1_000_000 + margin_ppm).unwrap_or(gap))
            }
        };
        let mut overheads = Overheads {
            poll: charge(&paths.poll),
            release: charge(&steps.tick),
            arrival: charge(&steps.tick),
            completion: charge(&steps.completion),
            decision: charge(&steps.decision),
            dispatch,
            control: charge(&steps.tick),
            handoff,
            launch_lock: turn,
            wakeup,
            client,
            notify: others.saturating_add(turn).saturating_add(dispatch),
            stall,
        };
        if !waiting.sleeps() {
            // Nobody handled anything between the looks that were timed; in a run, a cycle's work is no stall.
            overheads.stall = stall.saturating_add(self.cycle(&overheads));
        }
        overheads
    }

    /// The longest cycle of the decider with the tasks of the system.
    fn cycle(&self, overheads: &Overheads) -> Nanos {
        let times = |span: Nanos, count: u64| span.checked_mul(count).unwrap_or(Nanos::MAX);
        let lane = overheads.completion.saturating_add(overheads.decision).saturating_add(overheads.dispatch);
        let releases = times(overheads.release.max(overheads.arrival), self.tasks);
        [releases, times(lane, self.lanes), overheads.control]
            .into_iter()
            .fold(overheads.poll, Nanos::saturating_add)
    }
}

/// Paths between driver and launcher.
struct Paths {
    poll: Samples,
    dispatch: Samples,
    /// From a post to the launcher's entry, the other lanes idle.
    alone: Samples,
    /// The same with all lanes busy.
    busy: Samples,
    /// How late the driver ran after a timer, where it sleeps.
    wakeup: Samples,
    /// Launch calls, without the signal behind them.
    calls: Samples,
    gaps: Gaps,
}

fn measure_paths(
    beside: &System,
    busy: Nanos,
    alone: Nanos,
    carriers: CrewOptions,
) -> Result<(Paths, Turns), RuntimeError> {
    let clock = beside.clock();
    let turns = Arc::new(Mutex::new(turns::Raw::default()));
    let lanes = turns::lanes(beside, &turns)?;
    let crew = Crew::start(beside.device(), clock, &std::thread::current(), carriers, lanes)?;
    let control = Arc::new(ControlRequest::default());
    let plant = HostPlant::new(clock, crew.ports(), Vec::new(), control, carriers.waiting);
    let mut laps = Laps::new(plant, beside)?;
    let driven = laps.round(None, busy).and_then(|()| {
        let count = laps.flying.len();
        let end = clock.now().saturating_add(alone);
        (0..count).cycle().take_while(|_| clock.now() < end).try_for_each(|lane| laps.round(Some(lane), SOLO))
    });
    let paths = laps.finish();
    // A lane that was lost says why here, and says more than a driver that waited in vain.
    crew.join(Duration::from_secs(10))?;
    driven?;
    let raw = std::mem::take(&mut *turns.lock().unwrap_or_else(PoisonError::into_inner));
    Ok((paths, Turns::of(raw)))
}

/// Work going round between the driver and the lanes.
struct Laps {
    plant: HostPlant,
    clock: aegis_cuda::HostClock,
    /// The tasks of each lane, and how many laps it made.
    tasks: Vec<Vec<TaskId>>,
    laps: Vec<u64>,
    /// When each lane was given its work.
    posted: Vec<Time>,
    flying: Vec<DispatchSeq>,
    sequence: DispatchSeq,
    poll: Vec<Nanos>,
    dispatch: Vec<Nanos>,
    alone: Vec<Nanos>,
    busy: Vec<Nanos>,
    wakeup: Vec<Nanos>,
    calls: Vec<Nanos>,
    gaps: Gaps,
}

impl Laps {
    fn new(plant: HostPlant, system: &System) -> Result<Self, RuntimeError> {
        let room = || Vec::with_capacity(ROOM);
        let tasks = system.by_lane();
        let lanes = tasks.len();
        Ok(Self {
            plant,
            clock: system.clock(),
            tasks,
            laps: vec![0; lanes],
            posted: vec![Time::ZERO; lanes],
            flying: vec![DispatchSeq::NONE; lanes],
            sequence: DispatchSeq::NONE,
            poll: room(),
            dispatch: room(),
            alone: room(),
            busy: room(),
            wakeup: room(),
            calls: room(),
            gaps: Gaps::new(STALL)?,
        })
    }

    /// Keeps every lane busy for `time`, or only one, and waits until all are idle.
    fn round(&mut self, only: Option<usize>, time: Nanos) -> Result<(), RuntimeError> {
        let start = self.clock.now();
        let end = start.saturating_add(time);
        let (mut next_timer, mut happened) = (start, start);
        loop {
            let look = self.clock.now();
            self.gaps.look(look);
            let hold = look >= end;
            if hold && self.flying.iter().all(|seq| *seq == DispatchSeq::NONE) {
                self.gaps.pause();
                return Ok(());
            }
            if self.look(only, hold)? {
                happened = look;
            } else {
                push(&mut self.poll, self.clock.now().since(look));
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
                if !late.is_zero() {
                    push(&mut self.wakeup, late);
                }
                next_timer = now.saturating_add(Nanos::from_micros(300));
            }
        }
    }

    /// Collects what landed and, unless lanes are held, gives every free lane more. Returns whether anything was done.
    fn look(&mut self, only: Option<usize>, hold: bool) -> Result<bool, RuntimeError> {
        let mut acted = false;
        for index in 0..self.flying.len() {
            let lane = LaneId::new(index as u16);
            let free = self.flying[index] == DispatchSeq::NONE;
            if !free {
                let (landed, outcome) = self.plant.landed(lane);
                if landed != self.flying[index] {
                    continue;
                }
                acted = true;
                self.land(index, only.is_some());
                if outcome != SegmentOutcome::Done {
                    let reason = format!("a model of the rehearsal ended as {outcome:?} on {lane}");
                    return Err(RuntimeError::System { what: "calibrating", reason });
                }
            }
            if !hold && only.is_none_or(|only| only == index) {
                acted = true;
                self.post(index);
            }
        }
        Ok(acted)
    }

    fn land(&mut self, index: usize, alone: bool) {
        self.flying[index] = DispatchSeq::NONE;
        self.laps[index] += 1;
        if self.laps[index] <= WARM_UP_LAPS {
            return;
        }
        let Landing { entered, left, .. } = self.plant.lanes()[index].mailbox.landing();
        let handoff = entered.since(self.posted[index]);
        push(if alone { &mut self.alone } else { &mut self.busy }, handoff);
        push(&mut self.calls, left.since(entered));
    }

    fn post(&mut self, index: usize) {
        let tasks = &self.tasks[index];
        // A lane without a task has nothing to run: it never becomes busy.
        let Some(&task) = tasks.get(self.laps[index] as usize % tasks.len().max(1)) else { return };
        self.sequence = self.sequence.next();
        let (dispatch, job) = (self.sequence, JobId::new(task, self.laps[index]));
        let before = self.clock.now();
        let slot = (self.laps[index] % u64::from(turns::SLOTS)) as u32;
        self.plant
            .post(LaneId::new(index as u16), Launch { job, segment: SegmentIndex::new(0), slot, dispatch });
        self.posted[index] = self.clock.now();
        push(&mut self.dispatch, self.posted[index].since(before));
        self.flying[index] = dispatch;
    }

    fn finish(self) -> Paths {
        Paths {
            poll: Samples::trimmed(self.poll),
            dispatch: Samples::trimmed(self.dispatch),
            alone: Samples::trimmed(self.alone),
            busy: Samples::trimmed(self.busy),
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
