//! Profile and platform files, and what becomes of them beside a fleet.

use std::collections::BTreeMap;
use std::path::Path;

use aegis_cuda::Units;
use aegis_sched::{Arrival, Basis, Overheads, charge};
use aegis_types::{Bytes, ContentHash, LaneId, Nanos, TaskId};
use aegisrt::config::profile::{Level, LevelBudget, Slowdown, SlowdownTable};
use aegisrt::config::{
    Calibration, CalibrationMethod, ConfigError, Exceedance, Facts, Fleet, LaneCompany, MemoryProfile,
    Profile, SegmentProfile, TaskProfile, prepare, shapes_hash,
};

use crate::{CANDIDATE, GOOD, fleet_path, good};

fn entry(task: &str, segments: &[(u64, u64)]) -> TaskProfile {
    let segment = |&(budget, high_water): &(u64, u64)| SegmentProfile {
        budget: Nanos::from_micros(budget),
        samples: 500,
        high_water: Nanos::from_micros(high_water),
        margin_ppm: 200_000,
        exceedance: Exceedance::of_clean_samples(500, 1),
        level: "fleet".into(),
        p50: Nanos::from_micros(high_water / 2),
        p99: Nanos::from_micros(high_water),
        levels: Vec::new(),
    };
    let shapes = good().task(task).map(|(_, task)| task.shapes.clone()).unwrap_or_default();
    TaskProfile {
        task: task.into(),
        model: ContentHash::of(task.as_bytes()),
        shapes: shapes_hash(&shapes),
        segments: segments.iter().map(segment).collect(),
        memory: MemoryProfile {
            persistent: Bytes::new(4096),
            exchange: Bytes::new(64),
            scratch: Bytes::new(512),
            outside: Bytes::ZERO,
        },
        alone: Nanos::from_micros(80),
        turn: Nanos::ZERO,
    }
}

fn profile(tasks: Vec<TaskProfile>) -> Profile {
    let company = vec![
        LaneCompany { partition: "audio".into(), tasks: Vec::new() },
        LaneCompany { partition: "audio".into(), tasks: vec!["vad".into()] },
        LaneCompany { partition: "vision".into(), tasks: vec!["detector".into()] },
    ];
    Profile::new(Path::new("profile.json"), "a machine".into(), "a day".into(), company, tasks)
}

fn both_measured() -> Vec<TaskProfile> {
    vec![entry("vad", &[(1_300, 1_000)]), entry("detector", &[(30_000, 25_000)])]
}

/// A profile of the good fleet.
pub(crate) fn profiled() -> Profile {
    profile(both_measured())
}

fn calibration() -> Calibration {
    let overheads =
        Overheads { decision: Nanos::new(700), wakeup: Nanos::from_micros(60), ..Default::default() };
    let mut calibration = Calibration::new(Path::new("platform.json"), overheads);
    calibration.decider_shares_cores = true;
    calibration
}

fn facts(fleet: &Fleet, segments: usize) -> Vec<Facts> {
    let fact =
        |name: &str| Facts { model: ContentHash::of(name.as_bytes()), declared: vec![Nanos::ZERO; segments] };
    fleet.tasks().iter().map(|task| fact(&task.name)).collect()
}

#[test]
fn measured_budgets_reach_the_scheduler() {
    let fleet = good();
    let profile = profile(both_measured());
    let facts = facts(&fleet, 1);
    let prepared = prepare(&fleet, Some(&profile), &calibration(), &fleet.first_lanes(), &facts).unwrap();
    let [vad, detector] = prepared.set.tasks() else { panic!("two tasks") };
    let measured = Basis::Measured { samples: 500, margin_ppm: 200_000, level: "fleet".into() };
    assert_eq!(vad.segments[0].bound, Nanos::from_millis(2), "the fleet's number is the contract");
    assert_eq!(
        detector.segments[0].bound,
        Nanos::from_micros(30_000),
        "the profile's where the fleet has none"
    );
    assert_eq!((&vad.segments[0].basis, &detector.segments[0].basis), (&measured, &measured));
    assert_eq!((vad.lane, detector.lane), (LaneId::new(1), LaneId::new(2)));
    assert_eq!((vad.retries, vad.priority, detector.arrival), (1, Some(3), Arrival::Sporadic));
    assert_eq!(prepared.requests[1].units, Units::These(vec![1, 2]));
    let platform = prepared.set.platform();
    assert_eq!((platform.lanes(), platform.decider_shares_cores), (3, true));
    assert_eq!(platform.overheads, calibration().overheads);
    assert!(prepared.gaps.is_empty());
}

