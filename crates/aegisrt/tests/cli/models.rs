//! Models that are wrong, and verdicts on models that are right.

use crate::bench::{Folder, cache, ready, task};

#[track_caller]
fn check(folder: &Folder, command: &str, code: i32, parts: &[&str]) {
    folder.aegis(&[command, "fleet.toml"]).refuses(code, parts);
}

#[test]
fn models_that_cannot_be_used() {
    let Some(cache) = cache() else { return };
    let folder = ready(&cache, &task("vad", &[]));
    let whole = std::fs::read(folder.path("model.onnx")).unwrap();
    for command in ["admit", "plan", "run", "profile"] {
        folder.write("model.onnx", &whole[..whole.len() / 2]);
        check(&folder, command, 2, &["fleet.toml:", "model"]);
    }
    folder.write("model.onnx", "");
    check(&folder, "admit", 2, &["fleet.toml:", "model"]);
    let mut unknown = whole.clone();
    // The field of a node that holds the name of its operator, and the name's length.
    let name = b"\x22\x07Sigmoid";
    let place = whole.windows(name.len()).position(|window| window == name).expect("silero has a sigmoid");
    unknown[place + name.len() - 1] = b'x';
    folder.write("model.onnx", &unknown);
    check(&folder, "admit", 2, &["fleet.toml:", "Sigmoix"]);
}

#[test]
fn axes_budgets_and_state() {
    let Some(cache) = cache() else { return };
    let case = |more: &[(&str, &str)], parts: &[&str]| {
        let folder = ready(&cache, &task("vad", more));
        check(&folder, "admit", 2, parts);
    };
    case(&[("shapes", "{ h = [1, 1, 128], c = [1, 1, 128] }")], &["fleet.toml:", "input"]);
    case(&[("budget", "{ memory = \"64KiB\", compute = \"20ms\" }")], &["budget.memory", "weights"]);
    case(&[("budget", "{ memory = \"32MiB\" }")], &["budget.compute", "aegis profile"]);
    case(&[("state", "[[\"hn\", \"nothing\"]]")], &["state", "nothing"]);
}

#[test]
fn a_fleet_that_fits_is_admitted_with_bounds() {
    let Some(cache) = cache() else { return };
    let folder = ready(&cache, &[task("one", &[]), task("two", &[])].concat());
    let answer = folder.aegis(&["admit", "fleet.toml", "--explain", "two"]);
    answer.says(0, &["ADMITTED", "Assumptions", "proven", "sum: WCRT", "memory:"]);
    assert!(answer.out.lines().all(|line| line.len() <= 120), "{}", answer.out);
    let json = folder.aegis(&["admit", "fleet.toml", "--format", "json"]).json();
    assert_eq!(json["admitted"], true);
    for task in json["tasks"].as_array().unwrap() {
        let terms: u64 =
            task["terms"].as_array().unwrap().iter().map(|term| term["span_ns"].as_u64().unwrap()).sum();
        assert_eq!(terms, task["wcrt_ns"].as_u64().unwrap());
        assert!(terms <= task["deadline_ns"].as_u64().unwrap());
    }
    folder.aegis(&["plan", "fleet.toml"]).says(0, &["peak", "lower bound", "saved"]);
    let plan = folder.aegis(&["plan", "fleet.toml", "--format", "json"]).json();
    assert!(plan["peak_bytes"].as_u64() >= plan["lower_bound_bytes"].as_u64());
}

#[test]
fn a_fleet_that_asks_for_more_than_all_time_is_refused_with_what_would_fit() {
    let Some(cache) = cache() else { return };
    let tasks = [task("one", &[("period", "\"30ms\"")]), task("two", &[("period", "\"30ms\"")])].concat();
    let folder = ready(&cache, &tasks);
    folder.aegis(&["admit", "fleet.toml"]).says(3, &["REFUSED", "utilisation is", "would fit with"]);
    let json = folder.aegis(&["admit", "fleet.toml", "--format", "json"]).json();
    assert_eq!((&json["admitted"], &json["refusal"]["kind"]), (&false.into(), &"utilisation".into()));
    folder.aegis(&["run", "fleet.toml", "--trace", "run.aegis"]).says(3, &["REFUSED", "nothing was run"]);
    assert!(!folder.path("run.aegis").exists(), "a refused run leaves nothing");
    let fitted = folder.aegis(&["admit", "fleet.toml", "--fit", "1ms", "--write", "fitted.toml"]);
    fitted.says(0, &["30ms -> ", "(stretched)", "ADMITTED", "wrote fitted.toml"]);
    folder.aegis(&["admit", "fitted.toml"]).says(0, &["ADMITTED"]);
    // Fitting what was fitted starts from the natural periods again and finds the same.
    let text = std::fs::read_to_string(folder.path("fitted.toml")).unwrap();
    folder.aegis(&["admit", "fitted.toml", "--fit", "1ms", "--write", "again.toml"]).says(0, &["30ms -> "]);
    assert_eq!(std::fs::read_to_string(folder.path("again.toml")).unwrap(), text);
}

#[test]
fn memory_that_is_not_there_is_a_verdict_too() {
    let Some(cache) = cache() else { return };
    let folder = ready(&cache, &task("vad", &[("budget", "{ memory = \"600MiB\", compute = \"20ms\" }")]));
    let answer = folder.aegis(&["admit", "fleet.toml"]);
    answer.says(
        3,
        &["In time alone every deadline would hold", "REFUSED: the fleet needs", "missing", "`vad`"],
    );
    assert!(!answer.out.contains("ADMITTED"), "{}", answer.out);
    folder.aegis(&["plan", "fleet.toml"]).refuses(3, &["missing", "`vad`"]);
    folder.aegis(&["run", "fleet.toml"]).refuses(3, &["missing"]);
}

#[test]
fn what_if_asks_without_changing_anything() {
    let Some(cache) = cache() else { return };
    let folder = ready(&cache, &task("vad", &[]));
    let before = std::fs::read(folder.path("fleet.toml")).unwrap();
    folder
        .write("small.toml", task("small", &[]))
        .write("large.toml", task("large", &[("period", "\"15ms\"")]));
    folder.write("same.toml", task("vad", &[]));
    folder
        .aegis(&["admit", "fleet.toml", "--what-if", "small.toml"])
        .says(0, &["What if `small` came too", "ADMITTED"]);
    folder.aegis(&["admit", "fleet.toml", "--what-if", "large.toml"]).says(3, &["REFUSED", "would fit with"]);
    folder.aegis(&["admit", "fleet.toml", "--what-if", "same.toml"]).refuses(2, &["same.toml", "name"]);
    assert_eq!(std::fs::read(folder.path("fleet.toml")).unwrap(), before);
}
