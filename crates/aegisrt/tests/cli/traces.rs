//! Explain, replay and export, on traces that are whole, cut, forged, or no traces at all.

use crate::bench::Folder;
use crate::made;

fn folder() -> Folder {
    let folder = Folder::new();
    made::trace(&folder.path("run.aegis"));
    folder
}

#[test]
fn terms_add_up_beside_the_certified_ones() {
    let folder = folder();
    let text = folder.aegis(&["explain", "run.aegis", "--task", "model_2", "--worst", "2"]);
    text.says(
        0,
        &["model_2#", "waited for model_1#", "certified", "sum", "What happened:", "released on lane0"],
    );
    assert!(text.out.lines().all(|line| line.len() <= 120), "{}", text.out);
    let json = folder
        .aegis(&["explain", "run.aegis", "--task", "model_2", "--worst", "3", "--format", "json"])
        .json();
    let jobs = json["jobs"].as_array().unwrap();
    assert_eq!(jobs.len(), 3);
    for job in jobs {
        let sum = |list: &str| {
            job[list].as_array().unwrap().iter().map(|term| term["span_ns"].as_u64().unwrap()).sum::<u64>()
        };
        assert_eq!(sum("terms"), job["response_ns"].as_u64().unwrap());
        assert_eq!(sum("certified"), job["bound_ns"].as_u64().unwrap());
        assert!(!job["why"].as_array().unwrap().is_empty());
    }
    folder
        .aegis(&["explain", "run.aegis", "--task", "model_0", "--job", "4"])
        .says(0, &["model_0#4 completed"]);
}

#[test]
fn questions_about_what_is_not_there() {
    let folder = folder();
    folder
        .aegis(&["explain", "run.aegis", "--task", "nobody"])
        .refuses(2, &["nobody", "model_0, model_1, model_2"]);
    folder
        .aegis(&["explain", "run.aegis", "--task", "model_0", "--job", "4000"])
        .refuses(2, &["4000", "0 to 50"]);
    folder.aegis(&["replay", "run.aegis", "--policy", "lifo"]).refuses(2, &["lifo", "fifo, rm, dm, fp, edf"]);
    for command in ["explain", "replay", "export"] {
        let more: &[&str] = match command {
            "explain" => &["--task", "model_0"],
            "export" => &["--json", "out"],
            _ => &[],
        };
        folder.aegis(&[&[command, "absent.aegis"], more].concat()).refuses(2, &["absent.aegis"]);
        folder
            .write("text.aegis", "no trace")
            .aegis(&[&[command, "text.aegis"], more].concat())
            .refuses(2, &["text.aegis"]);
    }
}

#[test]
fn a_replay_makes_the_same_decisions() {
    let folder = folder();
    folder.aegis(&["replay", "run.aegis"]).says(0, &["identical", "under edf"]);
    let json = folder.aegis(&["replay", "run.aegis", "--format", "json"]).json();
    assert_eq!(json["identical"], true);
    assert!(json["equal"].as_u64().unwrap() > 500);
}

#[test]
fn a_counterfactual_stands_beside_the_record() {
    let folder = folder();
    folder
        .aegis(&["replay", "run.aegis", "--policy", "rm"])
        .says(0, &["What rm would have decided", "model_1"]);
    let json = folder.aegis(&["replay", "run.aegis", "--policy", "rm", "--format", "json"]).json();
    for task in json["tasks"].as_array().unwrap() {
        assert_eq!(task["recorded"]["jobs"], task["counterfactual"]["jobs"], "{task}");
    }
    folder
        .aegis(&["replay", "run.aegis", "--policy", "fifo"])
        .says(3, &["would not have been admitted", "REFUSED"]);
}

#[test]
fn a_forged_decision_is_found() {
    let folder = folder();
    let trace = aegis_trace::Trace::open(&folder.path("run.aegis")).unwrap();
    let mut bytes = std::fs::read(folder.path("run.aegis")).unwrap();
    let record = trace.records().iter().rfind(|raw| raw.kind() == 25).unwrap().to_bytes();
    let place = bytes.windows(record.len()).rposition(|window| window == record).unwrap();
    bytes[place + 32] ^= 1;
    folder.write("forged.aegis", &bytes);
    let answer = folder.aegis(&["replay", "forged.aegis"]);
    // The chunk's check finds it first: its records are left out, and the replay stops at the gap.
    answer.says(2, &["damaged"]);
}

#[test]
fn a_trace_cut_anywhere_is_read_as_far_as_it_goes_or_refused() {
    let folder = folder();
    let bytes = std::fs::read(folder.path("run.aegis")).unwrap();
    let step = (bytes.len() / 40).max(1);
    for length in (0..bytes.len()).step_by(step).chain([bytes.len() - 1]) {
        folder.write("cut.aegis", &bytes[..length]);
        let replay = folder.aegis(&["replay", "cut.aegis"]);
        assert_eq!(replay.code, 2, "cut at {length}: {replay:?}");
        assert!(!replay.err.contains("panicked"), "cut at {length}: {replay:?}");
        assert!(
            replay.err.contains("cut.aegis") || replay.out.contains("damaged"),
            "cut at {length}: {replay:?}"
        );
    }
    folder.write("cut.aegis", &bytes[..bytes.len() * 9 / 10]);
    folder.aegis(&["explain", "cut.aegis", "--task", "model_0"]).says(0, &["damaged", "model_0#"]);
    folder.aegis(&["export", "cut.aegis", "--json", "out"]).says(0, &["damaged", "wrote out"]);
}

#[test]
fn exports_are_json() {
    let folder = folder();
    folder
        .aegis(&["export", "run.aegis", "--perfetto", "p.json", "--json", "l.jsonl"])
        .says(0, &["wrote p.json"]);
    let text = std::fs::read_to_string(folder.path("p.json")).unwrap();
    let viewer: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(viewer["traceEvents"].as_array().unwrap().len() > 100);
    let lines = std::fs::read_to_string(folder.path("l.jsonl")).unwrap();
    assert!(lines.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
    folder
        .aegis(&["export", "run.aegis", "--json", "no/such/folder/out"])
        .refuses(2, &["no/such/folder/out"]);
}