#[test]
fn a_budget_below_the_evidence_names_both() {
    let fleet = good();
    let refused = |high_water| {
        let tasks = vec![entry("vad", &[(9_000, high_water)]), entry("detector", &[(30_000, 25_000)])];
        let facts = facts(&fleet, 1);
        prepare(&fleet, Some(&profile(tasks)), &calibration(), &fleet.first_lanes(), &facts).map(|_| ())
    };
    assert_eq!(refused(1_666), Ok(()), "1.666 ms and 20 % are 1.9992 ms, and 2 ms are granted");
    let error = refused(1_667).unwrap_err().to_string();
    let needed = Nanos::new(2_000_400).to_string();
    for part in ["good.toml:31:", "task[0] `vad`.budget.compute = 2ms", "profile.json", "legal", &needed] {
        assert!(error.contains(part), "`{part}` was due: {error}");
    }
}

#[test]
fn a_contract_is_shared_out_among_segments() {
    let fleet = good();
    let tasks = vec![entry("vad", &[(400, 300), (130, 100), (13, 10)]), entry("detector", &[(9, 1); 3])];
    let profile = profile(tasks);
    let of = |segments| {
        prepare(&fleet, Some(&profile), &calibration(), &fleet.first_lanes(), &facts(&fleet, segments))
    };
    let bounds: Vec<u64> = of(3).unwrap().set.tasks()[0].segments.iter().map(|s| s.bound.get()).collect();
    assert_eq!(bounds.iter().sum::<u64>(), 2_000_000, "{bounds:?}");
    for (bound, need) in bounds.iter().zip([360_000, 120_000, 12_000]) {
        assert!(*bound >= need, "{bounds:?}");
    }
    let error = of(1).unwrap_err().to_string();
    assert!(error.contains("3 segments") && error.contains("has 1"), "{error}");
}

#[test]
fn without_a_profile_budgets_are_declared() {
    let text = GOOD.replace("memory = \"64MiB\"", "memory = \"64MiB\", compute = \"30ms\"");
    let fleet = Fleet::parse(&fleet_path(), &text).unwrap();
    let prepared = prepare(&fleet, None, &calibration(), &fleet.first_lanes(), &facts(&fleet, 1)).unwrap();
    let budgets = prepared.set.tasks().iter().map(|task| (task.segments[0].bound, &task.segments[0].basis));
    let expected = [(Nanos::from_millis(2), &Basis::Declared), (Nanos::from_millis(30), &Basis::Declared)];
    assert_eq!(budgets.collect::<Vec<_>>(), expected);
    let check = |fleet: &Fleet, facts: &[Facts], parts: &[&str]| {
        let error =
            prepare(fleet, None, &calibration(), &fleet.first_lanes(), facts).unwrap_err().to_string();
        parts.iter().for_each(|part| assert!(error.contains(part), "`{part}` was due: {error}"));
    };
    let missing = ["good.toml:42:", "`detector`.budget.compute", "missing", "aegis profile"];
    check(&good(), &facts(&good(), 1), &missing);
    check(&fleet, &facts(&fleet, 2), &["`vad`.budget.compute", "2 segments", "aegis profile"]);
    let mut scripted = facts(&fleet, 1);
    scripted[0].declared = vec![Nanos::from_micros(700), Nanos::from_micros(300)];
    let prepared = prepare(&fleet, None, &calibration(), &fleet.first_lanes(), &scripted).unwrap();
    let bounds: Vec<Nanos> = prepared.set.tasks()[0].segments.iter().map(|segment| segment.bound).collect();
    assert_eq!(bounds, [Nanos::from_micros(1_400), Nanos::from_micros(600)]);
    scripted[0].declared = vec![Nanos::from_millis(3)];
    check(&fleet, &scripted, &["`vad`.budget.compute = 2ms", "the backend", "3ms"]);
}

