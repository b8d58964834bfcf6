//! Bad fleets: every refusal names line, key, value and what would be legal.

use aegisrt::config::{ConfigError, Fleet};
use proptest::prelude::{ProptestConfig, any, proptest};

use crate::{GOOD, fleet_path};

/// One change of a line of the good fleet, and what the refusal must say: line, key, value and legal values.
fn check(line: usize, replacement: &str, at: usize, parts: &[&str]) {
    let mut lines: Vec<&str> = GOOD.lines().collect();
    lines[line - 1] = replacement;
    check_text(&lines.join("\n"), at, parts);
}

fn check_text(text: &str, at: usize, parts: &[&str]) {
    let error = match Fleet::parse(&fleet_path(), text) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(error) => error.to_string(),
    };
    println!("{error}");
    let start = format!("{}:{at}:", fleet_path().display());
    assert!(error.starts_with(&start), "line {at} was due: {error}");
    for part in parts.iter().chain(&["legal"]) {
        assert!(error.contains(part), "`{part}` was due: {error}");
    }
    assert!(!error.contains('\n'), "one line: {error:?}");
}

#[test]
fn bad_devices_and_policies_are_refused() {
    let devices = "\"host\", \"sim\", or \"cuda:0\"";
    for kind in ["tpu", "cuda", "cuda:", "cuda:x", "cuda:-1", "cuda:+1", "cuda:65536", "cuda:99999999999"] {
        let line = format!("kind = \"{kind}\"");
        check(2, &line, 2, &[&format!("device.{line}"), "no such device", devices]);
    }
    check(2, "kind = 3", 2, &["device.kind = 3", "integer", devices]);
    check(2, "", 1, &["device.kind", "missing", devices]);
    let modes = "\"spin\", \"hybrid\", \"blocking\"";
    check(3, "wait = \"poll\"", 3, &["device.wait = \"poll\"", "no such way to wait", modes]);
    check(3, "wait = true", 3, &["device.wait = true", "\"spin\", \"hybrid\" or \"blocking\""]);
    check(3, "memory = \"0B\"", 3, &["device.memory = \"0B\"", "above zero"]);
    check(3, "memory = \"2 gigs\"", 3, &["device.memory = \"2 gigs\"", "B, KiB, MiB, GiB"]);
    check(3, "memory = 2147483648", 3, &["device.memory = 2147483648", "\"256MiB\""]);
    check(3, "ram = \"2GiB\"", 3, &["device.ram = \"2GiB\"", "unknown field", "kind, memory, wait"]);
    check(
        12,
        "kind = \"lifo\"",
        12,
        &[
            "policy.kind = \"lifo\"",
            "\"fifo\", \"rm\", \"dm\", \"fp\", \"edf\", \"fair\", \"p-rm\", \"cw-edf\"",
        ],
    );
    check(12, "", 11, &["policy.kind", "missing", "\"fifo\""]);
}

#[test]
fn bad_levels_of_pressure_are_refused() {
    let with = |pressure: &str| {
        GOOD.replacen("[[partition]]", &format!("[memory]\npressure = {pressure}\n[[partition]]"), 1)
    };
    let legal = "rising whole percentages from 1 to 100";
    let refused = |pressure: &str, parts: &[&str]| {
        let line = 2 + GOOD.lines().position(|line| line == "[[partition]]").expect("a partition");
        check_text(&with(pressure), line, &[parts, &[legal]].concat());
    };
    refused("[70, 70]", &["memory.pressure[1] = 70", "the threshold before it is 70"]);
    refused("[0]", &["memory.pressure[0] = 0"]);
    refused("[50, 101]", &["memory.pressure[1] = 101"]);
    refused("[-1]", &["memory.pressure[0] = -1", "out of range"]);
    refused("[1, 2, 3, 4, 5, 6, 7, 8, 9]", &["memory.pressure[8] = 9"]);
    refused("70", &["memory.pressure = 70"]);
    refused("[0.7]", &["memory.pressure"]);
    let fleet = Fleet::parse(&fleet_path(), &with("[60, 95]")).expect("they rise");
    assert_eq!(fleet.pressure().percent(), [60, 95]);
    let again = Fleet::parse(&fleet_path(), &fleet.to_toml()).expect("it was written");
    assert_eq!(again.pressure(), fleet.pressure());
    let silent = Fleet::parse(&fleet_path(), GOOD).expect("it is good");
    assert_eq!(silent.pressure().percent(), [70, 90]);
    assert!(!silent.to_toml().contains("[memory]"), "what was not written is not written");
}

