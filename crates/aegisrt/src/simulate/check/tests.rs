//! Every checker that reads records fires: a true account is changed in one place and must no longer pass.

use aegis_sched::{AdmissionController, AdmissionRequest};
use aegis_types::records::{
    CompletionHandled, DecideHandled, JobFinished, JobReleased, SegmentCompleted, SegmentDispatched,
};
use aegis_types::{Nanos, RawRecord, Record, Sink, Time};

use super::super::episode::Episode;
use super::super::faults::FaultPlan;
use super::super::generate::Scenario;
use super::Checks;

const SEED: u64 = 2;

fn position(records: &[RawRecord], kind: u16) -> usize {
    records.iter().rposition(|record| record.kind() == kind).expect("a run has every kind")
}

fn again(records: &mut Vec<RawRecord>, kind: u16) {
    let at = position(records, kind);
    records.insert(at, records[at]);
}

fn without(records: &mut Vec<RawRecord>, kind: u16) {
    records.remove(position(records, kind));
}

fn earlier(records: &mut [RawRecord]) {
    let at = position(records, JobReleased::SCHEMA.kind);
    let mut released = JobReleased::read(&records[at]).expect("a release");
    released.arrival = released.arrival.saturating_sub(Nanos::from_millis(200));
    records[at] = released.at(records[at].stamp);
}

fn later(records: &mut [RawRecord]) {
    let at = position(records, CompletionHandled::SCHEMA.kind);
    for record in &mut records[at..] {
        record.stamp = record.stamp.saturating_add(Nanos::from_millis(1_000));
    }
}

fn backwards(records: &mut [RawRecord]) {
    let at = position(records, SegmentDispatched::SCHEMA.kind);
    records[at].stamp = Time::ZERO;
}

fn another_response(records: &mut [RawRecord]) {
    let at = position(records, JobFinished::SCHEMA.kind);
    let mut finished = JobFinished::read(&records[at]).expect("an end");
    finished.response = Nanos::new(1);
    records[at] = finished.at(records[at].stamp);
}

/// The first: behind the last there is nothing that it could be missed by.
fn lost_decision(records: &mut Vec<RawRecord>) {
    let at = records.iter().position(|record| record.kind() == DecideHandled::SCHEMA.kind);
    records.remove(at.expect("a run decides"));
}

type Change = fn(&mut Vec<RawRecord>);

#[test]
fn a_changed_account_does_not_pass() {
    let scenario = Scenario::generate(SEED).expect("a model");
    let admission = AdmissionController::new(scenario.policy.make());
    let report = admission.analyze(&AdmissionRequest::new(&scenario.set).tight());
    let certificate = report.certificate().expect("the seed is admitted");
    let plan = FaultPlan::none();
    let horizon = Nanos::from_millis(100);
    let (scenario, seed) = (&scenario, SEED);
    let episode = Episode { scenario, certificate, judged: certificate, plan: &plan, horizon, seed };
    let mut records: Vec<RawRecord> = Vec::new();
    episode.run(scenario.policy.make(), &mut records).expect("a world");
    let judge = |change: Change| {
        let mut changed = records.clone();
        change(&mut changed);
        let mut checks = Checks::new(&scenario.set, certificate, true, true);
        changed.iter().for_each(|record| checks.emit(*record));
        let (_, violations, _) = checks.finish();
        violations
    };
    assert_eq!(judge(|_| {}), []);
    let table: [(&str, Change, u8); 9] = [
        ("a response is too long", |records| later(records), 1),
        ("a lane is given twice", |records| again(records, SegmentDispatched::SCHEMA.kind), 2),
        ("a segment ends twice", |records| again(records, SegmentCompleted::SCHEMA.kind), 2),
        ("a job ends twice", |records| again(records, JobFinished::SCHEMA.kind), 4),
        ("a job never ends", |records| without(records, JobFinished::SCHEMA.kind), 4),
        ("a job arrives too early", |records| earlier(records), 5),
        ("a response is not the time from arrival to end", |records| another_response(records), 5),
        ("a decision is lost", |records| lost_decision(records), 6),
        ("time runs backwards", |records| backwards(records), 6),
    ];
    for (what, change, checker) in table {
        let violations = judge(change);
        assert!(violations.iter().any(|it| it.checker == checker), "{what}: {violations:?}");
    }
}
