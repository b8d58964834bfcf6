//! Changes while jobs are pending: every job keeps a bound, of the union until its lane has idled, and the trace tells
//! it all again. Controls that must be caught: bounds of the old set after a widening, of the new one after a narrowing.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use aegis_types::records::{
    AssumptionBroken, EngineStarted, JobFinished, JobReleased, LaneIdled, Refusal, SegmentOutcome, Standing,
};
use aegis_types::{JobId, LaneId, Nanos, TaskId, Time};

use super::world::{Fixture, Seeded, Spec, World, for_seeds};
use crate::admission::{AdmissionController, AdmissionRequest, Depth};
use crate::engine::{ChangeError, Decision, Engine, Trust};
use crate::mode::{Transition, Union, transition};
use crate::model::{Task, TaskSet};
use crate::policy::{self, SchedulingPolicy};
use crate::referee::certificate::Certificate;
use crate::replay::{Change, ReplayEnd, Takeover, replay_changes};

const CHANGE: u64 = 300;
const UNTIL: u64 = 1_500;

/// A fleet of which the first tasks are the old set; lanes are seldom all idle at once.
fn fleet(random: &mut Seeded) -> (Vec<Spec>, usize) {
    let count = random.within(3, 7);
    let spec = |random: &mut Seeded| {
        let period = random.within(20, 90);
        Spec {
            lane: u16::try_from(random.below(3)).unwrap(),
            period,
            deadline: random.within(period * 2 / 3, period * 3),
            jitter: random.below(6),
            segments: (0..random.within(1, 2)).map(|_| random.within(1, 7)).collect(),
            offset: (random.below(2) == 0).then(|| random.below(period)),
            weight: u32::try_from(random.within(1, 3)).unwrap(),
            ..Spec::default()
        }
    };
    let mut specs: Vec<Spec> = (0..count).map(|_| spec(random)).collect();
    specs[0].lane = 2;
    let old = usize::try_from(random.within(1, count)).unwrap();
    (specs, old)
}

/// Some tasks of the union in any order, some budgets smaller: the new set.
fn newer(random: &mut Seeded, union: &TaskSet, old: usize) -> TaskSet {
    let stays = |task: &&Task| task.id.index() >= old || random.below(3) != 0;
    let mut tasks: Vec<Task> = union.tasks().iter().filter(stays).cloned().collect();
    if random.below(3) == 0 && !tasks.is_empty() {
        let by = random.below(tasks.len() as u64) as usize;
        tasks.rotate_left(by);
    }
    for task in &mut tasks {
        if random.below(4) == 0 {
            let bound = task.segments[0].bound.get();
            task.segments[0].bound = Nanos::new(random.within(1, bound));
        }
    }
    renumbered(tasks, union)
}

fn renumbered(tasks: Vec<Task>, like: &TaskSet) -> TaskSet {
    let number = |(task, id): (Task, u16)| Task { id: TaskId::new(id), ..task };
    TaskSet::new(tasks.into_iter().zip(0..).map(number).collect(), like.platform().clone()).unwrap()
}

fn certified(set: &TaskSet, policy: &str, epoch: u64) -> Option<Certificate> {
    let controller = AdmissionController::new(policy::by_name(policy).unwrap());
    controller.analyze(&AdmissionRequest { set, epoch, depth: Depth::TIGHT }).certificate().cloned()
}

/// Executions within the budgets of a set, for every job to come.
fn executions(random: &mut Seeded, set: &TaskSet, world: &mut World) {
    for task in set.tasks() {
        for number in 0..80 {
            for (segment, budget) in (0..).zip(&task.segments) {
                let most = budget.bound.get();
                let span = if random.below(3) == 0 { random.within(1, most) } else { most };
                let run = vec![(span, SegmentOutcome::Done)];
                world.script.insert((JobId::new(task.id, number), segment), run);
            }
        }
    }
}

