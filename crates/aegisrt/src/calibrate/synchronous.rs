//! Paths between driver and carriers on a device whose work runs where it is launched: each lane runs busy work back
//! to back while the driver waits as it does in production.

use std::sync::Arc;
use std::time::Duration;

use aegis_context::Lane;
use aegis_cuda::{HostClock, Partition};
use aegis_sched::Overheads;
use aegis_types::record::Discard;
use aegis_types::records::SegmentOutcome;
use aegis_types::{LaneId, Nanos, PartitionId, Sink, TaskId, Time};

use super::laps::{Laps, Paths, Situation};
use super::samples::{NONE, Samples};
use super::steps::{Looks, Steps, Synthetic};
use super::{CalibrateOptions, Measured, enough};
use crate::carrier::{Crew, CrewOptions, LaneReport, LaneSpec, Work};
use crate::error::RuntimeError;
use crate::feed::SplitMix;
use crate::mailbox::Launch;
use crate::plant::{ControlRequest, HostPlant};
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
) -> Result<Measured, RuntimeError> {
    let clock = system.clock();
    let mut steps = Steps::new(synthetic, clock)?;
    let paths = measure_paths(system, options, carriers, &mut steps)?;
    let steps = steps.charged(None);
    for (what, samples) in [("handoff", &paths.busy), ("wakeup", &paths.wakeup)] {
        enough(what, samples, options)?;
    }
    let charge = |samples: &Samples| samples.charged(options.margin_ppm);
    let looks = Looks { poll: &paths.poll, dispatch: &paths.dispatch, landing: &NONE, question: &NONE };
    let overheads = Overheads {
        handoff: charge(&paths.busy),
        launch_lock: Nanos::ZERO,
        wakeup: charge(&paths.wakeup),
        client: charge(&paths.wakeup),
        notify: charge(&paths.dispatch),
        stall: charge(&paths.wakeup),
        ..steps.driver(looks, options.margin_ppm)
    };
    let rounds = steps.rounds(options.margin_ppm);
    let samples = vec![
        ("poll", paths.poll),
        ("release", steps.tick),
        ("completion", steps.completion),
        ("decision", steps.decision),
        ("dispatch", paths.dispatch),
        ("handoff", paths.busy),
        ("wakeup", paths.wakeup),
    ];
    Ok(Measured { overheads, samples, figures: Vec::new(), turn: None, stalls: None, rounds })
}

fn measure_paths(
    system: &System,
    options: CalibrateOptions,
    carriers: CrewOptions,
    steps: &mut Steps,
) -> Result<Paths, RuntimeError> {
    let clock = system.clock();
    let lanes = busy_lanes(system.partitions(), clock, options.seed);
    let tasks = vec![vec![TaskId::new(0)]; lanes.len()];
    let crew = Crew::start(system.device(), clock, &std::thread::current(), carriers, lanes)?;
    let control = Arc::new(ControlRequest::default());
    let plant = HostPlant::new(clock, &crew, Vec::new(), control, carriers.waiting);
    let mut laps = Laps::new(plant, clock, tasks, false)?;
    let rounds = options.rounds.max(1);
    let each = Nanos::new(options.duration.get() / u64::from(rounds));
    // The driver's steps are timed between the rounds, so that all meet the host at many times.
    let driven: Result<(), RuntimeError> = (0..rounds).try_for_each(|_| {
        laps.round(Situation::Busy, each)?;
        steps.round();
        Ok(())
    });
    let paths = laps.finish();
    // A lane that was lost says why here, and says more than a driver that waited in vain.
    crew.join(Duration::from_secs(10))?;
    driven?;
    Ok(paths)
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
