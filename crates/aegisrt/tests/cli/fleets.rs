//! Fleets that are wrong: the file, the line, the key and what would be legal, exit code 2. No model is looked at.

use crate::bench::{Folder, fleet, task};

#[track_caller]
fn check(text: &str, parts: &[&str]) {
    let folder = Folder::new();
    folder.calibrated().write("fleet.toml", text);
    for command in ["admit", "plan", "run", "profile", "calibrate"] {
        folder.aegis(&[command, "fleet.toml"]).refuses(2, &[&["error: fleet.toml"], parts].concat());
    }
    let json = folder.aegis(&["admit", "fleet.toml", "--format", "json"]).json();
    assert_eq!(json["exit_code"], 2);
    assert!(json["error"].as_str().is_some_and(|error| error.contains(parts[0])), "{json}");
}

#[track_caller]
fn check_task(more: &[(&str, &str)], parts: &[&str]) {
    check(&fleet(1, &task("vad", more)), parts);
}

#[test]
fn malformed_and_contradictory_fleets() {
    check("[device\n", &[":1:"]);
    check("", &["device"]);
    check(&format!("{}\ncolour = 1\n", fleet(1, &task("vad", &[]))), &["colour"]);
    check(&fleet(1, "").replace("\"edf\"", "\"lifo\""), &["policy.kind", "lifo", "fifo"]);
    check(&fleet(1, ""), &["task"]);
    let both = fleet(1, &task("vad", &[])).replace("lanes = 1", "lanes = 1\nsms = 4");
    check(&both, &["sms"]);
    check(&fleet(1, &task("vad", &[("deadline", "\"10ms\""), ("jitter", "\"20ms\"")])), &["jitter"]);
}

#[test]
fn spans_without_meaning() {
    check_task(&[("period", "\"0ms\"")], &[":", "period", "zero"]);
    check_task(&[("deadline", "\"0ms\"")], &["deadline", "zero"]);
    check_task(&[("period", "\"99999999999s\"")], &["period", "too large"]);
    check_task(&[("period", "\"30000h\"")], &["period", "unit"]);
    check_task(&[("deadline", "\"100000s\"")], &["deadline", "too long"]);
    check_task(&[("period", "33")], &["period"]);
}

#[test]
fn names_partitions_and_lanes() {
    let twice = fleet(1, &[task("vad", &[]), task("vad", &[])].concat());
    check(&twice, &["name", "same name"]);
    check_task(&[("partition", "\"nowhere\"")], &["partition", "nowhere", "\"all\""]);
    check_task(&[("lane", "3")], &["lane", "0 to 0"]);
}

#[test]
fn a_model_that_is_not_there() {
    check_task(&[("model", "\"absent.onnx\"")], &["model", "absent.onnx", "readable model file"]);
}

#[test]
fn a_fleet_that_is_not_there() {
    for command in ["admit", "plan", "run", "profile", "calibrate"] {
        Folder::new().aegis(&[command, "nothing.toml"]).refuses(2, &["nothing.toml"]);
    }
}

#[test]
fn the_simulator_is_not_driven_from_a_fleet() {
    let sim = fleet(1, &task("vad", &[("backend", "\"script\"")])).replace("\"host\"", "\"sim\"");
    Folder::new()
        .calibrated()
        .write("fleet.toml", &sim)
        .aegis(&["admit", "fleet.toml"])
        .refuses(2, &["device.kind"]);
}

#[test]
fn a_missing_calibration_names_the_command_that_makes_one() {
    let folder = Folder::new();
    folder.write("fleet.toml", fleet(1, &task("vad", &[])));
    for command in ["admit", "plan", "run", "profile"] {
        folder.aegis(&[command, "fleet.toml"]).refuses(2, &["platform.json", "aegis calibrate fleet.toml"]);
    }
}

#[test]
fn a_calibration_of_another_machine_is_refused() {
    let folder = Folder::new();
    folder.calibrated().write("fleet.toml", fleet(1, &task("vad", &[])));
    let text = std::fs::read_to_string(folder.path("platform.json")).unwrap();
    let mut file: serde_json::Value = serde_json::from_str(&text).unwrap();
    file["machine"] = "another".into();
    folder.write("platform.json", file.to_string());
    folder.aegis(&["admit", "fleet.toml"]).refuses(2, &["another", "measured elsewhere", "aegis calibrate"]);
    folder.write("platform.json", &text[..text.len() / 2]);
    folder.aegis(&["admit", "fleet.toml"]).refuses(2, &["platform.json:", "aegis calibrate"]);
}

#[test]
fn a_library_that_is_not_there_names_both_variables() {
    let folder = Folder::new();
    folder.calibrated().write("fleet.toml", fleet(1, &task("vad", &[]))).write("model.onnx", "");
    let run = |variable: Option<(&str, &str)>| {
        let mut command = folder.command(&["admit", "fleet.toml"]);
        command.env_remove("AEGIS_CACHE");
        if let Some((name, value)) = variable {
            command.env(name, value);
        }
        crate::bench::Answer::of(command.output().unwrap())
    };
    run(None).refuses(2, &["AEGIS_ONNXRUNTIME", "AEGIS_CACHE"]);
    run(Some(("AEGIS_CACHE", "/nowhere"))).refuses(2, &["AEGIS_ONNXRUNTIME", "/nowhere/onnxruntime"]);
    let missing = run(Some(("AEGIS_ONNXRUNTIME", "/nowhere/lib.so")));
    assert_ne!(missing.code, 0);
    assert!(missing.err.contains("/nowhere/lib.so"), "{missing:?}");
}
