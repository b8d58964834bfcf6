//! Models cut into segments, and a fleet that runs one.

use crate::bench::{Answer, Folder, cache, ready, task};

const SHAPES: &str = "input=1x576,h=1x1x128,c=1x1x128";

/// `aegis segment` on the model of the folder.
fn segment(folder: &Folder, more: &[&str]) -> Answer {
    let command = ["segment", "model.onnx", "--shapes", SHAPES, "--runs", "5", "--memory", "300MiB"];
    folder.aegis(&[&command, more].concat())
}

/// Tensors behind which the model may be cut.
fn places(folder: &Folder) -> Vec<String> {
    let whole = segment(folder, &["--max", "10s", "--format", "json"]).json();
    assert_eq!(whole["segments"].as_array().map(Vec::len), Some(1), "the whole keeps ten seconds: {whole}");
    let places = whole["places"].as_array().expect("a list").iter();
    places.map(|place| place["tensor"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn a_fleet_with_a_model_in_segments_is_profiled_admitted_and_run() {
    let Some(cache) = cache() else { return };
    let cut_model = [("model", "\"cut.onnx\"")];
    let folder = ready(&cache, &[task("cut", &cut_model), task("whole", &[])].concat());
    let places = places(&folder);
    assert!(folder.path("model.segments.onnx").exists(), "without --out it goes beside the model");
    let (first, second) = (&places[places.len() / 3], &places[places.len() * 2 / 3]);
    let cut = segment(&folder, &["--at", first, "--at", second, "--out", "cut.onnx"]);
    cut.says(0, &["segment", "2 of", "largest difference", "wrote cut.onnx", first]);

    let profile = ["profile", "fleet.toml", "--seconds", "300ms", "--samples", "20", "--strata", "2"];
    folder.aegis(&profile).says(0, &["wrote profile.json"]);
    let text = std::fs::read_to_string(folder.path("profile.json")).unwrap();
    let known: serde_json::Value = serde_json::from_str(&text).unwrap();
    let segments = |at: usize| known["tasks"][at]["segments"].as_array().map(Vec::len);
    assert_eq!((segments(0), segments(1)), (Some(3), Some(1)), "{text}");

    folder.aegis(&["admit", "fleet.toml"]).says(0, &["ADMITTED"]);
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
    assert!(matches!(run.code, 0 | 4), "{run:?}");
    assert!(run.out.contains("bit by bit") && !run.out.contains("WRONG"), "{run:?}");
}

#[test]
fn a_limit_is_kept_or_refused_with_the_node_that_exceeds_it() {
    let Some(cache) = cache() else { return };
    let folder = ready(&cache, &task("one", &[]));
    let refused = segment(&folder, &["--max", "1ns"]);
    refused.refuses(3, &["takes", "percentile 99 of 5 runs", "--max is 1ns", "legal is"]);
    assert!(!folder.path("model.segments.onnx").exists(), "a refusal writes nothing");
    let whole = segment(&folder, &["--max", "10s", "--percentile", "50", "--format", "json"]).json();
    let takes = whole["segments"][0]["alone_ns"].as_u64().expect("measured");
    // How long a piece takes is the machine's mood; that every piece keeps the limit, or one node breaks it, is not.
    let half = format!("{}ns", takes / 2);
    let cut = segment(&folder, &["--max", &half, "--percentile", "50", "--format", "json"]);
    match cut.code {
        0 => {
            let answer = cut.json();
            let segments = answer["segments"].as_array().expect("a list");
            assert!(
                segments.iter().all(|segment| segment["alone_ns"].as_u64() <= Some(takes / 2)),
                "{answer}"
            );
            assert!(answer["difference"].as_f64().expect("a number") <= 1e-5, "{answer}");
        }
        code => assert!(code == 3 && cut.err.contains("--max is"), "{cut:?}"),
    }
}

#[test]
fn wrong_arguments_are_refused_by_name() {
    let Some(cache) = cache() else { return };
    let folder = ready(&cache, &task("one", &[]));
    folder.aegis(&["segment", "model.onnx"]).refuses(2, &["--max"]);
    folder
        .aegis(&["segment", "nothing.onnx", "--max", "1ms"])
        .refuses(2, &["nothing.onnx", "cannot be read"]);
    folder
        .aegis(&["segment", "model.onnx", "--max", "1ms"])
        .refuses(2, &["input", "is not fixed; `shapes` must give one"]);
    folder
        .aegis(&["segment", "model.onnx", "--max", "1ms", "--shapes", "input"])
        .refuses(2, &["--shapes: `input`"]);
    segment(&folder, &["--at", "nothing"]).refuses(2, &["cut behind `nothing`"]);
    segment(&folder, &["--max", "1ms", "--out", "model.onnx"]).refuses(2, &["--out", "would replace"]);
    let places = places(&folder);
    let (early, late) = (&places[1], &places[places.len() - 1]);
    segment(&folder, &["--at", late, "--at", early]).refuses(2, &["in the order of the nodes"]);
    folder.write("model.onnx", "no model");
    segment(&folder, &["--max", "1ms"]).refuses(2, &["model.onnx"]);
}
