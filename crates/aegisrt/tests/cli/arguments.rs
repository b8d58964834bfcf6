//! Arguments, help, versions, and what every command says without any file.

use crate::bench::Folder;

#[test]
fn the_version_is_the_workspaces() {
    let answer = Folder::new().aegis(&["--version"]);
    answer.says(0, &[concat!("aegis ", env!("CARGO_PKG_VERSION"))]);
}

#[test]
fn help_documents_commands_exit_codes_and_environment() {
    let commands = [
        "devices",
        "calibrate",
        "profile",
        "admit",
        "plan",
        "run",
        "explain",
        "replay",
        "sag",
        "simulate",
        "export",
    ];
    let answer = Folder::new().aegis(&["--help"]);
    answer.says(0, &commands);
    answer.says(0, &["Exit codes", "130", "AEGIS_ONNXRUNTIME", "AEGIS_CACHE"]);
    for command in commands {
        Folder::new().aegis(&[command, "--help"]).says(0, &["Usage: aegis", "--format"]);
    }
}

#[test]
fn wrong_arguments_are_bad_input() {
    let cases: [(&[&str], &str); 21] = [
        (&[], "Usage"),
        (&["admits"], "admit"),
        (&["admit"], "<FLEET>"),
        (&["admit", "f.toml", "--fit", "5"], "needs one of the units"),
        (&["admit", "f.toml", "--write", "g.toml"], "--fit"),
        (&["run", "f.toml", "--duration", "18446744074s"], "too large"),
        (&["run", "f.toml", "--duration", "-1s"], "--duration: is `-1s`; legal: nothing below zero"),
        (&["profile", "f.toml", "--margin", "-5%"], "--margin: is `-5%`; legal"),
        (&["calibrate", "f.toml", "--rounds", "-1"], "--rounds: is `-1`; legal"),
        (&["plan", "f.toml", "--pressure", "NaN"], "--pressure: is `NaN`; legal: a whole number"),
        (&["simulate", "--sets", "many"], "--sets: is `many`; legal: a whole number"),
        (&["simulate", "--seed", "99999999999999999999999"], "legal: a smaller number"),
        (&["simulate", "--sets", "99999999999"], "99999999999 is not in 1..=100000000"),
        (&["run", "f.toml", "--duration", "0s"], "above zero"),
        (&["run", "f.toml", "--duration", "99999999s"], "at most"),
        (&["run", "f.toml", "--keep-outputs", "4"], "--check-outputs"),
        (&["profile", "f.toml", "--margin", "lots"], "percentage"),
        (&["profile", "f.toml", "--samples", "0"], "0"),
        (&["export", "r.aegis"], "--perfetto"),
        (&["simulate", "--horizon", "0ms"], "above zero"),
        (&["simulate", "--sets", "0"], "0"),
    ];
    for (arguments, says) in cases {
        Folder::new().aegis(arguments).refuses(2, &[says]);
    }
}

#[test]
fn devices_are_told_to_people_and_programs() {
    let folder = Folder::new();
    folder.aegis(&["devices"]).says(0, &["host", "cores", "real-time class", "cuda", "asked", "board files"]);
    let json = folder.aegis(&["devices", "--format", "json"]).json();
    assert!(json["devices"][0]["memory_bytes"].as_u64().is_some_and(|bytes| bytes > 0));
    let asked = json["cuda"]["sources"].as_array().expect("the sources that were asked");
    assert_eq!(asked.len(), 3);
    let devices = json["cuda"]["devices"].as_array().expect("a list, if an empty one");
    let reason = |value: &serde_json::Value| value["unknown"].as_str().is_some_and(|text| !text.is_empty());
    if devices.is_empty() {
        assert!(
            reason(&json["cuda"]["cuda"]) && asked.iter().all(|source| reason(&source["devices"])),
            "{json}"
        );
    }
    assert!(devices.iter().all(|device| device["queue_limit"] == 8), "{json}");
    let mut asking = folder.command(&["devices"]);
    let output = asking.env("CUDA_DEVICE_MAX_CONNECTIONS", "none").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("CUDA_DEVICE_MAX_CONNECTIONS: is"),
        "{output:?}"
    );
}

#[test]
fn simulations_are_repeatable() {
    let folder = Folder::new();
    let run = |threads| {
        folder.aegis(&[
            "--format",
            "json",
            "simulate",
            "--sets",
            "2",
            "--seed",
            "7",
            "--horizon",
            "20ms",
            "--threads",
            threads,
        ])
    };
    let (one, two) = (run("1"), run("2"));
    assert_eq!((one.json(), one.code), (two.json(), two.code));
    assert_eq!(one.json()["sets"], 2);
}

#[test]
fn programs_are_told_of_wrong_arguments_in_their_own_form() {
    for arguments in [&["admit", "--format", "json"][..], &["--format=json", "admits"], &["--format", "json"]]
    {
        let answer = Folder::new().aegis(arguments);
        answer.refuses(2, &["Usage"]);
        let json = answer.json();
        assert_eq!(json["exit_code"], 2, "{json}");
        assert!(json["error"].as_str().is_some_and(|error| error.contains("Usage")), "{json}");
    }
}
