//! The profiler: contended occupancy budgets, measured where the model will run.
//!
//! Simple and honest. After a warm-up, the victim's segments run in its own lane with lane-mates in between (so that
//! it never finds its own warm caches), while every other lane runs the fleet's other tasks back to back in random
//! order, with the driver waiting and waking as in production. The budget is the high-water mark times one plus the
//! margin; with n samples, none above it, the chance that a further job of the same mixture exceeds it is at most
//! 1 - 0.05^(1/n) with 95 % confidence. That is a measurement, never a proof: it is named so wherever it is used.

use aegis_cuda::HostClock;
use aegis_types::records::SegmentOutcome;
use aegis_types::{DispatchSeq, JobId, LaneId, Nanos, SegmentIndex, TaskId};

use crate::driver::Plant;
use crate::feed::SplitMix;
use crate::mailbox::Launch;
use crate::plant::HostPlant;
use crate::realtime::Breath;

/// How to profile.
#[derive(Clone, Copy, Debug)]
pub struct ProfileOptions {
    /// How long each task is measured under contention, at most.
    pub time_per_task: Nanos,
    /// How many samples are enough.
    pub samples: usize,
    /// Jobs of the victim that are run and not counted.
    pub warm_up: usize,
    /// Seed of the co-runners' order.
    pub seed: u64,
}

impl Default for ProfileOptions {
    fn default() -> Self {
        Self { time_per_task: Nanos::from_millis(4_000), samples: 1_000, warm_up: 10, seed: 1 }
    }
}

/// A task to be profiled, as the profiler needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Victim {
    /// The task.
    pub task: TaskId,
    /// Its lane.
    pub lane: LaneId,
    /// How many segments its jobs have.
    pub segments: u16,
    /// Input slots that may be used in turn.
    pub slots: u32,
}

/// What was measured of one task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// The task.
    pub task: TaskId,
    /// Occupancies of each segment beside busy lanes, in the order measured.
    pub contended: Vec<Vec<Nanos>>,
    /// Occupancies of each segment with every other lane idle and no lane-mate in between; never in a certificate.
    pub alone: Vec<Vec<Nanos>>,
}

/// A segment failed while it was profiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{task} failed while it was profiled; run it alone to see its error")]
pub struct FailedInProfile {
    /// The task.
    pub task: TaskId,
}

/// Measures occupancy budgets on the carriers of a plant.
pub struct WcetProfiler<'a> {
    plant: &'a mut HostPlant,
    clock: HostClock,
    tasks: &'a [Victim],
    options: ProfileOptions,
    random: SplitMix,
    lanes: Vec<Flight>,
    jobs: Vec<u64>,
}

/// What a lane is doing.
#[derive(Clone, Copy, Debug)]
struct Flight {
    dispatch: DispatchSeq,
    busy: bool,
    /// Position in the task table.
    task: usize,
    segment: u16,
}

impl<'a> WcetProfiler<'a> {
    /// A profiler of these tasks, which the plant's carriers have loaded.
    pub fn new(
        plant: &'a mut HostPlant,
        clock: HostClock,
        tasks: &'a [Victim],
        options: ProfileOptions,
    ) -> Self {
        let idle = Flight { dispatch: DispatchSeq::NONE, busy: false, task: 0, segment: 0 };
        let lanes = vec![idle; plant.lanes().len()];
        let random = SplitMix(options.seed);
        Self { plant, clock, tasks, options, random, lanes, jobs: vec![0; tasks.len()] }
    }

    /// Measures the task at `position` of the table.
    ///
    /// # Errors
    /// [`FailedInProfile`] if any segment failed: a budget of failing work means nothing.
    pub fn measure(&mut self, position: usize) -> Result<Measured, FailedInProfile> {
        let task = self.tasks[position].task;
        let alone_time = Nanos::new(self.options.time_per_task.get() / 8);
        let alone = self.campaign(position, false, 50, alone_time)?;
        let contended = self.campaign(position, true, self.options.samples, self.options.time_per_task)?;
        Ok(Measured { task, contended, alone })
    }

    fn campaign(
        &mut self,
        victim: usize,
        contended: bool,
        samples: usize,
        time: Nanos,
    ) -> Result<Vec<Vec<Nanos>>, FailedInProfile> {
        let mut measured: Vec<Vec<Nanos>> = vec![Vec::new(); self.tasks[victim].segments.into()];
        let mut skip = self.options.warm_up;
        let end = self.clock.now().saturating_add(time);
        let mut breath = Breath::start(self.clock.now());
        loop {
            let enough = measured.iter().all(|segment| segment.len() >= samples) || self.clock.now() >= end;
            // One sample is the least that a budget can be made of, however short the time.
            let over = enough && measured.iter().all(|segment| !segment.is_empty());
            self.land(victim, &mut measured, &mut skip)?;
            let resting = breath.is_due(self.clock.now());
            if self.lanes.iter().all(|flight| !flight.busy) {
                if over {
                    return Ok(measured);
                }
                if resting {
                    breath.take(self.clock);
                    continue;
                }
            }
            self.launch_free(victim, contended, over || resting);
            let soon = self.clock.now().saturating_add(Nanos::from_millis(1));
            self.plant.wait(Some(soon));
        }
    }

