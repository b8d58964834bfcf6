//! The referee: states that were tampered with, and bounds below what can happen.

use aegis_sched::analysis::LaneProblem;
use aegis_sched::analysis::claim::{Claim, TaskClaim};
use aegis_sched::policy::by_name;
use aegis_sched::referee::{Objection, certify, certify_concrete};
use aegis_sched::sag::concrete::{LIMITS, tasks_of};
use aegis_sched::sag::{PeriodicCover, SagVerdict, explore_inserting};
use aegis_sched::{TaskSet, Term, TermKind, charge};
use aegis_types::Nanos;

use super::{RULES, set, tiny};
use crate::generate::{Rng, counts_are_standard, for_seeds};
use crate::kept::oracle::Plain;

/// What a solver hands over for these tasks; nothing where they do not fit.
fn claimed(policy: &str, set: &TaskSet, tasks: &[Plain]) -> Option<(Claim, PeriodicCover)> {
    let policy = by_name(policy).expect("listed");
    let charged = charge(set).expect("nothing is charged");
    let problem = LaneProblem::of_lanes(set, charged, &*policy).remove(0);
    let offsets: Vec<Nanos> = tasks.iter().map(|task| Nanos::new(task.offset)).collect();
    let rule = policy.class().inserts().expect("it inserts idle time");
    let tasks = tasks_of(&problem, &offsets).expect("periodic tasks");
    let (report, cover) = explore_inserting(&tasks, rule, LIMITS, &mut || true).expect("legal tasks");
    if report.verdict != SagVerdict::Schedulable {
        return None;
    }
    let claim =
        |(task, bounds): (&aegis_sched::analysis::LaneTask, &Option<aegis_sched::sag::TaskBounds>)| {
            let (bound, own) = (bounds.expect("it has jobs").response_max, task.segments[0]);
            let waiting =
                Term { kind: TermKind::Waiting, span: bound.checked_sub(own).expect("own time is part") };
            let terms = vec![waiting, Term { kind: TermKind::Own, span: own }];
            TaskClaim { task: task.id, bound, terms, starts: Vec::new() }
        };
    let tasks = problem.tasks.iter().zip(&report.tasks).map(claim).collect();
    Some((Claim { overrun: Nanos::ZERO, busy: Vec::new(), tasks }, cover.expect("it is complete")))
}

fn lower(claim: &mut Claim, place: usize) {
    let task = &mut claim.tasks[place];
    task.bound = task.bound.saturating_sub(Nanos::new(1));
    let waiting = task.terms.iter_mut().find(|term| !term.span.is_zero()).expect("some term is not zero");
    waiting.span = waiting.span.saturating_sub(Nanos::new(1));
}

/// Takes a state out, or an instant off one of its ends.
fn damage(rng: &mut Rng, cover: &mut PeriodicCover) {
    let levels = cover.cover.levels.len() as u64;
    let level = rng.range(0, levels - 1) as usize;
    let states = &mut cover.cover.levels[level];
    let at = rng.range(0, states.len() as u64 - 1) as usize;
    let state = &mut states[at];
    match rng.range(0, 2) {
        0 if state.free_min < state.free_max => state.free_min = state.free_min.saturating_add(Nanos::new(1)),
        1 if state.free_min < state.free_max => state.free_max = state.free_max.saturating_sub(Nanos::new(1)),
        _ => {
            states.remove(at);
        }
    }
}

#[test]
fn what_the_solver_shows_is_accepted_and_what_was_tampered_with_is_not() {
    let (mut accepted, mut damaged) = (0, 0);
    let name = "what_the_solver_shows_is_accepted_and_what_was_tampered_with_is_not";
    for_seeds(name, 200, |rng| {
        let jitter = rng.chance(5);
        let tasks = tiny(rng, jitter);
        let set = set(&tasks);
        for (name, _) in RULES {
            let policy = by_name(name).expect("listed");
            let Some((claim, cover)) = claimed(name, &set, &tasks) else { continue };
            let certify = |claim: &Claim, cover: &PeriodicCover| {
                certify_concrete(&set, &*policy, 1, vec![(claim.clone(), Some(cover.clone()))])
            };
            assert!(certify(&claim, &cover).is_ok(), "{name} {tasks:?}: {:?}", certify(&claim, &cover).err());
            accepted += 1;
            for place in 0..tasks.len() {
                let mut less = claim.clone();
                lower(&mut less, place);
                assert!(certify(&less, &cover).is_err(), "{name} {place} {tasks:?}");
            }
            for _ in 0..10 {
                let mut torn = cover.clone();
                damage(rng, &mut torn);
                assert!(matches!(certify(&claim, &torn), Err(Objection::Cover { .. })), "{name} {tasks:?}");
                damaged += 1;
            }
            let mut elsewhere = cover.clone();
            elsewhere.level += 1;
            assert!(certify(&claim, &elsewhere).is_err(), "{name} {tasks:?}");
        }
    });
    println!("{accepted} accepted, {damaged} tampered with");
    assert!(!counts_are_standard() || accepted > 50, "{accepted}");
}

/// The class binds the evidence: nothing is certified without states, and states certify no order without a rule.
#[test]
fn states_certify_a_rule_and_nothing_else_does() {
    let task = |period, cost| Plain { offset: 0, period, jitter: 0, cost, deadline: period };
    let tasks = [task(10, 1), task(30, 8), task(60, 17)];
    let set = set(&tasks);
    let precautious = by_name("p-rm").expect("listed");
    let (claim, cover) = claimed("p-rm", &set, &tasks).expect("it fits");
    let none = certify(&set, &*precautious, 1, vec![vec![claim.clone()]]);
    assert!(matches!(none, Err(Objection::Inserts { .. })), "{none:?}");
    let none = certify_concrete(&set, &*precautious, 1, vec![(claim.clone(), None)]);
    assert!(matches!(none, Err(Objection::Inserts { .. })), "{none:?}");
    let plain = certify_concrete(&set, &*by_name("rm").expect("listed"), 1, vec![(claim, Some(cover))]);
    assert!(matches!(plain, Err(Objection::Inserts { .. })), "{plain:?}");
}

#[test]
fn states_that_no_exploration_makes_are_objected_to() {
    let task = |period, cost| Plain { offset: 0, period, jitter: 0, cost, deadline: period };
    let tasks = [task(10, 1), task(30, 8), task(60, 17)];
    let set = set(&tasks);
    let policy = by_name("p-rm").expect("listed");
    let (claim, cover) = claimed("p-rm", &set, &tasks).expect("it fits");
    let objected = |damage: &dyn Fn(&mut PeriodicCover)| {
        let mut cover = cover.clone();
        damage(&mut cover);
        certify_concrete(&set, &*policy, 1, vec![(claim.clone(), Some(cover))]).is_err()
    };
    assert!(!objected(&|_| {}), "it stands as it was made");
    // One more among the last states, from which nothing is dispatched.
    let last = |cover: &mut PeriodicCover, words: &[u64]| {
        let states = cover.cover.levels.last_mut().expect("levels");
        let mut extra = states[0].clone();
        extra.dispatched = words.to_vec();
        states.push(extra);
    };
    assert!(objected(&|cover| last(cover, &[])), "too few words");
    assert!(objected(&|cover| last(cover, &[u64::MAX; 9])), "too many");
    assert!(
        objected(&|cover| cover.cover.levels[1][0].free_max = aegis_types::Time::new(u64::MAX)),
        "never free"
    );
}
