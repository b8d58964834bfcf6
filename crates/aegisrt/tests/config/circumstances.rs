//! Circumstances that a measurement depends on: where one of them is another, it is refused or told, never used.

use std::path::Path;

use aegis_cuda::Partition;
use aegis_sched::{Basis, Overheads};
use aegis_types::{ContentHash, LaneId, Nanos, PartitionId};
use aegisrt::config::profile::{Level, LevelBudget};
use aegisrt::config::{
    Calibration, ConfigError, Exceedance, Facts, Fleet, Prepared, Profile, WaitMode, prepare,
};

use crate::measured::profiled;
use crate::{CANDIDATE, good};

fn facts(fleet: &Fleet) -> Vec<Facts> {
    let fact = |name: &str| Facts { model: ContentHash::of(name.as_bytes()), declared: vec![Nanos::ZERO] };
    fleet.tasks().iter().map(|task| fact(&task.name)).collect()
}

fn calibration() -> Calibration {
    Calibration::new(Path::new("platform.json"), Overheads::default())
}

fn prepared(fleet: &Fleet, profile: &Profile, lanes: &[u16]) -> Result<Prepared, ConfigError> {
    let lanes: Vec<LaneId> = lanes.iter().copied().map(LaneId::new).collect();
    prepare(fleet, Some(profile), &calibration(), &lanes, &facts(fleet))
}

/// The good fleet with a candidate, which was on no lane when the others were profiled.
fn enlarged() -> Fleet {
    good().with_tasks(Path::new("task.toml"), CANDIDATE).expect("it is legal")
}

fn with_levels(mut profile: Profile, fleet: u64, enemy: u64) -> Profile {
    let budget = |level, high_water: u64| LevelBudget {
        level,
        budget: Nanos::from_micros(high_water * 6 / 5),
        high_water: Nanos::from_micros(high_water),
        strata: 2,
        samples: 40,
        exceedance: Exceedance::of_clean_samples(40, 3),
    };
    for task in &mut profile.tasks {
        task.segments[0].levels = vec![budget(Level::Fleet, fleet), budget(Level::Enemy, enemy)];
    }
    profile
}

fn gaps(prepared: &Prepared) -> Vec<String> {
    prepared.gaps.iter().map(|gap| format!("{}: {}", gap.task, gap.unmet.join(" "))).collect()
}

#[test]
fn a_device_that_is_divided_otherwise_makes_a_profile_stale() {
    let made = |vision: u32, lanes: u16| {
        let partition = |id, name: &str, units| Partition {
            id: PartitionId::new(id),
            name: name.into(),
            units,
            unit_numbers: Vec::new(),
        };
        vec![(partition(0, "audio", 2), lanes), (partition(1, "vision", vision), 1)]
    };
    let profile = profiled().in_place(&made(64, 2), WaitMode::Spin, false);
    let text = serde_json::to_string(&profile).expect("it is JSON");
    let profile = Profile::parse(Path::new("profile.json"), &text).expect("it is whole");
    assert_eq!(profile.matches_partitions(&made(64, 2)), Ok(()));
    assert_eq!(profile.matches_partitions(&made(64, 9)), Ok(()), "lanes are company, which is compared");
    let error = profile.matches_partitions(&made(8, 2)).expect_err("a smaller partition").to_string();
    for part in ["profile.json", "`vad` is stale", "`vision` with 64 units", "`vision` with 8 units"] {
        assert!(error.contains(part), "`{part}` was due: {error}");
    }
    let error = profiled().matches_partitions(&made(64, 2)).expect_err("nothing is known").to_string();
    assert!(error.contains("partitions") && error.contains("aegis profile"), "{error}");
}

#[test]
fn a_task_that_moved_to_another_partition_has_a_stale_entry() {
    let mut profile = profiled();
    assert!(prepared(&good(), &profile, &[1, 2]).is_ok());
    profile.company[1].partition = "vision".into();
    let error = prepared(&good(), &profile, &[1, 2]).expect_err("it was elsewhere").to_string();
    for part in ["`vad` is stale", "the partition vision", "the fleet has audio"] {
        assert!(error.contains(part), "`{part}` was due: {error}");
    }
}

