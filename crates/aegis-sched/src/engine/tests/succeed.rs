//! Changes of mode: only at an idle instant, and from there on under the new certificate alone.

use std::cell::Cell;

use aegis_types::records::{EngineStarted, SegmentDispatched, SegmentOutcome, Standing};
use aegis_types::{LaneId, RawRecord, Time};

use super::world::{Fixture, Seeded, Spec, World, for_seeds, random_fleet, random_script};
use crate::admission::{AdmissionController, AdmissionRequest, Depth};
use crate::engine::{ChangeError, Engine, Input, Misuse};
use crate::referee::certificate::Certificate;

const CHANGE: u64 = 150;
const UNTIL: u64 = 900;

/// A fleet of two lanes with time to be idle in, its timers only.
fn calm(random: &mut Seeded) -> Vec<Spec> {
    let (mut specs, _) = random_fleet(random, 0);
    for spec in &mut specs {
        spec.period *= 4;
        spec.deadline += spec.period;
        spec.lane %= 2;
        spec.offset = Some(random.below(20));
    }
    specs[0].lane = 1;
    specs
}

fn certified(fixture: &Fixture, epoch: u64) -> Option<Certificate> {
    let request = AdmissionRequest { set: &fixture.set, epoch, depth: Depth::TIGHT };
    AdmissionController::new(fixture.policy()).analyze(&request).certificate().cloned()
}

fn engine(fixture: &Fixture, certificate: &Certificate, now: u64) -> Engine {
    Engine::new(&fixture.set, certificate.clone(), fixture.policy(), Time::new(now)).unwrap()
}

/// Feeds the inputs of a world again: every record must come again.
fn feed_again(engine: &mut Engine, world: &World) {
    let (mut out, mut records) = (engine.outbox(), Vec::new());
    for raw in &world.records {
        if let Some(input) = Input::from_record(raw) {
            out.clear();
            engine.handle(raw.stamp, input, &mut out);
            records.extend_from_slice(out.records());
        }
    }
    let content = |raw: &RawRecord| (raw.stamp, raw.kind(), raw.payload);
    assert!(records.iter().map(content).eq(world.records.iter().map(content)));
}

#[test]
fn a_change_waits_for_an_idle_instant_and_keeps_the_new_bounds() {
    let (changes, waits, jobs) = (Cell::new(0u64), Cell::new(0u64), Cell::new(0u64));
    for_seeds("a_change_waits_for_an_idle_instant_and_keeps_the_new_bounds", 300, |seed| {
        let mut random = Seeded(seed ^ 0xC4A2);
        let fleets = [calm(&mut random), calm(&mut random)];
        let names = ["edf", "fp", "fifo", "fair"];
        let mut fixture = |specs| Fixture::new(names[random.below(4) as usize], 0, specs);
        let [old, new] = fleets.each_ref().map(|specs| fixture(specs));
        let (Some(before), Some(after)) = (certified(&old, 3), certified(&new, 5)) else { return };
        let mut world = World::new(engine(&old, &before, 0));
        random_script(&mut random, &fleets[0], &mut world, 50);
        world.run(&[], CHANGE);
        let (now, replayed) = loop {
            let (certificate, policy) = (after.clone(), new.policy());
            match world.engine.successor(&new.set, certificate, policy, Time::new(world.now)) {
                Ok(next) => {
                    assert!(world.engine.is_idle());
                    let old_world = std::mem::replace(&mut world, World::new(next));
                    let mut again = engine(&old, &before, 0);
                    feed_again(&mut again, &old_world);
                    let at = Time::new(old_world.now);
                    let replayed = again.successor(&new.set, after.clone(), new.policy(), at).ok();
                    break (old_world.now, replayed);
                }
                Err(ChangeError::Busy { lane, pending }) => {
                    assert_eq!(world.engine.lane(lane).map(|view| view.pending), Some(pending));
                    assert!(pending > 0);
                    waits.set(waits.get() + 1);
                }
                Err(error) => panic!("{error}"),
            }
            let Some(next) = world.next_event().filter(|next| *next < UNTIL) else { return };
            world.run(&[], next);
        };
        random_script(&mut random, &fleets[1], &mut world, 50);
        world.run(&[], now + UNTIL);
        let started: Vec<_> = world.all::<EngineStarted>();
        assert_eq!(started.iter().map(|(at, it)| (*at, it.epoch)).collect::<Vec<_>>(), [(now, 5)]);
        for end in &world.ends {
            assert_eq!(end.standing, Standing::Covered);
            assert!(end.arrival >= Time::new(now) && end.response() <= end.bound, "{end:?}");
            jobs.set(jobs.get() + 1);
        }
        feed_again(&mut replayed.expect("what could be followed can be again"), &world);
        changes.set(changes.get() + 1);
    });
    println!("{} changes after {} refusals, {} jobs", changes.get(), waits.get(), jobs.get());
    let counts = (changes.get() > 100, waits.get() > 30, jobs.get() > 1_000);
    assert!(std::env::var_os("AEGIS_SEED").is_some() || counts == (true, true, true), "{counts:?}");
}

