//! Files that commands write: never in place of one that is read, never silently nowhere.

use std::fs::File;
use std::process::Stdio;

use crate::bench::{Answer, Folder, cache, fleet, ready, task};
use crate::made;

#[test]
fn no_output_replaces_an_input() {
    let folder = Folder::new();
    folder.calibrated().write("fleet.toml", fleet(1, &task("vad", &[]))).write("model.onnx", "weights");
    let before = |name: &str| std::fs::read(folder.path(name)).unwrap();
    let kept = ["fleet.toml", "model.onnx", "platform.json"].map(|name| (name, before(name)));
    let cases: [&[&str]; 7] = [
        &["run", "fleet.toml", "--trace", "fleet.toml"],
        &["run", "fleet.toml", "--trace", "./model.onnx"],
        &["run", "fleet.toml", "--trace", "platform.json"],
        &["calibrate", "fleet.toml", "--output", "fleet.toml"],
        &["profile", "fleet.toml", "--output", "platform.json"],
        &["profile", "fleet.toml", "--output", "model.onnx"],
        &["admit", "fleet.toml", "--fit", "1ms", "--write", "platform.json"],
    ];
    for arguments in cases {
        folder.aegis(arguments).refuses(2, &[arguments[arguments.len() - 2], "would replace"]);
    }
    for (name, content) in kept {
        assert_eq!(before(name), content, "{name}");
    }
}

#[test]
fn a_folder_that_is_not_there_is_found_before_the_work() {
    let folder = Folder::new();
    folder.calibrated().write("fleet.toml", fleet(1, &task("vad", &[]))).write("model.onnx", "weights");
    for command in ["calibrate", "profile"] {
        let answer = folder.aegis(&[command, "fleet.toml", "--output", "absent/out.json"]);
        answer.refuses(2, &["--output", "absent is no folder"]);
        folder.aegis(&[command, "fleet.toml", "--output", "."]).refuses(2, &["--output", "folder"]);
    }
    folder
        .aegis(&["run", "fleet.toml", "--trace", "absent/t"])
        .refuses(2, &["--trace", "absent is no folder"]);
}

#[test]
fn an_export_leaves_its_trace_alone() {
    let folder = Folder::new();
    made::trace(&folder.path("run.aegis"));
    let whole = std::fs::read(folder.path("run.aegis")).unwrap();
    folder.aegis(&["export", "run.aegis", "--json", "./run.aegis"]).refuses(2, &["--json", "would replace"]);
    folder
        .aegis(&["export", "run.aegis", "--perfetto", "run.aegis"])
        .refuses(2, &["--perfetto", "would replace"]);
    folder
        .aegis(&["export", "run.aegis", "--json", "one", "--perfetto", "one"])
        .refuses(2, &["--json", "would replace"]);
    assert_eq!(std::fs::read(folder.path("run.aegis")).unwrap(), whole);
    folder
        .aegis(&["export", "run.aegis", "--json", "/dev/full"])
        .refuses(2, &["/dev/full", "cannot be written"]);
}

#[test]
fn a_trace_without_a_record_is_not_exported() {
    let folder = Folder::new();
    made::trace(&folder.path("run.aegis"));
    let whole = std::fs::read(folder.path("run.aegis")).unwrap();
    for length in [0, 1, 30] {
        folder.write("cut.aegis", &whole[..length]);
        folder.aegis(&["export", "cut.aegis", "--json", "out"]).refuses(2, &["cut.aegis", "damaged at byte"]);
        assert!(!folder.path("out").exists(), "cut at {length}");
    }
}

#[test]
fn an_answer_that_nobody_got_is_not_done() {
    let folder = Folder::new();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = folder.command(&["devices"]).stdout(Stdio::from(full)).output().unwrap();
    Answer::of(output).refuses(70, &["standard output", "cannot be written"]);
}

#[test]
fn two_runs_do_not_write_one_trace() {
    let Some(cache) = cache() else { return };
    let folder = ready(&cache, &task("vad", &[]));
    let run = || folder.aegis(&["run", "fleet.toml", "--duration", "100ms", "--trace", "run.aegis"]);
    let held = File::create(folder.path("run.aegis")).unwrap();
    held.lock().unwrap();
    run().refuses(2, &["run.aegis", "another run"]);
    drop(held);
    let nowhere = folder.aegis(&["run", "fleet.toml", "--duration", "100ms", "--trace", "/dev/null"]);
    nowhere.refuses(2, &["/dev/null", "no regular file"]);
    let answer = run();
    assert!(matches!(answer.code, 0 | 4), "{answer:?}");
    folder.aegis(&["replay", "run.aegis"]).says(0, &["identical"]);
}

/// A pipe of the folder stands for every device: were one replaced, only this folder would suffer.
#[test]
fn a_device_is_not_replaced_and_no_campaign_is_kept_beside_it() {
    let folder = Folder::new();
    folder.calibrated().write("fleet.toml", fleet(1, &task("vad", &[]))).write("model.onnx", "weights");
    let made = std::process::Command::new("mkfifo").arg(folder.path("pipe")).status();
    if !made.is_ok_and(|status| status.success()) {
        println!("skipped: there is no mkfifo here");
        return;
    }
    folder
        .aegis(&["profile", "fleet.toml", "--output", "pipe"])
        .refuses(2, &["--output: pipe is a device or a pipe", "legal: the path of a file"]);
    assert!(!folder.path("pipe").is_file());
    assert!(!folder.path("pipe.campaign.json").exists());
}

#[test]
fn an_export_that_fails_leaves_what_was_there() {
    let folder = Folder::new();
    made::trace(&folder.path("run.aegis"));
    folder.write("out.jsonl", "kept");
    // What is written first cannot be: a folder has its name.
    std::fs::create_dir(folder.path("out.jsonl.partial")).unwrap();
    folder
        .aegis(&["export", "run.aegis", "--json", "out.jsonl"])
        .refuses(2, &["out.jsonl", "cannot be written"]);
    assert_eq!(std::fs::read(folder.path("out.jsonl")).unwrap(), b"kept");
}