#[test]
fn bad_partitions_are_refused() {
    check(5, "name = \"vision\"", 9, &["partition[1] `vision`.name = \"vision\"", "no other partition"]);
    check(5, "name = \"\"", 5, &["partition[0]", "name = \"\"", "letters, digits"]);
    check(5, "name = \"a b\"", 5, &["partition[0] `a b`.name = \"a b\"", "letters, digits"]);
    check(6, "", 4, &["partition[0] `audio`.cores", "missing", "[0, 1]"]);
    check(6, "cores = []", 6, &["partition[0] `audio`.cores = []", "at least one"]);
    check(6, "cores = [-1]", 6, &["partition[0] `audio`.cores[0] = -1", "0 to 65535"]);
    check(6, "cores = [0, 0]", 6, &["partition[0] `audio`.cores[1] = 0", "twice", "each core once"]);
    check(6, "cores = [2, 3]", 10, &["partition[1] `vision`.cores[1] = 2", "`audio`", "one partition only"]);
    check(6, "sms = 4", 6, &["partition[0] `audio`.sms = 4", "cores"]);
    check(6, "cores = [0]\nsms = 4", 7, &["partition[0] `audio`.sms = 4", "both", "cores"]);
    check(6, "cores = \"all\"", 6, &["partition[0] `audio`.cores = \"all\"", "array of core numbers"]);
    check(7, "lanes = 0", 7, &["partition[0] `audio`.lanes = 0", "1 to 2"]);
    check(7, "lanes = 70000", 7, &["partition[0] `audio`.lanes = 70000", "1 to 2"]);
    check(7, "lanes = 3", 7, &["partition[0] `audio`.lanes = 3", "1 to 2"]);
    check(7, "lanes = \"two\"", 7, &["partition[0] `audio`.lanes = \"two\"", "whole number"]);
    let sim = GOOD.replace("\"host\"", "\"sim\"").replace("cores = [0, 3]", "sms = 0");
    check_text(&sim, 6, &["partition[0] `audio`.sms = 0", "1 to 65535"]);
    let crowded = GOOD.replace("\"host\"", "\"sim\"").replace("lanes = 2", "lanes = 65535");
    check_text(&crowded, 8, &["partition[1] `vision`.lanes", "at most 65535 lanes"]);
}

/// The good fleet on a GPU, before one thing in it is changed.
fn on_a_gpu() -> String {
    GOOD.replace("\"host\"", "\"cuda:0\"")
        .replace("cores = [0, 3]", "sms = 64")
        .replace("cores = [1, 2]", "sms = 32")
        .replace("\"onnx\"", "\"kernel\"")
}

#[test]
fn what_a_gpu_does_not_have_is_refused() {
    let case = |from: &str, to: &str, at: usize, parts: &[&str]| {
        assert!(on_a_gpu().contains(from), "{from}");
        check_text(&on_a_gpu().replace(from, to), at, parts);
    };
    let sms = "sms, a number of streaming multiprocessors";
    case("sms = 64", "cores = [0]", 6, &["partition[0] `audio`.cores = [0]", "divided by sms", sms]);
    case("sms = 64", "", 4, &["partition[0] `audio`.sms", "missing", sms]);
    case("sms = 64", "sms = 64\ncores = [0]", 6, &["partition[0] `audio`.sms = 64", "both", sms]);
    case("sms = 64", "sms = 0", 6, &["partition[0] `audio`.sms = 0", "1 to 65535"]);
    let legal = "\"kernel\" or \"onnx\" or \"tvm\" or \"tensorrt\" on the cuda device";
    case("\"kernel\"", "\"tract\"", 16, &["backend = \"tract\"", "not a backend of this device", legal]);
    case("\"kernel\"", "\"caffe\"", 16, &["backend = \"caffe\"", "no such backend", legal]);
    check(
        16,
        "backend = \"kernel\"",
        16,
        &["not a backend of this device", "\"onnx\" or \"tract\" or \"tvm\" on the host device"],
    );
}

/// A key of the first task.
fn vad(below: &str) -> String {
    format!("task[0] `vad`.{below}")
}

