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

#[test]
fn lanes_and_cores_that_the_machine_does_not_have() {
    check(&fleet(2, &task("vad", &[])), &["partition[0] `all`.lanes = 2", "1 to 1"]);
    let text = fleet(1, &task("vad", &[]));
    let absent = text.replace(&format!("cores = [{}]", crate::bench::core()), "cores = [65535]");
    check(&absent, &["fleet.toml:7:", "partition[0] `all`.cores[0] = 65535", "one of "]);
}

#[test]
fn files_that_may_never_end_or_are_not_there() {
    check_task(&[("model", "\"/dev/zero\"")], &["model", "/dev/zero", "no regular file"]);
    check_task(&[("model", "\".\"")], &["model", "folder"]);
    let folder = Folder::new();
    let text = fleet(1, &task("vad", &[("inputs", "{ file = \"absent.bin\" }")]));
    folder.calibrated().write("fleet.toml", text).write("model.onnx", "any");
    folder
        .aegis(&["admit", "fleet.toml"])
        .refuses(2, &["fleet.toml:", "inputs.file = \"absent.bin\"", "cannot be read"]);
}

#[test]
fn a_terminal_does_not_obey_a_name() {
    let folder = Folder::new();
    folder.calibrated().write("fleet.toml", fleet(1, &task("vad", &[("name", "\"\\u001b[31mred\"")])));
    let answer = folder.aegis(&["admit", "fleet.toml"]);
    answer.refuses(2, &["not a name"]);
    assert!(!answer.err.contains('\u{1b}'), "{:?}", answer.err);
}

#[test]
fn a_profile_of_another_machine_is_refused() {
    let folder = Folder::new();
    let whole = format!("{}; ordinary class", aegisrt::machine::name());
    folder.calibrated().write("fleet.toml", fleet(1, &task("vad", &[]))).write("model.onnx", "no model");
    for (machine, refused) in [("another, 4 cores; ordinary class", true), (whole.as_str(), false)] {
        let path = folder.path("profile.json");
        let profile =
            aegisrt::config::Profile::new(&path, machine.into(), "a day".into(), Vec::new(), Vec::new());
        profile.save(&path).unwrap();
        let answer = folder.aegis(&["admit", "fleet.toml"]);
        assert_eq!(answer.err.contains("another, 4 cores"), refused, "{answer:?}");
        assert_eq!(answer.err.contains("measured elsewhere"), refused, "{answer:?}");
    }
}

#[test]
fn a_calibration_of_another_way_to_wait_is_refused() {
    let folder = Folder::new();
    let text = fleet(1, &task("vad", &[]));
    let spinning = text.replacen("kind = \"host\"", "kind = \"host\"\nwait = \"spin\"", 1);
    assert_ne!(spinning, text);
    folder.calibrated().write("fleet.toml", spinning).write("model.onnx", "no model");
    for command in ["admit", "plan", "run"] {
        let refusal = ["platform.json: wait = \"blocking\"", "legal: \"spin\""];
        folder.aegis(&[command, "fleet.toml"]).refuses(2, &refusal);
    }
}

#[test]
fn spans_on_the_command_line_are_checked_before_anything_is_measured() {
    let folder = Folder::new();
    folder.calibrated().write("fleet.toml", fleet(1, &task("vad", &[])));
    folder.aegis(&["profile", "fleet.toml", "--seconds", "0s"]).refuses(2, &["--seconds", "above zero"]);
    folder.aegis(&["admit", "fleet.toml", "--fit", "0ms"]).refuses(2, &["--fit", "above zero"]);
    folder.aegis(&["admit", "fleet.toml", "--fit", "100000s"]).refuses(2, &["--fit", "at most 86400s"]);
}

#[test]
#[cfg(not(feature = "tvm"))]
fn a_backend_that_was_left_out_is_named_with_those_there_are() {
    let folder = Folder::new();
    folder.calibrated().write("model.onnx", "weights");
    folder.write("fleet.toml", fleet(1, &task("vad", &[("backend", "\"tvm\"")])));
    for command in ["profile", "admit", "run"] {
        folder.aegis(&[command, "fleet.toml"]).refuses(
            2,
            &["`vad`.backend = \"tvm\"", "built without this backend", "\"onnx\"", "--features tvm"],
        );
    }
}
