//! Lanes with carriers of their own: read, written, refused; and measurements that were made with other carriers.

use std::collections::BTreeMap;
use std::path::Path;

use aegis_sched::Overheads;
use aegis_types::{ContentHash, LaneId, Nanos};
use aegisrt::config::{
    CalibratedDevice, Calibration, ConfigError, Facts, Fleet, LaunchMode, Profile, prepare, shapes_hash,
};

use crate::fleet_path;
use crate::measured::profiled;

/// Two partitions of two and three lanes, with the tasks of the good fleet on the first lanes of both; `own` is what is
/// written of carriers, by partition.
fn text(own: [&str; 2]) -> String {
    let partition = |name: &str, lanes: u16, own: &str| {
        format!("[[partition]]\nname = \"{name}\"\nsms = 8\nlanes = {lanes}\n{own}\n")
    };
    let task = |name: &str, partition: &str| {
        format!(
            "[[task]]\nname = \"{name}\"\nmodel = \"{name}\"\nbackend = \"kernel\"\nperiod = \"40ms\"\n\
             partition = \"{partition}\"\nlane = 0\nbudget = {{ memory = \"1MiB\" }}\n"
        )
    };
    format!(
        "[device]\nkind = \"cuda:0\"\n{}{}[policy]\nkind = \"edf\"\n{}{}",
        partition("audio", 2, own[0]),
        partition("vision", 3, own[1]),
        task("vad", "audio"),
        task("detector", "vision")
    )
}

fn parse(text: &str) -> Result<Fleet, ConfigError> {
    Fleet::parse(&fleet_path(), text)
}

fn fleet(own: [&str; 2]) -> Fleet {
    parse(&text(own)).unwrap_or_else(|error| panic!("{error}\n{}", text(own)))
}

fn lanes(numbers: &[u16]) -> Vec<LaneId> {
    numbers.iter().copied().map(LaneId::new).collect()
}

#[test]
fn carriers_are_read_and_written() {
    let mixed = fleet(["own_carriers = [1]", "own_carriers = [2, 0]"]);
    assert_eq!(mixed.own_carriers(), lanes(&[1, 2, 4]));
    assert_eq!(mixed.partitions()[1].own_carriers, [0, 2], "in order, however they are written");
    let again = parse(&mixed.to_toml()).expect("written as it is read");
    assert_eq!(again.partitions(), mixed.partitions());
    let shared = fleet(["", "own_carriers = []"]);
    assert_eq!(shared.own_carriers(), []);
    assert!(!shared.to_toml().contains("own_carriers"), "what says nothing is not written");
}

#[test]
fn carriers_that_cannot_be_are_refused() {
    let refused = |text: &str, at: usize, parts: &[&str]| {
        let error = parse(text).expect_err("it is not legal").to_string();
        let start = format!("{}:{at}:", fleet_path().display());
        assert!(error.starts_with(&start), "line {at} was due: {error}");
        for part in parts.iter().chain(&["legal"]) {
            assert!(error.contains(part), "`{part}` was due: {error}");
        }
    };
    let bad = |own: &str, parts: &[&str]| refused(&text([own, ""]), 7, parts);
    bad("own_carriers = [2]", &["partition[0] `audio`.own_carriers[0] = 2", "0 to 1"]);
    bad("own_carriers = [0, -1]", &["own_carriers[1] = -1", "0 to 1"]);
    bad("own_carriers = [1, 1]", &["own_carriers[1] = 1", "named twice", "each lane once"]);
    bad("own_carriers = 1", &["own_carriers = 1", "an array of numbers of lanes"]);
    bad("own_carriers = [\"a\"]", &["own_carriers"]);
    let good = text(["own_carriers = [0]", ""]);
    let open = good.replacen("lane = 0\n", "", 1);
    refused(&open, 15, &["task[0] `vad`.lane", "carriers of their own", "0 to 1"]);
    // Where all lanes of a partition have carriers, which one a task is on is a choice like any other.
    assert!(parse(&open.replace("own_carriers = [0]", "own_carriers = [0, 1]")).is_ok());
    let host = good.replace("cuda:0", "host").replace("\"kernel\"", "\"onnx\"");
    let host = host.replacen("sms = 8", "cores = [0, 1]", 1).replacen("sms = 8", "cores = [2, 3, 4]", 1);
    refused(&host, 7, &["own_carriers = [0]", "every lane of the host device has a carrier of its own"]);
    assert!(parse(&host.replace("own_carriers = [0]", "own_carriers = []")).is_ok());
}

