//! What the whole runtime adds to the floor: engine, driver, launcher and trace, with jobs that never meet.

use std::collections::BTreeMap;
use std::path::Path;

use aegis_sched::{Certificate, Overheads};
use aegis_trace::Trace;
use aegis_types::records::{SegmentCompleted, SegmentDispatched, SegmentRan, StallHandled};
use aegis_types::{Bytes, JobId, Nanos, Record, Time};
use aegisrt::config::{CalibratedDevice, Calibration, Prepared};
use aegisrt::run::{RunOptions, run};
use serde::{Deserialize, Serialize};

use super::bed::Bed;
use super::between::{late, releases};
use super::card::Gpu;
use super::error::ExperimentError;
use super::fleet::{FleetPlan, PartitionPlan, TaskPlan};
use super::floor::{STALL, WARM_UP};
use super::serve::{Contract, trace_of};
use super::spread::Spread;
use super::store::Store;
use super::workload::NOTHING;

/// Distance of two releases: far more than a job takes, so that none waits for another. It shares no divisor with a
/// millisecond: the clock ticks of host and hypervisor come at whole milliseconds and take 10 to 20 us each, and with
/// 300 us one release in ten, or none, would meet a tick whenever the phase happened to be so.
pub const GAP: Nanos = Nanos::new(317_003);

/// What is aimed at, at the median and at the 99.9th percentile.
pub const LIMITS: [(f64, Nanos); 2] = [(0.5, Nanos::from_micros(2)), (0.999, Nanos::from_micros(5))];

/// What the time of a job is made of, by the trace's stamps; the parts add up to its response.
pub const TERMS: [&str; 4] = [
    "release seen",
    "decided and handed over",
    "launch to end seen by the launcher",
    "end seen by the driver",
];

/// A job by the trace's stamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stages {
    /// Lengths of the four [`TERMS`].
    pub terms: [Nanos; TERMS.len()],
    /// Whether the driver had a gap of [`STALL`] or more in its time, or the launcher took that long to begin.
    pub stalled: bool,
}

impl Stages {
    /// From when the job was due to the completion stamp.
    pub fn response(&self) -> Nanos {
        self.terms.iter().fold(Nanos::ZERO, |sum, term| sum.saturating_add(*term))
    }
}

/// Responses, and their terms.
#[derive(Clone, Debug, Default)]
pub struct Responses {
    /// From when a job was due to its completion stamp.
    pub response: Spread,
    /// The same without jobs in which the host stalled.
    pub calm: Spread,
    /// Where it went.
    pub terms: [Spread; TERMS.len()],
    /// The slow jobs, one by one: those above the 99th percentile of the floor beside them.
    pub slow: Vec<Stages>,
    /// Gaps of the driver of [`STALL`] or more.
    pub stalls: u64,
}

/// What slow jobs have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlowRow {
    /// Jobs above the 99.9th percentile of the floor.
    pub jobs: u64,
    /// How many of them lie over a stall of the host.
    pub stalled: u64,
    /// How many of them each term made slow: the one that is farthest above its median.
    pub dominated: [u64; TERMS.len()],
    /// The same for those that lie over no stall.
    pub dominated_calm: [u64; TERMS.len()],
}

impl Responses {
    /// Counts one job; `slow` is the response from which on it is kept.
    pub fn add(&mut self, job: Stages, slow: Nanos) {
        let response = job.response();
        self.response.add(response);
        if !job.stalled {
            self.calm.add(response);
        }
        self.terms.iter_mut().zip(job.terms).for_each(|(spread, term)| spread.add(term));
        if response > slow {
            self.slow.push(job);
        }
    }

    /// Adds another run.
    pub fn merge(&mut self, other: &Self) {
        self.response.merge(&other.response);
        self.calm.merge(&other.calm);
        self.terms.iter_mut().zip(&other.terms).for_each(|(own, other)| own.merge(other));
        self.slow.extend(&other.slow);
        self.stalls += other.stalls;
    }

