//! The campaign against lanes whose contention is known.

use std::cell::Cell;
use std::rc::Rc;

use aegis_types::{ContentHash, LaneId, Nanos, SegmentIndex, TaskId, Time};
use proptest::prelude::{ProptestConfig, any, proptest};

use super::closed_loop::{ClosedLoop, Quota};
use super::fixture::{Scene, VirtualBed};
use super::{
    Campaign, CampaignState, Enemy, Mix, ProfileOptions, Role, Stop, Stratum, TaskCampaign, Victim, claim,
};
use crate::config::profile::Level;
use crate::feed::SplitMix;

const MICRO: u64 = 1_000;

/// Two tasks on each of `lanes` lanes: task t is on lane t / 2, task 0 has two segments.
fn victims(lanes: u16) -> Vec<Victim> {
    let victim = |task: u16| Victim {
        task: TaskId::new(task),
        lane: LaneId::new(task / 2),
        segments: if task == 0 { 2 } else { 1 },
        slots: 2,
    };
    (0..2 * lanes).map(victim).collect()
}

/// `kinds` enemies on each lane, numbered after the tasks, and after them a flusher if wanted.
fn enemies(lanes: u16, kinds: u16, flusher: bool) -> Vec<Enemy> {
    let all = kinds + u16::from(flusher);
    let enemy = |number: u16| Enemy {
        kind: number % all,
        load: Victim {
            task: TaskId::new(2 * lanes + number),
            lane: LaneId::new(number / all),
            segments: 1,
            slots: 1,
        },
        flushes: number % all == kinds,
    };
    (0..lanes * all).map(enemy).collect()
}

fn options() -> ProfileOptions {
    ProfileOptions {
        time_per_task: Nanos::from_millis(60_000),
        samples: 40,
        probe: 6,
        pause_max: Nanos::from_micros(50),
        ..ProfileOptions::default()
    }
}

