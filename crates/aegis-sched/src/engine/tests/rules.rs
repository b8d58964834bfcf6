//! One behaviour per test, named by the rule of `docs/model.md` where there is one.

use aegis_types::records::{
    Assumption, AssumptionBroken, Consequence, Control, Decided, JobFinished, JobOutcome, JobRefused,
    JobReleased, LaneIdled, Reason, Refusal, SegmentDispatched, SegmentOutcome, Standing,
};
use aegis_types::{DispatchSeq, JobId, LaneId, Nanos, SegmentIndex, TaskId, Time};

use super::world::{Fixture, Seeded, Spec, World, for_seeds};
use crate::engine::{Activity, Decision, Engine, Input, Misuse, Mode, OverrunRunning, Trust};
use crate::error::ModelError;
use crate::model::{Criticality, OnOverrun};
use crate::policy::{PolicyClass, ReadyJob, SchedulingPolicy};
use crate::referee::certificate::Certificate;

const DONE: SegmentOutcome = SegmentOutcome::Done;

fn timer(period: u64, offset: u64) -> Spec {
    Spec { period, offset: Some(offset), ..Spec::default() }
}

fn standings(world: &World) -> Vec<(u16, u64, JobOutcome, Standing)> {
    let finished = world.all::<JobFinished>();
    finished.into_iter().map(|(_, r)| (r.job.task.get(), r.job.number, r.outcome, r.standing)).collect()
}

fn broken(world: &World) -> Vec<(u64, Assumption, u16, Consequence)> {
    let all = world.all::<AssumptionBroken>();
    all.into_iter().map(|(at, r)| (at, r.assumption, r.lane.get(), r.consequence)).collect()
}

/// A wave of equal releases at 0 whose first segment runs for `first` instead of its budget of 10.
fn wave(specs: &[Spec], tolerance: u64, first: u64) -> World {
    let mut world = Fixture::new("fp", tolerance, specs).world();
    world.script(0, 0, 0, &[(first, DONE)]);
    world.run(&[], 99);
    world
}

#[test]
fn a_release_runs_at_once_and_its_response_counts_from_its_arrival() {
    let mut world = Fixture::new("fifo", 0, &[timer(100, 7)]).world();
    world.run(&[], 150);
    assert_eq!(world.schedule(), [(7, 0, 0, 0), (107, 0, 1, 0)]);
    let finished = world.all::<JobFinished>();
    assert_eq!((finished[0].0, finished[0].1.response), (17, Nanos::new(10)));
    assert_eq!(finished[0].1.bound, Nanos::new(100));
    assert_eq!(world.all::<LaneIdled>()[0].1.since, Time::new(7));
    assert!(world.engine.is_idle());
}

#[test]
fn rule_7_accepts_legal_jitter_and_refuses_a_real_excess() {
    let spec = Spec { jitter: 20, ..Spec::default() };
    let mut world = Fixture::new("fifo", 0, &[spec]).world();
    // Late by 20, then on time: a gap of 80 that the contract allows. Then one that would be the third within 199.
    world.run(&[(120, 0), (200, 0), (299, 0), (300, 0)], 400);
    let arrivals: Vec<_> = world.all::<JobReleased>().into_iter().map(|(_, r)| r.arrival.get()).collect();
    assert_eq!(arrivals, [100, 200, 300]);
    let refused = world.all::<JobRefused>();
    assert_eq!(refused.len(), 1);
    assert_eq!((refused[0].0, refused[0].1.reason), (299, Refusal::TooEarly));
    assert_eq!(refused[0].1.legal_from, Time::new(300));
    let Decision::Refused { reason, legal_from } = world.answers[2].1.decision else { panic!("refused") };
    assert_eq!((reason, legal_from.get(), world.answers[2].1.token), (Refusal::TooEarly, 300, 299));
}

