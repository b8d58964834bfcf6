//! What is refused, and that a lane whose releases left what was followed claims nothing any more.

use aegis_sched::admission::{Depth, Reason, Refusal};
use aegis_sched::analysis::LaneProblem;
use aegis_sched::engine::ChangeError;
use aegis_sched::mode::{Obstacle, Transition, transition};
use aegis_sched::policy::by_name;
use aegis_sched::sag::concrete::{LIMITS, TASKS_MAX, tasks_of};
use aegis_sched::sag::{Limit, Limits, SagVerdict, explore_inserting};
use aegis_sched::{AdmissionController, Arrival, Engine, Input, TaskSet, charge};
use aegis_types::records::{SegmentOutcome, Standing};
use aegis_types::{Bytes, DispatchSeq, LaneId, Nanos, Time};

use super::oracle::Plain;
use super::{RULES, judged, set};

fn plain() -> Vec<Plain> {
    let task = |period, cost| Plain { offset: 0, period, jitter: 0, cost, deadline: period };
    vec![task(10, 1), task(30, 8), task(60, 17)]
}

fn refusal(policy: &str, set: &TaskSet) -> Refusal {
    judged(policy, set).refusal().expect("it is refused").clone()
}

fn changed(change: impl Fn(&mut aegis_sched::Task)) -> TaskSet {
    let set = set(&plain());
    let mut tasks = set.tasks().to_vec();
    change(&mut tasks[1]);
    TaskSet::new(tasks, set.platform().clone()).expect("a set")
}

#[test]
fn what_a_rule_cannot_look_ahead_of_is_refused_with_the_task_and_what_is_legal() {
    let sporadic = changed(|task| task.arrival = Arrival::Sporadic);
    let cut = changed(|task| task.segments.push(task.segments[0].clone()));
    let late = changed(|task| task.jitter = Nanos::new(30));
    for (name, _) in RULES {
        for (set, words) in [(&sporadic, "sporadic"), (&cut, "2 segments"), (&late, "jitter is 30ns")] {
            let refusal = refusal(name, set);
            assert_eq!(refusal.task, Some(set.tasks()[1].id), "{refusal}");
            let text = refusal.to_string();
            let says = ["model_1", words, "legal", name].iter().all(|word| text.contains(word));
            assert!(says && matches!(refusal.reason, Reason::Model { .. }), "{text}");
        }
    }
}

#[test]
fn a_job_that_may_be_late_is_named() {
    let task = |period, cost| Plain { offset: 0, period, jitter: 0, cost, deadline: period };
    let refusal = refusal("cw-edf", &set(&[task(10, 6), task(15, 8)]));
    assert!(refusal.task.is_some() && matches!(refusal.reason, Reason::Late { .. }), "{refusal}");
}

#[test]
fn schedules_that_repeat_too_late_are_undecided_and_not_admitted() {
    let task = |period: u64| Plain { offset: 0, period, jitter: 5, cost: period / 9, deadline: period };
    let primes = set(&[task(1_009), task(1_013), task(1_019)]);
    let huge = set(&[task(1_000_000_007), task(1_000_000_009), task(998_244_353), task(999_999_937)]);
    for (name, _) in RULES {
        let undecided = refusal(name, &primes);
        assert!(matches!(undecided.reason, Reason::Unexplored { .. }), "{undecided}");
        let endless = refusal(name, &huge);
        assert!(matches!(endless.reason, Reason::Model { .. }), "{endless}");
    }
}

#[test]
fn more_tasks_than_a_rule_can_look_at_are_refused() {
    let task = Plain { offset: 0, period: 1_000, jitter: 0, cost: 1, deadline: 1_000 };
    let (most, over) = (set(&vec![task; TASKS_MAX]), set(&vec![task; TASKS_MAX + 1]));
    assert!(judged("p-rm", &most).is_admitted());
    for (name, _) in RULES {
        let refusal = refusal(name, &over).to_string();
        assert!(refusal.contains("129 tasks") && refusal.contains("128 at most"), "{refusal}");
    }
}