    /// What the jobs above `limit` have in common.
    pub fn slow_row(&self, limit: Nanos) -> SlowRow {
        let medians = self.terms.each_ref().map(|term| term.quantile(0.5));
        let mut row = SlowRow::default();
        for job in self.slow.iter().filter(|job| job.response() > limit) {
            let beyond = |term: &usize| job.terms[*term].saturating_sub(medians[*term]);
            let worst = (0..TERMS.len()).max_by_key(beyond).unwrap_or(0);
            row.jobs += 1;
            row.stalled += u64::from(job.stalled);
            row.dominated[worst] += 1;
            row.dominated_calm[worst] += u64::from(!job.stalled);
        }
        row
    }
}

/// Lanes that so many tasks are served on.
pub const fn lanes_for(tasks: u16) -> u16 {
    if tasks < 4 { 1 } else { 4 }
}

/// A fleet of so many tasks whose releases lie [`GAP`] apart.
fn plan(gpu: &Gpu, tasks: u16) -> FleetPlan {
    let lanes = lanes_for(tasks);
    let period = Nanos::new(GAP.get() * u64::from(tasks));
    let task = |n: u16| TaskPlan {
        lane: Some(n % lanes),
        period,
        jitter: late(period),
        offset: Nanos::new(GAP.get() * u64::from(n)),
        // Nothing is claimed for these jobs: the budget only has to let them be admitted.
        compute: Some(Nanos::from_micros(50)),
        ..TaskPlan::plain(format!("nothing-{n:02}"), NOTHING.to_owned(), Bytes::new(1 << 20))
    };
    FleetPlan {
        name: format!("overhead-{tasks}"),
        ordinal: gpu.ordinal,
        partitions: PartitionPlan::whole(gpu.sms, lanes),
        tasks: (0..tasks).map(task).collect(),
    }
}

/// A calibration with overheads that are generous for every step, for so many lanes: the run is about responses and not
/// about verdicts.
pub(super) fn generous(gpu: &Gpu, lanes: u16, path: &Path) -> Calibration {
    let step = Nanos::from_micros(1);
    let overheads = Overheads {
        poll: step,
        release: Nanos::new(500),
        completion: step,
        decision: step,
        dispatch: step,
        control: step,
        handoff: Nanos::from_micros(10),
        launch_lock: Nanos::from_micros(5),
        stall: STALL,
        ..Overheads::default()
    };
    let device = CalibratedDevice {
        name: gpu.name.clone(),
        versions: gpu.versions.clone(),
        lanes,
        own_carriers: Vec::new(),
        launch: gpu.launch,
        regime: None,
    };
    let mut calibration = Calibration::new(path, overheads);
    calibration.device = Some(device);
    calibration
}

/// A fleet that is served again and again for short times.
pub struct Subject {
    bed: Bed,
    prepared: Prepared,
    certificate: Certificate,
    calibration: Calibration,
}

impl Subject {
    /// Opens the device for so many tasks and has them admitted.
    ///
    /// # Errors
    /// What admission, device or model refuse.
    pub fn open(gpu: &Gpu, store: &Store, tasks: u16) -> Result<Self, ExperimentError> {
        let bed = Bed::open(gpu, store, &plan(gpu, tasks))?;
        let calibration = generous(gpu, lanes_for(tasks), &store.path("overhead-platform"));
        let prepared = bed.system().prepare(None, &calibration)?;
        let contract = Contract { set: &prepared.set, calibration: &calibration, profile: None };
        let certificate = contract.certify()?;
        Ok(Self { bed, prepared, certificate, calibration })
    }

    /// Serves the tasks.
    ///
    /// # Errors
    /// What device or model refuse.
    pub fn serve(&self, options: &RunOptions) -> Result<Trace, ExperimentError> {
        let Self { bed, prepared, certificate, calibration } = self;
        trace_of(run(bed.system(), prepared, certificate.clone(), None, calibration, options)?.trace)
    }

    /// Gives the device up.
    pub fn close(self) {
        self.bed.close();
    }
}