#[test]
fn bad_times_are_refused() {
    check(17, "period = \"0ms\"", 17, &[&vad("period = \"0ms\""), "zero", "above zero"]);
    check(17, "period = 33", 17, &[&vad("period = 33"), "\"33ms\""]);
    check(17, "period = \"33\"", 17, &[&vad("period = \"33\""), "ns, us, ms, s"]);
    check(17, "period = \"-3ms\"", 17, &[&vad("period = \"-3ms\""), "no sign"]);
    check(17, "period = \"99999999999s\"", 17, &[&vad("period"), "too large", "at most"]);
    check(17, "period = \"86401s\"", 17, &[&vad("period = \"86401s\""), "at most 86400s"]);
    check(17, "", 13, &[&vad("period"), "missing", "\"33ms\""]);
    check(
        17,
        "perod = \"33ms\"",
        17,
        &[&vad("perod = \"33ms\""), "unknown field `perod`", "period, deadline"],
    );
    check(18, "deadline = \"0ns\"", 18, &[&vad("deadline = \"0ns\""), "above zero"]);
    check(18, "deadline = \"18446744073709551615ns\"", 18, &[&vad("deadline"), "too long", "86400s"]);
    check(
        19,
        "natural_period = \"33ms\"",
        19,
        &[&vad("natural_period = \"33ms\""), "at most the period, 32ms"],
    );
    check(22, "arrival = \"burst\"", 22, &[&vad("arrival"), "burst", "periodic", "sporadic"]);
    check(22, "arrival = \"sporadic\"", 23, &[&vad("offset = \"1ms\""), "no timer", "periodic"]);
    check(23, "offset = \"90000s\"", 23, &[&vad("offset = \"90000s\""), "86400s"]);
    check(24, "jitter = \"20ms\"", 24, &[&vad("jitter = \"20ms\""), "below the deadline, 20ms"]);
}

#[test]
fn bad_contracts_are_refused() {
    check(25, "retry = -1", 25, &[&vad("retry = -1"), "0 to 100"]);
    check(25, "retry = 1.5", 25, &[&vad("retry = 1.5"), "whole number"]);
    check(26, "on_overrun = \"panic\"", 26, &[&vad("on_overrun"), "panic", "skip", "keep"]);
    check(27, "criticality = \"highest\"", 27, &[&vad("criticality"), "highest", "low", "medium", "high"]);
    check(28, "", 13, &[&vad("priority"), "missing", "\"fp\"", "whole number"]);
    check(28, "priority = -1", 28, &[&vad("priority = -1"), "0 to 4294967295"]);
    check(29, "allow_control_flow = \"yes\"", 29, &[&vad("allow_control_flow = \"yes\""), "true or false"]);
    let budget = |inside: &str, parts: &[&str]| check(31, &format!("budget = {{ {inside} }}"), 31, parts);
    budget("memory = \"0MiB\"", &[&vad("budget.memory = \"0MiB\""), "above zero"]);
    budget("streams = 1", &[&vad("budget.memory"), "missing", "\"256MiB\""]);
    budget("memory = \"1MiB\", streams = 0", &[&vad("budget.streams = 0"), "1 to 16"]);
    budget("memory = \"1MiB\", compute = \"0s\"", &[&vad("budget.compute = \"0s\""), "above zero"]);
    budget("memory = \"1MiB\", cpu = 1", &[&vad("budget.cpu = 1"), "memory, streams, compute"]);
    check(31, "", 13, &[&vad("budget"), "missing", "memory = \"256MiB\""]);
}

#[test]
fn bad_places_and_models_are_refused() {
    check(14, "name = \"detector\"", 35, &["task[1] `detector`.name", "number 0", "no other task"]);
    check(14, "name = \"\\u001b[2J\"", 14, &["task[0]", "letters, digits"]);
    check(15, "model = \"\"", 15, &[&vad("model = \"\""), "path"]);
    check(16, "backend = \"trt\"", 16, &[&vad("backend = \"trt\""), "\"onnx\""]);
    check(16, "backend = \"script\"", 16, &[&vad("backend = \"script\""), "\"onnx\""]);
    check(20, "partition = \"radio\"", 20, &[&vad("partition = \"radio\""), "\"audio\", \"vision\""]);
    check(21, "lane = 2", 21, &[&vad("lane = 2"), "\"auto\"", "0 to 1"]);
    check(21, "lane = -1", 21, &[&vad("lane = -1"), "0 to 1"]);
    check(21, "lane = \"any\"", 21, &[&vad("lane = \"any\""), "\"auto\""]);
    check(21, "lane = [0]", 21, &[&vad("lane"), "\"auto\""]);
}

