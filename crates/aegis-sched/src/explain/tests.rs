//! Terms add up, name the right culprits, and stay silent where records are missing.

use aegis_types::records::{SegmentOutcome, SegmentRan};
use aegis_types::{DispatchSeq, JobId, LaneId, Nanos, RawRecord, Record, SegmentIndex, TaskId, Time};

use super::{BlameKind, Explainer, Explanation, Part, Unknown};
use crate::engine::tests::world::{Fixture, Seeded, Spec, World, for_seeds, random_fleet};

fn job(task: u16, number: u64) -> JobId {
    JobId::new(TaskId::new(task), number)
}

fn timer(period: u64, offset: u64) -> Spec {
    Spec { period, offset: Some(offset), ..Spec::default() }
}

/// task0 arrives at 3 while task1 runs from 0 to 10; both have budgets of 10.
fn blocked() -> (Fixture, World) {
    let fixture = Fixture::new("fp", 0, &[timer(100, 3), timer(100, 0), timer(100, 4)]);
    let mut world = fixture.world();
    world.run(&[], 60);
    (fixture, world)
}

fn carried(world: &World, entered: u64, left: u64) -> Vec<RawRecord> {
    let ran = SegmentRan {
        job: job(0, 0),
        lane: LaneId::new(0),
        segment: SegmentIndex::new(0),
        dispatch: DispatchSeq::new(2),
        entered: Time::new(entered),
        left: Time::new(left),
    };
    let mut records = world.records.clone();
    records.push(ran.at(Time::new(left)).placed(7, 0));
    records
}

fn lines(fixture: &Fixture, records: &[RawRecord], id: JobId) -> Vec<String> {
    Explainer::new(records, &fixture.certificate).explain(id).unwrap().lines(id, &fixture.set)
}

#[test]
fn blocking_and_interference_are_told_apart() {
    let (fixture, world) = blocked();
    assert_eq!(
        lines(&fixture, &world.records, job(0, 0)),
        [
            "model_0#0 completed 17ns after its arrival at 3ns (bound 100ns, no assumption broke; deadline met)",
            "blocked by model_1#0 for 7ns (budget 10ns, non-preemptive)",
            "segment0 ran for 10ns (budget 10ns)",
        ]
    );
    assert_eq!(
        lines(&fixture, &world.records, job(2, 0))[1..],
        [
            "waited for model_1#0 for 6ns (budget 10ns, more urgent)",
            "waited for model_0#0 for 10ns (budget 10ns, more urgent)",
            "segment0 ran for 10ns (budget 10ns)",
        ]
    );
}

#[test]
fn the_carriers_stamps_split_the_occupancy_and_are_clamped() {
    let (fixture, world) = blocked();
    let parts = |entered, left| {
        let records = carried(&world, entered, left);
        let explained = Explainer::new(&records, &fixture.certificate).explain(job(0, 0));
        let Some(Explanation::Known(blame)) = explained else { panic!("{explained:?}") };
        assert_eq!(blame.terms.iter().map(|term| term.span().get()).sum::<u64>(), blame.response.get());
        let part = |kind| if let BlameKind::Own { part, .. } = kind { Some(part) } else { None };
        blame.terms.iter().filter_map(|t| Some((part(t.kind)?, t.span().get()))).collect::<Vec<_>>()
    };
    assert_eq!(parts(12, 17), [(Part::Handoff, 2), (Part::Execution, 5), (Part::Detection, 3)]);
    // A clock that runs askew moves time between the parts; it never adds any.
    assert_eq!(parts(2, 99), [(Part::Execution, 10)]);
    assert_eq!(parts(50, 60), [(Part::Handoff, 10)]);
    assert_eq!(parts(15, 12), [(Part::Handoff, 5), (Part::Detection, 5)]);
}

#[test]
fn a_gap_in_the_interval_is_unknown_and_one_outside_is_not() {
    let (fixture, world) = blocked();
    // The dispatch of task0 at 10 is lost; so is everything of the first records.
    let without = |skip: &dyn Fn(usize, &RawRecord) -> bool| -> Vec<RawRecord> {
        let kept = world.records.iter().enumerate().filter(|(index, raw)| !skip(*index, raw));
        kept.map(|(_, raw)| *raw).collect()
    };
    let records = without(&|_, raw| raw.stamp == Time::new(10) && raw.kind() == 22);
    let explained = Explainer::new(&records, &fixture.certificate).explain(job(0, 0));
    let (from, to) = (Time::new(10), Time::new(20));
    assert_eq!(explained, Some(Explanation::Unknown { from, to, reason: Unknown::Gap { lost: 1 } }));
    // What is lost next to the end of a job may bear the stamp of its end.
    let records = without(&|_, raw| raw.stamp == Time::new(20) && raw.kind() == 5);
    let explained = Explainer::new(&records, &fixture.certificate).explain(job(0, 0));
    let (from, to) = (Time::new(20), Time::new(20));
    assert_eq!(explained, Some(Explanation::Unknown { from, to, reason: Unknown::Gap { lost: 1 } }));
    let headless = without(&|_, raw| raw.stamp < Time::new(3));
    let explainer = Explainer::new(&headless, &fixture.certificate);
    assert_eq!(explainer.gaps().len(), 1);
    assert!(matches!(explainer.explain(job(1, 0)), Some(Explanation::Unknown { .. })));
    // The dispatch of task1 at 0 is lost with them, but its completion tells that the lane was not free.
    let lines = explainer.explain(job(2, 0)).unwrap().lines(job(2, 0), &fixture.set);
    assert_eq!(lines[1], "blocked by model_1#0 for 6ns (budget 10ns, non-preemptive)");
}

