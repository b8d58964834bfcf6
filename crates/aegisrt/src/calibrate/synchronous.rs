//! Paths between driver and carriers on a device whose work runs where it is launched: each lane runs busy work back
//! to back while the driver waits as it does in production.

use std::sync::Arc;
use std::time::Duration;

use aegis_context::Lane;
use aegis_cuda::{HostClock, Partition};
use aegis_sched::Overheads;
use aegis_types::record::Discard;
use aegis_types::records::SegmentOutcome;
use aegis_types::{DispatchSeq, JobId, LaneId, Nanos, PartitionId, SegmentIndex, Sink, TaskId, Time};

use super::samples::Samples;
use super::steps::{Steps, Synthetic};
use super::{CalibrateOptions, Calibration, enough};
use crate::carrier::{Crew, CrewOptions, LaneReport, LaneSpec, Work};
use crate::driver::Plant;
use crate::error::RuntimeError;
use crate::feed::SplitMix;
use crate::mailbox::{Landing, Launch};
use crate::plant::{ControlRequest, HostPlant};
use crate::realtime::Breath;
use crate::system::System;

/// Calibrates the machine with this system's partitions.
///
/// # Errors
/// What the device refuses.
pub fn calibrate(
    system: &System,
    synthetic: &mut Synthetic,
    options: CalibrateOptions,
    carriers: CrewOptions,
) -> Result<Calibration, RuntimeError> {
    let clock = system.clock();
    let mut steps = Steps::new(synthetic, clock)?;
    let paths = measure_paths(system, options, carriers, &mut steps)?;
    let steps = steps.charged(None);
    for (what, samples) in [("handoff", &paths.handoff), ("wakeup", &paths.wakeup)] {
        enough(what, samples, options)?;
    }
    let charge = |samples: &Samples| samples.charged(options.margin_ppm);
    let overheads = Overheads {
        handoff: charge(&paths.handoff),
        launch_lock: Nanos::ZERO,
        wakeup: charge(&paths.wakeup),
        client: charge(&paths.wakeup),
        notify: charge(&paths.dispatch),
        stall: charge(&paths.wakeup),
        ..steps.driver(&paths.poll, &paths.dispatch, options.margin_ppm)
    };
    let rounds = steps.rounds(options.margin_ppm);
    let samples = vec![
        ("poll", paths.poll),
        ("release", steps.tick),
        ("completion", steps.completion),
        ("decision", steps.decision),
        ("dispatch", paths.dispatch),
        ("handoff", paths.handoff),
        ("wakeup", paths.wakeup),
    ];
    Ok(Calibration { overheads, samples, figures: Vec::new(), turn: None, stalls: None, rounds })
}

/// Paths between driver and carriers.
struct Paths {
    poll: Samples,
    dispatch: Samples,
    handoff: Samples,
    wakeup: Samples,
}

fn measure_paths(
    system: &System,
    options: CalibrateOptions,
    carriers: CrewOptions,
    steps: &mut Steps,
) -> Result<Paths, RuntimeError> {
    let clock = system.clock();
    let lanes = busy_lanes(system.partitions(), clock, options.seed);
    let crew = Crew::start(system.device(), clock, &std::thread::current(), carriers, lanes)?;
    let control = Arc::new(ControlRequest::default());
    let mut plant = HostPlant::new(clock, crew.ports(), Vec::new(), control, carriers.waiting);
    let paths = drive(&mut plant, clock, options, steps);
    crew.join(Duration::from_secs(10))?;
    Ok(paths)
}

/// Laps that fault pages in and warm caches; they are no samples.
const WARM_UP_LAPS: u32 = 64;

/// Keeps every lane busy and waits, as the driver does, for the next landing or the next timer; in rounds, between which
/// the driver's steps are timed, so that all meet the host at many times.
fn drive(plant: &mut HostPlant, clock: HostClock, options: CalibrateOptions, steps: &mut Steps) -> Paths {
    let mut laps = Laps::new(plant.lanes().len(), clock);
    let mut poll = Vec::with_capacity(1 << 16);
    let mut breath = Breath::start(clock.now());
    let rounds = options.rounds.max(1);
    for _ in 0..rounds {
        let end = clock.now().saturating_add(Nanos::new(options.duration.get() / u64::from(rounds)));
        drive_round(plant, &mut laps, &mut poll, &mut breath, end);
        steps.round();
    }
    Paths {
        poll: Samples::trimmed(poll),
        dispatch: Samples::trimmed(laps.dispatch),
        handoff: Samples::new(laps.handoff),
        wakeup: Samples::new(laps.wakeup),
    }
}