#[test]
fn a_stale_entry_is_named() {
    let fleet = good();
    let refused = |tasks: Vec<TaskProfile>| {
        let facts = facts(&fleet, 1);
        let profile = profile(tasks);
        prepare(&fleet, Some(&profile), &calibration(), &fleet.first_lanes(), &facts).unwrap_err().to_string()
    };
    let mut changed = both_measured();
    changed[1].model = ContentHash::of(b"another model");
    let error = refused(changed);
    for part in ["profile.json", "`detector`", "the model", &ContentHash::of(b"another model").to_string()] {
        assert!(error.contains(part), "`{part}` was due: {error}");
    }
    let mut changed = both_measured();
    changed[0].shapes = shapes_hash(&BTreeMap::from([("input".into(), vec![1, 512])]));
    let error = refused(changed);
    assert!(error.contains("`vad`") && error.contains("the shapes"), "{error}");
}

#[test]
fn unknown_company_is_told() {
    let fleet = good().with_tasks(Path::new("task.toml"), CANDIDATE).unwrap();
    let profile = profile(both_measured());
    let facts = facts(&fleet, 1);
    let prepared = prepare(&fleet, Some(&profile), &calibration(), &fleet.first_lanes(), &facts).unwrap();
    let [gap, mate] = prepared.gaps.as_slice() else { panic!("two gaps: {:?}", prepared.gaps) };
    assert_eq!((mate.task, &mate.unmet), (TaskId::new(1), &gap.unmet), "the tracker is on its lane");
    assert_eq!((gap.task, gap.unmet.as_slice()), (TaskId::new(0), ["tracker".to_string()].as_slice()));
    let Basis::Measured { level, .. } = &prepared.set.tasks()[0].segments[0].basis else {
        panic!("measured")
    };
    assert_eq!(level, "fleet; not beside tracker");
    assert_eq!(prepared.set.tasks()[2].segments[0].basis, Basis::Declared);
}

#[test]
fn a_lane_outside_the_partition_is_refused() {
    let fleet = good();
    let profile = profile(both_measured());
    let check = |vad: u16, detector: u16, part: &str, legal: &str| {
        let lanes = [LaneId::new(vad), LaneId::new(detector)];
        let error = prepare(&fleet, Some(&profile), &calibration(), &lanes, &facts(&fleet, 1)).unwrap_err();
        let error = error.to_string();
        assert!(error.contains(part) && error.ends_with(&format!("legal: {legal}")), "{error}");
    };
    check(0, 2, "put on lane0", "lane1");
    check(1, 1, "`detector`.lane", "lane2 to lane2");
    check(1, 9, "put on lane9", "lane2 to lane2");
}

#[test]
fn an_assignment_is_covered_lane_by_lane() {
    let lane = |tasks: &[&str]| LaneCompany {
        partition: "p".into(),
        tasks: tasks.iter().map(|task| (*task).to_owned()).collect(),
    };
    let company = vec![lane(&["victim", "mate"]), lane(&["a", "b"]), lane(&["c"]), lane(&[])];
    let profile = Profile::new(Path::new("profile.json"), String::new(), String::new(), company, Vec::new());
    let unmet = |elsewhere: &[&[&str]]| {
        let lanes: Vec<Vec<&str>> = elsewhere.iter().map(|lane| lane.to_vec()).collect();
        profile.unmet("victim", &lanes).join(" ")
    };
    assert_eq!(unmet(&[&["a", "b"], &["c"], &[]]), "", "as it was");
    assert_eq!(unmet(&[&["c"], &[], &["b"]]), "", "fewer tasks, lanes by other numbers");
    assert_eq!(unmet(&[]), "", "alone");
    assert_eq!(unmet(&[&["a"], &["b"]]), "b", "these two never ran at once");
    assert_eq!(unmet(&[&["a", "c"]]), "a c", "never on one lane");
    assert_eq!(unmet(&[&["mate"]]), "mate", "a lane-mate never ran beside it");
    assert_eq!(unmet(&[&["a", "d"]]), "d", "never met");
}