/// The fleet with carriers of its own for nobody, launched by whom `launch` says.
fn launched(launch: &str) -> String {
    text(["", ""]).replacen("kind = \"cuda:0\"", &format!("kind = \"cuda:0\"\nlaunch = {launch}"), 1)
}

#[test]
fn who_launches_is_read_written_and_refused() {
    let by = |launch: &str| parse(&launched(launch)).map(|fleet| fleet.launch());
    assert_eq!(by("\"driver\""), Ok(LaunchMode::Driver));
    assert_eq!(by("\"carrier\""), Ok(LaunchMode::Carrier));
    assert_eq!(fleet(["", ""]).launch(), LaunchMode::Carrier);
    assert!(!fleet(["", ""]).to_toml().contains("launch"), "what says nothing is not written");
    let again = parse(&launched("\"driver\"")).expect("it is legal").to_toml();
    assert_eq!(parse(&again).map(|fleet| fleet.launch()), Ok(LaunchMode::Driver), "{again}");
    let refused = |text: &str, parts: &[&str]| {
        let error = parse(text).expect_err("it is not legal").to_string();
        for part in parts.iter().chain(&["legal"]) {
            assert!(error.contains(part), "`{part}` was due: {error}");
        }
    };
    refused(
        &launched("\"nobody\""),
        &["toml:3:", "device.launch = \"nobody\"", "\"carrier\", or \"driver\""],
    );
    refused(&launched("1"), &["toml:3:", "device.launch", "\"driver\""]);
    let own = launched("\"driver\"").replacen("lanes = 2\n", "lanes = 2\nown_carriers = [1]\n", 1);
    refused(&own, &["toml:8:", "own_carriers = [1]", "the driver launches on every lane"]);
    let host = launched("\"driver\"").replace("cuda:0", "host").replace("sms = 8", "cores = [0]");
    refused(&host, &["toml:3:", "device.launch = \"driver\"", "runs where it is launched"]);
}

/// What the driver does of a launch and of its end is in its own steps, and so is what visits of the fleet take longer.
#[test]
fn longer_visits_of_a_driver_that_launches_lengthen_its_steps() {
    let micros = Nanos::from_micros;
    let mut calibration = calibration(&[]);
    calibration.turn = Some(micros(10));
    calibration.overheads.wakeup = micros(30);
    calibration.device.as_mut().expect("it has one").launch = LaunchMode::Driver;
    let partitions = || fleet(["", ""]).partition_models();
    let with = |turn| calibration.platform_with(partitions(), micros(turn)).expect("legal").overheads;
    assert_eq!(with(4), calibration.overheads, "shorter visits save nothing");
    let raised = with(17);
    let longer = [raised.completion, raised.dispatch, raised.notify];
    assert_eq!(longer, [micros(7); 3]);
    assert_eq!((raised.handoff, raised.launch_lock), (Nanos::ZERO, Nanos::ZERO));
    let measured = calibration.platform_from_post(partitions(), micros(17)).expect("legal").overheads;
    assert_eq!(measured, raised, "nothing waits on its way, and nobody is woken to launch");
}

fn device(own: &[u16]) -> CalibratedDevice {
    let (name, versions, own_carriers) = ("a GPU".into(), Vec::new(), lanes(own));
    CalibratedDevice { name, versions, lanes: 5, own_carriers, launch: LaunchMode::Carrier, regime: None }
}

fn calibration(own: &[u16]) -> Calibration {
    let mut calibration = Calibration::new(Path::new("platform.json"), Overheads::default());
    calibration.device = Some(device(own));
    calibration
}