/// What the sporadic tasks of a set are submitted in a span, legal or not.
fn submissions(random: &mut Seeded, set: &TaskSet, from: u64, to: u64) -> Vec<(u64, u16)> {
    let mut all = Vec::new();
    for task in set.tasks().iter().filter(|task| task.arrival == crate::model::Arrival::Sporadic) {
        let (mut at, period) = (from + random.within(1, 20), task.period.get());
        while at < to {
            all.push((at, task.id.get()));
            at += random.within(period * 4 / 5, period * 3 / 2);
        }
    }
    all.sort_unstable();
    all
}

/// A change that may be made at once, with everything that it takes.
struct Case {
    policy: Arc<dyn SchedulingPolicy>,
    old: TaskSet,
    new: TaskSet,
    first: Certificate,
    union: Union,
    then: Certificate,
    retiring: Vec<TaskId>,
}

impl Case {
    fn draw(random: &mut Seeded) -> Option<Self> {
        let name = ["edf", "fp", "fifo", "fair"][random.below(4) as usize];
        let (specs, count) = fleet(random);
        let all = Fixture::new(name, 0, &specs).set;
        let old = renumbered(all.tasks()[..count].to_vec(), &all);
        let new = newer(random, &all, count);
        let first = certified(&old, name, 1)?;
        let controller = AdmissionController::new(policy::by_name(name).unwrap());
        let found = transition(&controller, &old, &new, 1, Depth::TIGHT).ok()?;
        let Transition::AtOnce { union, then } = found else { return None };
        let ids = union.set.tasks().iter().map(|task| task.id);
        let retiring = ids.filter(|id| !union.numbers.contains(id)).collect();
        let policy: Arc<dyn SchedulingPolicy> = Arc::from(policy::by_name(name).unwrap());
        Some(Self { policy, old, new, first, union: *union, then, retiring })
    }

    fn boxed(&self) -> Box<dyn SchedulingPolicy> {
        Box::new(Arc::clone(&self.policy))
    }

    fn widening(&self) -> Change<'_> {
        let (set, certificate) = (&self.union.set, &self.union.certificate);
        let takeover = Takeover::Widened { retiring: &self.retiring };
        Change { set, certificate, policy: Arc::clone(&self.policy), takeover }
    }

    fn narrowing(&self) -> Change<'_> {
        let takeover = Takeover::Narrowed { numbers: &self.union.numbers };
        Change { set: &self.new, certificate: &self.then, policy: Arc::clone(&self.policy), takeover }
    }

    fn engine(&self) -> Engine {
        Engine::new(&self.old, self.first.clone(), self.boxed(), Time::ZERO).unwrap()
    }
}

fn replace(world: &mut World, next: Engine) {
    world.out = next.outbox();
    world.engine = next;
}