#[test]
fn bad_tensors_are_refused() {
    check(30, "state = [[\"hn\"]]", 30, &[&vad("state[0] = [\"hn\"]"), "1 names", "[[\"h_out\", \"h_in\"]]"]);
    check(
        30,
        "state = [[\"a\", \"h\"], [\"b\", \"h\"]]",
        30,
        &[&vad("state[1]"), "`h` is fed twice", "once"],
    );
    check(30, "state = [[\"a\", \"\"]]", 30, &[&vad("state[0]"), "empty"]);
    check(30, "state = [\"hn\", \"h\"]", 30, &[&vad("state"), "\"hn\"", "[[\"h_out\", \"h_in\"]]"]);
    check(32, "inputs = { seed = 1, file = \"a\" }", 32, &[&vad("inputs"), "both", "seed = 1"]);
    check(32, "inputs = {}", 32, &[&vad("inputs"), "neither", "seed = 1"]);
    check(32, "inputs = { seed = -1 }", 32, &[&vad("inputs.seed = -1"), "9223372036854775807"]);
    check(32, "inputs = { file = \"\" }", 32, &[&vad("inputs.file = \"\""), "recorded.bin"]);
    check(33, "shapes = { input = [1, 0] }", 33, &[&vad("shapes.input[1] = 0"), "1 to 4294967295"]);
    check(
        33,
        "shapes = { input = [4294967295, 999] }",
        33,
        &[&vad("shapes.input[1] = 999"), "1099511627776"],
    );
    check(33, "shapes = { input = 576 }", 33, &[&vad("shapes.input = 576"), "[1, 3, 480, 640]"]);
    check(33, "shapes = { input = [1.5] }", 33, &[&vad("shapes.input[0] = 1.5"), "[1, 3, 480, 640]"]);
    check(33, "shapes = { \"\" = [1] }", 33, &[&vad("shapes"), "no name", "input name"]);
}

#[test]
fn bad_files_are_refused() {
    check(9, "name = \"vision", 9, &["vision"]);
    check(17, "period = \"1ms\"\nperiod = \"2ms\"", 18, &["duplicate key", "`period = \"2ms\"`"]);
    check(17, "period = ", 17, &["TOML"]);
    check_text("", 1, &["device", "missing", "[device]"]);
    let brake = format!("{GOOD}[[brake]]\nname = \"brake\"\n");
    check_text(&brake, 44, &["brake", "unknown field", "partition", "task", "chain"]);
    check_text("[device]\nkind = \"host\"\n[policy]\nkind = \"edf\"\n", 1, &["partition", "at least one"]);
    let no_task: Vec<&str> = GOOD.lines().take(12).collect();
    check_text(&no_task.join("\n"), 1, &["task", "0 tasks", "1 to 10000"]);
    let crlf = GOOD.replace("period = \"32ms\"", "period = \"0ms\"").replace('\n', "\r\n");
    check_text(&crlf, 17, &["task[0] `vad`.period = \"0ms\""]);
    check_text(&format!("x = {}", "[".repeat(10_000)), 1, &[]);
    check(2, "kind = \"\u{1F980}\"; x = 1", 2, &[]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    /// Whatever bytes a fleet is changed to, it is accepted or refused at a line that it has.
    #[test]
    fn no_edit_of_a_fleet_panics(
        edits in proptest::collection::vec((0..GOOD.len(), any::<u8>(), 0u8..3), 1..8)
    ) {
        let mut bytes = GOOD.as_bytes().to_vec();
        for (at, byte, kind) in edits {
            let at = at.min(bytes.len() - 1);
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => {
                    bytes.remove(at);
                }
            }
        }
        check_edited(&String::from_utf8_lossy(&bytes));
    }
}

fn check_edited(text: &str) {
    match Fleet::parse(&fleet_path(), text) {
        Ok(fleet) => {
            let again = Fleet::parse(&fleet_path(), &fleet.to_toml()).expect("what is written is legal");
            assert_eq!(again.tasks(), fleet.tasks());
        }
        Err(ConfigError::Field { place, .. } | ConfigError::Syntax { place, .. }) => {
            let (line, column) = place.position.expect("a fleet's complaint has a line");
            let lines = text.matches('\n').count() + 1;
            assert!((1..=lines).contains(&line) && column >= 1, "{place} of {lines} lines");
        }
        Err(error) => panic!("a text is read: {error}"),
    }
}

#[test]
fn bad_turns_and_exclusions_are_refused() {
    check(26, "weight = 0", 26, &["task[0] `vad`.weight = 0", "1 to 65535"]);
    check(26, "weight = \"2\"", 26, &["task[0] `vad`.weight = \"2\"", "from 1"]);
    let exclude = |names: &str, parts: &[&str]| {
        let line = format!("exclude = {names}");
        check(26, &line, 26, &[&["task[0] `vad`.exclude"], parts].concat());
    };
    exclude("[\"nobody\"]", &["exclude[0] = \"nobody\"", "no such task", "names of other tasks"]);
    exclude("[\"vad\"]", &["exclude[0] = \"vad\"", "itself"]);
    exclude("[\"detector\"]", &["exclude[0] = \"detector\"", "no lane of its own", "lane by number"]);
    exclude("\"detector\"", &["exclude = \"detector\"", "array of names"]);
}