#[test]
fn rule_7_keeps_arrivals_a_period_apart_and_within_the_jitter_of_their_stamps() {
    for_seeds("rule_7_keeps_arrivals", 200, |seed| {
        let mut random = Seeded(seed);
        let (period, jitter) = (random.within(5, 60), random.below(80));
        let spec = Spec { period, jitter, queue: 60_000, segments: vec![1], ..Spec::default() };
        let mut world = Fixture::new("fifo", 0, &[spec]).world();
        world.default_run.insert(TaskId::new(0), 1);
        let mut at = 0;
        let stamps = (0..100).map(|_| {
            at += random.below(2 * period);
            (at, 0)
        });
        let mut stamps: Vec<(u64, u16)> = stamps.collect();
        stamps.dedup();
        world.run(&stamps, u64::MAX - 1);
        let releases = world.all::<JobReleased>();
        for pair in releases.windows(2) {
            assert!(pair[1].1.arrival.since(pair[0].1.arrival).get() >= period);
        }
        assert!(
            releases.iter().all(|(stamp, r)| r.arrival.get() <= *stamp && *stamp <= r.arrival.get() + jitter)
        );
    });
}

#[test]
fn rule_6_bounds_the_queue_and_no_two_pending_jobs_share_a_slot() {
    let spec = Spec { period: 10, queue: 2, segments: vec![35], ..Spec::default() };
    let mut world = Fixture::new("fifo", 0, &[spec]).world();
    world.default_run.insert(TaskId::new(0), 35);
    world.run(&[(0, 0), (10, 0), (20, 0), (30, 0), (35, 0)], 200);
    let refused = world.all::<JobRefused>();
    assert_eq!(
        refused.iter().map(|r| (r.0, r.1.reason)).collect::<Vec<_>>(),
        [(20, Refusal::QueueFull), (30, Refusal::QueueFull)]
    );
    let slots: Vec<u32> = world.commands.iter().map(|(_, command)| command.slot).collect();
    assert_eq!(slots, [0, 1, 0]);
}

#[test]
fn rule_2_releases_one_job_per_tick_and_a_late_timer_shifts_instead_of_bursting() {
    let spec = Spec { jitter: 5, segments: vec![1], ..timer(10, 0) };
    let mut world = Fixture::new("fifo", 0, &[spec]).world();
    world.default_run.insert(TaskId::new(0), 1);
    world.cycle(0, &[]);
    world.cycle(1, &[]);
    // Nominal 10, seen at 47: late beyond 5. The arrival becomes 42 and the next one 52.
    world.cycle(47, &[]);
    // The next release is at 52; before it the budget of 1 of what was dispatched at 47 is over.
    assert_eq!(world.engine.wake_at(), Some(Time::new(49)));
    let arrivals: Vec<_> = world.all::<JobReleased>().into_iter().map(|(_, r)| r.arrival.get()).collect();
    assert_eq!(arrivals, [0, 42]);
    let late = world.all::<AssumptionBroken>();
    assert_eq!(
        (late[0].1.assumption, late[0].1.consequence),
        (Assumption::PromptRelease, Consequence::JobVoid)
    );
    assert_eq!((late[0].1.seen, late[0].1.limit), (Nanos::new(37), Nanos::new(5)));
    world.run(&[], 60);
    assert_eq!(
        standings(&world),
        [
            (0, 0, JobOutcome::Completed, Standing::Covered),
            (0, 1, JobOutcome::Completed, Standing::Void),
            (0, 2, JobOutcome::Completed, Standing::Covered),
        ]
    );
}

#[test]
fn ties_go_to_the_smaller_task_number_and_are_told() {
    let mut world = Fixture::new("fifo", 0, &[timer(100, 0), timer(100, 0), timer(100, 0)]).world();
    world.run(&[], 30);
    assert_eq!(world.schedule(), [(0, 0, 0, 0), (10, 1, 0, 0), (20, 2, 0, 0)]);
    let reasons: Vec<_> = world.all::<SegmentDispatched>().into_iter().map(|(_, r)| r.reason).collect();
    assert_eq!(reasons, [Reason::TieBreak, Reason::TieBreak, Reason::OnlyReady]);
    let decided = world.all::<Decided>();
    assert_eq!(decided.len(), 2);
    assert_eq!((decided[0].1.ready, decided[0].1.runner_up), (3, JobId::new(TaskId::new(1), 0)));
}

