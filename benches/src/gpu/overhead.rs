//! What the whole runtime adds to the floor: engine, driver, launcher and trace, with jobs that never meet.

use std::collections::BTreeMap;

use aegis_sched::Overheads;
use aegis_trace::Trace;
use aegis_types::records::{JobReleased, SegmentCompleted, SegmentDispatched, SegmentRan};
use aegis_types::{Bytes, DispatchSeq, LaneId, Nanos, Record, Time};
use aegisrt::config::Calibration;
use aegisrt::run::run;
use serde::{Deserialize, Serialize};

use super::bed::Bed;
use super::card::Gpu;
use super::error::ExperimentError;
use super::fleet::{FleetPlan, PartitionPlan, TaskPlan};
use super::serve::{Contract, options, trace_of};
use super::spread::{Spread, SpreadRow};
use super::store::Store;
use super::workload::NOTHING;

/// Distance of two releases: far more than a job takes, so that none waits for another.
pub const GAP: Nanos = Nanos::from_micros(300);

/// What the issue allows at the median and at the 99.9th percentile.
pub const LIMITS: [(f64, Nanos); 2] = [(0.5, Nanos::from_micros(2)), (0.999, Nanos::from_micros(5))];

/// Where the time of a job goes, by the trace's stamps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TermRows {
    /// From the nominal arrival to the release's stamp.
    pub release_seen: SpreadRow,
    /// From the dispatch's stamp to the entry of the launch: decision, records and hand-off.
    pub handed_over: SpreadRow,
    /// From the entry of the launch to the completion's stamp: what the floor measures, and the runtime's looking.
    pub in_flight: SpreadRow,
}

/// The same as distributions.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    release_seen: Spread,
    handed_over: Spread,
    in_flight: Spread,
}

/// Responses of one run, and their terms.
#[derive(Clone, Debug, Default)]
pub struct Responses {
    /// From nominal arrival to completion stamp.
    pub response: Spread,
    /// Where it went, for the last jobs of the run.
    pub terms: Terms,
    /// Gaps of the driver that were longer than declared.
    pub stalls: u64,
}

impl Responses {
    /// Adds another run.
    pub fn merge(&mut self, other: &Self) {
        self.response.merge(&other.response);
        self.terms.release_seen.merge(&other.terms.release_seen);
        self.terms.handed_over.merge(&other.terms.handed_over);
        self.terms.in_flight.merge(&other.terms.in_flight);
        self.stalls += other.stalls;
    }
}

impl Terms {
    /// What is written of them.
    pub fn rows(&self) -> TermRows {
        TermRows {
            release_seen: self.release_seen.row(),
            handed_over: self.handed_over.row(),
            in_flight: self.in_flight.row(),
        }
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
        offset: Nanos::new(GAP.get() * u64::from(n)),
        // Nothing is claimed for these jobs: the budget only has to let them be admitted.
        compute: Some(Nanos::from_micros(50)),
        ..TaskPlan::plain(format!("nothing-{n:02}"), NOTHING.to_owned(), Bytes::new(1 << 20))
    };
    FleetPlan {
        name: format!("overhead-{tasks}"),
        ordinal: gpu.ordinal,
        partitions: PartitionPlan::whole(gpu.sms, lanes),
        tasks: (0..tasks).map(task).chain([witness()]).collect(),
    }
}

/// A task that is loaded and never released. It has I/O: a fleet without any would have no staging memory to hand to its
/// models.
fn witness() -> TaskPlan {
    let hour = Nanos::from_millis(3_600_000);
    let text = "kernel 1\ninput x u32 16\noutput y u32 16\nsegment\nstorm 1\nend\n";
    TaskPlan {
        lane: Some(0),
        period: hour,
        offset: hour,
        compute: Some(Nanos::from_micros(50)),
        ..TaskPlan::plain("witness", text.to_owned(), Bytes::new(1 << 20))
    }
}

/// Overheads that are generous for every step: the run is about responses and not about verdicts.
fn generous() -> Overheads {
    let step = Nanos::from_micros(1);
    Overheads {
        poll: step,
        release: Nanos::new(500),
        completion: step,
        decision: step,
        dispatch: step,
        control: step,
        handoff: Nanos::from_micros(10),
        launch_lock: Nanos::from_micros(5),
        stall: Nanos::from_micros(20),
        ..Overheads::default()
    }
}

