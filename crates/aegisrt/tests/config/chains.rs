//! Chains of a fleet: read in full, written back, refused with their line.

use aegis_types::{Nanos, TaskId};
use aegisrt::config::{ConfigError, Fleet};

use crate::{GOOD, fleet_path};

const CHAINS: &str = r#"[[chain]]
name = "hear-and-see"
tasks = ["vad", "detector"]
reaction = "500ms"
age = "400ms"
skips = { vad = 1 }
gaps = { detector = "150ms" }
[[chain]]
name = "hear"
tasks = ["vad"]
"#;

fn parse(chains: &str) -> Result<Fleet, ConfigError> {
    Fleet::parse(&fleet_path(), &format!("{GOOD}{chains}"))
}

#[test]
fn chains_are_read_in_full() {
    let fleet = parse(CHAINS).expect("it is legal");
    let [first, second] = fleet.chains() else { panic!("two chains") };
    assert_eq!((first.name.as_str(), second.name.as_str()), ("hear-and-see", "hear"));
    assert_eq!((first.reaction, first.age), (Some(Nanos::from_millis(500)), Some(Nanos::from_millis(400))));
    assert_eq!((second.reaction, second.age), (None, None));
    let [vad, detector] = first.steps[..] else { panic!("two tasks") };
    assert_eq!((vad.task, vad.skips, vad.gap), (TaskId::new(0), 1, None));
    assert_eq!(
        (detector.task, detector.skips, detector.gap),
        (TaskId::new(1), 0, Some(Nanos::from_millis(150)))
    );
}

#[test]
fn chains_survive_a_round_trip_and_follow_their_periods() {
    let fleet = parse(CHAINS).expect("it is legal");
    let again = Fleet::parse(&fleet_path(), &fleet.to_toml()).expect("it was written");
    assert_eq!(again.chains(), fleet.chains());
    let longer = fleet.stretched(&[Nanos::from_millis(32), Nanos::from_millis(200)]);
    assert_eq!(longer.chains()[0].steps[1].gap, Some(Nanos::from_millis(200)));
    Fleet::parse(&fleet_path(), &longer.to_toml()).expect("it is still legal");
}

#[track_caller]
fn check(from: &str, to: &str, parts: &[&str]) {
    assert!(CHAINS.contains(from), "{from}");
    let error = parse(&CHAINS.replacen(from, to, 1)).expect_err("it is not legal").to_string();
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in {error}");
    }
}

#[test]
fn chains_without_meaning_are_refused_with_their_line() {
    check(
        "\"vad\", \"detector\"",
        "\"vad\", \"nobody\"",
        &["chain[0] `hear-and-see`.tasks[1] = \"nobody\"", "vad, detector"],
    );
    check("\"vad\", \"detector\"", "\"vad\", \"vad\"", &["tasks[1]", "already", "each task once"]);
    check("\"vad\", \"detector\"", "", &["tasks", "no task at all"]);
    check("\"hear\"", "\"hear-and-see\"", &["chain[1]", "another chain has this name"]);
    check("\"hear\"", "\"<hear>\"", &["chain[1]", "not a name"]);
    check("reaction = \"500ms\"", "reaction = \"0ms\"", &["reaction", "above zero"]);
    check("age = \"400ms\"", "age = \"100000s\"", &["age", "at most"]);
    check("age = \"400ms\"", "age = 400", &["chain[0]", "age", "unit"]);
    check("{ vad = 1 }", "{ vad = -1 }", &["skips.vad = -1", "0 to 1000"]);
    check("{ vad = 1 }", "{ nobody = 1 }", &["skips.nobody", "the chain has no such task"]);
    check("gaps = { detector = \"150ms\" }\n", "", &["gaps.detector", "clients release the task", "100ms"]);
    check("\"150ms\"", "\"50ms\"", &["gaps.detector", "50ms", "100ms"]);
    check("skips = {", "skip = {", &["chain[0]", "name, tasks, reaction, age, skips, gaps"]);
}