#[test]
fn enemies_speak_for_as_many_lanes_as_they_were_on() {
    let fleet = enlarged();
    let mut profile = with_levels(profiled(), 1_000, 1_500);
    profile.flushed = true;
    assert_eq!(gaps(&prepared(&fleet, &profile, &[1, 2, 2]).expect("legal")), Vec::<String>::new());
    profile.company.remove(0);
    let found = prepared(&fleet, &profile, &[1, 2, 2]).expect("legal");
    assert_eq!(gaps(&found), ["task0: tracker", "task1: tracker"]);
}

#[test]
fn a_new_lane_mate_is_a_gap_unless_caches_were_flushed() {
    let fleet = enlarged();
    let mut profile = with_levels(profiled(), 1_000, 1_500);
    let of = |profile: &Profile| {
        let found = prepared(&fleet, profile, &[1, 2, 2]).expect("legal");
        let Basis::Measured { level, .. } = &found.set.tasks()[1].segments[0].basis else {
            panic!("measured")
        };
        (gaps(&found), level.clone())
    };
    let (missing, level) = of(&profile);
    assert_eq!(missing, ["task1: tracker"], "the first task has the enemy level for it");
    assert!(level.ends_with("not beside tracker"), "{level}");
    profile.flushed = true;
    let (missing, level) = of(&profile);
    assert!(missing.is_empty() && level.starts_with("enemy level"), "{missing:?} {level}");
    // A mate that ran between the samples and is gone leaves the caches to the task.
    let mut mates = profiled();
    mates.company[1].tasks.push("tracker".into());
    assert_eq!(gaps(&prepared(&good(), &mates, &[1, 2]).expect("legal")), Vec::<String>::new());
}

#[test]
fn an_enemy_that_is_weaker_than_the_fleet_lowers_no_budget() {
    let fleet = enlarged();
    let of = |fleet_mark, enemy_mark| {
        let mut profile = with_levels(profiled(), 1_000, 1_500);
        profile.tasks[1] = with_levels(profiled(), fleet_mark, enemy_mark).tasks.remove(1);
        profile.flushed = true;
        let found = prepared(&fleet, &profile, &[1, 2, 2]).expect("legal");
        assert_eq!(found.gaps, []);
        found.set.tasks()[1].segments[0].bound
    };
    // The detector's own budget is 30 ms.
    assert_eq!(of(25_000, 20_000), Nanos::from_micros(30_000));
    assert_eq!(of(25_000, 40_000), Nanos::from_micros(48_000));
}

#[test]
fn a_task_whose_turn_nobody_measured_is_refused_where_lanes_wait_for_it() {
    let fleet = good();
    let mut calibration = calibration();
    calibration.turn = Some(Nanos::from_micros(5));
    let of = |calibration: &Calibration, profile: &Profile| {
        prepare(&fleet, Some(profile), calibration, &fleet.first_lanes(), &facts(&fleet)).map(|_| ())
    };
    let error = of(&calibration, &profiled()).expect_err("a turn of zero").to_string();
    for part in ["good.toml:", "`vad`.model", "turn", "aegis profile"] {
        assert!(error.contains(part), "`{part}` was due: {error}");
    }
    let mut measured = profiled();
    measured.tasks.iter_mut().for_each(|task| task.turn = Nanos::from_micros(4));
    assert_eq!(of(&calibration, &measured), Ok(()));
}

#[test]
fn a_longer_turn_is_waited_for_at_the_own_lane_too() {
    let fleet = good();
    let overheads = Overheads {
        handoff: Nanos::from_micros(3),
        launch_lock: Nanos::from_micros(2),
        notify: Nanos::from_micros(9),
        ..Overheads::default()
    };
    let mut calibration = Calibration::new(Path::new("platform.json"), overheads);
    calibration.turn = Some(Nanos::from_micros(5));
    let charged = |turn| {
        let found = calibration.platform_with(fleet.partition_models(), Nanos::from_micros(turn));
        let Overheads { handoff, launch_lock, notify, .. } = found.expect("legal").overheads;
        [handoff, launch_lock, notify].map(|span| span.get() / 1_000)
    };
    assert_eq!(charged(5), [3, 2, 9]);
    // Three lanes: 40 us more for the own ending, for each of two others, and for all until a client hears.
    assert_eq!(charged(45), [43, 42, 129]);
}

