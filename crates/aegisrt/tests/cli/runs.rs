//! Runs of a real model: summary, trace, Ctrl-C, and a model that fails.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::bench::{Answer, cache, ready, task};
use crate::gather;

/// On a busy machine an assumption may break; what must not happen is anything worse.
#[track_caller]
fn ended_well(answer: &Answer) {
    assert!(matches!(answer.code, 0 | 4), "{answer:?}");
}

#[test]
fn measured_run_and_explained() {
    let Some(cache) = cache() else { return };
    let folder = ready(&cache, &[task("one", &[]), task("two", &[])].concat());
    let made = folder.aegis(&["calibrate", "fleet.toml", "-o", "measured.json", "--duration", "300ms"]);
    made.says(0, &["handoff", "charged", "wrote measured.json"]);
    let json = std::fs::read_to_string(folder.path("measured.json")).unwrap();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&json).unwrap()["methods"].as_array().unwrap().len(),
        13
    );
    let profiled =
        folder.aegis(&["profile", "fleet.toml", "--seconds", "200ms", "--samples", "50", "--margin", "50%"]);
    profiled.says(0, &["alone p50", "budget", "plus 50%", "persistent"]);
    assert!(profiled.err.contains("[2/2] two"), "{profiled:?}");
    folder.aegis(&["admit", "fleet.toml"]).says(0, &["measured, n ", "ADMITTED"]);

    let run = folder.aegis(&[
        "run",
        "fleet.toml",
        "--duration",
        "1s",
        "--trace",
        "run.aegis",
        "--check-outputs",
        "--poison",
    ]);
    ended_well(&run);
    let says = [
        "WCRT",
        "covered",
        "outputs of",
        "bit by bit",
        "memory: pressure level ",
        "held of",
        "unenforced",
        "trace: run.aegis",
    ];
    run.says(run.code, &says);
    assert!(run.out.lines().all(|line| line.len() <= 120), "{}", run.out);
    folder.aegis(&["replay", "run.aegis"]).says(0, &["identical"]);
    folder.aegis(&["explain", "run.aegis", "--task", "two"]).says(0, &["two#", "executed", "sum"]);

    let json = folder.aegis(&["run", "fleet.toml", "--duration", "500ms", "--format", "json"]);
    ended_well(&json);
    assert_eq!(json.json()["pressure"]["highest"], 2, "{json:?}");
    let bytes = |key: &str| json.json()["memory"][key].as_u64().expect("a number of bytes");
    assert!(bytes("held_bytes") <= bytes("planned_bytes"), "{json:?}");
    assert!(bytes("process_peak_bytes") > 0, "{json:?}");
    let tasks = &json.json()["summary"]["tasks"];
    assert!(tasks[0]["completed"].as_u64().is_some_and(|jobs| (3..=6).contains(&jobs)), "{tasks}");
}