/// Until `end`, and until every lane is idle.
fn drive_round(
    plant: &mut HostPlant,
    laps: &mut Laps,
    poll: &mut Vec<Nanos>,
    breath: &mut Breath,
    end: Time,
) {
    let clock = laps.clock;
    let mut next_timer = clock.now();
    loop {
        let hold = clock.now() >= end || breath.is_due(clock.now());
        if hold && laps.all_idle() {
            if clock.now() >= end {
                return;
            }
            breath.take(clock);
            continue;
        }
        let look = clock.now();
        if !laps.look(plant, hold) {
            poll.push(clock.now().since(look));
        }
        // A landing may end the wait first; the timer is a sample only when it was what the driver waited for.
        let late = plant.wait(Some(next_timer));
        let now = clock.now();
        if now >= next_timer {
            if laps.done > WARM_UP_LAPS && !late.is_zero() {
                laps.wakeup.push(late);
            }
            next_timer = now.saturating_add(Nanos::from_micros(300));
        }
    }
}

/// Busy work going round between the driver and every lane.
struct Laps {
    clock: HostClock,
    /// When each lane was given its work.
    posted: Vec<Time>,
    flying: Vec<DispatchSeq>,
    sequence: DispatchSeq,
    done: u32,
    dispatch: Vec<Nanos>,
    handoff: Vec<Nanos>,
    wakeup: Vec<Nanos>,
}

impl Laps {
    fn new(lanes: usize, clock: HostClock) -> Self {
        let room = || Vec::with_capacity(1 << 16);
        Self {
            clock,
            posted: vec![Time::ZERO; lanes],
            flying: vec![DispatchSeq::NONE; lanes],
            sequence: DispatchSeq::NONE,
            done: 0,
            dispatch: room(),
            handoff: room(),
            wakeup: room(),
        }
    }

    fn all_idle(&self) -> bool {
        self.flying.iter().all(|seq| *seq == DispatchSeq::NONE)
    }

    /// Collects what landed and, unless lanes are held, gives every free lane more. Returns whether anything was done.
    fn look(&mut self, plant: &mut HostPlant, hold: bool) -> bool {
        let mut acted = false;
        for index in 0..self.flying.len() {
            let lane = LaneId::new(index as u16);
            let free = self.flying[index] == DispatchSeq::NONE;
            if !free && plant.landed(lane).0 != self.flying[index] {
                continue;
            }
            acted = true;
            let seen = self.clock.now();
            if !free {
                self.land(index, plant.lanes()[index].mailbox.landing(), seen);
            }
            if !hold {
                self.sequence = self.sequence.next();
                let (dispatch, job) = (self.sequence, JobId::new(TaskId::new(0), self.sequence.get()));
                plant.post(lane, Launch { job, segment: SegmentIndex::new(0), slot: 0, dispatch });
                self.posted[index] = self.clock.now();
                self.dispatch.push(self.posted[index].since(seen));
                self.flying[index] = dispatch;
            }
        }
        acted
    }

    fn land(&mut self, index: usize, landing: Landing, seen: Time) {
        self.flying[index] = DispatchSeq::NONE;
        self.done += 1;
        if self.done > WARM_UP_LAPS {
            self.handoff.push(landing.entered.since(self.posted[index]));
            self.wakeup.push(seen.since(landing.left));
        }
    }
}

/// Work that keeps a core busy for 50 to 800 µs and touches memory, as a small model does.
struct Busy {
    lane: Lane,
    clock: HostClock,
    random: SplitMix,
    memory: Vec<u64>,
}

impl Work for Busy {
    fn run(&mut self, launch: &Launch, ended: &mut dyn FnMut(SegmentOutcome)) {
        let length = Nanos::from_micros(50 + self.random.below(750));
        let end = self.clock.now().saturating_add(length);
        while self.clock.now() < end {
            for word in self.memory.iter_mut().step_by(8) {
                *word = word.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
            }
        }
        ended(SegmentOutcome::Done);
        // Storing a number into host memory cannot fail; a lost device would be seen as a lane that never lands.
        let _stored = self.lane.stream().signal(launch.dispatch);
    }

    fn loaded(&self, _: Time, _: &mut dyn Sink) {}

    /// Busy work has no budget.
    fn watch(&mut self, _: &Launch, _: Nanos, _: Time, _: &mut dyn Sink) {}

    fn finish(self: Box<Self>) -> LaneReport {
        LaneReport::default()
    }
}

fn busy_lanes(partitions: &[(Partition, u16)], clock: HostClock, seed: u64) -> Vec<LaneSpec> {
    let lanes =
        partitions.iter().flat_map(|(partition, lanes)| std::iter::repeat_n(partition.id, (*lanes).into()));
    lanes
        .enumerate()
        .map(|(index, partition): (usize, PartitionId)| LaneSpec {
            lane: LaneId::new(index as u16),
            partition,
            own_carrier: false,
            make: Box::new(move |lane| {
                let random = SplitMix(seed.wrapping_add(index as u64));
                Ok(Box::new(Busy { lane, clock, random, memory: vec![1; 4_096] }))
            }),
            sink: Box::new(Discard),
        })
        .collect()
}
