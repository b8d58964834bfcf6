//! The language: what is read, and what is refused with which words.

use std::collections::BTreeMap;

use super::*;
use aegis_types::Bytes;

const MODEL: &str = "script 1\ninput x f32 1x?\ninput t i64 scalar\noutput y f32 1x4 # comment\n\
    weights 4KiB\nscratch 1KiB\nsegment 1.2ms..1.5ms\nsegment 300us scratch 2KiB\nend\n";

fn inspect(text: &str, shapes: &[(&str, &[u64])]) -> Result<ModelDescription, BackendError> {
    let shapes: BTreeMap<String, Vec<u64>> =
        shapes.iter().map(|(name, axes)| ((*name).to_owned(), axes.to_vec())).collect();
    let request =
        ModelRequest { name: "m", artifact: text.as_bytes(), shapes: &shapes, allow_control_flow: false };
    ScriptedLoader::new(Durations::Longest).inspect(&request)
}

#[test]
fn a_script_is_described() {
    let found = inspect(MODEL, &[("x", &[1, 6])]).expect("legal");
    assert_eq!((found.inputs[0].bytes, found.inputs[1].bytes), (Bytes::new(24), Bytes::new(8)));
    assert_eq!(found.graph.segments(), 2);
    assert_eq!(found.memory.weights, Bytes::new(4096));
    assert_eq!(found.memory.scratch, Some(vec![Bytes::new(1024), Bytes::new(2048)]));
}

#[test]
fn bad_scripts_are_refused_with_the_place() {
    let refused = |text: &str, shapes: &[(&str, &[u64])], words: &[&str]| {
        let error = inspect(text, shapes).expect_err(text).to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    };
    refused("", &[], &["script 1"]);
    refused(&MODEL[..MODEL.len() - 4], &[("x", &[1, 6])], &["cut off"]);
    refused("script 1\nsegment 2ms..1ms\nend", &[], &["line 2", "longer"]);
    refused("script 1\nsegment 2\nend", &[], &["line 2", "unit"]);
    refused("script 1\ninput x f99 1\nsegment 1us\nend", &[], &["f99", "bf16"]);
    refused("script 1\ninput x f32 1\ninput x f32 1\nsegment 1us\nend", &[], &["line 3", "twice"]);
    refused("script 1\nnonsense\nend", &[], &["line 2", "legal"]);
    refused("script 1\ninput x f32 1\nend", &[], &["no segment"]);
    refused("script 1\nsegment 1us\nend\nsegment 1us", &[], &["line 4", "behind"]);
    refused(MODEL, &[], &["`x`", "dynamic"]);
    refused(MODEL, &[("x", &[2, 6])], &["`x`", "axis 0"]);
    refused(MODEL, &[("x", &[6])], &["`x`", "axes"]);
    refused(MODEL, &[("x", &[1, 6]), ("z", &[1])], &["`z`", "x, t"]);
    refused(MODEL, &[("x", &[1, u64::MAX])], &["`x`", "4 GiB"]);
}

#[test]
fn durations_stay_in_their_range_and_reach_its_ends() {
    let mut generator = SplitMix64::new(7);
    let drawn: Vec<u64> = (0..1_000).map(|_| generator.draw_between(10, 13)).collect();
    assert!((10..=13).all(|value| drawn.contains(&value)) && drawn.iter().all(|value| *value <= 13));
    assert_eq!(generator.draw_between(5, 5), 5);
    generator.draw_between(0, u64::MAX);
}

#[test]
fn splitmix_known_answers() {
    // Published first outputs for seed 1234567.
    let mut generator = SplitMix64::new(1_234_567);
    assert_eq!([generator.draw(), generator.draw()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
}
