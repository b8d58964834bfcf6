//! What the runtime itself costs on this machine: measured with every lane busy, because that is when it counts.
//!
//! Two parts. The steps of a cycle are timed around [`Engine::handle`] on a synthetic fleet. The paths between
//! driver and carriers are timed on the real lanes of the fleet: each lane runs busy work back to back while the
//! driver waits as it does in production. Every number is the largest of its samples times one plus the margin.

use std::sync::Arc;
use std::time::Duration;

use aegis_context::Lane;
use aegis_cuda::{Device, HostClock, Partition};
use aegis_sched::Overheads;
use aegis_sched::engine::{Engine, Input, Outbox};
use aegis_types::record::Discard;
use aegis_types::records::SegmentOutcome;
use aegis_types::{DispatchSeq, JobId, LaneId, Nanos, PartitionId, SegmentIndex, Sink, TaskId, Time};

use crate::carrier::{Crew, LaneReport, LaneSpec, Work};
use crate::driver::Plant;
use crate::error::RuntimeError;
use crate::feed::SplitMix;
use crate::live::{Live, Watched};
use crate::mailbox::{Landing, Launch};
use crate::plant::{ControlRequest, HostPlant};
use crate::realtime::{self, Breath, Role};
use crate::tally::{Counted, Tally};

/// How to calibrate.
#[derive(Clone, Copy, Debug)]
pub struct CalibrateOptions {
    /// How long the lanes are kept busy.
    pub duration: Nanos,
    /// Margin on every high-water mark, in millionths.
    pub margin_ppm: u64,
    /// Seed of the busy work's lengths.
    pub seed: u64,
}

impl Default for CalibrateOptions {
    fn default() -> Self {
        Self { duration: Nanos::from_millis(5_000), margin_ppm: 200_000, seed: 1 }
    }
}

/// Samples of one overhead.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    sorted: Vec<Nanos>,
}

impl Samples {
    /// Sorts the samples.
    pub fn new(mut samples: Vec<Nanos>) -> Self {
        samples.sort_unstable();
        Self { sorted: samples }
    }

    /// Samples of a step of this thread, without the largest thousandth: among many thousand samples those are
    /// preemptions, which are no cost of the step but stalls, and are declared as such.
    fn trimmed(samples: Vec<Nanos>) -> Self {
        let mut all = Self::new(samples);
        let limit = all.quantile(999);
        all.sorted.retain(|sample| *sample <= limit);
        all
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.sorted.len()
    }

    /// The sample that `per_mille` of 1,000 do not exceed; zero without samples.
    pub fn quantile(&self, per_mille: usize) -> Nanos {
        let rank = (self.sorted.len() * per_mille).div_ceil(1_000);
        self.sorted.get(rank.saturating_sub(1)).copied().unwrap_or(Nanos::ZERO)
    }

    /// The largest; zero without samples.
    pub fn max(&self) -> Nanos {
        self.quantile(1_000)
    }

    fn charged(&self, margin_ppm: u64) -> Nanos {
        let max = self.max();
        max.scale_ppm_up(1_000_000 + margin_ppm).unwrap_or(max)
    }
}

