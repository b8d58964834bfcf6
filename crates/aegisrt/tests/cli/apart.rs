//! Fleets in virtual time: tasks that exclude each other, and misses that the engine makes.

use crate::bench::Folder;
use crate::elsewhere::{self, CALM, Row, TIGHT, with};

/// The calm fleet; `policy` must not run beside `detector`.
fn apart() -> Folder {
    let mut rows: [Row<'_>; 4] = CALM;
    rows[3].4 = "exclude = [\"detector\"]";
    let folder = Folder::new();
    elsewhere::write(&folder, &rows, "");
    folder
}

fn longest(folder: &Folder, task: &str) -> u64 {
    let more = ["--sets", "6", "--horizon", "300ms", "--format", "json"];
    let json = folder.aegis(&with("simulate", &more)).json();
    assert_eq!(json["violations"], 0, "{json}");
    let tasks = json["tasks"].as_array().expect("tasks");
    let named = tasks.iter().find(|it| it["task"] == task).expect("it is in the fleet");
    assert!(named["longest_response_ns"].as_u64() <= named["wcrt_ns"].as_u64(), "{json}");
    named["longest_response_ns"].as_u64().expect("a span")
}

#[test]
fn excluded_tasks_wait_in_a_simulation_and_keep_their_bounds() {
    let free = Folder::new();
    elsewhere::write(&free, &CALM, "");
    let (waits, runs) = (longest(&apart(), "policy"), longest(&free, "policy"));
    // A segment of the detector takes 3 ms.
    assert!(waits > runs + 2_000_000, "{waits} with exclusion, {runs} without");
}

#[test]
fn the_engine_makes_the_miss_of_a_refused_fleet() {
    let folder = Folder::new();
    elsewhere::write(&folder, &TIGHT, "");
    folder.aegis(&with("simulate", &[])).says(3, &["REFUSED", "replayed: ", " jobs, by the engine"]);
    let json = folder.aegis(&with("simulate", &["--format", "json"])).json();
    assert_eq!((&json["replayed"], &json["engine"]), (&true.into(), &true.into()), "{json}");
}