#[test]
fn a_job_that_the_trace_does_not_end_is_unfinished() {
    let (fixture, world) = blocked();
    let end = world.records.iter().position(|raw| raw.stamp == Time::new(20)).unwrap();
    let explainer = Explainer::new(&world.records[..end], &fixture.certificate);
    let (from, to) = (Time::new(3), Time::new(10));
    let reason = Unknown::Unfinished;
    assert_eq!(explainer.explain(job(0, 0)), Some(Explanation::Unknown { from, to, reason }));
    assert_eq!(explainer.explain(job(0, 9)), None);
}

#[test]
fn a_forged_response_is_a_contradiction() {
    let (fixture, mut world) = blocked();
    for raw in world.records.iter_mut().filter(|raw| raw.kind() == 25) {
        raw.payload[2] += 1;
    }
    let explained = Explainer::new(&world.records, &fixture.certificate).explain(job(0, 0));
    assert!(matches!(explained, Some(Explanation::Unknown { reason: Unknown::Contradiction, .. })));
}

#[test]
fn a_late_decision_is_told_as_waiting() {
    let fixture = Fixture::new("fp", 0, &[timer(100, 0)]);
    let mut world = fixture.world();
    world.tell(0, crate::engine::Input::Tick);
    world.tell(6, crate::engine::Input::Decide);
    world.run(&[], 50);
    assert_eq!(
        lines(&fixture, &world.records, job(0, 0)),
        [
            "model_0#0 completed 16ns after its arrival at 0ns (no bound: an assumption broke; deadline met)",
            "lane was free for 6ns without a decision",
            "segment0 ran for 10ns (budget 10ns)",
        ]
    );
}

#[test]
fn the_worst_jobs_come_first() {
    let fixture = Fixture::new("fp", 100, &[timer(20, 0)]);
    let mut world = fixture.world();
    for (number, run) in [(0, 3), (1, 9), (2, 5), (3, 9)] {
        world.script(0, number, 0, &[(run, SegmentOutcome::Done)]);
    }
    world.run(&[], 75);
    let explainer = Explainer::new(&world.records, &fixture.certificate);
    assert_eq!(explainer.worst(TaskId::new(0), 3), [job(0, 1), job(0, 3), job(0, 2)]);
    assert_eq!(explainer.jobs(TaskId::new(0)).count(), 4);
}

/// Terms add up on schedules with overruns, retries, failures, drops and refusals, under every policy.
#[test]
fn terms_add_up_to_the_response_exactly() {
    for_seeds("terms_add_up_to_the_response_exactly", 200, |seed| {
        let mut random = Seeded(seed);
        let (specs, submissions) = random_fleet(&mut random, 800);
        let policies = crate::policy::POLICIES;
        let policy = policies[usize::try_from(random.below(policies.len() as u64)).unwrap()];
        let fixture = Fixture::new(policy, random.below(10), &specs);
        let mut world = fixture.world();
        wild_script(&mut random, &specs, &mut world);
        world.run(&submissions, 800);
        let explainer = Explainer::new(&world.records, &fixture.certificate);
        assert!(explainer.gaps().is_empty());
        for end in &world.ends {
            let Some(Explanation::Known(blame)) = explainer.explain(end.job) else { panic!("{:?}", end.job) };
            assert_eq!(blame.response, end.response());
            let sum = blame.terms.iter().try_fold(Nanos::ZERO, |sum, term| sum.checked_add(term.span()));
            assert_eq!(sum, Some(blame.response), "{blame:?}");
            let mut at = blame.arrival;
            for term in &blame.terms {
                assert!(term.from == at && term.to > at, "{blame:?}");
                assert_ne!(term.kind, BlameKind::Waiting, "{blame:?}");
                at = term.to;
            }
        }
    });
}

/// Executions that break budgets, fail, and fail to start.
pub(crate) fn wild_script(random: &mut Seeded, specs: &[Spec], world: &mut World) {
    for (task, spec) in specs.iter().enumerate() {
        let task = u16::try_from(task).unwrap();
        for number in 0..60 {
            for (segment, &budget) in spec.segments.iter().enumerate() {
                let outcome = match random.below(20) {
                    0 => SegmentOutcome::Failed,
                    1 => SegmentOutcome::NotStarted,
                    _ => SegmentOutcome::Done,
                };
                let excess = if random.below(15) == 0 { random.below(8) } else { 0 };
                let run = (random.within(1, budget) + excess, outcome);
                world.script(task, number, u16::try_from(segment).unwrap(), &[run]);
            }
        }
    }
}