/// Serves so many tasks for so long.
///
/// # Errors
/// What admission, device or model refuse.
pub fn measure(gpu: &Gpu, store: &Store, tasks: u16, duration: Nanos) -> Result<Responses, ExperimentError> {
    let bed = Bed::open(gpu, store, &plan(gpu, tasks))?;
    let calibration = Calibration::new(&store.path("overhead-platform"), generous());
    let prepared = bed.system().prepare(None, &calibration)?;
    let contract = Contract { set: &prepared.set, calibration: &calibration, profile: None };
    let certificate = contract.certify()?;
    let report = run(bed.system(), &prepared, certificate, None, &calibration, &options(duration, None))?;
    bed.close();
    let mut responses = Responses { stalls: report.tally.stalls().0, ..Responses::default() };
    for task in report.tally.tasks() {
        responses.response.add_histogram(&task.responses, task.response_max);
    }
    responses.terms = terms(&trace_of(report.trace)?);
    Ok(responses)
}

fn terms(trace: &Trace) -> Terms {
    let mut terms = Terms::default();
    let mut dispatched: BTreeMap<(LaneId, DispatchSeq), Time> = BTreeMap::new();
    let mut entered: BTreeMap<(LaneId, DispatchSeq), Time> = BTreeMap::new();
    let mut completed: Vec<((LaneId, DispatchSeq), Time)> = Vec::new();
    for raw in trace.records() {
        if let Some(released) = JobReleased::read(raw) {
            terms.release_seen.add(raw.stamp.since(released.arrival));
        } else if let Some(record) = SegmentDispatched::read(raw) {
            dispatched.insert((record.lane, record.dispatch), raw.stamp);
        } else if let Some(ran) = SegmentRan::read(raw) {
            entered.insert((ran.lane, ran.dispatch), ran.entered);
        } else if let Some(record) = SegmentCompleted::read(raw) {
            completed.push(((record.lane, record.dispatch), raw.stamp));
        }
    }
    for (key, begun) in &entered {
        if let Some(stamp) = dispatched.get(key) {
            terms.handed_over.add(begun.since(*stamp));
        }
    }
    for (key, stamp) in completed {
        if let Some(begun) = entered.get(&key) {
            terms.in_flight.add(stamp.since(*begun));
        }
    }
    terms
}

/// How far a quantile lies above the floor's, in nanoseconds; negative where it lies below.
pub fn above(response: &Spread, floor: &Spread, quantile: f64) -> i64 {
    let span = |spread: &Spread| i64::try_from(spread.quantile(quantile).get()).unwrap_or(i64::MAX);
    span(response).saturating_sub(span(floor))
}

#[cfg(test)]
mod tests {
    use aegis_types::records::Reason;
    use aegis_types::{JobId, SegmentIndex, Sink, TaskId};

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

    #[test]
    fn terms_are_read_from_the_stamps() {
        let (lane, dispatch) = (LaneId::new(0), DispatchSeq::new(1));
        let (job, segment) = (JobId::new(TaskId::new(0), 0), SegmentIndex::new(0));
        let at = |us: u64| Time::new(us * 1_000);
        let mut collector = aegis_trace::TraceCollector::new(aegis_trace::TraceOptions {
            mode: aegis_trace::TraceMode::Memory { records: 100 },
            schemas: aegis_types::records::SCHEMAS.to_vec(),
            epoch: String::new(),
            blobs: BTreeMap::new(),
        })
        .expect("a trace");
        let mut ring = collector.producer("all", 64).expect("a ring");
        let released =
            JobReleased { job, lane, arrival: at(10), deadline: at(90), pending: 1, token: 0 }.at(at(11));
        let (budget, reason) = (Nanos::from_micros(9), Reason::OnlyReady);
        let sent = SegmentDispatched { job, lane, segment, dispatch, budget, reason }.at(at(11));
        let ran = SegmentRan { job, lane, segment, dispatch, entered: at(13), left: at(20) }.at(at(20));
        let occupancy = Nanos::from_micros(10);
        let done = SegmentCompleted { job, lane, segment, dispatch, occupancy, budget }.at(at(21));
        [released, sent, ran, done].into_iter().for_each(|record| ring.emit(record));
        let trace =
            collector.finish(BTreeMap::new()).and_then(aegis_trace::Finished::into_trace).expect("read");
        let rows = terms(&trace).rows();
        let maxima = [rows.release_seen.max_ns, rows.handed_over.max_ns, rows.in_flight.max_ns];
        assert_eq!(maxima, [1_000, 2_000, 8_000]);
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