/// Runs a case; returns when the widening and the narrowing were made.
fn play(random: &mut Seeded, case: &Case, world: &mut World, counts: &Counts) -> Option<(u64, u64)> {
    executions(random, &case.old, world);
    let before = submissions(random, &case.old, 0, CHANGE);
    world.run(&before, CHANGE);
    counts.busy.set(counts.busy.get() + u64::from(!world.engine.is_idle()));
    replace(world, case.widening().after(&world.engine, Time::new(CHANGE)).unwrap());
    executions(random, &case.union.set, world);
    let during = submissions(random, &case.union.set, CHANGE, UNTIL);
    let mut left = during.as_slice();
    loop {
        let next = [world.next_event(), left.first().map(|at| at.0)].into_iter().flatten().min()?;
        if next > UNTIL {
            return None;
        }
        let split = left.partition_point(|at| at.0 <= next);
        world.run(&left[..split], next);
        left = &left[split..];
        let now = world.now;
        match case.narrowing().after(&world.engine, Time::new(now)) {
            Ok(narrowed) => {
                assert!(world.engine.is_drained_of(&case.retiring));
                counts.kept.set(counts.kept.get() + u64::from(!world.engine.is_idle()));
                replace(world, narrowed);
                executions(random, &case.new, world);
                let after = submissions(random, &case.new, now, UNTIL);
                world.run(&after, UNTIL);
                // An engine that is told nothing records nothing.
                return (world.now > now).then_some((CHANGE, now));
            }
            Err(ChangeError::Pending { .. }) => counts.waits.set(counts.waits.get() + 1),
            // Turns come in the order of the numbers.
            Err(ChangeError::Contract { field: "id", .. })
                if case.policy.name() == "fair" && !case.union.numbers.is_sorted() =>
            {
                return None;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[derive(Default)]
struct Counts {
    changes: Cell<u64>,
    busy: Cell<u64>,
    kept: Cell<u64>,
    waits: Cell<u64>,
    jobs: Cell<u64>,
    refused: Cell<u64>,
    /// Jobs that took longer than the old set's bound, after the widening.
    beyond_old: Cell<u64>,
    /// Jobs that took longer than the new set's bound, on lanes that had not idled since the narrowing.
    beyond_new: Cell<u64>,
}

fn add(count: &Cell<u64>, one: bool) {
    count.set(count.get() + u64::from(one));
}

fn bound(certificate: &Certificate, task: TaskId) -> Option<Nanos> {
    let (lane, position) = certificate.task(task)?;
    lane.bound(position, Nanos::ZERO)
}

/// Every job met the bound that an account of its own says it has.
fn check(case: &Case, world: &World, widened: u64, narrowed: u64, counts: &Counts) {
    assert_eq!(world.all::<AssumptionBroken>(), []);
    let started: Vec<_> = world.all::<EngineStarted>().into_iter().map(|(at, it)| (at, it.epoch)).collect();
    assert_eq!(started, [(0, 1), (widened, 2), (narrowed, 3)]);
    let starts: Vec<usize> = positions::<EngineStarted>(world);
    let lanes: BTreeMap<TaskId, LaneId> = case.new.tasks().iter().map(|task| (task.id, task.lane)).collect();
    let mut idled: Vec<LaneId> = Vec::new();
    for (position, raw) in world.records.iter().enumerate() {
        if let Some(it) = read::<LaneIdled>(raw).filter(|_| position > starts[2]) {
            idled.push(it.lane);
        }
        if let Some(it) = read::<JobReleased>(raw).filter(|_| position > starts[1] && position < starts[2]) {
            assert!(!case.retiring.contains(&it.job.task), "{it:?} was accepted");
        }
        let Some(it) = read::<JobFinished>(raw) else { continue };
        assert_eq!(it.standing, Standing::Covered, "{it:?}");
        let task = it.job.task;
        let kept = |lane: &LaneId| !idled.contains(lane) && was_busy(world, starts[2], *lane);
        let kept = position > starts[2] && lanes.get(&task).is_some_and(kept);
        let expected = match (position < starts[1], position < starts[2], kept) {
            (true, _, _) => bound(&case.first, task),
            (_, true, _) => bound(&case.union.certificate, task),
            (_, _, true) => bound(&case.union.certificate, case.union.numbers[task.index()]),
            (_, _, false) => bound(&case.then, task),
        };
        assert_eq!(Some(it.bound), expected, "{it:?}");
        assert!(it.response <= it.bound, "{it:?}");
        let above = |certificate| bound(certificate, task).is_some_and(|bound| it.response > bound);
        add(&counts.beyond_old, position > starts[1] && position < starts[2] && above(&case.first));
        add(&counts.beyond_new, position > starts[2] && above(&case.then));
        add(&counts.jobs, true);
    }
}

/// Whether a job was released on a lane since it last idled, before the record at `position`.
fn was_busy(world: &World, position: usize, lane: LaneId) -> bool {
    let idles = |raw: &&aegis_types::RawRecord| read::<LaneIdled>(raw).is_some_and(|it| it.lane == lane);
    let since = world.records[..position].iter().rev().take_while(|raw| !idles(raw));
    since.filter_map(read::<JobReleased>).any(|it| it.lane == lane)
}

fn read<R: aegis_types::Record>(raw: &aegis_types::RawRecord) -> Option<R> {
    R::read(raw)
}

fn positions<R: aegis_types::Record>(world: &World) -> Vec<usize> {
    let found = world.records.iter().enumerate().filter(|(_, raw)| R::read(raw).is_some());
    found.map(|(position, _)| position).collect()
}

#[test]
fn every_job_keeps_its_bound_through_a_change() {
    let counts = Counts::default();
    for_seeds("every_job_keeps_its_bound_through_a_change", 1_500, |seed| {
        let mut random = Seeded(seed ^ 0xADD5);
        let Some(case) = Case::draw(&mut random) else { return };
        let mut world = World::new(case.engine());
        let Some((widened, narrowed)) = play(&mut random, &case, &mut world, &counts) else { return };
        check(&case, &world, widened, narrowed, &counts);
        let stops = |it: &&(u64, crate::engine::Answer)| {
            matches!(it.1.decision, Decision::Refused { reason: Refusal::Stopping, .. })
        };
        counts.refused.set(counts.refused.get() + world.answers.iter().filter(stops).count() as u64);
        let changes = [case.widening(), case.narrowing()];
        let again = replay_changes(&world.records, &case.old, &case.first, case.boxed(), &changes).unwrap();
        assert_eq!((again.end, again.equal), (ReplayEnd::Identical, world.records.len() as u64));
        let cut = replay_changes(&world.records, &case.old, &case.first, case.boxed(), &changes[..1]);
        assert!(matches!(cut.unwrap().end, ReplayEnd::Diverged { replayed: None, .. }));
        add(&counts.changes, true);
    });
    let all = [&counts.changes, &counts.busy, &counts.kept, &counts.waits, &counts.jobs, &counts.refused]
        .map(Cell::get);
    let controls = [counts.beyond_old.get(), counts.beyond_new.get()];
    println!("changes, busy, kept, waits, jobs, refused: {all:?}; beyond old and new bounds: {controls:?}");
    let enough = all[0] > 200 && all[1] > 100 && all[2] > 50 && all[3] > 50 && all[4] > 5_000 && all[5] > 50;
    let caught = controls.iter().all(|&count| count > 0);
    assert!(std::env::var_os("AEGIS_SEED").is_some() || (enough && caught));
}

fn two(specs: &[Spec]) -> (Fixture, Fixture) {
    (Fixture::new("fp", 0, &specs[..1]), Fixture::new("fp", 0, specs))
}

/// The union's certificate as admission makes it.
fn wide(fixture: &Fixture, epoch: u64) -> Certificate {
    certified(&fixture.set, fixture.policy, epoch).unwrap()
}

#[test]
fn jobs_keep_their_slots_when_a_queue_grows() {
    let long =
        Spec { period: 20, deadline: 60, segments: vec![15], offset: Some(0), queue: 2, ..Spec::default() };
    let fixture = Fixture::new("fp", 0, std::slice::from_ref(&long));
    let mut world = fixture.world();
    world.default_run.insert(TaskId::new(0), 15);
    world.run(&[], 30);
    world.default_run.insert(TaskId::new(0), 19);
    world.run(&[], 80);
    let before = world.engine.pending(TaskId::new(0));
    let grown = Fixture::new("fp", 0, &[Spec { segments: vec![20], queue: 3, ..long.clone() }]);
    let next = world.engine.widened(&grown.set, wide(&grown, 2), grown.policy(), &[], Time::new(80)).unwrap();
    assert!(next.slots(TaskId::new(0)) >= 2 && next.pending(TaskId::new(0)) == before && before > 0);
    replace(&mut world, next);
    world.run(&[], 400);
    let mut taken: BTreeMap<u32, JobId> = BTreeMap::new();
    let mut ends = world.ends.iter().peekable();
    for (at, command) in &world.commands {
        while let Some(end) = ends.next_if(|end| end.ended.get() <= *at) {
            assert_eq!(taken.remove(&end.slot).unwrap_or(end.job), end.job);
        }
        assert_eq!(taken.insert(command.slot, command.job), None, "a slot has one job");
    }
}

#[test]
fn what_cannot_change_while_jobs_are_pending_is_refused_by_name() {
    let spec = Spec { offset: Some(0), ..Spec::default() };
    let added = Spec { lane: 0, period: 200, deadline: 200, ..Spec::default() };
    let (one, both) = two(&[spec.clone(), added]);
    let mut world = one.world();
    world.run(&[], 5);
    let now = Time::new(5);
    let ask = |world: &World, set: &Fixture, retiring: &[TaskId]| {
        world.engine.widened(&set.set, wide(set, 2), set.policy(), retiring, now).err()
    };
    assert_eq!(ask(&world, &both, &[]), None);
    let far = TaskId::new(9);
    assert_eq!(ask(&world, &both, &[far]), Some(ChangeError::Unknown { task: far, tasks: 2 }));
    let task = TaskId::new(0);
    for (other, field) in [
        (Spec { period: 99, ..spec.clone() }, "period"),
        (Spec { deadline: 99, ..spec.clone() }, "deadline"),
        (Spec { segments: vec![9], ..spec.clone() }, "segments"),
        (Spec { segments: vec![5, 5], ..spec.clone() }, "segments"),
        (Spec { offset: None, ..spec.clone() }, "arrival"),
        (Spec { retries: 1, ..spec.clone() }, "retries"),
        (Spec { on_overrun: crate::model::OnOverrun::Keep, ..spec.clone() }, "on_overrun"),
    ] {
        let changed = Fixture::new("fp", 0, &[other]);
        assert_eq!(ask(&world, &changed, &[]), Some(ChangeError::Contract { task, field }), "{field}");
    }
    let none = Fixture::new("edf", 0, &[spec]);
    let policy = ChangeError::Policy { given: "edf", serving: "fp" };
    assert_eq!(ask(&world, &none, &[]), Some(policy));
    let old = world.engine.widened(&both.set, wide(&both, 1), both.policy(), &[], now).err();
    assert_eq!(old, Some(ChangeError::Epoch { given: 1, last: 1 }));
    let numbers =
        |numbers: &[TaskId]| world.engine.narrowed(&one.set, wide(&one, 2), one.policy(), numbers, now).err();
    assert_eq!(numbers(&[]), Some(ChangeError::Numbers { given: 0, tasks: 1 }));
    assert_eq!(numbers(&[far]), Some(ChangeError::Unknown { task: far, tasks: 1 }));
    assert_eq!(numbers(&[task]), None);
    // A lane whose budget was overrun settles first.
    world.script(0, 1, 0, &[(25, SegmentOutcome::Done)]);
    world.run(&[], 130);
    assert_eq!(
        ask(&world, &both, &[]),
        Some(ChangeError::TimeRunsBackwards { now, last: Time::new(world.now) })
    );
}

#[test]
fn a_lane_that_distrusts_itself_or_has_older_bounds_settles_first() {
    let spec = Spec { offset: Some(0), segments: vec![10, 10], deadline: 90, ..Spec::default() };
    let (one, both) = two(&[spec, Spec { period: 200, deadline: 200, ..Spec::default() }]);
    let mut world = one.world();
    world.script(0, 0, 0, &[(11, SegmentOutcome::Done)]);
    world.run(&[], 12);
    let lane = LaneId::new(0);
    let ask = |world: &World, set: &Fixture, epoch, now| {
        world.engine.widened(&set.set, wide(set, epoch), set.policy(), &[], Time::new(now))
    };
    let unsettled = ask(&world, &both, 2, 12).err();
    assert_eq!(unsettled, Some(ChangeError::Unsettled { lane, trust: Trust::Shedding }));
    world.run(&[], 105);
    let wider = ask(&world, &both, 2, 105).unwrap();
    replace(&mut world, wider);
    let back = |world: &World, now| {
        let (set, numbers) = (&one.set, [TaskId::new(0)]);
        world.engine.narrowed(set, wide(&one, 3), one.policy(), &numbers, Time::new(now))
    };
    let narrower = back(&world, 106).unwrap();
    replace(&mut world, narrower);
    assert_eq!(ask(&world, &both, 4, 107).err(), Some(ChangeError::Unsettled { lane, trust: Trust::Whole }));
    world.run(&[], 150);
    assert!(world.engine.is_idle() && ask(&world, &both, 4, 150).is_ok());
}
