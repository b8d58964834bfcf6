//! Policies that insert idle time, in the whole runtime: runs as promised stay within their bounds, whatever the runtime
//! itself takes; what goes wrong voids a lane for good; and who leaves the idle time out is caught.

use aegis_sched::engine::LaneKeptFree;
use aegis_sched::{
    AdmissionController, AdmissionRequest, Arrival, Basis, Certificate, Criticality, OccupancyBudget,
    OnOverrun, Overheads, PartitionModel, Platform, Task, TaskSet,
};
use aegis_types::record::Discard;
use aegis_types::{LaneId, Nanos, RawRecord, Record, Sink, TaskId};
use aegisrt::feed::SplitMix;
use aegisrt::simulate::check::Checks;
use aegisrt::simulate::episode::{Episode, Outcome};
use aegisrt::simulate::faults::FaultPlan;
use aegisrt::simulate::generate::{Latency, Scenario};
use aegisrt::simulate::policy::PolicyChoice;

use crate::apart::Kept;
use crate::{HORIZON, certify, from_environment};

const POLICIES: [&str; 2] = ["p-rm", "cw-edf"];

fn overheads(draw: &mut SplitMix) -> Overheads {
    let mut span = |low: u64, high: u64| Nanos::new(low + draw.below(high - low));
    Overheads {
        poll: span(50, 500),
        release: span(20, 200),
        completion: span(20, 200),
        decision: span(50, 400),
        dispatch: span(50, 400),
        handoff: span(200, 5_000),
        launch_lock: span(1, 500),
        wakeup: span(500, 10_000),
        stall: span(10_000, 200_000),
        ..Overheads::default()
    }
}

/// Two lanes with three tasks each, of periods that repeat soon; the long one of a lane is in the way of the short one.
fn scenario(seed: u64) -> Scenario {
    let mut draw = SplitMix(seed ^ 0x1D1E_0001);
    let platform = Platform::new(vec![PartitionModel { name: "all".into(), lanes: 2 }], overheads(&mut draw));
    let mut task = |id: u16, period: u64, longest: u64| {
        let micros = Nanos::from_micros;
        let budget =
            OccupancyBudget { bound: micros(longest / 2 + draw.below(longest / 2)), basis: Basis::Declared };
        Task {
            id: TaskId::new(id),
            name: format!("model_{id}"),
            lane: LaneId::new(id / 3),
            period: micros(period),
            deadline: micros(period),
            jitter: micros(draw.below(2) * draw.below(period / 20)),
            arrival: Arrival::Periodic { offset: micros([0, draw.below(period)][draw.below(2) as usize]) },
            segments: vec![budget],
            priority: None,
            criticality: Criticality::Medium,
            on_overrun: [OnOverrun::Skip, OnOverrun::Keep][draw.below(2) as usize],
            retries: 0,
            weight: 1,
            excludes: Vec::new(),
        }
    };
    let tasks: Vec<Task> = (0..2)
        .flat_map(|lane| {
            [
                task(3 * lane, 5_000, 1_500),
                task(3 * lane + 1, 10_000, 2_500),
                task(3 * lane + 2, 20_000, 7_500),
            ]
        })
        .collect();
    let latency = [Latency::Crisp, Latency::Drawn, Latency::Slowest][draw.below(3) as usize];
    Scenario {
        seed,
        set: TaskSet::new(tasks, platform.expect("a platform")).expect("a set"),
        policy: PolicyChoice::Named(POLICIES[draw.below(2) as usize]),
        latency,
        slowdown: Vec::new(),
        shortest: (0..6).map(|_| [1_000_000, 300_000][draw.below(2) as usize]).collect(),
        longest_share: (0..6).map(|_| [256, 64][draw.below(2) as usize]).collect(),
        waits: vec![Nanos::ZERO; 6],
    }
}

/// Scenarios that are certified, as many as `AEGIS_SIM_INSERTED` says.
fn scenarios(name: &str, mut check: impl FnMut(&Scenario, &Certificate)) -> u64 {
    let (first, count) = (from_environment("AEGIS_SIM_SEED", 0), from_environment("AEGIS_SIM_INSERTED", 120));
    let mut admitted = 0;
    for seed in first..first + count {
        let scenario = scenario(seed);
        let Some(certificate) = certify(&scenario) else { continue };
        let again = format!(
            "again: AEGIS_SIM_SEED={seed} AEGIS_SIM_INSERTED=1 cargo test -p aegisrt --test simulation {name}"
        );
        let repeat = Repeat(again);
        check(&scenario, &certificate);
        std::mem::forget(repeat);
        admitted += 1;
    }
    admitted
}

