//! The whole runtime in virtual time, over seeded task sets. `AEGIS_SIM_SETS` says how many (300 unless told),
//! `AEGIS_SIM_SEED` where to start. One set again: `AEGIS_SIM_SEED=<seed> AEGIS_SIM_SETS=1`, or
//! `aegis simulate --seed <seed> --sets 1`.

mod apart;
mod changes;
mod inserted;
mod online;

use aegis_sched::{AdmissionController, AdmissionRequest, Certificate, Engine, Task, TaskSet};
use aegis_types::record::Discard;
use aegis_types::{Nanos, Time};
use aegisrt::simulate::episode::Episode;
use aegisrt::simulate::faults::FaultPlan;
use aegisrt::simulate::generate::{Latency, Scenario};
use aegisrt::simulate::loaded::loaded;
use aegisrt::simulate::policy::Inverted;
use aegisrt::simulate::{SimulateOptions, simulate};

const HORIZON: Nanos = Nanos::from_millis(100);

fn from_environment(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is `{text}`; legal is a whole number")),
        Err(_) => default,
    }
}

fn certify(scenario: &Scenario) -> Option<Certificate> {
    let admission = AdmissionController::new(scenario.policy.make());
    admission.analyze(&AdmissionRequest::new(&scenario.set).tight()).certificate().cloned()
}

fn certified_scenarios() -> impl Iterator<Item = (Scenario, Certificate)> {
    (0..).filter_map(|seed| {
        let scenario = Scenario::generate(seed).expect("a model");
        let certificate = certify(&scenario)?;
        Some((scenario, certificate))
    })
}

#[test]
fn every_checker_holds_over_seeded_sets() {
    let sets = from_environment("AEGIS_SIM_SETS", 300);
    let seed = from_environment("AEGIS_SIM_SEED", 0);
    let started = std::time::Instant::now();
    let report = simulate(&SimulateOptions::new(sets, seed), &|done| {
        if done.is_multiple_of(1_000) {
            println!("{done} of {sets} sets");
        }
    });
    println!("{report}\ntook       {:.1} s", started.elapsed().as_secs_f64());
    assert!(
        report.is_clean(),
        "a rule was broken; again: AEGIS_SIM_SEED=<seed> AEGIS_SIM_SETS=1 and this test"
    );
    if sets < 100 {
        return;
    }
    // What holds for no jobs at all proves nothing.
    assert!(report.admitted * 10 > sets * 8, "{} of {sets} sets were admitted", report.admitted);
    assert_eq!(report.plain.covered, report.plain.ended, "without a fault every job is covered");
    assert!(report.plain.ended > 100 * sets, "{} jobs ended", report.plain.ended);
    assert!(report.exact.beyond_plain > sets / 4, "overruns that never exceed R(0) do not test R(X)");
    assert!(report.faulty.covered_fraction() > 0.8, "faults leave most of the world standing");
    assert!(
        report.faulty.void > 0 && report.faulty.dropped > 0 && report.faulty.misses > 0,
        "faults have effects"
    );
    assert!(
        report.canaries > sets / 2 && report.canaries_caught * 10 > report.canaries * 9,
        "canaries are caught"
    );
    assert!(report.canaries_bound * 10 > report.canaries, "some of them by their responses");
    assert_eq!(report.replays, 2 * report.traced);
    assert!(report.explained > sets && report.lost > sets && report.compared > sets);
}

#[test]
fn ten_thousand_jobs_in_shared_memory_equal_private_memory() {
    let mut compared = 0;
    for (scenario, certificate) in certified_scenarios().filter(|(it, _)| it.set.platform().lanes() >= 2) {
        let (jobs, found) = loaded(&scenario, &certificate, HORIZON).expect("models load");
        assert!(found.is_empty(), "seed {}: {found:?}", scenario.seed);
        compared += jobs;
        if compared >= 10_000 {
            return;
        }
    }
}

/// The same set with budgets a tenth smaller than the segments really take.
fn belittled(scenario: &Scenario) -> TaskSet {
    let smaller = |task: &Task| {
        let mut task = task.clone();
        for segment in &mut task.segments {
            segment.bound = Nanos::new((segment.bound.get() / 10 * 9).max(1));
        }
        task
    };
    let tasks = scenario.set.tasks().iter().map(smaller).collect();
    TaskSet::new(tasks, scenario.set.platform().clone()).expect("a model")
}

#[test]
fn bounds_that_are_a_tenth_too_small_are_caught() {
    let (mut caught, mut tried) = (0, 0);
    let crisp = |(it, _): &(Scenario, Certificate)| it.latency == Latency::Crisp;
    for (mut scenario, certificate) in certified_scenarios().filter(crisp).take(60) {
        scenario.longest_share.fill(256);
        let mut wrong = scenario.clone();
        wrong.set = belittled(&scenario);
        let Some(judged) = certify(&wrong) else { continue };
        let (plan, seed) = (FaultPlan::none(), scenario.seed);
        let (scenario, certificate, judged) = (&scenario, &certificate, &judged);
        let episode = Episode { scenario, certificate, judged, plan: &plan, horizon: HORIZON, seed };
        let outcome = episode.run(scenario.policy.make(), &mut Discard).expect("a world");
        tried += 1;
        caught += u32::from(outcome.violations.iter().any(|violation| violation.checker == 1));
    }
    println!("bounds a tenth too small: {caught} of {tried} caught by a response");
    assert!(tried > 30 && caught * 4 > tried, "{caught} of {tried}");
}

#[test]
fn the_engine_takes_no_policy_but_the_certified_one() {
    for (scenario, certificate) in certified_scenarios().take(20) {
        let upright = scenario.policy.make();
        let inverted = Box::new(Inverted::of(upright.as_ref(), scenario.set.tasks()));
        assert!(Engine::new(&scenario.set, certificate.clone(), inverted, Time::ZERO).is_err());
        assert!(Engine::new(&scenario.set, certificate, upright, Time::ZERO).is_ok());
    }
}

#[test]
fn a_report_depends_on_seeds_alone() {
    let report = |threads| {
        let options = SimulateOptions { threads, ..SimulateOptions::new(12, 40) };
        serde_json::to_string(&simulate(&options, &|_| {})).expect("plain numbers and texts")
    };
    assert_eq!(report(1), report(3));
}