/// Nor are tasks added while jobs are pending: the way from one set to the other leads through an idle instant.
#[test]
fn a_change_of_tasks_waits_until_the_lanes_idle() {
    let (old, new) = (set(&plain()), set(&plain()[..2]));
    for (name, _) in RULES {
        let controller = AdmissionController::new(by_name(name).expect("listed"));
        let way = transition(&controller, &old, &new, 1, Depth::TIGHT).expect("it fits");
        assert!(matches!(way, Transition::AtIdle { because, .. } if because == [Obstacle::Inserts]));
    }
}

#[test]
fn a_limit_of_states_decides_nothing() {
    let charged = charge(&set(&plain())).expect("nothing is charged");
    for (name, _) in RULES {
        let policy = by_name(name).expect("listed");
        let problem = LaneProblem::of_lanes(&set(&plain()), charged.clone(), &*policy).remove(0);
        let tasks = tasks_of(&problem, &[Nanos::ZERO; 3]).expect("periodic tasks");
        let rule = policy.class().inserts().expect("it inserts idle time");
        let explored = |limits| explore_inserting(&tasks, rule, limits, &mut || true).expect("legal tasks");
        for states in 0..5 {
            let (report, cover) = explored(Limits { states, ..LIMITS });
            let undecided = SagVerdict::Undecided { limit: Limit::States };
            assert!(report.verdict == undecided && !report.complete && cover.is_none(), "{report:?}");
        }
        let (report, cover) = explored(Limits { bytes: Bytes::new(4_096), ..LIMITS });
        let undecided = SagVerdict::Undecided { limit: Limit::Memory };
        assert!(report.verdict == undecided && cover.is_none(), "{report:?}");
    }
}

/// One overrun, and no bound is claimed on the lane for the rest of the run, although it idles in between.
#[test]
fn a_lane_whose_assumption_broke_claims_nothing_any_more() {
    for (name, _) in RULES {
        let set = set(&plain());
        let report = judged(name, &set);
        let certificate = report.certificate().expect("it fits").clone();
        let policy = || by_name(name).expect("listed");
        let mut engine = Engine::new(&set, certificate.clone(), policy(), Time::ZERO).expect("an engine");
        let mut out = engine.outbox();
        let mut flight: Option<(u64, DispatchSeq)> = None;
        let (mut standings, mut idle) = (Vec::new(), false);
        for at in 0..400 {
            let now = Time::new(at);
            if let Some((_, dispatch)) = flight.take_if(|(ends, _)| *ends == at) {
                let (lane, outcome) = (LaneId::new(0), SegmentOutcome::Done);
                engine.handle(now, Input::Completed { lane, dispatch, outcome }, &mut out);
            }
            if engine.wake_at().is_some_and(|wake| wake <= now) {
                engine.handle(now, Input::Tick, &mut out);
            }
            engine.handle(now, Input::Decide, &mut out);
            standings.extend(out.ends().iter().map(|end| end.standing));
            // The second job to run takes more than any may, the others a tick.
            let span = if standings.len() == 1 { 20 } else { 1 };
            flight = out.commands().first().map(|command| (at + span, command.dispatch)).or(flight);
            idle |= standings.len() > 2 && engine.is_idle();
            out.clear();
        }
        assert!(idle && standings.len() > 20, "{name}");
        assert_eq!(standings[0], Standing::Covered, "{name}");
        assert!(standings[1..].iter().all(|standing| *standing == Standing::Void), "{name} {standings:?}");
        // Nor do other tasks come in while jobs are pending: what is certified begins with the start.
        let numbers: Vec<_> = set.tasks().iter().map(|task| task.id).collect();
        let next = || judged_again(name, &set, 2);
        let refused = engine.narrowed(&set, next(), policy(), &numbers, Time::new(400)).err();
        assert!(matches!(refused, Some(ChangeError::Inserts { .. })), "{refused:?}");
    }
}

fn judged_again(name: &str, set: &TaskSet, epoch: u64) -> aegis_sched::Certificate {
    let controller = AdmissionController::new(by_name(name).expect("listed"));
    let request = aegis_sched::AdmissionRequest { epoch, ..aegis_sched::AdmissionRequest::new(set) };
    controller.analyze(&request).certificate().expect("it fits").clone()
}