/// Samples of every overhead, by name, and what is charged for them.
#[derive(Clone, Debug)]
pub struct Calibration {
    /// What the analysis charges.
    pub overheads: Overheads,
    /// The samples behind it.
    pub samples: Vec<(&'static str, Samples)>,
}

/// Fewer samples of a latency say nothing about its largest value.
const SAMPLES_MIN: usize = 100;

/// A synthetic fleet on which the engine's steps are timed.
pub struct Synthetic {
    /// Its engine, fresh.
    pub engine: Engine,
    /// Its counts: what the driver does with every record.
    pub tally: Tally,
}

/// Calibrates the machine for these partitions of `device`.
///
/// # Errors
/// What the device refuses.
pub fn calibrate(
    device: &Arc<dyn Device>,
    partitions: &[(Partition, u16)],
    synthetic: &mut Synthetic,
    clock: HostClock,
    options: CalibrateOptions,
    realtime: bool,
) -> Result<Calibration, RuntimeError> {
    let paths = measure_paths(device, partitions, clock, options, realtime)?;
    let steps = measure_steps(synthetic, clock)?;
    for (what, samples) in [("handoff", &paths.handoff), ("wakeup", &paths.wakeup)] {
        if samples.count() < SAMPLES_MIN {
            let reason = format!(
                "only {} samples of `{what}` in {}; legal: a duration that gives at least {SAMPLES_MIN}",
                samples.count(),
                options.duration
            );
            return Err(RuntimeError::System { what: "calibrating", reason });
        }
    }
    let charge = |samples: &Samples| samples.charged(options.margin_ppm);
    let overheads = Overheads {
        poll: charge(&paths.poll),
        release: charge(&steps.tick),
        arrival: charge(&steps.tick),
        completion: charge(&steps.completion),
        decision: charge(&steps.decision),
        dispatch: charge(&paths.dispatch),
        control: charge(&steps.tick),
        handoff: charge(&paths.handoff),
        launch_lock: Nanos::ZERO,
        wakeup: charge(&paths.wakeup),
        client: charge(&paths.wakeup),
        notify: charge(&paths.dispatch),
        stall: charge(&paths.wakeup),
    };
    let samples = vec![
        ("poll", paths.poll),
        ("release", steps.tick),
        ("completion", steps.completion),
        ("decision", steps.decision),
        ("dispatch", paths.dispatch),
        ("handoff", paths.handoff),
        ("wakeup", paths.wakeup),
    ];
    Ok(Calibration { overheads, samples })
}

/// Engine steps of one decider cycle.
struct Steps {
    tick: Samples,
    completion: Samples,
    decision: Samples,
}

/// Times the steps of a cycle in virtual time: the engine's inputs, each with the records that follow from it being
/// counted and put into a ring, and with the next look for a timer. The engine never sees the host clock.
fn measure_steps(synthetic: &mut Synthetic, clock: HostClock) -> Result<Steps, RuntimeError> {
    let Synthetic { engine, tally } = synthetic;
    let (mut producer, mut consumer) = aegis_trace::ring(0, 1 << 12)?;
    let live = Live::default();
    let mut outbox: Outbox = engine.outbox();
    let (mut tick, mut completion, mut decision) = (Vec::new(), Vec::new(), Vec::new());
    let mut flying: Vec<(LaneId, DispatchSeq)> = Vec::new();
    for _ in 0..20_000 {
        let Some(now) = engine.wake_at() else { break };
        let mut told = 0;
        let mut time = |engine: &mut Engine, input, outbox: &mut Outbox, into: &mut Vec<Nanos>| {
            let before = clock.now();
            engine.handle(now, input, outbox);
            let mut counted = Counted { tally: &mut *tally, next: &mut producer };
            let mut watched = Watched { live: &live, next: &mut counted };
            outbox.records()[told..].iter().for_each(|record| watched.emit(*record));
            told = outbox.records().len();
            std::hint::black_box(engine.wake_at());
            into.push(clock.now().since(before));
        };
        for (lane, dispatch) in flying.drain(..) {
            let input = Input::Completed { lane, dispatch, outcome: SegmentOutcome::Done };
            time(engine, input, &mut outbox, &mut completion);
        }
        time(engine, Input::Tick, &mut outbox, &mut tick);
        time(engine, Input::Decide, &mut outbox, &mut decision);
        flying.extend(outbox.commands().iter().map(|command| (command.lane, command.dispatch)));
        outbox.clear();
        consumer.drain(|_| {});
    }
    Ok(Steps {
        tick: Samples::trimmed(tick),
        completion: Samples::trimmed(completion),
        decision: Samples::trimmed(decision),
    })
}

/// Paths between driver and carriers.
struct Paths {
    poll: Samples,
    dispatch: Samples,
    handoff: Samples,
    wakeup: Samples,
}

fn measure_paths(
    device: &Arc<dyn Device>,
    partitions: &[(Partition, u16)],
    clock: HostClock,
    options: CalibrateOptions,
    realtime: bool,
) -> Result<Paths, RuntimeError> {
    let lanes = busy_lanes(partitions, clock, options.seed, realtime);
    let crew = Crew::start(device, clock, &std::thread::current(), lanes)?;
    let ports = crew.ports();
    let mut plant = HostPlant::new(clock, ports, Vec::new(), Arc::new(ControlRequest::default()));
    let paths = drive(&mut plant, clock, options);
    crew.join(Duration::from_secs(10))?;
    Ok(paths)
}

/// Laps that fault pages in and warm caches; they are no samples.
const WARM_UP_LAPS: u32 = 64;

/// Keeps every lane busy and waits, as the driver does, for the next landing or the next timer.
fn drive(plant: &mut HostPlant, clock: HostClock, options: CalibrateOptions) -> Paths {
    let end = clock.now().saturating_add(options.duration);
    let mut laps = Laps::new(plant.lanes().len(), clock);
    let mut poll = Vec::with_capacity(1 << 16);
    let mut next_timer = clock.now();
    let mut breath = Breath::start(clock.now());
    loop {
        let hold = clock.now() >= end || breath.is_due(clock.now());
        if hold && laps.all_idle() {
            if clock.now() >= end {
                break;
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
    Paths {
        poll: Samples::trimmed(poll),
        dispatch: Samples::trimmed(laps.dispatch),
        handoff: Samples::new(laps.handoff),
        wakeup: Samples::new(laps.wakeup),
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

fn busy_lanes(partitions: &[(Partition, u16)], clock: HostClock, seed: u64, realtime: bool) -> Vec<LaneSpec> {
    let lanes =
        partitions.iter().flat_map(|(partition, lanes)| std::iter::repeat_n(partition.id, (*lanes).into()));
    lanes
        .enumerate()
        .map(|(index, partition): (usize, PartitionId)| LaneSpec {
            lane: LaneId::new(index as u16),
            partition,
            make: Box::new(move |lane| {
                realtime::enter(Role::Carrier, realtime);
                let random = SplitMix(seed.wrapping_add(index as u64));
                Ok(Box::new(Busy { lane, clock, random, memory: vec![1; 4_096] }))
            }),
            sink: Box::new(Discard),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples() {
        let samples = Samples::new((1..=1_000).rev().map(Nanos::new).collect());
        assert_eq!(samples.quantile(500), Nanos::new(500));
        assert_eq!(samples.quantile(999), Nanos::new(999));
        assert_eq!(samples.max(), Nanos::new(1_000));
        assert_eq!(Samples::default().max(), Nanos::ZERO);
        assert_eq!(samples.charged(200_000), Nanos::new(1_200));
    }
}