/// Prints how a failure is repeated.
struct Repeat(String);

impl Drop for Repeat {
    fn drop(&mut self) {
        eprintln!("{}", self.0);
    }
}

fn run(scenario: &Scenario, certificate: &Certificate, plan: &FaultPlan, sink: &mut dyn Sink) -> Outcome {
    let seed = scenario.seed;
    let episode = Episode { scenario, certificate, judged: certificate, plan, horizon: HORIZON, seed };
    episode.run(scenario.policy.make(), sink).expect("a world")
}

fn is_kept(record: &RawRecord) -> bool {
    LaneKeptFree::read(record).is_some()
}

#[test]
fn lanes_that_are_kept_free_meet_every_bound() {
    let (mut kept, mut jobs) = (0, 0);
    let admitted = scenarios("lanes_that_are_kept_free_meet_every_bound", |scenario, certificate| {
        let mut records = Kept::default();
        let outcome = run(scenario, certificate, &FaultPlan::none(), &mut records);
        assert!(outcome.violations.is_empty(), "{:?}", outcome.violations);
        assert_eq!(outcome.counts.misses, 0);
        jobs += outcome.counts.covered;
        kept += records.0.iter().filter(|record| is_kept(record)).count();
        // Whoever does not say why a lane stays free is found out.
        if records.0.iter().any(is_kept) {
            let mut checks = Checks::new(&scenario.set, certificate, true, true);
            records.0.into_iter().filter(|record| !is_kept(record)).for_each(|record| checks.emit(record));
            let (_, found, _) = checks.finish();
            assert!(found.iter().any(|violation| violation.checker == 5), "silence is not found out");
        }
    });
    println!("{jobs} jobs of {admitted} sets covered, lanes kept free {kept} times");
    if from_environment("AEGIS_SIM_INSERTED", 120) >= 120 {
        assert!(admitted > 60 && jobs > 50 * admitted && kept > 100, "{admitted} {jobs} {kept}");
    }
}

#[test]
fn faults_leave_standing_what_the_certificate_says() {
    let (mut void, mut covered) = (0, 0);
    scenarios("faults_leave_standing_what_the_certificate_says", |scenario, certificate| {
        for round in 0..4 {
            let mut draw = SplitMix(scenario.seed * 4 + round);
            let plan = FaultPlan::draw(&mut draw, &scenario.set, certificate, HORIZON);
            let outcome = run(scenario, certificate, &plan, &mut Discard);
            assert!(outcome.violations.is_empty(), "{plan:?}: {:?}", outcome.violations);
            void += outcome.counts.void;
            covered += outcome.counts.covered;
        }
    });
    println!("{covered} jobs covered, {void} void");
    if from_environment("AEGIS_SIM_INSERTED", 120) >= 120 {
        assert!(void > 1_000 && covered > 1_000, "{void} {covered}");
    }
}

/// The same order without the rule, smuggled in under a certificate of far deadlines, and judged by the one with it.
#[test]
fn leaving_the_idle_time_out_is_caught() {
    let (mut by_start, mut by_bound) = (0, 0);
    let admitted = scenarios("leaving_the_idle_time_out_is_caught", |scenario, judged| {
        let patient = |task: &Task| Task { deadline: Nanos::from_millis(10_000), ..task.clone() };
        let tasks: Vec<Task> = scenario.set.tasks().iter().map(patient).collect();
        let mut smuggled = scenario.clone();
        smuggled.set = TaskSet::new(tasks, scenario.set.platform().clone()).expect("a set");
        // Deadlines are periods, so that both policies order jobs of a lane as periods do.
        smuggled.policy = PolicyChoice::Named("rm");
        let controller = AdmissionController::new(smuggled.policy.make());
        let report = controller.analyze(&AdmissionRequest::new(&smuggled.set));
        let certificate = report.certificate().expect("these deadlines are far");
        let (plan, seed) = (FaultPlan::none(), scenario.seed);
        let episode =
            Episode { scenario: &smuggled, certificate, judged, plan: &plan, horizon: HORIZON, seed };
        let outcome = episode.run(smuggled.policy.make(), &mut Discard).expect("a world");
        let by = |checker: u8, what: &str| {
            u64::from(outcome.violations.iter().any(|it| it.checker == checker && it.what.contains(what)))
        };
        by_start += by(5, "kept for what is to come");
        by_bound += by(1, "the bound");
    });
    println!("of {admitted} sets {by_start} caught by a start, {by_bound} by a response");
    if from_environment("AEGIS_SIM_INSERTED", 120) >= 120 {
        assert!(by_start * 3 > admitted && by_bound * 10 > admitted, "{by_start} {by_bound} of {admitted}");
    }
}