/// One job that ends at 10, and the same set again with a later epoch.
fn one_job() -> (Fixture, World, Certificate) {
    let fixture = Fixture::new("edf", 0, &[Spec { offset: Some(0), ..Spec::default() }]);
    let after = certified(&fixture, 4).unwrap();
    let world = World::new(engine(&fixture, &certified(&fixture, 3).unwrap(), 0));
    (fixture, world, after)
}

#[test]
fn lanes_go_on_counting_so_that_a_late_flag_is_seen() {
    let (fixture, mut world, after) = one_job();
    world.run(&[], 50);
    let old = world.all::<SegmentDispatched>()[0].1.dispatch;
    let next = world.engine.successor(&fixture.set, after, fixture.policy(), Time::new(60)).unwrap();
    let mut world = World::new(next);
    world.run(&[], 60);
    let new = world.all::<SegmentDispatched>()[0].1.dispatch;
    assert_eq!((old.get(), new.get()), (1, 2));
    let late = Input::Completed { lane: LaneId::new(0), dispatch: old, outcome: SegmentOutcome::Done };
    let expected = Misuse::WrongDispatch { lane: LaneId::new(0), given: 1, expected: 2 };
    assert_eq!(world.engine.check(Time::new(61), &late), Err(expected));
}

#[test]
fn what_cannot_take_over_is_refused_by_name() {
    let (fixture, mut world, after) = one_job();
    world.run(&[], 5);
    let ask = |world: &World, set: &Fixture, certificate: &Certificate, now: u64| {
        world.engine.successor(&set.set, certificate.clone(), set.policy(), Time::new(now)).err()
    };
    let busy = ask(&world, &fixture, &after, 5);
    assert_eq!(busy, Some(ChangeError::Busy { lane: LaneId::new(0), pending: 1 }));
    world.run(&[], 50);
    let backwards = ChangeError::TimeRunsBackwards { now: Time::new(9), last: Time::new(10) };
    assert_eq!(ask(&world, &fixture, &after, 9), Some(backwards));
    let same = certified(&fixture, 3).unwrap();
    assert_eq!(ask(&world, &fixture, &same, 50), Some(ChangeError::Epoch { given: 3, last: 3 }));
    let wider = Fixture::new("edf", 0, &[Spec { lane: 1, offset: Some(0), ..Spec::default() }]);
    let wide = certified(&wider, 9).unwrap();
    assert_eq!(ask(&world, &wider, &wide, 50), Some(ChangeError::Lanes { given: 2, lanes: 1 }));
    let other = Fixture::new("fp", 0, &[Spec { period: 200, offset: Some(0), ..Spec::default() }]);
    assert!(matches!(ask(&world, &other, &after, 50), Some(ChangeError::Model(_))));
    assert_eq!(ask(&world, &fixture, &after, 50), None);
    world.tell(60, Input::Control(aegis_types::records::Control::Drain));
    assert_eq!(ask(&world, &fixture, &after, 60), Some(ChangeError::Stopping));
}