#[test]
fn levels_are_read_back_and_checked() {
    let budget = |level, budget, high_water| LevelBudget {
        level,
        budget: Nanos::from_micros(budget),
        high_water: Nanos::from_micros(high_water),
        strata: 7,
        samples: 300,
        exceedance: Exceedance::of_clean_samples(300, 12),
    };
    let with = |enemy: u64| {
        let mut entry = entry("vad", &[(1_300, 1_000)]);
        entry.turn = Nanos::new(3_400);
        entry.segments[0].levels =
            vec![budget(Level::Fleet, 1_300, 1_000), budget(Level::Enemy, enemy, 2_000)];
        let row = Slowdown { task: "vad".into(), beside: Slowdown::ALL.into(), ppm: 2_500_000 };
        let profile = profile(vec![entry]).at(Level::Enemy, SlowdownTable { lanes: 3, rows: vec![row] });
        let text = serde_json::to_string(&profile).unwrap();
        Profile::parse(Path::new("profile.json"), &text)
    };
    let read = with(2_400).unwrap();
    let segment = &read.tasks[0].segments[0];
    assert_eq!(segment.at(Level::Enemy).map(|level| level.budget), Some(Nanos::from_micros(2_400)));
    assert_eq!((read.level, read.tasks[0].turn), (Level::Enemy, Nanos::new(3_400)));
    assert_eq!(read.slowdown.of("vad", Slowdown::ALL), Some(2_500_000));
    assert_eq!(read.slowdown.of("vad", "detector"), None);
    // 1 - (0.05 / 12)^(1 / 300) = 1.81029e-2
    let words = "enemy level, 7 strata of at least 300 samples, p <= 1.8103% with 95% confidence";
    assert_eq!(segment.at(Level::Enemy).map(LevelBudget::words).as_deref(), Some(words));
    let error = with(2_399).unwrap_err().to_string();
    assert!(error.contains("segments[0].levels.enemy = 2.399ms") && error.contains("legal"), "{error}");
}

#[test]
fn another_assignment_falls_back_to_the_enemy_level() {
    let fleet = good().with_tasks(Path::new("task.toml"), CANDIDATE).unwrap();
    let of = |levels: &[(Level, u64)]| {
        let mut tasks = both_measured();
        let budget = |&(level, high_water): &(Level, u64)| LevelBudget {
            level,
            budget: Nanos::from_micros(high_water * 6 / 5),
            high_water: Nanos::from_micros(high_water),
            strata: 2,
            samples: 40,
            exceedance: Exceedance::of_clean_samples(40, 3),
        };
        tasks[0].segments[0].levels = levels.iter().map(budget).collect();
        tasks[0].segments[0].level = "fleet level; a campaign".into();
        let facts = facts(&fleet, 1);
        let lanes = fleet.first_lanes();
        prepare(&fleet, Some(&profile(tasks)), &calibration(), &lanes, &facts).unwrap()
    };
    // The tracker was not there when the detector's lane was profiled beside the task `vad`.
    let prepared = of(&[(Level::Fleet, 1_000), (Level::Enemy, 1_500)]);
    let mates: Vec<TaskId> = prepared.gaps.iter().map(|gap| gap.task).collect();
    assert_eq!(mates, [TaskId::new(1)], "no level speaks for a new lane-mate");
    let Basis::Measured { samples: 40, level, .. } = &prepared.set.tasks()[0].segments[0].basis else {
        panic!("measured by 40 samples")
    };
    assert!(level.starts_with("enemy level, 2 strata") && level.ends_with("; a campaign"), "{level}");
    assert_eq!(of(&[(Level::Fleet, 1_000)]).gaps.len(), 2, "no enemy was met either");
}