/// Every task takes 100 us and what `harm` adds for each one beside it, and a seeded noise of up to 1 us.
fn contended(mut harm: impl FnMut(&Scene) -> u64 + 'static) -> impl FnMut(&Scene) -> Nanos + 'static {
    move |scene| {
        let noise = SplitMix(scene.launch.dispatch.get() ^ u64::from(scene.launch.job.task.get()) << 20);
        Nanos::new(100 * MICRO + noise.clone().below(MICRO) + harm(scene))
    }
}

fn harm_of(task: TaskId, seed: u64) -> u64 {
    SplitMix(seed ^ u64::from(task.get())).below(200) * MICRO
}

/// A single pair of co-runners that hurts only together, beside smaller harms that mislead.
fn planted(scene: &Scene) -> u64 {
    let beside = |task: u16| scene.beside.contains(&TaskId::new(task));
    let alone: u64 = scene.beside.iter().map(|task| u64::from(task.get()) * 5 * MICRO).sum();
    alone + if beside(2) && beside(4) { 400 * MICRO } else { 0 }
}

fn complete(bed: &mut VirtualBed, lanes: u16, enemies: &[Enemy], options: ProfileOptions) -> CampaignState {
    let mut campaign = Campaign::new(bed, &victims(lanes), enemies, options);
    for position in 0..usize::from(2 * lanes) {
        campaign.explore(position).expect("nothing fails");
        campaign.confirm(position).expect("nothing fails");
    }
    campaign.into_result()
}

#[test]
fn the_planted_worst_mix_is_found_confirmed_and_budgeted() {
    let mut bed = VirtualBed::new(4, contended(planted));
    // Eight restarts on three lanes of two tasks: each start holds one of the pair with probability 3/4.
    let options = ProfileOptions { restarts: 8, ..options() };
    let state = complete(&mut bed, 4, &[], options);
    let worst: Mix = "s2:-,t2,t4,t7".parse().expect("a mix");
    let task = &state.tasks[0];
    let frozen = task.frozen.as_ref().expect("explored");
    assert_eq!((&frozen[0].stratum, &frozen[1]), (&Stratum::Fleet, &worst), "{frozen:?}");
    assert!(frozen.len() <= options.strata_max);
    let budget = claim::level_budget(task, Level::Fleet, 0, options.margin_ppm).expect("confirmed");
    let harm = (2 + 4 + 7) * 5 * MICRO + 400 * MICRO;
    assert!(budget.high_water >= Nanos::new(100 * MICRO + harm), "{budget:?}");
    assert!(budget.high_water < Nanos::new(102 * MICRO + harm), "{budget:?}");
    assert_eq!(budget.samples, 40);
    assert_eq!(claim::level_budget(task, Level::Enemy, 0, options.margin_ppm), None);
    let screen = Mix::idle(Stratum::Screen, 4).with(LaneId::new(2), Role::Task(TaskId::new(4)));
    let alone = task.only(Stratum::Alone).expect("explored").median().get();
    let beside = task.tried(&screen).expect("screened").median().get();
    // Two segments, each 20 us longer; the noise of each is 1 us at most, on either side.
    assert!((38 * MICRO..42 * MICRO).contains(&(beside - alone)), "{alone} {beside}");
}

#[test]
fn enemies_make_a_level_of_their_own() {
    let enemies = enemies(3, 2, false);
    let harm = |scene: &Scene| {
        // Enemies are numbered from 6 on, by turns of kind 0 and 1; kind 1 hurts more.
        let of = |task: &TaskId| match task.get() {
            0..6 => 10 * MICRO,
            number if number % 2 == 0 => 50 * MICRO,
            _ => 90 * MICRO,
        };
        scene.beside.iter().map(of).sum()
    };
    let mut bed = VirtualBed::new(3, contended(harm));
    let state = complete(&mut bed, 3, &enemies, options());
    let task = &state.tasks[3];
    let level = |level| claim::level_budget(task, level, 0, 0).expect("confirmed").high_water.get() / MICRO;
    assert_eq!((level(Level::Fleet), level(Level::Enemy)), (120, 280));
    let hostile = task.frozen.iter().flatten().filter(|mix| mix.stratum == Stratum::Enemy).count();
    assert_eq!(hostile, 3, "each kind by itself, and both side by side");
}

#[test]
fn the_victim_never_finds_the_device_as_it_left_it() {
    let check = |enemies: &[Enemy], mates: &[u16]| {
        let mut bed = VirtualBed::new(2, contended(|_| 0));
        let mut campaign = Campaign::new(&mut bed, &victims(2), enemies, options());
        let mix = Mix::idle(Stratum::Own, 2);
        campaign.look(0, &mix).expect("nothing fails");
        let segments = bed.seen.iter().filter(|scene| scene.launch.job.task == TaskId::new(0));
        let before: Vec<u16> = segments.map(|scene| scene.before.expect("a mate").get()).collect();
        assert!(before.len() > 8, "{before:?}");
        for (number, before) in before.iter().enumerate() {
            assert_eq!(*before, mates[number % mates.len()], "round robin, before every segment");
        }
    };
    check(&[], &[1]);
    check(&enemies(2, 1, true), &[1, 5]);
}

#[test]
fn a_sample_above_the_frozen_budget_raises_it_and_is_followed_by_a_fresh_round() {
    // Task 3 is the victim. Once armed, its 20th launch is longer than the margin allows: a sample of the first stratum.
    let fuse = Rc::new(Cell::new(u32::MAX));
    let burning = Rc::clone(&fuse);
    let rule = move |scene: &Scene| {
        if scene.launch.job.task != TaskId::new(3) {
            return Nanos::from_micros(20);
        }
        burning.set(burning.get().wrapping_sub(1));
        Nanos::from_micros(if burning.get() == 0 { 300 } else { 100 })
    };
    let mut bed = VirtualBed::new(2, rule);
    let mut campaign = Campaign::new(&mut bed, &victims(2), &[], options());
    campaign.explore(3).expect("nothing fails");
    let explored = campaign.result().tasks[3].high_water(Level::Fleet, 0);
    assert_eq!(explored, Nanos::from_micros(100), "the long one comes later");
    fuse.set(20);
    campaign.confirm(3).expect("nothing fails");
    let task = &campaign.result().tasks[3];
    let rounds: Vec<u32> = task.confirmed.iter().map(|confirmed| confirmed.rounds).collect();
    assert!(rounds[0] == 2 && rounds[1..].iter().all(|rounds| *rounds == 1), "{rounds:?}");
    assert!(task.confirmed.iter().all(|confirmed| confirmed.segments[0].samples == 40));
    let budget = claim::level_budget(task, Level::Fleet, 0, 200_000).expect("confirmed");
    assert_eq!((budget.high_water, budget.budget), (Nanos::from_micros(300), Nanos::from_micros(360)));
}

#[test]
fn a_campaign_that_is_stopped_anywhere_comes_to_the_same_result() {
    let enemies = enemies(3, 2, true);
    let options = ProfileOptions { time_per_task: Nanos::from_millis(300), ..options() };
    // The rule must not depend on how often it was asked, or on dispatches that an interruption repeats.
    let rule =
        |scene: &Scene| Nanos::new(100 * MICRO + scene.beside.len() as u64 * 30 * MICRO + planted(scene));
    let whole = complete(&mut VirtualBed::new(3, rule), 3, &enemies, options);
    assert!(whole.is_frozen() && whole.tasks.iter().all(TaskCampaign::is_confirmed));
    // The shortest is a little longer than the longest stratum, which is begun again where it was cut.
    for step in [61, 97, 143] {
        let mut bed = VirtualBed::new(3, rule);
        let mut state = CampaignState::new(ContentHash::of(&[]), 6);
        let mut stops = 0;
        for round in 1.. {
            assert!(round < 10_000, "it comes to an end");
            // The text in between is what a file would hold.
            let text = serde_json::to_string(&state).expect("a state is JSON");
            let known = serde_json::from_str(&text).expect("a state is read back");
            let until = Time::new(super::TestBed::now(&&mut bed).get() + step * 1_000 * MICRO);
            let mut campaign =
                Campaign::new(&mut bed, &victims(3), &enemies, options).resume(known).until(until);
            let done = (0..6).try_for_each(|position| {
                campaign.explore(position)?;
                campaign.confirm(position)
            });
            state = campaign.into_result();
            match done {
                Ok(()) => break,
                Err(Stop::TimeUp) => stops += 1,
                Err(other) => panic!("{other}"),
            }
        }
        assert!(stops > 3, "it was stopped {stops} times only");
        assert_eq!(state, whole, "in steps of {step} ms");
    }
}

#[test]
fn a_lane_by_itself_is_its_own_fleet_and_a_failure_names_the_task() {
    let mut bed = VirtualBed::new(1, contended(|_| 0));
    let state = complete(&mut bed, 1, &[], options());
    let strata: Vec<String> = state.tasks[0].frozen.iter().flatten().map(Mix::to_string).collect();
    assert_eq!(strata, ["s3:-"]);
    for level in Level::ALL {
        assert!(claim::level_budget(&state.tasks[0], level, 1, 0).is_some(), "{level}");
    }
    let mut bed = VirtualBed::new(2, contended(|_| 0));
    bed.broken = Some(TaskId::new(2));
    let mut campaign = Campaign::new(&mut bed, &victims(2), &[], options());
    let error = campaign.explore(0).expect_err("a co-runner fails");
    assert!(matches!(error, Stop::Failed(failed) if failed.task == TaskId::new(2)), "{error}");
    let error = campaign.confirm(1).expect_err("it was not explored");
    assert_eq!(error, Stop::NotExplored { task: TaskId::new(1) });
}

/// Task 3 in its lane-mate's and task 1's company, where every fifth of its segments outlasts a whole stretch.
#[test]
fn a_segment_that_lands_after_a_rest_is_due_is_a_sample_and_never_lacks_company() {
    let mut launches = 0;
    let rule = move |scene: &Scene| {
        if scene.launch.job.task != TaskId::new(3) {
            return Nanos::from_micros(70);
        }
        launches += 1;
        if launches % 5 == 0 { Nanos::from_millis(550) } else { Nanos::from_micros(100) }
    };
    let mut bed = VirtualBed::new(2, rule);
    bed.busy = Nanos::from_millis(500);
    let mut campaign = Campaign::new(&mut bed, &victims(2), &[], options());
    let mix: Mix = "s2:t1,-".parse().expect("a mix");
    campaign.look(3, &mix).expect("nothing fails");
    let observed = campaign.result().tasks[3].tried(&mix).expect("it was looked at").segments[0];
    assert_eq!((observed.samples, observed.max), (6, Nanos::from_millis(550)));
    let own = bed.seen.iter().filter(|scene| scene.launch.job.task == TaskId::new(3));
    assert!(
        own.clone().all(|scene| scene.beside == [TaskId::new(1)] && scene.before == Some(TaskId::new(2)))
    );
    // Three jobs to warm up and six samples; one of them is the fifth.
    assert_eq!((own.count(), bed.rests), (9, 1));
}

#[test]
fn samples_come_where_a_rest_is_due_before_each_of_them_ends() {
    let mut launches = 0;
    let rule = move |scene: &Scene| {
        launches += 1;
        assert!(launches < 1_000, "it comes to an end");
        Nanos::from_millis(if scene.launch.job.task == TaskId::new(3) { 200 } else { 400 })
    };
    let mut bed = VirtualBed::new(2, rule);
    bed.busy = Nanos::from_millis(500);
    let mut campaign = Campaign::new(&mut bed, &victims(2), &[], options());
    let mix = Mix::idle(Stratum::Own, 2);
    campaign.look(3, &mix).expect("nothing fails");
    assert_eq!(campaign.result().tasks[3].tried(&mix).expect("it was looked at").segments[0].samples, 6);
    assert_eq!(bed.rests, 8, "after every job but the last");
}

#[test]
fn what_is_in_flight_when_the_time_is_over_is_a_sample() {
    let mut launches = 0;
    let rule = move |_: &Scene| {
        launches += 1;
        Nanos::from_micros(if launches == 4 { 10_000 } else { 100 })
    };
    let mut bed = VirtualBed::new(2, rule);
    let mut ring = ClosedLoop::new(&mut bed, &victims(2), &[]);
    let quota =
        Quota { samples: 40, warm_up: 0, until: Time::new(350 * MICRO), pause_max: Nanos::ZERO, seed: 1 };
    let taken = ring.measure(3, &Mix::idle(Stratum::Alone, 2), quota).expect("nothing fails");
    let us = Nanos::from_micros;
    assert_eq!(taken.segments, [vec![us(100), us(100), us(100), us(10_000)]]);
}

#[test]
fn what_overlaps_a_stall_of_the_host_is_left_out_and_counted() {
    let mut launches = 0;
    let rule = move |_: &Scene| {
        launches += 1;
        // The third and the sixth segment lie over the stalls.
        Nanos::from_micros(if launches % 3 == 0 { 5_000 } else { 100 })
    };
    let mut bed = VirtualBed::new(2, rule);
    bed.stalls = [1_000, 8_000].map(|us| Time::new(us * MICRO)).into();
    let mut ring = ClosedLoop::new(&mut bed, &victims(2), &[]);
    let quota = Quota { samples: 6, warm_up: 0, until: Time::new(u64::MAX), pause_max: Nanos::ZERO, seed: 1 };
    let taken = ring.measure(3, &Mix::idle(Stratum::Alone, 2), quota).expect("nothing fails");
    let us = Nanos::from_micros;
    let short = us(100);
    assert_eq!(taken.segments, [vec![short, short, short, short, short, short]]);
    assert_eq!(taken.stalled, 2);
    assert_eq!(bed.seen.len(), 8);
}

#[test]
fn a_host_that_always_stalls_still_yields_a_sample() {
    let mut bed = VirtualBed::new(2, |_: &Scene| Nanos::from_micros(100));
    bed.stalls = (0..10_000).map(|us| Time::new(us * MICRO)).collect();
    let mut ring = ClosedLoop::new(&mut bed, &victims(2), &[]);
    let quota =
        Quota { samples: 40, warm_up: 0, until: Time::new(350 * MICRO), pause_max: Nanos::ZERO, seed: 1 };
    let taken = ring.measure(3, &Mix::idle(Stratum::Alone, 2), quota).expect("nothing fails");
    assert_eq!((taken.segments.as_slice(), taken.stalled), (&[vec![Nanos::from_micros(100)]][..], 3));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn budgets_cover_every_sample_and_count_only_clean_ones(seed in any::<u64>()) {
        // Spikes come at any time, exploration and every round included.
        let mut random = SplitMix(seed);
        let rule = move |scene: &Scene| {
            let harm: u64 = scene.beside.iter().map(|task| harm_of(*task, seed)).sum();
            let spike = if random.below(150) == 0 { random.below(2_000) * MICRO } else { 0 };
            Nanos::new(50 * MICRO + harm + random.below(20 * MICRO) + spike)
        };
        let mut bed = VirtualBed::new(3, rule);
        let options = ProfileOptions { seed, samples: 25, ..options() };
        let enemies = enemies(3, 2, false);
        let state = complete(&mut bed, 3, &enemies, options);
        for (position, task) in state.tasks.iter().enumerate() {
            for level in Level::ALL {
                for segment in 0..task.confirmed[0].segments.len() {
                    let budget = claim::level_budget(task, level, segment, options.margin_ppm).expect("confirmed");
                    let speaks = task.confirmed.iter().filter(|c| c.mix.stratum.speaks_for(level));
                    for confirmed in speaks {
                        let summary = confirmed.segments[segment];
                        assert!(summary.max <= confirmed.high_water[segment], "seed {seed}, task {position}");
                        assert!(confirmed.high_water[segment] <= budget.high_water, "seed {seed}, task {position}");
                        assert!(summary.samples >= budget.samples && summary.samples == 25, "seed {seed}");
                        assert!(confirmed.rounds <= options.rounds, "seed {seed}");
                    }
                    assert!(budget.budget >= budget.high_water, "seed {seed}, task {position}");
                }
            }
        }
    }
}

/// Three lanes whose launches wait 5 us for each launch posted with them, on a device that counts from the post.
#[test]
fn what_a_launch_waits_for_is_in_budgets_that_begin_with_the_post() {
    let mut bed = VirtualBed::new(3, |_| Nanos::from_micros(100));
    (bed.from_post, bed.turn) = (true, Nanos::from_micros(5));
    let state = complete(&mut bed, 3, &[], options());
    let burst: Mix = "burst:-,*,*".parse().expect("a mix");
    let task = &state.tasks[1];
    assert_eq!(task.frozen.iter().flatten().nth(1), Some(&burst));
    let confirmed = task.confirmed.iter().find(|confirmed| confirmed.mix == burst).expect("confirmed");
    assert_eq!((confirmed.segments[0].p50, confirmed.segments[0].samples), (Nanos::from_micros(110), 40));
    for level in [Level::Fleet, Level::Enemy] {
        assert!(burst.stratum.speaks_for(level));
    }
    let budget = claim::level_budget(task, Level::Fleet, 0, 0).expect("confirmed");
    assert_eq!(budget.high_water, Nanos::from_micros(110), "two visits to other lanes before its own");
}

#[test]
fn a_burst_posts_to_the_victim_last_while_all_others_are_in_flight() {
    let mut bed = VirtualBed::new(3, contended(|_| 0));
    bed.from_post = true;
    let mut campaign = Campaign::new(&mut bed, &victims(3), &[], options());
    let burst: Mix = "burst:*,-,*".parse().expect("a mix");
    campaign.look(3, &burst).expect("nothing fails");
    let first = bed.seen.iter().filter(|scene| scene.launch.segment == SegmentIndex::new(0));
    let tasks: Vec<u16> = first.map(|scene| scene.launch.job.task.get() / 2).collect();
    // The lane-mate by itself, then the lane after the victim's, then around to the victim's own.
    assert!(tasks.len() >= 9 * 4, "{tasks:?}");
    assert!(tasks.chunks(4).all(|lanes| lanes == [1, 2, 0, 1]), "{tasks:?}");
    let own = bed.seen.iter().filter(|scene| scene.launch.job.task == TaskId::new(3));
    assert!(own.clone().all(|scene| scene.beside.len() == 2 && scene.before == Some(TaskId::new(2))));
    assert_eq!(own.count(), 9);
}