/// Jobs of a trace from when they were due, without the first [`WARM_UP`] releases. Those that take longer than `slow` are
/// kept one by one.
pub fn responses(trace: &Trace, slow: Nanos) -> Responses {
    let mut dispatched: BTreeMap<JobId, Time> = BTreeMap::new();
    let mut ran: BTreeMap<JobId, (Time, Time)> = BTreeMap::new();
    let mut completed: Vec<(JobId, Time)> = Vec::new();
    let mut gaps: Vec<(Time, Time)> = Vec::new();
    for raw in trace.records() {
        if let Some(record) = SegmentDispatched::read(raw) {
            dispatched.insert(record.job, raw.stamp);
        } else if let Some(record) = SegmentRan::read(raw) {
            ran.insert(record.job, (record.entered, record.left));
        } else if let Some(record) = SegmentCompleted::read(raw) {
            completed.push((record.job, raw.stamp));
        } else if let Some(record) = StallHandled::read(raw) {
            gaps.push((raw.stamp.saturating_sub(record.gap), raw.stamp));
        }
    }
    let released = releases(trace);
    let first = released.values().map(|(due, _)| *due).min().unwrap_or(Time::ZERO);
    let warm = first.saturating_add(Nanos::new(GAP.get() * WARM_UP));
    let mut responses = Responses { stalls: gaps.len() as u64, ..Responses::default() };
    for (job, end) in completed {
        let (Some(&(due, seen)), Some(&sent), Some(&(entered, left))) =
            (released.get(&job), dispatched.get(&job), ran.get(&job))
        else {
            continue;
        };
        if due < warm {
            continue;
        }
        // The launcher may see a flag after the driver did, for whom the job has ended then.
        let left = left.min(end);
        let terms = [seen.since(due), entered.since(seen), left.since(entered), end.since(left)];
        // The first gap that ends after the job was due is the only one that can begin before the end and still overlap.
        let next = gaps.partition_point(|(_, over)| *over <= due);
        let overlaps = gaps.get(next).is_some_and(|(begun, _)| *begun < end);
        responses.add(Stages { terms, stalled: overlaps || entered.since(sent) >= STALL }, slow);
    }
    responses
}

/// How far a quantile lies above the floor's, in nanoseconds; negative where it lies below.
pub fn above(response: &Spread, floor: &Spread, quantile: f64) -> i64 {
    let span = |spread: &Spread| i64::try_from(spread.quantile(quantile).get()).unwrap_or(i64::MAX);
    span(response).saturating_sub(span(floor))
}

#[cfg(test)]
pub(super) mod tests {
    use aegis_types::records::{JobReleased, Reason};
    use aegis_types::{DispatchSeq, LaneId, SegmentIndex, TaskId};

    use aegisrt::config::{Facts, Fleet, LaunchMode, prepare};

    use super::super::between::tests::traced;
    use super::*;

    #[test]
    fn a_plan_is_a_legal_fleet_whose_releases_do_not_meet() {
        let gpu = super::super::card::tests::imagined();
        for tasks in [1, 8, 30] {
            let plan = plan(&gpu, tasks);
            plan.check().expect("a legal fleet");
            let mut releases: Vec<u64> =
                plan.tasks.iter().take(tasks.into()).map(|task| task.offset.get()).collect();
            releases.push(plan.tasks[0].period.get());
            assert!(releases.windows(2).all(|pair| pair[1] - pair[0] == GAP.get()), "{releases:?}");
        }
    }

    /// The longest queue of a fleet that is certified with generous overheads.
    pub fn admitted(gpu: &Gpu, fleet: &Fleet, lanes: u16) -> u32 {
        let calibration = generous(gpu, lanes, Path::new("platform.json"));
        let facts = Facts { model: aegis_types::ContentHash::of(b"any model"), declared: vec![Nanos::ZERO] };
        let count = fleet.tasks().len();
        let on = fleet.fixed_lanes().into_iter().map(|lane| lane.unwrap_or(LaneId::new(0)));
        let prepared = prepare(fleet, None, &calibration, &on.collect::<Vec<_>>(), &vec![facts; count]);
        let set = prepared.expect("made for this fleet").set;
        let contract = Contract { set: &set, calibration: &calibration, profile: None };
        let certificate = contract.certify().expect("admitted");
        certificate.lanes().iter().flat_map(|lane| lane.tasks()).map(|task| task.queue).max().unwrap_or(0)
    }