/// A profile of both tasks, the one on lane `vad` and the other on lane `detector`.
fn profile(own: &[u16], vad: usize, detector: usize) -> Profile {
    let mut profile = profiled().on(Some(device(own)));
    profile.tasks.iter_mut().for_each(|task| task.shapes = shapes_hash(&BTreeMap::new()));
    let empty =
        |partition: &str| aegisrt::config::LaneCompany { partition: partition.into(), tasks: Vec::new() };
    profile.company = ["audio", "audio", "vision", "vision", "vision"].map(empty).into();
    profile.company[vad].tasks.push("vad".into());
    profile.company[detector].tasks.push("detector".into());
    profile
}

fn prepared(fleet: &Fleet, profile: &Profile, calibration: &Calibration) -> Result<(), String> {
    let fact = |name: &str| Facts { model: ContentHash::of(name.as_bytes()), declared: vec![Nanos::ZERO] };
    let facts: Vec<Facts> = fleet.tasks().iter().map(|task| fact(&task.name)).collect();
    let found = prepare(fleet, Some(profile), calibration, &fleet.first_lanes(), &facts);
    found.map(drop).map_err(|error| error.to_string())
}

#[test]
fn measurements_of_other_carriers_are_refused() {
    let (shared, own) = (fleet(["", ""]), fleet(["", "own_carriers = [1]"]));
    let refused = |found: Result<(), String>, parts: &[&str]| {
        let error = found.expect_err("other carriers");
        for part in parts.iter().chain(&["device.own_carriers", "legal"]) {
            assert!(error.contains(part), "`{part}` was due: {error}");
        }
    };
    // Files that say nothing of carriers were made where all lanes shared the launcher.
    let (old, new) = (calibration(&[]), calibration(&[3]));
    let text = serde_json::to_string(&new).expect("it is JSON");
    assert_eq!(Calibration::parse(Path::new("platform.json"), &text).expect("whole").device, new.device);
    assert!(!serde_json::to_string(&old).expect("it is JSON").contains("own_carriers"));
    assert_eq!(prepared(&shared, &profile(&[], 0, 2), &old), Ok(()));
    assert_eq!(prepared(&own, &profile(&[3], 0, 2), &new), Ok(()));
    let calibrate = ["platform.json", "aegis calibrate"];
    refused(prepared(&own, &profile(&[3], 0, 2), &old), &[&calibrate[..], &["none", "lane3"]].concat());
    refused(prepared(&shared, &profile(&[], 0, 2), &new), &calibrate);
    refused(prepared(&own, &profile(&[], 0, 2), &new), &["profile.json", "aegis profile", "lane3"]);
    refused(prepared(&own, &profile(&[3, 4], 0, 2), &new), &["profile.json", "lane3, lane4"]);
    let mut nowhere = calibration(&[]);
    nowhere.device = None;
    refused(prepared(&own, &profile(&[3], 0, 2), &nowhere), &calibrate);
}

#[test]
fn a_task_that_moved_to_another_carrier_has_a_stale_entry() {
    let own = fleet(["", "own_carriers = [1]"]);
    let moved = prepared(&own, &profile(&[3], 0, 3), &calibration(&[3])).expect_err("it had its carrier");
    for part in ["`detector` is stale", "the carrier", "one of its lane's own", "the shared launcher"] {
        assert!(moved.contains(part), "`{part}` was due: {moved}");
    }
    // From one lane of the launcher to another nothing changes but the company.
    assert_eq!(prepared(&own, &profile(&[3], 0, 4), &calibration(&[3])), Ok(()));
}

#[test]
fn who_keeps_the_launcher_is_told_of_the_key() {
    let hint = |own: [&str; 2], lane| fleet(own).hint_of_carrier(LaneId::new(lane));
    let told = hint(["", ""], 3).expect("four lanes wait");
    assert!(told.contains("own_carriers = [1]") && told.contains("`vision`"), "{told}");
    assert_eq!(hint(["own_carriers = [0]", ""], 0), None, "nobody waits for it");
    assert_eq!(hint(["own_carriers = [0, 1]", "own_carriers = [0, 2]"], 3), None, "alone on the launcher");
    assert_eq!(hint(["", ""], 9), None, "no such lane");
}
