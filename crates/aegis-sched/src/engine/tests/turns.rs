//! Turns: who is next, why, and what ends a turn.

use aegis_types::Nanos;
use aegis_types::records::{Decided, Reason, SegmentDispatched, SegmentOutcome};

use super::world::{Fixture, Spec, World};
use crate::error::ModelError;
use crate::model::Task;
use crate::policy::{PolicyClass, SchedulingPolicy};
use crate::referee::certificate::Certificate;

fn spec(weight: u32, segments: &[u64]) -> Spec {
    Spec { weight, segments: segments.to_vec(), period: 1_000, offset: Some(0), ..Spec::default() }
}

/// A world in which every segment takes its budget.
fn exact(specs: &[Spec]) -> World {
    let mut world = Fixture::new("fair", 0, specs).world();
    for (task, spec) in (0..).zip(specs) {
        for number in 0..10 {
            for (segment, &budget) in (0..).zip(&spec.segments) {
                world.script(task, number, segment, &[(budget, SegmentOutcome::Done)]);
            }
        }
    }
    world
}

fn world(specs: &[Spec]) -> World {
    let mut world = exact(specs);
    world.run(&[], 999);
    world
}

/// Task and segment of every dispatch.
fn order(world: &World) -> Vec<(u16, u16)> {
    world.schedule().into_iter().map(|(_, task, _, segment)| (task, segment)).collect()
}

#[test]
fn tasks_run_as_many_segments_a_turn_as_they_weigh_and_the_trace_says_why() {
    let world = world(&[spec(2, &[1, 1, 1]), spec(1, &[1, 1]), spec(3, &[1])]);
    assert_eq!(order(&world), [(0, 0), (0, 1), (1, 0), (2, 0), (0, 2), (1, 1)]);
    let decided = world.all::<Decided>();
    // Keys count the places to the task: zero goes on.
    let keys: Vec<_> =
        decided.iter().map(|(_, it)| (it.key, it.runner_up.task.get(), it.runner_up_key)).collect();
    assert_eq!(keys, [(1, 1, 2), (0, 1, 1), (1, 2, 2), (1, 0, 2), (1, 1, 2)]);
    let reasons: Vec<_> = world.all::<SegmentDispatched>().into_iter().map(|(_, it)| it.reason).collect();
    use Reason::{MostUrgent, NextSegment, OnlyReady};
    assert_eq!(reasons, [MostUrgent, NextSegment, MostUrgent, MostUrgent, NextSegment, OnlyReady]);
}

#[test]
fn a_turn_ends_when_nothing_is_pending_even_if_something_comes_at_that_stamp() {
    // The first job of task 0 ends at 10, when its second one arrives: of its turn of three segments two are left.
    let first =
        Spec { weight: 3, segments: vec![10], period: 10, deadline: 100, offset: Some(0), ..Spec::default() };
    let mut world = exact(&[first, spec(1, &[10])]);
    world.run(&[], 25);
    assert_eq!(world.schedule(), [(0, 0, 0, 0), (10, 1, 0, 0), (20, 0, 1, 0)]);
}

#[test]
fn what_a_failed_job_leaves_undone_counts_as_run() {
    let failing = |weight| {
        let queued =
            Spec { weight, segments: vec![10, 1], period: 1, deadline: 90, offset: None, ..Spec::default() };
        let mut world = exact(&[queued, spec(1, &[1, 1])]);
        world.script(0, 0, 0, &[(10, SegmentOutcome::Failed)]);
        world.run(&[(0, 0), (1, 0), (2, 0)], 999);
        order(&world)
    };
    // Without the rule the second job's first segment would follow in the same turn: 20 instead of at most 11.
    assert_eq!(failing(2)[..3], [(0, 0), (1, 0), (0, 0)]);
    assert_eq!(failing(3)[..3], [(0, 0), (0, 0), (1, 0)]);
}

#[test]
fn a_lone_task_is_never_kept_waiting() {
    let world = world(&[spec(1, &[1, 1, 1])]);
    assert_eq!(world.schedule(), [(0, 0, 0, 0), (1, 0, 0, 1), (2, 0, 0, 2)]);
}

struct Weightless;

impl SchedulingPolicy for Weightless {
    fn name(&self) -> &'static str {
        "fair"
    }
    fn class(&self) -> PolicyClass {
        PolicyClass::Fair
    }
    fn key(&self, _task: &Task) -> u64 {
        0
    }
}

#[test]
fn a_weight_of_nothing_makes_no_engine() {
    let fixture = Fixture::new("fair", 0, &[spec(1, &[1])]);
    let mut tasks = fixture.certificate.lanes()[0].tasks().to_vec();
    tasks[0].key = 0;
    let rung = crate::referee::certificate::Rung { overrun: Nanos::ZERO, bounds: vec![tasks[0].wcrt] };
    let lanes = vec![(fixture.certificate.lanes()[0].lane(), tasks, vec![rung])];
    let certificate = Certificate::for_tests("fair", PolicyClass::Fair, lanes);
    let engine =
        crate::engine::Engine::new(&fixture.set, certificate, Box::new(Weightless), aegis_types::Time::ZERO);
    assert!(matches!(engine.err(), Some(ModelError::BadField { field: "key", .. })));
}
