//! Policies that insert idle time, from the command line.

use aegis_types::{ContentHash, Nanos};
use serde_json::Value;

use crate::bench::{Folder, cache, ready, task};
use crate::elsewhere::{self, Row, with};
use crate::made;

/// In order of periods alone the long one takes the lane when the short one comes.
const WAITING: [Row<'static>; 3] =
    [("short", 0, 10, 1_000, ""), ("middle", 0, 30, 8_000, ""), ("long", 0, 60, 17_000, "")];

/// The fleet under a policy, of models with one segment.
fn folder(policy: &str) -> Folder {
    let folder = Folder::new();
    let model = elsewhere::MODEL.replacen("segment\nstorm 1\n", "", 1);
    elsewhere::write(&folder, &WAITING, "");
    folder.write("fleet.toml", elsewhere::fleet(policy, &WAITING, "")).write("model.kernel", &model);
    elsewhere::profile(&folder, &WAITING, |profile| {
        for (task, row) in profile.tasks.iter_mut().zip(&WAITING) {
            task.model = ContentHash::of(model.as_bytes());
            task.segments.truncate(1);
            task.segments[0].budget = Nanos::from_micros(row.3);
        }
    });
    folder
}

#[test]
fn what_the_plain_orders_refuse_is_admitted_simulated_and_named() {
    for plain in ["rm", "edf"] {
        assert_eq!(folder(plain).aegis(&with("admit", &[])).code, 3, "{plain}");
    }
    for (policy, class) in [("p-rm", "precautious"), ("cw-edf", "critical-window")] {
        let folder = folder(policy);
        let under = format!("under {policy} ({class})");
        let answer = folder.aegis(&with("admit", &["--explain", "long"]));
        answer.says(
            0,
            &[
                "ADMITTED",
                &under,
                "stays free although a job is ready",
                "waiting, in the longest",
                "claims nothing any more",
                "binding: waiting",
            ],
        );
        assert!(answer.out.lines().all(|line| line.len() <= 120), "{}", answer.out);
        let json = folder.aegis(&with("admit", &["--format", "json"])).json();
        assert_eq!(
            (&json["policy"], &json["lanes"][0]["tolerance_ns"]),
            (&Value::from(policy), &Value::from(0))
        );
        let runs = ["--sets", "6", "--horizon", "240ms"];
        folder.aegis(&with("simulate", &runs)).says(0, &["6 runs", " 0 violations"]);
    }
}

#[test]
fn what_a_rule_cannot_look_ahead_of_is_refused() {
    let refused = |folder: &Folder, parts: &[&str]| {
        let answer = folder.aegis(&with("admit", &[]));
        answer.says(3, &[&["REFUSED"], parts].concat());
        let json = folder.aegis(&with("admit", &["--format", "json"])).json();
        assert_eq!(json["refusal"]["kind"], "model", "{json}");
    };
    let cut = Folder::new();
    elsewhere::write(&cut, &WAITING, "");
    cut.write("fleet.toml", elsewhere::fleet("p-rm", &WAITING, ""));
    refused(&cut, &["task `short`", "2 segments", "legal under `p-rm` is one"]);
    let sporadic = folder("cw-edf");
    let mut rows = WAITING;
    rows[1].4 = "arrival = \"sporadic\"";
    sporadic.write("fleet.toml", elsewhere::fleet("cw-edf", &rows, ""));
    refused(&sporadic, &["task `middle`", "sporadic", "legal under `cw-edf` is periodic"]);
}

#[test]
fn searches_that_vary_numbers_are_refused() {
    for option in ["--sensitivity", "--what-if", "--assign"] {
        folder("p-rm").aegis(&with("admit", &[option])).refuses(
            2,
            &["fleet.toml:", "policy.kind = \"p-rm\"", option, "legal: fifo, rm, dm, fp, edf, fair"],
        );
    }
}

#[test]
fn explain_and_replay_tell_for_whom_a_lane_was_kept_free() {
    let folder = Folder::new();
    made::trace_kept_free(&folder.path("run.aegis"));
    folder.aegis(&["replay", "run.aegis"]).says(0, &["identical", "under p-rm"]);
    folder.aegis(&["replay", "run.aegis", "--policy", "rm"]).says(3, &["would not have been admitted"]);
    let text = folder.aegis(&["explain", "run.aegis", "--task", "model_2", "--worst", "9"]);
    text.says(0, &["held for model_0#", " until ", "model_2#", "first in turn", "LaneKeptFree"]);
    let asked = ["explain", "run.aegis", "--task", "model_2", "--worst", "9", "--format", "json"];
    let json = folder.aegis(&asked).json();
    for job in json["jobs"].as_array().expect("jobs") {
        let spans = job["terms"].as_array().expect("terms").iter().map(|term| term["span_ns"].as_u64());
        assert_eq!(spans.sum::<Option<u64>>(), job["response_ns"].as_u64(), "{job}");
        let whats = job["terms"].as_array().expect("terms").iter().filter_map(|term| term["what"].as_str());
        assert!(whats.into_iter().all(|what| what != "lane was free without a decision"), "{job}");
    }
}

/// On the host the runtime is the twin of what was explored: the long task waits, and what happened is told.
#[test]
fn a_run_on_the_host_keeps_its_lane_free() {
    let Some(cache) = cache() else { return };
    let compute = |span: &str| format!("{{ memory = \"32MiB\", compute = \"{span}\" }}");
    let (short, long) = (compute("20ms"), compute("60ms"));
    let tasks = [
        task("short", &[("period", "\"100ms\""), ("deadline", "\"60ms\""), ("budget", &short)]),
        task("long", &[("period", "\"200ms\""), ("offset", "\"80ms\""), ("budget", &long)]),
    ];
    let folder = ready(&cache, &tasks.concat());
    let text = std::fs::read_to_string(folder.path("fleet.toml")).expect("it was written");
    folder.aegis(&["admit", "fleet.toml"]).says(3, &["REFUSED", "`short`"]);
    folder.write("fleet.toml", text.replace("\"edf\"", "\"p-rm\""));
    folder.aegis(&["admit", "fleet.toml"]).says(0, &["ADMITTED", "under p-rm"]);
    for _attempt in 0..8 {
        let run = folder.aegis(&["run", "fleet.toml", "--duration", "1s", "--trace", "run.aegis"]);
        // On a busy machine an assumption may break, and a lane of this policy claims nothing from then on; what must not
        // happen is anything worse.
        assert!(matches!(run.code, 0 | 4), "{run:?}");
        folder.aegis(&["replay", "run.aegis"]).says(0, &["identical", "under p-rm"]);
        if run.code == 0 {
            let told = folder.aegis(&["explain", "run.aegis", "--task", "long", "--worst", "9"]);
            told.says(0, &["held for short#", "LaneKeptFree lane=lane0"]);
            return;
        }
    }
    println!(
        "an assumption broke in every run: this machine is too busy to say whom a lane was kept free for"
    );
}