    #[test]
    fn fleets_are_admitted_with_late_releases_whoever_launches() {
        for launch in [LaunchMode::Carrier, LaunchMode::Driver] {
            let gpu = Gpu { launch, ..super::super::card::tests::imagined() };
            for (tasks, queue) in [(1, 2), (8, 1), (30, 1)] {
                let fleet = plan(&gpu, tasks).text(launch);
                let fleet = Fleet::parse(Path::new("overhead.toml"), &fleet).expect("a legal fleet");
                assert_eq!(admitted(&gpu, &fleet, lanes_for(tasks)), queue, "{tasks} tasks, {launch:?}");
            }
        }
    }

    #[test]
    fn terms_are_read_from_the_stamps() {
        let (lane, dispatch) = (LaneId::new(0), DispatchSeq::new(1));
        let segment = SegmentIndex::new(0);
        let at = |us: u64| Time::new(us * 1_000);
        let (budget, reason) = (Nanos::from_micros(9), Reason::OnlyReady);
        let occupancy = Nanos::from_micros(10);
        // One job in the warm-up, and two long after it, each beside a gap of the driver; the last one's launcher sees the flag
        // after the driver did.
        let jobs = [(0, 0, 20), (1, 100_000, 20), (2, 200_000, 30)].map(|(number, from, left)| {
            let (job, at) = (JobId::new(TaskId::new(0), number), |us: u64| at(from + us));
            let released =
                JobReleased { job, lane, arrival: at(10), deadline: at(90), pending: 1, token: 0 }.at(at(11));
            let sent = SegmentDispatched { job, lane, segment, dispatch, budget, reason }.at(at(11));
            let ran =
                SegmentRan { job, lane, segment, dispatch, entered: at(13), left: at(left) }.at(at(left));
            let stall = StallHandled { gap: Nanos::from_micros(30), limit: STALL }.at(at(21));
            let done = SegmentCompleted { job, lane, segment, dispatch, occupancy, budget }.at(at(21));
            [released, sent, ran, stall, done]
        });
        let found = responses(&traced(jobs.into_iter().flatten()), Nanos::from_micros(10));
        assert_eq!(found.response.count(), 2, "the first releases are not counted");
        let maxima = found.terms.each_ref().map(|term| term.max().get());
        assert_eq!(maxima, [1_000, 2_000, 8_000, 1_000]);
        let slow: Vec<Nanos> = found.slow.iter().map(Stages::response).collect();
        assert_eq!(slow, [Nanos::from_micros(11); 2], "a job ends with its completion stamp");
        let row = found.slow_row(Nanos::from_micros(10));
        assert_eq!((row.jobs, row.stalled, found.calm.count()), (2, 2, 0), "{row:?}");
    }

    #[test]
    fn the_term_that_is_farthest_above_its_median_made_a_job_slow() {
        let job = |terms: [u64; 4], stalled| Stages { terms: terms.map(Nanos::from_micros), stalled };
        let mut found = Responses::default();
        for _ in 0..10 {
            found.add(job([1, 2, 50, 1], false), Nanos::from_micros(60));
        }
        found.add(job([1, 40, 60, 1], false), Nanos::from_micros(60));
        found.add(job([90, 2, 50, 1], true), Nanos::from_micros(60));
        let row = found.slow_row(Nanos::from_micros(70));
        assert_eq!((row.jobs, row.stalled), (2, 1));
        assert_eq!((row.dominated, row.dominated_calm), ([1, 1, 0, 0], [0, 1, 0, 0]));
        assert_eq!(found.slow_row(Nanos::from_micros(110)).jobs, 1);
    }

    #[test]
    fn the_distance_to_the_floor_has_a_sign() {
        let of = |ns: u64| {
            let mut spread = Spread::new();
            spread.add(Nanos::new(ns));
            spread
        };
        assert_eq!(above(&of(500), &of(200), 0.5), 300);
        assert_eq!(above(&of(200), &of(500), 0.5), -300);
    }
}
