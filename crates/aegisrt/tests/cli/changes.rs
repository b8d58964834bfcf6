//! `aegis simulate FLEET --changes FILE`: accepted at once, accepted for an idle instant, refused, and wrong input.

use serde_json::Value;

use crate::bench::{Answer, Folder};
use crate::elsewhere::{self, CALM, Row, with};

/// Comes while [`CALM`] is served, and fits.
const EXTRA: Row<'static> = ("extra", 1, 40, 1_000, "");
/// Comes and does not fit.
const HEAVY: Row<'static> = ("heavy", 0, 20, 17_000, "");

/// The tables of tasks, without the fleet.
fn tasks(rows: &[Row<'_>]) -> String {
    let text = elsewhere::fleet("edf", rows, "");
    text[text.find("[[task]]").expect("there is a task")..].to_owned()
}

/// A folder with a fleet of `rows` under a policy, and a file for each other task.
fn folder(policy: &str, rows: &[Row<'_>], others: &[Row<'_>]) -> Folder {
    let folder = Folder::new();
    let all = [rows, others].concat();
    elsewhere::write(&folder, &all, "");
    folder.write("fleet.toml", elsewhere::fleet(policy, rows, ""));
    for other in others {
        folder.write(&format!("{}.toml", other.0), tasks(&[*other]));
    }
    folder
}

fn changed(folder: &Folder, changes: &str, more: &[&str]) -> Answer {
    folder.write("changes.toml", changes);
    folder.aegis(&with("simulate", &[&["--changes", "changes.toml"], more].concat()))
}

fn json(folder: &Folder, changes: &str, code: i32) -> Value {
    let answer = changed(folder, changes, &["--format", "json"]);
    assert_eq!(answer.code, code, "{answer:?}");
    answer.json()
}

#[test]
fn tasks_come_and_go_at_once_and_come_back() {
    let folder = folder("edf", &CALM, &[EXTRA]);
    let changes = "[[change]]\nat = \"100ms\"\nremove = [\"tracker\"]\nadd = \"extra.toml\"\n\n\
                   [[change]]\nat = \"200ms\"\nremove = [\"extra\"]\nrestore = [\"tracker\"]\n";
    changed(&folder, changes, &[]).says(
        0,
        &[
            "judged for",
            "one run of 400ms in virtual time, seed 1, 2 changes",
            "change 1 at 100ms: remove `tracker`; add `extra`\n  at once: in effect from 100",
            "what goes is charged until 1",
            "change 2 at 200ms: remove `extra`; add `tracker`\n  at once: in effect from 200",
            ": 0 missed, 0 beyond their bounds; 0 violations",
        ],
    );
    let json = json(&folder, changes, 0);
    assert_eq!((&json["accepted"], &json["refused"], &json["undecided"]), (&2.into(), &0.into(), &0.into()));
    assert_eq!((&json["horizon_ns"], &json["violations"]), (&400_000_000.into(), &0.into()));
    let change = &json["changes"][0];
    assert_eq!((&change["reply"], &change["at_ns"]), (&"at_once".into(), &100_000_000.into()));
    assert_eq!((&change["remove"][0], &change["add"][0]), (&"tracker".into(), &"extra".into()));
    assert_eq!(change["refusal"], Value::Null);
    let (made, settled) = (change["made_ns"].as_u64(), change["settled_ns"].as_u64());
    assert!(made >= Some(100_000_000) && settled >= made, "{change}");
    // 40 ms between its jobs, for 100 ms; the one that went is missing a third of the time.
    let jobs = |name: &str| {
        let tasks = json["tasks"].as_array().expect("tasks").iter();
        tasks.filter(|task| task["task"] == name).map(|task| task["jobs"].as_u64()).next().flatten()
    };
    assert_eq!(jobs("extra"), Some(3), "{json}");
    let between =
        |name: &str, few: u64, many: u64| jobs(name).is_some_and(|jobs| (few..=many).contains(&jobs));
    assert!(between("tracker", 14, 18) && between("policy", 40, 41), "{json}");
}

#[test]
fn what_does_not_fit_beside_what_goes_waits_for_an_idle_instant() {
    let rows = [("light", 0, 20, 2_000, ""), ("old", 0, 20, 9_000, "")];
    let folder = folder("edf", &rows, &[("new", 0, 20, 9_000, "")]);
    let changes = "[[change]]\nat = \"50ms\"\nremove = [\"old\"]\nadd = \"new.toml\"\n";
    changed(&folder, changes, &[]).says(
        0,
        &["at idle, when no lane has a job: in effect from ", "together do not fit: REFUSED", "0 violations"],
    );
    let json = json(&folder, changes, 0);
    let change = &json["changes"][0];
    assert_eq!(change["reply"], "at_idle");
    assert!(change["made_ns"].as_u64() > Some(50_000_000), "{change}");
    assert!(change["because"][0].as_str().is_some_and(|why| why.contains("together")), "{change}");
}

#[test]
fn a_refusal_says_what_would_fit_and_what_runs_goes_on() {
    let folder = folder("edf", &CALM, &[HEAVY, EXTRA]);
    let heavy = "[[change]]\nat = \"90ms\"\nadd = \"heavy.toml\"\n";
    changed(&folder, heavy, &[]).says(
        3,
        &[
            "change 1 at 90ms: add `heavy`\n  REFUSED: ",
            "would fit with: ",
            "what was served is served on",
            "0 violations",
        ],
    );
    let then = format!("{heavy}\n[[change]]\nat = \"150ms\"\nremove = [\"heavy\"]\nadd = \"extra.toml\"\n");
    let json = json(&folder, &then, 3);
    assert_eq!(
        (&json["changes"][0]["reply"], &json["changes"][1]["reply"]),
        (&"refused".into(), &"at_once".into())
    );
    let refusal = &json["changes"][0]["refusal"];
    assert!(refusal["reason"].is_string() && refusal["changes"][0].is_object(), "{refusal}");
    assert_eq!(
        (&json["missed"], &json["beyond_bounds"], &json["violations"]),
        (&0.into(), &0.into(), &0.into())
    );
}

#[test]
fn a_change_that_is_not_made_until_the_end_is_left_open() {
    let rows = [("light", 0, 20, 2_000, ""), ("old", 0, 20, 9_000, "")];
    let folder = folder("edf", &rows, &[("new", 0, 20, 9_000, "")]);
    let change = |at: &str| format!("[[change]]\nat = \"{at}\"\nremove = [\"old\"]\nadd = \"new.toml\"\n");
    // Two instants of 50 us later the first jobs are still in flight.
    let answer = changed(&folder, &change("61ms"), &["--horizon", "61050us"]);
    answer.says(5, &["not made until the end of the run", "a longer --horizon", "0 violations"]);
    let behind = format!("{}\n[[change]]\nat = \"61010us\"\nrestore = [\"old\"]\n", change("61ms"));
    let answer = changed(&folder, &behind, &["--horizon", "61050us", "--format", "json"]);
    assert_eq!((answer.code, &answer.json()["changes"][1]["reply"]), (5, &"not_asked".into()));
}

#[track_caller]
fn refuses(folder: &Folder, changes: &str, parts: &[&str]) {
    changed(folder, changes, &[]).refuses(2, parts);
}

#[test]
fn wrong_changes_name_file_line_key_value_and_what_is_legal() {
    let folder = folder("edf", &CALM, &[EXTRA]);
    let one = |more: &str| format!("[[change]]\nat = \"100ms\"\n{more}\n");
    refuses(&folder, "", &["changes.toml:1:1", "missing field `change`", "legal: tables [[change]]"]);
    refuses(&folder, "change = []\n", &["changes.toml:1:1: change", "there is none"]);
    refuses(&folder, "[[change]]\nat = 5\n", &["changes.toml:2:6", "= 5", "legal: "]);
    refuses(&folder, &one("colour = 1"), &["changes.toml:3:1", "colour"]);
    refuses(&folder, "[[change]]\nremove = [\"tracker\"]\n", &["changes.toml:1:1", "missing field `at`"]);
    refuses(&folder, &one(""), &["changes.toml:2:6: change[0].at = \"100ms\"", "asks for nothing"]);
    let unknown = [
        "changes.toml:3:11: change[0].remove[0] = \"radar\"",
        "no such task",
        "camera, detector, policy, tracker",
    ];
    refuses(&folder, &one("remove = [\"radar\"]"), &unknown);
    let twice = ["change[0].remove[1] = \"camera\"", "twice", "each task once"];
    refuses(&folder, &one("remove = [\"camera\", \"camera\"]"), &twice);
    refuses(&folder, &one("restore = [\"camera\"]"), &["change[0].restore[0] = \"camera\"", "legal: none"]);
    refuses(
        &folder,
        &one("add = \"absent.toml\""),
        &["changes.toml:3:7: change[0].add = \"absent.toml\"", "cannot be read"],
    );
    refuses(&folder, &one("add = \"fleet.toml\""), &["fleet.toml:1:", "device"]);
    folder.write("again.toml", tasks(&CALM[..1]));
    refuses(&folder, &one("add = \"again.toml\""), &["again.toml:2:", "same name", "camera"]);
    let falling = format!("{}{}", one("remove = [\"camera\"]"), one("restore = [\"camera\"]"));
    refuses(&folder, &falling, &["changes.toml:5:6: change[1].at", "must rise", "above 100"]);
    refuses(
        &folder,
        &one("remove = [\"camera\"]").replace("100ms", "70s"),
        &["has ended", "longer --horizon"],
    );
    folder
        .aegis(&with("simulate", &["--changes", "nothing.toml"]))
        .refuses(2, &["nothing.toml", "cannot be read"]);
}

#[test]
fn what_changes_are_not_defined_for_is_refused_with_the_reason() {
    let goes = "[[change]]\nat = \"50ms\"\nremove = [\"short\"]\n";
    let rows = [("short", 0, 10, 1_000, ""), ("long", 1, 60, 2_000, "")];
    refuses(
        &folder("p-rm", &rows, &[]),
        goes,
        &["fleet.toml:", "policy.kind = \"p-rm\"", "inserts idle time", "legal: fifo"],
    );
    let apart = [("short", 0, 10, 1_000, "exclude = [\"long\"]"), ("long", 1, 60, 2_000, "")];
    refuses(&folder("edf", &apart, &[]), goes, &["fleet.toml:", "exclude", "excluded task"]);
    let calm = folder("edf", &rows, &[]);
    changed(&calm, goes, &["--sets", "3"]).refuses(2, &["--sets", "--changes", "legal: --seed"]);
    changed(&calm, goes, &["--horizon", "61s"]).refuses(2, &["--horizon", "at most 60"]);
    let chain = "[[chain]]\nname = \"sight\"\ntasks = [\"short\", \"long\"]\n";
    calm.write("fleet.toml", elsewhere::fleet("edf", &rows, chain));
    refuses(&calm, goes, &["change[0].remove[0] = \"short\"", "chain `sight`", "no chain"]);
    folder_without_fleet();
}

/// Random sets have no tasks that a file could name.
fn folder_without_fleet() {
    let folder = Folder::new();
    folder.write("changes.toml", "").aegis(&["simulate", "--changes", "changes.toml"]).refuses(2, &["FLEET"]);
}

#[test]
fn a_fleet_that_is_refused_is_not_served() {
    let rows = [("short", 0, 10, 3_000, ""), ("long", 0, 50, 18_000, "")];
    let goes = "[[change]]\nat = \"50ms\"\nremove = [\"long\"]\n";
    changed(&folder("edf", &rows, &[]), goes, &[]).says(3, &["REFUSED", "before its first change"]);
}