#[test]
fn a_running_segment_is_not_preempted_but_its_job_is_at_a_boundary() {
    let long = Spec { segments: vec![10, 10], ..timer(200, 0) };
    let mut world = Fixture::new("fp", 0, &[timer(100, 5), long]).world();
    world.run(&[], 60);
    assert_eq!(world.schedule(), [(0, 1, 0, 0), (10, 0, 0, 0), (20, 1, 0, 1)]);
}

#[test]
fn rule_8_tolerated_overrun_keeps_deadlines_and_ends_with_the_busy_period() {
    let world = wave(&[timer(50, 0), timer(50, 0)], 4, 13);
    assert_eq!(broken(&world), [(13, Assumption::OccupancyBudget, 0, Consequence::DeadlinesHold)]);
    assert_eq!(
        standings(&world),
        [
            (0, 0, JobOutcome::Completed, Standing::Tolerated),
            (1, 0, JobOutcome::Completed, Standing::Tolerated),
            (0, 1, JobOutcome::Completed, Standing::Covered),
            (1, 1, JobOutcome::Completed, Standing::Covered),
        ]
    );
    assert_eq!(world.all::<LaneIdled>()[0].1.overrun, Nanos::new(3));
}

#[test]
fn rule_8_tolerates_exactly_the_tolerance() {
    for (tolerance, consequence) in [(3, Consequence::DeadlinesHold), (2, Consequence::LaneVoid)] {
        let world = wave(&[timer(50, 0), timer(50, 0)], tolerance, 13);
        assert_eq!(broken(&world), [(13, Assumption::OccupancyBudget, 0, consequence)]);
    }
}

#[test]
fn rule_8_beyond_the_tolerance_sheds_by_criticality_and_refuses_until_idle() {
    let spec = |criticality, on_overrun| Spec { criticality, on_overrun, ..timer(50, 0) };
    let specs = [
        spec(Criticality::Medium, OnOverrun::Skip),
        spec(Criticality::High, OnOverrun::Skip),
        spec(Criticality::Low, OnOverrun::Skip),
        spec(Criticality::Low, OnOverrun::Keep),
        Spec { period: 5, ..Spec::default() },
    ];
    let mut world = Fixture::new("fp", 4, &specs).world();
    world.script(0, 0, 0, &[(15, DONE)]);
    world.run(&[(16, 4), (26, 4)], 49);
    assert_eq!(broken(&world), [(15, Assumption::OccupancyBudget, 0, Consequence::LaneVoid)]);
    assert_eq!(
        standings(&world),
        [
            (0, 0, JobOutcome::Completed, Standing::Void),
            (2, 0, JobOutcome::Dropped, Standing::Void),
            (1, 0, JobOutcome::Dropped, Standing::Void),
            (3, 0, JobOutcome::Completed, Standing::Void),
            (4, 0, JobOutcome::Completed, Standing::Covered),
        ]
    );
    let refused = world.all::<JobRefused>();
    assert_eq!((refused.len(), refused[0].0, refused[0].1.reason), (1, 16, Refusal::LaneVoid));
}

#[test]
fn rule_8_accumulates_over_the_busy_period() {
    let mut world = Fixture::new("fp", 4, &[timer(50, 0), timer(50, 0)]).world();
    world.script(0, 0, 0, &[(13, DONE)]);
    world.script(1, 0, 0, &[(13, DONE)]);
    world.run(&[], 49);
    let consequences: Vec<_> = broken(&world).into_iter().map(|b| b.3).collect();
    assert_eq!(consequences, [Consequence::DeadlinesHold, Consequence::LaneVoid]);
    assert_eq!(world.engine.lane(LaneId::new(0)).unwrap().trust, Trust::Whole);
}