#[test]
fn ctrl_c_leaves_a_complete_trace_and_a_summary() {
    let Some(cache) = cache() else { return };
    let folder = ready(&cache, &task("vad", &[("period", "\"50ms\"")]));
    let mut child =
        folder.command(&["run", "fleet.toml", "--duration", "300s", "--trace", "run.aegis"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("jobs in bounds") {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "it ended before it served");
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    let answer = Answer::of(child.wait_with_output().unwrap());
    answer.says(130, &["ended early by the operator", "WCRT", "trace: run.aegis"]);
    let trace = aegis_trace::Trace::open(&folder.path("run.aegis")).unwrap();
    assert_eq!((trace.damage(), trace.gaps()), (None, &[][..]));
    assert!(trace.blob("summary").is_some());
    folder.aegis(&["replay", "run.aegis"]).says(0, &["identical"]);
}

/// Whenever it comes, Ctrl-C ends the run in order; before the process listens for it, it ends the process.
#[test]
fn ctrl_c_is_heard_at_any_moment() {
    let Some(cache) = cache() else { return };
    let folder = ready(&cache, &task("vad", &[]));
    for delay in (20..400).step_by(20) {
        let mut child = folder.command(&["run", "fleet.toml", "--duration", "300s"]).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(delay));
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        let status = child.wait().unwrap();
        let ended = (status.code(), status.signal());
        assert!(matches!(ended, (Some(130), None) | (None, Some(2))), "after {delay} ms: {status}");
    }
}

#[test]
fn a_trace_that_cannot_be_written_runs_nothing() {
    let Some(cache) = cache() else { return };
    let folder = ready(&cache, &task("vad", &[]));
    folder
        .aegis(&["run", "fleet.toml", "--trace", "no/such/folder/run.aegis"])
        .refuses(2, &["no/such/folder"]);
}

/// A limit on the size of files stands for a full disk.
#[test]
fn a_disk_that_fills_up_cuts_the_trace_and_keeps_the_summary() {
    let Some(cache) = cache() else { return };
    let tight = [("period", "\"40ms\""), ("budget", "{ memory = \"32MiB\", compute = \"5ms\" }")];
    let folder = ready(&cache, &task("vad", &tight));
    let run = |format| {
        let aegis = folder.command(&[
            "run",
            "fleet.toml",
            "--duration",
            "2s",
            "--trace",
            "cut.aegis",
            "--format",
            format,
        ]);
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' XFSZ; ulimit -f 20; exec \"$@\"", "sh"]).arg(aegis.get_program());
        shell.args(aegis.get_args()).current_dir(folder.path("")).stdin(Stdio::null());
        Answer::of(shell.output().unwrap())
    };
    let answer = run("text");
    answer.says(70, &["WCRT", "covered", "TRACE CUT: trace cut.aegis: writing failed after", "can be read"]);
    let length = std::fs::metadata(folder.path("cut.aegis")).unwrap().len();
    assert!(answer.out.contains(&format!("after {length} bytes")), "{length}: {}", answer.out);
    folder.aegis(&["replay", "cut.aegis"]).says(2, &["damaged at byte", "equal as far as"]);
    folder.aegis(&["explain", "cut.aegis", "--task", "vad"]).says(0, &["vad#"]);
    let json = run("json").json();
    assert!(json["trace_error"].as_str().is_some_and(|error| error.contains("cut.aegis")), "{json}");
    assert_eq!(json["exit_code"], 70);
}

/// A recording with indices beyond the model's table makes every job fail; the other task goes on.
#[test]
fn a_model_that_fails_at_run_time_takes_no_other_down() {
    let Some(cache) = cache() else { return };
    let broken = [
        ("model", "\"gather.onnx\""),
        ("shapes", "{ index = [1] }"),
        ("state", "[]"),
        ("inputs", "{ file = \"beyond.bin\" }"),
        ("period", "\"200ms\""),
    ];
    let folder = ready(&cache, &[task("vad", &[]), task("broken", &broken)].concat());
    folder.write("beyond.bin", 1_000_000i64.to_le_bytes()).write("gather.onnx", gather::model());
    let answer = folder.aegis(&["run", "fleet.toml", "--duration", "1s", "--trace", "run.aegis"]);
    answer
        .says(4, &["broken: SegmentSucceeds broken", "jobs failed", "no kept guarantee", "indices element"]);
    let json = folder.aegis(&["run", "fleet.toml", "--duration", "500ms", "--format", "json"]).json();
    let jobs = |task: usize| json["summary"]["tasks"][task]["completed"].as_u64().unwrap();
    assert!(jobs(0) >= 3 && jobs(1) == 0, "{json}");
    folder.aegis(&["replay", "run.aegis"]).says(0, &["identical"]);
    folder
        .aegis(&["profile", "fleet.toml", "--seconds", "50ms"])
        .refuses(2, &["fails when it runs", "indices element"]);
}

const ONE_NUMBER: [(&str, &str); 3] =
    [("model", "\"one.onnx\""), ("shapes", "{ index = [1] }"), ("state", "[]")];

/// What two plain runs do not agree on cannot be wrong.
#[test]
fn outputs_that_no_two_runs_make_alike_are_not_called_wrong() {
    let Some(cache) = cache() else { return };
    let folder = ready(&cache, &task("draw", &ONE_NUMBER));
    folder.write("one.onnx", gather::random());
    let answer = folder.aegis(&["run", "fleet.toml", "--duration", "300ms", "--check-outputs"]);
    assert!(matches!(answer.code, 0 | 4), "{answer:?}");
    let said = ["draw: outputs not compared: two plain runs", "differ in `value`", "draws"];
    assert!(said.iter().all(|part| answer.out.contains(part)), "{answer:?}");
    assert!(!answer.out.contains("WRONG"), "{answer:?}");
}

/// It fails as soon as its lane loads it, and is found at the fleet's line all the same.
#[test]
fn a_model_that_fails_while_it_is_loaded_is_named_at_its_line() {
    let Some(cache) = cache() else { return };
    let folder = ready(&cache, &task("odd", &ONE_NUMBER));
    folder.write("one.onnx", gather::misstated());
    for arguments in [&["run", "fleet.toml", "--duration", "100ms"][..], &["profile", "fleet.toml"]] {
        folder.aegis(arguments).refuses(
            2,
            &[
                "fleet.toml:",
                "`odd`.model = \"one.onnx\"",
                "output `value` has shape {2} in this run and had {1} before",
                "legal: an output of one shape",
            ],
        );
    }
}

#[test]
fn a_recording_that_is_no_whole_number_of_jobs_is_refused_by_the_first_command_that_reads_it() {
    let Some(cache) = cache() else { return };
    let recorded = [&ONE_NUMBER[..], &[("inputs", "{ file = \"short.bin\" }")]].concat();
    let folder = ready(&cache, &task("lookup", &recorded));
    folder.write("one.onnx", gather::model()).write("short.bin", [0; 12]);
    for command in ["admit", "plan", "profile", "run"] {
        folder.aegis(&[command, "fleet.toml"]).refuses(
            2,
            &[
                "fleet.toml:",
                "`lookup`.inputs.file = \"short.bin\"",
                "12B are no whole number of jobs",
                "8B for each job: the elements of `index` I64 [1], in this order",
            ],
        );
    }
}

#[test]
fn a_sporadic_task_that_nobody_submits_is_told() {
    let Some(cache) = cache() else { return };
    let folder = ready(&cache, &task("vad", &[("arrival", "\"sporadic\"")]));
    let answer = folder.aegis(&["run", "fleet.toml", "--duration", "100ms"]);
    answer.says(
        0,
        &["vad: sporadic, and nobody submits its jobs", "--clients", "No job ended, so nothing is claimed."],
    );
}