#[test]
fn a_profile_of_an_earlier_version_has_no_levels() {
    let text = serde_json::to_string(&profile(both_measured())).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    for key in ["level", "slowdown"] {
        json.as_object_mut().unwrap().remove(key).unwrap();
    }
    let entry = json["tasks"][0].as_object_mut().unwrap();
    entry.remove("turn").unwrap();
    entry["segments"][0].as_object_mut().unwrap().remove("levels").unwrap();
    let read = Profile::parse(Path::new("profile.json"), &json.to_string()).unwrap();
    assert_eq!((read.level, read.tasks[0].turn), (Level::Fleet, Nanos::ZERO));
    assert_eq!(read.tasks[0].segments[0].at(Level::Fleet), None);
}

#[test]
fn a_profile_survives_a_round_trip_and_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("profile.json");
    let profile = profile(vec![entry("vad", &[(1_300, 1_000)])]);
    profile.save(&path).unwrap();
    let loaded = Profile::load(&path).unwrap();
    assert_eq!((&loaded.tasks, &loaded.company, loaded.path()), (&profile.tasks, &profile.company, &*path));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no piece is left behind");
    let text = std::fs::read_to_string(&path).unwrap();
    let check = |from: &str, to: &str, parts: &[&str]| {
        assert!(text.contains(from), "`{from}` stands in {text}");
        let error = Profile::parse(&path, &text.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(error.starts_with(&path.display().to_string()), "{error}");
        for part in parts.iter().chain(&["legal"]) {
            assert!(error.contains(part), "`{part}` was due: {error}");
        }
    };
    let budget = "\"budget\": \"1.3ms\"";
    check(budget, "\"budget\": \"1199999ns\"", &["tasks[0] `vad`.segments[0].budget", "at least 1.2ms"]);
    let line = text.lines().position(|line| line.contains(budget)).unwrap() + 1;
    check(budget, "\"budget\": 7", &[&format!("json:{line}:"), "\"budget\": 7", "aegis profile"]);
    check("\"samples\": 500", "\"samples\": 0", &["segments[0].samples = 0"]);
    check("\"version\": 1", "\"version\": 9", &["version = 9"]);
    check("200000", "18446744073709551615", &["margin_ppm"]);
    check("\"alone\"", "\"lonely\"", &["lonely", "aegis profile"]);
    let cut = &text[..text.len() / 2];
    assert!(matches!(Profile::parse(&path, cut), Err(ConfigError::Syntax { .. })));
    let mut twice = profile.clone();
    twice.tasks.push(entry("vad", &[(1_300, 1_000)]));
    let error = twice.save(&path).unwrap_err().to_string();
    assert!(error.contains("named twice"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "a refused profile replaces nothing");
}

#[test]
fn a_calibration_survives_a_round_trip_and_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("platform.json");
    let mut calibration = calibration();
    calibration.machine = "board".into();
    calibration.kernel = "6.1".into();
    calibration.methods.push(CalibrationMethod {
        overhead: "decision".into(),
        method: "decisions of an engine at full load".into(),
        samples: 10_000,
        p50: Nanos::new(300),
        p99: Nanos::new(500),
    });
    calibration.save(&path).unwrap();
    let loaded = Calibration::load(&path).unwrap();
    assert_eq!((loaded.overheads, &loaded.methods), (calibration.overheads, &calibration.methods));
    assert_eq!(loaded.matches("board", "6.1"), Ok(()));
    let error = loaded.matches("board", "6.2").unwrap_err().to_string();
    assert!(error.contains("kernel = \"6.1\"") && error.contains("legal: \"6.2\""), "{error}");
    let text = std::fs::read_to_string(&path).unwrap();
    let parsed = |from: &str, to: &str| {
        Calibration::parse(&path, &text.replacen(from, to, 1)).unwrap_err().to_string()
    };
    let error = parsed("\"decision\",", "\"decisoin\",");
    assert!(
        error.contains("methods[0].overhead = \"decisoin\"") && error.contains("poll, release"),
        "{error}"
    );
    let error = parsed("\"poll\"", "\"pol\"");
    assert!(error.contains("unknown field `pol`") && error.contains("platform.json:"), "{error}");
}