#[test]
fn rule_9_breaches_on_two_lanes_within_one_budget_void_the_device() {
    let on = |lane, offset| Spec { lane, ..timer(100, offset) };
    let specs = [on(0, 0), on(0, 0), on(1, 2), on(1, 2), on(2, 2), on(2, 2)];
    let mut world = Fixture::new("fp", 50, &specs).world();
    world.script(0, 0, 0, &[(11, DONE)]);
    world.script(2, 0, 0, &[(11, DONE)]);
    world.script(4, 0, 0, &[(10, DONE)]);
    world.run(&[], 90);
    assert_eq!(
        broken(&world).into_iter().map(|b| (b.0, b.2, b.3)).collect::<Vec<_>>(),
        [(11, 0, Consequence::DeadlinesHold), (13, 1, Consequence::DeviceVoid)]
    );
    // Lane 2 kept every budget. Its one job had ended at 12 and its other one was running: that one is void too.
    let ended: Vec<_> = standings(&world).into_iter().map(|s| (s.0, s.2, s.3)).collect();
    assert!(ended.contains(&(4, JobOutcome::Completed, Standing::Covered)));
    assert!(ended.contains(&(5, JobOutcome::Completed, Standing::Void)));
    assert!(ended.contains(&(3, JobOutcome::Dropped, Standing::Void)));
}

#[test]
fn rule_9_breaches_far_apart_have_no_common_cause() {
    let on = |lane, offset| Spec { lane, ..timer(100, offset) };
    let mut world = Fixture::new("fp", 50, &[on(0, 0), on(1, 11)]).world();
    world.script(0, 0, 0, &[(11, DONE)]);
    world.script(1, 0, 0, &[(11, DONE)]);
    world.run(&[], 90);
    assert!(broken(&world).iter().all(|b| b.3 == Consequence::DeadlinesHold));
    assert_eq!(broken(&world).len(), 2);
}

#[test]
fn rule_15_a_stall_voids_the_busy_periods_it_fell_into_and_sheds_nothing() {
    let mut world = Fixture::new("fp", 4, &[timer(50, 0), timer(50, 0)]).world();
    world.cycle(0, &[]);
    world.tell(9, Input::Stall { gap: Nanos::new(9), limit: Nanos::new(3) });
    world.run(&[], 70);
    assert_eq!(broken(&world), [(9, Assumption::HostStall, 0, Consequence::LaneVoid)]);
    let seen: Vec<_> = standings(&world).into_iter().map(|s| (s.2, s.3)).collect();
    let (void, covered) = (Standing::Void, Standing::Covered);
    let done = JobOutcome::Completed;
    assert_eq!(seen, [(done, void), (done, void), (done, covered), (done, covered)]);
}

#[test]
fn a_decision_later_than_its_ready_job_breaks_e2() {
    let mut world = Fixture::new("fp", 4, &[timer(50, 0)]).world();
    world.tell(0, Input::Tick);
    assert_eq!(world.engine.lane(LaneId::new(0)).unwrap().activity, Activity::Ready(Time::ZERO));
    world.tell(6, Input::Decide);
    let late = world.all::<AssumptionBroken>();
    assert_eq!((late[0].1.assumption, late[0].1.seen), (Assumption::PromptDecision, Nanos::new(6)));
    world.run(&[], 40);
    assert_eq!(standings(&world)[0].3, Standing::Void);
}

#[test]
fn a_segment_that_did_not_start_is_launched_again_under_one_budget() {
    let spec = Spec { retries: 1, ..timer(100, 0) };
    let mut world = Fixture::new("fp", 0, &[spec, timer(100, 0)]).world();
    // Two attempts of 12 and 8 fit the budget of 2 * 10 together.
    world.script(0, 0, 0, &[(12, SegmentOutcome::NotStarted), (8, DONE)]);
    world.run(&[], 90);
    assert_eq!(world.schedule(), [(0, 0, 0, 0), (12, 0, 0, 0), (20, 1, 0, 0)]);
    assert_eq!(broken(&world), []);
    assert_eq!(standings(&world)[0], (0, 0, JobOutcome::Completed, Standing::Covered));
    // Nor is each attempt given the whole budget.
    let mut world = Fixture::new("fp", 0, &[Spec { retries: 1, ..timer(100, 0) }]).world();
    world.script(0, 0, 0, &[(12, SegmentOutcome::NotStarted), (9, DONE)]);
    world.run(&[], 90);
    assert_eq!(broken(&world), [(21, Assumption::OccupancyBudget, 0, Consequence::LaneVoid)]);
}