#[test]
fn a_launch_is_charged_where_a_budget_does_not_hold_it() {
    let fleet = good();
    let (handoff, launch_lock) = (Nanos::from_micros(3), Nanos::from_micros(2));
    let overheads = |wakeup| Overheads { handoff, launch_lock, wakeup, ..Overheads::default() };
    let charged = |profile: &Profile, wakeup| {
        let calibration = Calibration::new(Path::new("platform.json"), overheads(wakeup));
        let found = prepare(&fleet, Some(profile), &calibration, &fleet.first_lanes(), &facts(&fleet));
        let Overheads { handoff, launch_lock, .. } = found.expect("legal").set.platform().overheads;
        (handoff, launch_lock)
    };
    let from_post = profiled().counted(true);
    assert_eq!(charged(&profiled(), Nanos::ZERO), (handoff, launch_lock));
    assert_eq!(charged(&from_post, Nanos::ZERO), (Nanos::ZERO, Nanos::ZERO));
    // A launcher that was awake in the campaign may have to be woken in a run.
    let woken = Nanos::from_micros(50);
    assert_eq!(charged(&from_post, woken), (woken, Nanos::ZERO));
    // The platform charges all tasks alike, and the declared budget of a candidate holds no launch.
    let fleet = enlarged();
    let calibration = Calibration::new(Path::new("platform.json"), overheads(Nanos::ZERO));
    let found = prepare(&fleet, Some(&from_post), &calibration, &fleet.first_lanes(), &facts(&fleet));
    assert_eq!(found.expect("legal").set.platform().overheads.launch_lock, launch_lock);
}

#[test]
fn measurements_hold_for_the_way_to_wait_that_they_were_made_in() {
    let mut calibration = calibration();
    let profile = |wait| profiled().in_place(&[], wait, false);
    let refused = |found: Result<(), ConfigError>, parts: &[&str]| {
        let error = found.expect_err("another way to wait").to_string();
        for part in parts {
            assert!(error.contains(part), "`{part}` was due: {error}");
        }
    };
    refused(calibration.matches_wait(WaitMode::Spin), &["platform.json: wait", "missing", "aegis calibrate"]);
    refused(profiled().matches_wait(WaitMode::Spin), &["profile.json: wait", "missing", "aegis profile"]);
    calibration.wait = Some(WaitMode::Spin);
    let text = serde_json::to_string(&calibration).expect("it is JSON");
    let calibration = Calibration::parse(Path::new("platform.json"), &text).expect("it is whole");
    assert_eq!(calibration.matches_wait(WaitMode::Spin), Ok(()));
    refused(calibration.matches_wait(WaitMode::Blocking), &["wait = \"spin\"", "legal: \"blocking\""]);
    assert_eq!(profile(WaitMode::Hybrid).matches_wait(WaitMode::Hybrid), Ok(()));
    refused(profile(WaitMode::Hybrid).matches_wait(WaitMode::Spin), &["wait = \"hybrid\"", "\"spin\""]);
}

#[test]
fn stalls_that_are_in_no_budget_are_watched_when_the_fleet_is_served() {
    let us = Nanos::from_micros;
    let calibration = |stall| {
        let overheads = Overheads { stall, ..Overheads::default() };
        Calibration::new(Path::new("platform.json"), overheads)
    };
    let fleet = good();
    let lanes = vec![LaneId::new(0); fleet.tasks().len()];
    let found = |profile: Profile, stall| {
        prepare(&fleet, Some(&profile), &calibration(stall), &lanes, &facts(&fleet))
    };
    let stall_of = |profile: Profile, stall| match found(profile, stall) {
        Err(error) => Some(error.to_string()).filter(|text| text.contains("stall")),
        Ok(_) => None,
    };
    let without = || profiled().without_stalls(Some(us(120)));
    assert_eq!(stall_of(profiled(), us(5_000)), None, "all stalls are in its budgets");
    assert_eq!(stall_of(without(), us(120)), None);
    assert_eq!(stall_of(without(), us(90)), None, "more is watched than was left out");
    let refusal = stall_of(without(), us(121)).expect("a stall of 121 us would be nobody's");
    for part in ["profile.json: stall", "120us", "legal: 121us", "aegis profile"] {
        assert!(refusal.contains(part), "{refusal}");
    }
}