#[test]
fn clean_samples_bound_the_exceedance() {
    let check = |samples, strata, ppm| {
        assert_eq!(Exceedance::of_clean_samples(samples, strata).probability_ppm, ppm, "{samples} {strata}");
    };
    check(0, 1, 1_000_000);
    // 1 - (0.05 / 50)^(1 / 3000) = 2.2999e-3
    check(3_000, 50, 2_300);
    check(1_000_000, 1, 3);
}

#[test]
fn hashes_of_shapes_tell_them_apart() {
    let hash = |shapes: &[(&str, &[u64])]| {
        shapes_hash(&shapes.iter().map(|(name, axes)| (name.to_string(), axes.to_vec())).collect())
    };
    let one = hash(&[("a", &[1, 2])]);
    assert_eq!(one, hash(&[("a", &[1, 2])]));
    for other in
        [hash(&[("a", &[2, 1])]), hash(&[("a", &[1]), ("b", &[2])]), hash(&[("b", &[1, 2])]), hash(&[])]
    {
        assert_ne!(one, other);
    }
}

#[test]
fn files_that_were_made_optimistic_by_hand_contradict_themselves() {
    let marks = |p50, p99, high_water| {
        let mut entry = entry("vad", &[(1_300, high_water)]);
        entry.segments[0].p50 = Nanos::from_micros(p50);
        entry.segments[0].p99 = Nanos::from_micros(p99);
        let text = serde_json::to_string(&profile(vec![entry])).unwrap();
        Profile::parse(Path::new("profile.json"), &text).map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(marks(500, 1_000, 1_000), Ok(()));
    let lowered = marks(500, 1_000, 900).unwrap_err();
    assert!(lowered.contains("segments[0].p99 = 1ms") && lowered.contains("at most 900us"), "{lowered}");
    let crossed = marks(600, 500, 1_000).unwrap_err();
    assert!(crossed.contains("segments[0].p50 = 600us") && crossed.contains("at most 500us"), "{crossed}");

    let charged = |decision| {
        let mut calibration = calibration();
        calibration.overheads.decision = Nanos::new(decision);
        calibration.methods.push(CalibrationMethod {
            overhead: "decision".into(),
            method: "in a loop".into(),
            samples: 1_000,
            p50: Nanos::new(200),
            p99: Nanos::new(500),
        });
        let text = serde_json::to_string(&calibration).unwrap();
        Calibration::parse(Path::new("platform.json"), &text).map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(charged(500), Ok(()));
    let lowered = charged(499).unwrap_err();
    assert!(
        lowered.contains("overheads.decision = 499ns") && lowered.contains("at least 500ns"),
        "{lowered}"
    );
}

/// What a segment may wait for excluded ones is part of its budget, with the overheads of what it waits for.
#[test]
fn exclusions_are_charged_once() {
    let fixed = GOOD.replace("partition = \"vision\"", "partition = \"vision\"\nlane = 0");
    let excluding = fixed.replace("priority = 3", "priority = 3\nexclude = [\"detector\"]");
    let set = |text: &str| {
        let fleet = Fleet::parse(&fleet_path(), text).unwrap();
        let (profile, facts) = (profile(both_measured()), facts(&fleet, 1));
        prepare(&fleet, Some(&profile), &calibration(), &fleet.first_lanes(), &facts).unwrap().set
    };
    let (plain, beside) = (set(&fixed), set(&excluding));
    assert_eq!(beside.tasks()[0].excludes, [TaskId::new(1)]);
    let charged = charge(&plain).unwrap();
    for (task, other) in [(0, 1), (1, 0)] {
        let [before, after] = [&plain, &beside].map(|set| set.tasks()[task].segments[0].bound);
        assert_eq!(after.checked_sub(before), Some(charged[other].segments[0]));
    }
}