#[test]
fn every_segment_has_retries_of_its_own() {
    let spec = Spec { retries: 1, segments: vec![10, 10], ..timer(100, 0) };
    let mut world = Fixture::new("fp", 0, &[spec]).world();
    let runs = [(4, SegmentOutcome::NotStarted), (6, DONE)];
    world.script(0, 0, 0, &runs);
    world.script(0, 0, 1, &runs);
    world.run(&[], 90);
    assert_eq!(world.schedule(), [(0, 0, 0, 0), (4, 0, 0, 0), (10, 0, 0, 1), (14, 0, 0, 1)]);
    assert_eq!(standings(&world), [(0, 0, JobOutcome::Completed, Standing::Covered)]);
}

#[test]
fn a_failure_ends_its_job_and_no_other_bound() {
    let two = Spec { segments: vec![10, 10], ..timer(100, 0) };
    for outcome in [SegmentOutcome::Failed, SegmentOutcome::NotStarted] {
        let mut world = Fixture::new("fp", 0, &[two.clone(), timer(100, 0)]).world();
        world.script(0, 0, 0, &[(4, outcome)]);
        world.run(&[], 90);
        assert_eq!(world.schedule(), [(0, 0, 0, 0), (4, 1, 0, 0)]);
        assert_eq!(broken(&world), [(4, Assumption::SegmentSucceeds, 0, Consequence::JobVoid)]);
        assert_eq!(
            standings(&world),
            [(0, 0, JobOutcome::Failed, Standing::Void), (1, 0, JobOutcome::Completed, Standing::Covered),]
        );
    }
}

#[test]
fn draining_runs_what_is_queued_and_stopping_drops_it() {
    let two = Spec { segments: vec![10, 10], ..timer(100, 0) };
    let specs = [two, timer(100, 0), Spec::default()];
    for (control, outcomes) in [
        (Control::Drain, [(0, JobOutcome::Completed), (1, JobOutcome::Completed)]),
        (Control::Stop, [(1, JobOutcome::Stopped), (0, JobOutcome::Stopped)]),
    ] {
        let mut world = Fixture::new("fp", 0, &specs).world();
        world.cycle(0, &[]);
        world.tell(3, Input::Control(control));
        world.cycle(4, &[2]);
        // No timer releases any more; the segment in flight is still watched.
        assert_eq!(world.engine.wake_at(), Some(Time::new(11)));
        world.run(&[], 300);
        let ended: Vec<_> = standings(&world).into_iter().map(|s| (s.0, s.2)).collect();
        assert_eq!(ended, outcomes);
        assert_eq!(world.all::<JobRefused>()[0].1.reason, Refusal::Stopping);
        assert!(world.engine.is_idle() && world.engine.mode() != Mode::Serving);
    }
}

#[test]
fn stopping_ends_what_waits_at_once_and_what_runs_with_its_segment() {
    let long = Spec { segments: vec![10, 10], retries: 1, ..timer(200, 0) };
    for (runs, ended) in [(DONE, JobOutcome::Completed), (SegmentOutcome::NotStarted, JobOutcome::Stopped)] {
        let mut world = Fixture::new("fp", 0, &[timer(100, 5), long.clone()]).world();
        world.script(0, 0, 0, &[(10, runs)]);
        world.run(&[], 11);
        world.tell(12, Input::Control(Control::Stop));
        world.run(&[], 300);
        assert_eq!(world.schedule(), [(0, 1, 0, 0), (10, 0, 0, 0)]);
        let ends: Vec<_> =
            world.ends.iter().map(|end| (end.ended.get(), end.job.task.get(), end.outcome)).collect();
        assert_eq!(ends, [(12, 1, JobOutcome::Stopped), (20, 0, ended)]);
        let bounded = |standing| standing == Standing::Covered;
        assert!(world.ends.iter().all(|end| bounded(end.standing) == (end.outcome == JobOutcome::Completed)));
        assert_eq!(broken(&world), []);
    }
}

#[test]
fn an_unknown_task_and_a_timer_task_cannot_be_submitted_to() {
    let mut world = Fixture::new("fp", 0, &[timer(100, 50)]).world();
    for task in [0, 9] {
        world.tell(0, Input::Arrival { task: TaskId::new(task), token: 5 });
    }
    let reasons: Vec<_> = world.all::<JobRefused>().into_iter().map(|(_, r)| r.reason).collect();
    assert_eq!(reasons, [Refusal::NotSporadic; 2]);
}

