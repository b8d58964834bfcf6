//! `aegis admit --assign`: lanes that are found, tasks that are left out, and the fleet that is written.

use aegis_types::Nanos;
use aegisrt::config::profile::Level;
use aegisrt::config::{Fleet, LaneChoice};
use serde_json::{Value, json};

use crate::bench::{self, Folder};
use crate::elsewhere::{self, Row, with};

/// Lane 0 cannot hold both long tasks with the short ones: two lanes can hold all four.
const PAIRS: [Row<'static>; 4] = [
    ("fast", 0, 10, 2_000, ""),
    ("brisk", 0, 12, 2_000, ""),
    ("slow", 0, 100, 30_000, "criticality = \"high\""),
    ("slower", 0, 120, 40_000, ""),
];
/// More work than two lanes have time.
const CROWD: [Row<'static>; 5] = [
    ("one", 0, 10, 6_000, "criticality = \"high\""),
    ("two", 0, 10, 6_000, "criticality = \"high\""),
    ("three", 0, 10, 3_000, ""),
    ("four", 0, 10, 3_000, "criticality = \"low\""),
    ("five", 0, 10, 3_000, "criticality = \"low\""),
];

/// The fleet with every lane open, or all on lane 0; budgets hold in any company where `enemies` were there.
fn folder(rows: &[Row<'_>], open: bool, more: &str) -> Folder {
    let folder = Folder::new();
    elsewhere::write(&folder, rows, more);
    elsewhere::profile(&folder, rows, |profile| {
        for segment in profile.tasks.iter_mut().flat_map(|task| &mut task.segments) {
            segment.levels = [Level::Fleet, Level::Enemy].map(|level| level_of(level, segment)).to_vec();
        }
        profile.level = Level::Enemy;
        profile.flushed = true;
    });
    if open {
        let text = std::fs::read_to_string(folder.path("fleet.toml")).expect("it was written");
        folder.write("fleet.toml", text.replace("lane = 0\n", "").replace("lane = 1\n", ""));
    }
    folder
}

fn level_of(
    level: Level,
    segment: &aegisrt::config::SegmentProfile,
) -> aegisrt::config::profile::LevelBudget {
    aegisrt::config::profile::LevelBudget {
        level,
        budget: segment.budget,
        high_water: segment.high_water,
        strata: 1,
        samples: segment.samples,
        exceedance: segment.exceedance,
    }
}

fn asked(folder: &Folder, more: &[&str]) -> (i32, Value) {
    let answer = folder.aegis(&with("admit", &[&["--format", "json", "--assign"], more].concat()));
    (answer.code, answer.json())
}

fn names(list: &Value) -> Vec<String> {
    let name = |entry: &Value| entry["task"].as_str().expect("a name").to_owned();
    list.as_array().expect("a list").iter().map(name).collect()
}

#[test]
fn lanes_are_found_written_and_admitted_as_they_are() {
    let folder = folder(&PAIRS, true, "# a remark");
    let answer = folder.aegis(&with("admit", &["--assign", "--write", "placed.toml"]));
    answer.says(
        0,
        &["Lanes that were found:", "ADMITTED", "wrote placed.toml, without the comments of fleet.toml"],
    );
    let fleet = Fleet::read(&folder.path("placed.toml")).expect("it is a fleet");
    let lanes: Vec<LaneChoice> = fleet.tasks().iter().map(|task| task.lane).collect();
    let (_, found) = asked(&folder, &[]);
    for (task, lane) in found["assign"]["lanes"].as_array().unwrap().iter().zip(&lanes) {
        assert_eq!(LaneChoice::Fixed(task["lane"].as_u64().unwrap() as u16), *lane);
    }
    assert!(
        lanes[0] != lanes[2] && lanes[0] != lanes[3],
        "who is urgent does not wait for who is long: {lanes:?}"
    );
    // The written fleet is the one that was certified: the same bounds, and nothing left to choose.
    let args = [
        "admit",
        "placed.toml",
        "--platform",
        "gpu.json",
        "--profile",
        "gpu-profile.json",
        "--format",
        "json",
    ];
    let again = folder.aegis(&args).json();
    assert_eq!((&again["tasks"], &again["admitted"]), (&found["tasks"], &json!(true)));
}

#[test]
fn lanes_that_the_file_names_move_only_when_asked() {
    let folder = folder(&PAIRS, false, "");
    let (code, kept) = asked(&folder, &["open"]);
    assert_eq!((code, &kept["admitted"]), (3, &json!(false)), "{kept}");
    let (code, moved) = asked(&folder, &["all"]);
    assert_eq!(
        (code, &moved["assign"]["left_out"], &moved["admitted"]),
        (0, &json!([]), &json!(true)),
        "{moved}"
    );
}

#[test]
fn the_least_critical_are_left_out_with_reasons_and_their_chains() {
    let chain = "[[chain]]\nname = \"loop\"\ntasks = [\"one\", \"five\"]\n[[chain]]\nname = \"kept\"\ntasks = [\"two\"]\n";
    let folder = folder(&CROWD, true, chain);
    let (code, json) = asked(&folder, &["--write", "part.toml"]);
    let found = &json["assign"];
    assert_eq!((code, &json["admitted"]), (3, &json!(false)), "a part is not the fleet");
    let left = names(&found["left_out"]);
    assert_eq!(names(&json["tasks"]).len() + left.len(), CROWD.len());
    assert!(!left.contains(&"one".into()) && !left.contains(&"two".into()), "{left:?}");
    assert!(left.iter().any(|name| name == "four" || name == "five"), "{left:?}");
    let levels: Vec<&str> = found["left_out"]
        .as_array()
        .unwrap()
        .iter()
        .map(|left| left["criticality"].as_str().unwrap())
        .collect();
    let rank = |level: &&str| ["low", "medium", "high"].iter().position(|known| known == level);
    assert!(levels.iter().map(rank).is_sorted(), "{levels:?}");
    for left in found["left_out"].as_array().unwrap() {
        let reasons = left["reasons"].as_array().unwrap();
        assert_eq!(reasons.len(), 2, "one for each lane");
        for reason in reasons {
            assert!(!reason["reason"].as_str().unwrap().contains("would fit"), "{reason}");
        }
    }
    // Every number of the part is a certified one.
    assert!(json["tasks"].as_array().unwrap().iter().all(|task| task["wcrt_ns"].is_u64()), "{json}");
    let broken = left.contains(&"five".into());
    assert_eq!(found["chains_left_out"], if broken { json!(["loop"]) } else { json!([]) });
    let text = folder.aegis(&with("admit", &["--assign", "--write", "part.toml"]));
    text.says(3, &["REFUSED, the least critical first", "Without the tasks that were left out:", "ADMITTED"]);
    let part = Fleet::read(&folder.path("part.toml")).expect("what is admitted is written");
    assert_eq!(part.tasks().len(), CROWD.len() - left.len());
}

#[test]
fn what_is_found_does_not_depend_on_the_day() {
    let folder = folder(&CROWD, true, "");
    assert_eq!(asked(&folder, &["--seed", "7"]), asked(&folder, &["--seed", "7"]));
    let (_, idle) = asked(&folder, &["--steps", "0"]);
    let lanes = idle["assign"]["lanes"].as_array().unwrap();
    assert!(lanes.iter().all(|task| task["lane"].is_null()), "without steps nothing is tried: {idle}");
}

#[test]
fn the_best_way_to_divide_the_device_comes_first_and_holds() {
    let folder = folder(&PAIRS, true, "");
    let (code, json) = asked(&folder, &["sizes", "--write", "sized.toml"]);
    assert_eq!(code, 0, "{json}");
    let ways = json["assign"]["sizes"]["ways"].as_array().unwrap();
    let counts: Vec<u64> = ways.iter().map(|way| way["partitions"][0]["lanes"].as_u64().unwrap()).collect();
    assert_eq!(counts, [2, 1], "one lane cannot hold all four");
    assert!(ways[0]["load_ppm"].as_u64() > ways[1]["load_ppm"].as_u64(), "{json}");
    let sized = Fleet::read(&folder.path("sized.toml")).expect("it is a fleet");
    assert_eq!(sized.partitions()[0].lanes, 2);
}

#[test]
fn sizes_come_from_profiles() {
    let folder = folder(&PAIRS, true, "");
    let text = std::fs::read_to_string(folder.path("gpu-profile.json")).unwrap();
    // On a larger partition everything takes half as long.
    let mut wide: Value = serde_json::from_str(&text).unwrap();
    wide["partitions"][0]["units"] = json!(128);
    folder.write("wide.json", wide.to_string());
    wide["partitions"][0]["units"] = json!(200);
    folder.write("wider.json", wide.to_string());
    let (code, json) = asked(&folder, &["sizes", "--offer", "wide.json", "--offer", "wider.json"]);
    assert_eq!(code, 0, "{json}");
    let sizes = &json["assign"]["sizes"];
    let units = |way: &Value| way["partitions"][0]["units"].as_u64().unwrap();
    let units: Vec<u64> = sizes["ways"].as_array().unwrap().iter().map(units).collect();
    assert_eq!(units.iter().filter(|units| **units == 128).count(), 2, "{units:?}");
    assert!(sizes["not_looked_at"][0].as_str().unwrap().contains("wider.json"), "{sizes}");
}

#[test]
fn options_that_belong_together_are_asked_for_together() {
    let folder = folder(&PAIRS, true, "");
    folder.aegis(&with("admit", &["--seed", "3"])).refuses(2, &["--assign"]);
    folder.aegis(&with("admit", &["--write", "a.toml"])).refuses(2, &["--fit", "--assign"]);
    folder.aegis(&with("admit", &["--assign", "--what-if"])).refuses(2, &["--what-if"]);
    folder
        .aegis(&with("admit", &["--assign", "all", "--offer", "gpu-profile.json"]))
        .refuses(2, &["--offer"]);
    folder.aegis(&with("admit", &["--assign", "--fit", "1ms"])).refuses(2, &["--fit"]);
    folder.aegis(&with("admit", &["--assign", "--write", "gpu.json"])).refuses(2, &["would replace"]);
}

#[test]
fn a_shared_queue_is_told_and_marked() {
    let folder = folder(&PAIRS, true, "");
    let answer = folder.aegis(&with("admit", &["--assign"]));
    answer.says(
        0,
        &["analysis only, no runtime for it", "a queue for each lane: certified", "one queue for 2 lanes: "],
    );
    let (_, json) = asked(&folder, &[]);
    let shared = &json["shared_queue"][0];
    assert_eq!((&shared["runtime"], &shared["queue_per_lane"]["certified"]), (&json!(false), &json!(true)));
    // The factor is a verdict: with budgets times it the lanes fit, and no lane has less slack than none.
    assert!(shared["queue_per_lane"]["scale_ppm"].as_u64() > Some(1_000_000), "{shared}");
}

/// Three tasks, `wide` profiled on one lane with `left`, `right` on the other; elsewhere budgets are a quarter larger.
fn profiled(wide: u64) -> Folder {
    let rows = [("left", 0, 10, 4_000, ""), ("wide", 0, 10, wide, ""), ("right", 1, 10, 4_000, "")];
    let folder = folder(&rows, true, "");
    elsewhere::profile(&folder, &rows, |profile| {
        for segment in profile.tasks.iter_mut().flat_map(|task| &mut task.segments) {
            segment.levels = [Level::Fleet, Level::Enemy].map(|level| level_of(level, segment)).to_vec();
            segment.levels[1].budget = Nanos::new(segment.budget.get() * 5 / 4);
        }
        profile.flushed = true;
    });
    folder
}

#[test]
fn tasks_stay_where_they_were_profiled_if_all_fit_there() {
    let (code, json) = asked(&profiled(5_000), &[]);
    let lanes: Vec<u64> = json["assign"]["lanes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| task["lane"].as_u64().unwrap())
        .collect();
    assert_eq!((code, lanes), (0, vec![0, 0, 1]), "{json}");
}

/// `left` and `right` fit one lane beside `wide` with the budgets that were searched with first, and not with those
/// that hold where they never met.
#[test]
fn budgets_are_those_of_the_lanes_that_are_found() {
    let (code, json) = asked(&profiled(7_000), &[]);
    assert_eq!((code, names(&json["assign"]["left_out"]).len()), (3, 1), "{json}");
    let tasks = json["tasks"].as_array().unwrap();
    assert_eq!(tasks.len(), 2);
    for task in tasks {
        assert!(
            task["wcrt_ns"].as_u64() <= task["deadline_ns"].as_u64(),
            "what has a lane is certified: {json}"
        );
    }
}

/// The library of the models is loaded once by a process, and the fleet is opened twice.
#[test]
fn lanes_are_found_for_models_on_the_host() {
    let Some(cache) = bench::cache() else { return };
    let folder = bench::ready(&cache, &bench::task("only", &[]));
    let arguments = ["admit", "fleet.toml", "--assign", "sizes", "--write", "placed.toml"];
    folder.aegis(&arguments).says(0, &["all: 1 lane", "ADMITTED", "wrote placed.toml"]);
    folder.aegis(&["admit", "placed.toml"]).says(0, &["ADMITTED"]);
}