    /// Collects what landed.
    fn land(
        &mut self,
        victim: usize,
        measured: &mut [Vec<Nanos>],
        skip: &mut usize,
    ) -> Result<(), FailedInProfile> {
        for index in 0..self.lanes.len() {
            let flight = self.lanes[index];
            let (dispatch, outcome) = self.plant.landed(LaneId::new(index as u16));
            if !flight.busy || dispatch != flight.dispatch {
                continue;
            }
            if outcome != SegmentOutcome::Done {
                return Err(FailedInProfile { task: self.tasks[flight.task].task });
            }
            let last = flight.segment + 1 == self.tasks[flight.task].segments;
            if flight.task == victim {
                let landing = self.plant.lanes()[index].mailbox.landing();
                if *skip == 0 {
                    measured[usize::from(flight.segment)].push(landing.left.since(landing.entered));
                } else if last {
                    *skip -= 1;
                }
            }
            self.lanes[index].busy = false;
            if !last {
                self.start(index, flight.task, flight.segment + 1);
            }
        }
        Ok(())
    }

    /// Gives every free lane its next job, unless lanes are held.
    fn launch_free(&mut self, victim: usize, contended: bool, hold: bool) {
        let home = self.tasks[victim].lane.index();
        for index in 0..self.lanes.len() {
            if self.lanes[index].busy || hold || (!contended && index != home) {
                continue;
            }
            let victim_ran = self.lanes[index].task == victim;
            let task = match (index == home, contended && victim_ran) {
                (true, false) => Some(victim),
                (true, true) => self.any_on(index, Some(victim)).or(Some(victim)),
                (false, _) => self.any_on(index, None),
            };
            if let Some(task) = task {
                self.start(index, task, 0);
            }
        }
    }

    /// A task of the lane, at random, but for `except`.
    fn any_on(&mut self, lane: usize, except: Option<usize>) -> Option<usize> {
        let fits = |position: &usize| self.tasks[*position].lane.index() == lane && Some(*position) != except;
        let candidates = (0..self.tasks.len()).filter(fits).count();
        let chosen = self.random.below(candidates as u64) as usize;
        (0..self.tasks.len())
            .filter(|&position| self.tasks[position].lane.index() == lane && Some(position) != except)
            .nth(chosen)
    }

    fn start(&mut self, lane: usize, task: usize, segment: u16) {
        let spec = &self.tasks[task];
        let number = self.jobs[task];
        if segment + 1 == spec.segments {
            self.jobs[task] += 1;
        }
        let dispatch = self.lanes[lane].dispatch.next();
        self.lanes[lane] = Flight { dispatch, busy: true, task, segment };
        let slot = u32::try_from(number % u64::from(spec.slots.max(1))).unwrap_or(0);
        let job = JobId::new(spec.task, number);
        let launch = Launch { job, segment: SegmentIndex::new(segment), slot, dispatch };
        self.plant.post(LaneId::new(lane as u16), launch);
    }
}

/// The contended occupancy budget for these samples: the high-water mark times one plus the margin, rounded up.
/// `None` without samples or on overflow.
pub fn budget(samples: &[Nanos], margin_ppm: u64) -> Option<Nanos> {
    samples.iter().max()?.scale_ppm_up(1_000_000u64.checked_add(margin_ppm)?)
}

/// With 95 % confidence, at most this share of further jobs of the same mixture exceeds a budget that none of `n`
/// exchangeable samples exceeded: 1 - 0.05^(1/n). One without samples.
pub fn exceedance(n: usize) -> f64 {
    if n == 0 { 1.0 } else { 1.0 - 0.05f64.powf(1.0 / n as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_round_up_and_need_samples() {
        let samples = [Nanos::new(5), Nanos::new(10), Nanos::new(7)];
        assert_eq!(budget(&samples, 250_000), Some(Nanos::new(13)));
        assert_eq!(budget(&[], 250_000), None);
        assert_eq!(budget(&[Nanos::MAX], 1), None);
    }

    #[test]
    fn exceedance_is_that_of_the_rule_of_three() {
        assert!((exceedance(3_000) - 9.98e-4).abs() < 1e-5);
        assert!((exceedance(0) - 1.0).abs() < f64::EPSILON);
    }
}