#[test]
fn completion_before_release_at_one_stamp_starts_a_new_busy_period() {
    let mut world = Fixture::new("fp", 4, &[timer(12, 0)]).world();
    world.script(0, 0, 0, &[(12, DONE)]);
    world.run(&[], 22);
    let seen: Vec<_> = standings(&world).into_iter().map(|s| s.3).collect();
    assert_eq!(seen, [Standing::Tolerated, Standing::Covered]);
}

#[test]
fn misuse_is_told_and_a_stale_flag_never_frees_a_lane() {
    let fixture = Fixture::new("fp", 0, &[timer(100, 0)]);
    let mut world = fixture.world();
    world.cycle(5, &[]);
    let completed = |lane, dispatch| Input::Completed {
        lane: LaneId::new(lane),
        dispatch: DispatchSeq::new(dispatch),
        outcome: DONE,
    };
    let (lane, now, last) = (LaneId::new(0), Time::new(4), Time::new(5));
    let check = |at, input| world.engine.check(Time::new(at), &input);
    assert_eq!(check(4, Input::Tick), Err(Misuse::TimeRunsBackwards { now, last }));
    assert_eq!(check(5, completed(0, 2)), Err(Misuse::WrongDispatch { lane, given: 2, expected: 1 }));
    assert_eq!(check(5, completed(7, 1)), Err(Misuse::UnknownLane { lane: LaneId::new(7), lanes: 1 }));
    assert_eq!(check(5, completed(0, 1)), Ok(()));
    let idle = fixture.engine();
    let expected = Err(Misuse::WrongDispatch { lane, given: 0, expected: 0 });
    assert_eq!(idle.check(Time::ZERO, &completed(0, 0)), expected);
}

#[test]
#[should_panic(expected = "WrongDispatch")]
fn a_stale_flag_is_a_programmer_error() {
    let mut world = Fixture::new("fp", 0, &[timer(100, 0)]).world();
    let (lane, dispatch) = (LaneId::new(0), DispatchSeq::new(1));
    world.tell(5, Input::Completed { lane, dispatch, outcome: DONE });
}

#[test]
fn a_certificate_for_something_else_is_refused() {
    let fixture = Fixture::new("edf", 0, &[timer(100, 0)]);
    let make = |certificate: &Certificate, policy| {
        let policy = crate::policy::by_name(policy).unwrap();
        Engine::new(&fixture.set, certificate.clone(), policy, Time::ZERO).map(|_| ())
    };
    assert_eq!(make(&fixture.certificate, "edf"), Ok(()));
    assert!(matches!(make(&fixture.certificate, "rm"), Err(ModelError::PolicyMismatch { .. })));
    for (field, other) in [
        ("period", timer(101, 0)),
        ("segments", Spec { segments: vec![5, 5], ..timer(100, 0) }),
        ("lane", Spec { lane: 1, ..timer(100, 0) }),
        ("deadline", Spec { deadline: 99, ..timer(100, 0) }),
        ("queue", Spec { queue: 0, ..timer(100, 0) }),
        ("queue", Spec { queue: u32::MAX, ..timer(100, 0) }),
    ] {
        let other = Fixture::new("edf", 0, &[other]).certificate;
        let refused = make(&other, "edf");
        assert!(matches!(&refused, Err(ModelError::BadField { field: f, .. }) if *f == field), "{refused:?}");
    }
    let nothing = Fixture::new("edf", 0, &[]).certificate;
    assert!(matches!(make(&nothing, "edf"), Err(ModelError::BadField { field: "certificate", .. })));
}

/// Bounds under a rule that looks ahead at releases rest on when the first ones come, others do not.
#[test]
fn a_certificate_of_known_releases_is_refused_for_others() {
    for (policy, rests) in [("p-rm", true), ("cw-edf", true), ("rm", false), ("edf", false)] {
        let at = |offset| Fixture::new(policy, 0, &[Spec { offset, ..timer(100, 0) }]);
        let certified = at(Some(3));
        for (offset, refused) in [(Some(3), false), (Some(4), rests), (None, rests)] {
            let other = at(offset);
            let policy = other.policy();
            let engine = Engine::new(&other.set, certified.certificate.clone(), policy, Time::ZERO);
            let is_refused = matches!(engine.err(), Some(ModelError::BadField { field: "arrival", .. }));
            assert_eq!(is_refused, refused, "{} {offset:?}", other.policy);
        }
    }
}

/// A policy that picks the least urgent, to show that it is asked and that a wrong position is harmless.
struct Last;

impl SchedulingPolicy for Last {
    fn name(&self) -> &'static str {
        "last"
    }
    fn class(&self) -> PolicyClass {
        PolicyClass::WorkConserving
    }
    fn key(&self, _: &crate::model::Task) -> u64 {
        0
    }
    fn pick(&self, _: Time, ready: &[ReadyJob]) -> usize {
        ready.len() + 7
    }
}

#[test]
fn a_work_conserving_policy_picks_freely() {
    let fixture = Fixture::new("fp", 0, &[timer(100, 0), timer(100, 0)]);
    let lanes = vec![(
        LaneId::new(0),
        fixture.certificate.lanes()[0].tasks().to_vec(),
        fixture.certificate.lanes()[0].ladder().to_vec(),
    )];
    let certificate = Certificate::for_tests("last", PolicyClass::WorkConserving, lanes);
    let engine = Engine::new(&fixture.set, certificate, Box::new(Last), Time::ZERO).unwrap();
    let mut world = World::new(engine);
    world.run(&[], 30);
    assert_eq!(world.schedule(), [(0, 1, 0, 0), (10, 0, 0, 0)]);
    let reasons: Vec<_> = world.all::<SegmentDispatched>().into_iter().map(|(_, r)| r.reason).collect();
    assert_eq!(reasons, [Reason::Picked, Reason::OnlyReady]);
}

#[test]
fn a_cycle_in_which_everything_happens_at_once_fits_the_outbox() {
    let specs: Vec<Spec> = (0..9).map(|i| Spec { lane: i % 3, queue: 3, ..timer(30, 0) }).collect();
    let fixture = Fixture::new("edf", 0, &specs);
    let mut engine = fixture.engine();
    let mut out = engine.outbox();
    for cycle in 0..40u64 {
        let now = Time::new(cycle * 31);
        for lane in 0..3 {
            let lane = LaneId::new(lane);
            if let Some(Activity::Running { dispatch, .. }) = engine.lane(lane).map(|view| view.activity) {
                engine.handle(now, Input::Completed { lane, dispatch, outcome: DONE }, &mut out);
            }
        }
        engine.handle(now, Input::Tick, &mut out);
        engine.handle(now, Input::Stall { gap: Nanos::new(2), limit: Nanos::new(1) }, &mut out);
        if cycle == 39 {
            engine.handle(now, Input::Control(Control::Stop), &mut out);
        }
        engine.handle(now, Input::Decide, &mut out);
        assert!(!out.records().is_empty());
        out.clear();
    }
}

#[test]
fn a_segment_that_runs_past_its_budget_is_told_of_once_while_it_runs() {
    let specs = [Spec { segments: vec![10], retries: 1, ..timer(1_000, 0) }];
    let mut world = Fixture::new("fp", 0, &specs).world();
    // The budget is that of two attempts of 10; the second one ends 504 after the first was launched.
    world.script(0, 0, 0, &[(4, SegmentOutcome::NotStarted), (500, SegmentOutcome::Done)]);
    world.script(0, 1, 0, &[(10, SegmentOutcome::Done)]);
    world.run(&[], 1_900);
    let told: Vec<_> = world.all::<OverrunRunning>();
    let (lane, job) = (LaneId::new(0), JobId::new(TaskId::new(0), 0));
    let (segment, dispatch) = (SegmentIndex::new(0), DispatchSeq::new(2));
    let (seen, budget) = (Nanos::new(21), Nanos::new(20));
    assert_eq!(told, [(21, OverrunRunning { lane, job, segment, dispatch, seen, budget })]);
    let broken = world.all::<AssumptionBroken>();
    assert_eq!(broken.iter().map(|(at, it)| (*at, it.seen.get())).collect::<Vec<_>>(), [(504, 504)]);
    assert!(world.engine.is_idle(), "the second job stayed within its budget");
}
