//! The language, the kernels as text, and a loaded model on an emulated device.

use std::collections::BTreeMap;

use proptest::prelude::{ProptestConfig, any, proptest};

use super::*;
use crate::host::{HostDevice, HostOptions};
use aegis_types::Nanos;

const MODEL: &str = "kernel 1\ninput x f32 1x?\ninput t i64 scalar\noutput y f32 4 # comment\n\
    weights 4KiB\nscratch 1KiB\nsegment\ncompute blocks=64 threads=32 rounds=10 repeat=3\nread bytes=4KiB\n\
    segment scratch 2KiB\nstream bytes=2KiB\ncopy 1KiB on-device\nstorm 50\noverrun 5s at=1000\nend\n";

fn request<'a>(text: &'a str, shapes: &'a BTreeMap<String, Vec<u64>>) -> ModelRequest<'a> {
    ModelRequest { name: "m", artifact: text.as_bytes(), shapes, allow_control_flow: false }
}

fn inspect(text: &str) -> Result<ModelDescription, BackendError> {
    let shapes =
        if text.contains('?') { BTreeMap::from([("x".to_owned(), vec![1, 6])]) } else { BTreeMap::new() };
    KernelLoader::new().inspect(&request(text, &shapes))
}

#[test]
fn a_model_is_described() {
    let found = inspect(MODEL).expect("legal");
    assert_eq!((found.inputs[0].bytes, found.inputs[1].bytes), (Bytes::new(24), Bytes::new(8)));
    assert_eq!(found.graph.segments(), 2);
    // Weights, the state of 4 KiB with one counter, and the constant that is copied.
    assert_eq!(found.memory.weights, Bytes::new(4096 + (4096 + 256) + 1024));
    assert_eq!(found.memory.scratch, Some(vec![Bytes::new(1024), Bytes::new(2048)]));
    assert_eq!(found.operators.get("compute"), Some(&3));
}

#[test]
fn bad_models_are_refused_with_the_place() {
    let refused = |text: &str, words: &[&str]| {
        let error = inspect(text).expect_err(text).to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{text:?} gave {error}");
    };
    refused("", &["kernel 1"]);
    refused(&MODEL[..MODEL.len() - 4], &["cut off"]);
    refused("kernel 1\nend", &["no segment"]);
    refused("kernel 1\nsegment\nend\nsegment", &["line 4", "behind"]);
    refused("kernel 1\nnonsense\nend", &["line 2", "legal", "storm"]);
    refused("kernel 1\nweights 16B\nweights 32B\nsegment\nend", &["line 3", "once"]);
    refused("kernel 1\nscratch 10B\nsegment\nend", &["line 2", "16B"]);
    refused("kernel 1\nweights 2048GiB\nsegment\nend", &["line 2", "1024GiB"]);
    refused("kernel 1\nsegment scratch 3\nend", &["line 2", "unit"]);
    let step = |text: &str, words: &[&str]| {
        let model = format!("kernel 1\nweights 32B\nscratch 32B\nsegment\n{text}\nend");
        refused(&model, &[&["line 5"], words].concat());
    };
    step("compute blocks=0", &["blocks=0", "1 to 1048576"]);
    step("compute threads=1025", &["threads=1025", "1 to 1024"]);
    step("compute rounds=x", &["rounds=x", "1 to"]);
    step("compute repeat=1001", &["repeat=1001", "1 to 1000"]);
    step("compute blocks=1 blocks=2", &["`blocks`", "twice"]);
    step("compute speed=1", &["`speed`", "compute [blocks=N]"]);
    step("compute 5", &["`5`", "too much"]);
    step("fill shared=49KiB", &["shared=49KiB", "48KiB"]);
    step("fill shared=5B", &["shared=5B", "multiples of 4"]);
    step("stream", &["bytes=SIZE", "missing"]);
    step("stream bytes=48B", &["48B", "32B", "scratch"]);
    step("cache bytes=20B", &["20B", "multiples of 16B"]);
    step("read bytes=48B", &["48B", "32B", "weights"]);
    step("read bytes=0B", &["0B", "multiples"]);
    step("hold", &["DURATION", "missing"]);
    step("hold 61s", &["61s", "60s"]);
    step("hold 5", &["unit"]);
    step("copy 64B on-device", &["64B", "scratch"]);
    step("copy 16B to-host", &["to-host", "on-device"]);
    step("storm 0", &["`0`", "1 to 1000"]);
    step("storm 1000 repeat=11", &["11000", "10000"]);
    step("overrun 5s", &["at=N", "missing"]);
    step("fault stray", &["at=N", "missing"]);
    step("fault hang at=1", &["`hang`", "stray"]);
    refused("kernel 1\ncompute\nsegment\nend", &["line 2", "segment"]);
    refused("kernel 1\nsegment\nread bytes=16B\nweights 16B\nend", &["line 3", "0B"]);
}

#[test]
fn the_text_has_every_kernel_with_the_parameters_that_are_passed() {
    let text = PTX.to_str().expect("PTX is ASCII");
    assert!(text.contains("\n.version 7.8\n") && text.contains("\n.target sm_80\n"));
    assert_eq!(text.matches(".entry ").count(), Entry::ALL.len());
    for entry in Entry::ALL {
        let name = entry.symbol().to_str().expect("a name is ASCII");
        let start = text.find(&format!(".entry {name}(")).unwrap_or_else(|| panic!("no entry {name}"));
        let head = &text[start..start + text[start..].find(')').expect("parameters end")];
        let found: Vec<&str> = head.lines().filter_map(|line| line.trim().strip_prefix(".param ")).collect();
        let wanted = entry.parameters().iter().map(|parameter| match parameter {
            Parameter::U32 => ".u32",
            Parameter::U64 | Parameter::Address => ".u64",
        });
        let types: Vec<&str> = found.iter().filter_map(|word| word.split(' ').next()).collect();
        assert_eq!(types, wanted.collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn the_kernels_and_the_host_share_their_constants() {
    let source = include_str!("kernels.cu");
    assert!(source.contains(&format!("#define STATE_WORDS {}\n", reference::STATE_WORDS)));
    assert!(source.contains(&format!("#define SAMPLES_LOG2 {}\n", reference::SAMPLES.ilog2())));
    for constant in ["0x9E3779B1u", "0x6D2B79F5u", "0x7FEB352Du", "0x846CA68Bu"] {
        assert!(source.contains(constant), "{constant}");
    }
}

#[test]
fn models_conform_on_an_emulated_device() {
    let options = HostOptions { memory: Bytes::new(8 << 20) };
    let device = HostDevice::new(options).expect("a thread has cores");
    match conforms(&device, &KernelLoader { load: emulator::load }) {
        Ok(report) => report.skipped.iter().for_each(|(check, why)| println!("skipped: {check}: {why}")),
        Err(violation) => panic!("{violation}"),
    }
}

#[test]
fn without_a_cuda_device_loading_is_refused() {
    let options = HostOptions { memory: Bytes::new(8 << 20) };
    let device = HostDevice::new(options).expect("a thread has cores");
    let violation = conformance(&device).expect_err("no GPU");
    assert!(violation.detail.contains("not supported"), "{violation}");
}

#[test]
fn samples_lie_inside_and_apart() {
    for words in [0, 1, 4095, 4096, 4097, 10_000, 1 << 38] {
        let positions: Vec<u64> = (0..reference::samples_of(words))
            .map(|sample| reference::sample_position(sample, words))
            .collect();
        assert!(positions.iter().all(|position| *position < words), "{words}");
        assert!(positions.windows(2).all(|pair| pair[0] < pair[1]), "{words}");
    }
}

#[test]
fn a_step_that_changes_scratch_changes_outputs_and_others_do_not() {
    let answer = |step: &str| {
        let text = format!("kernel 1\noutput y u32 8\nscratch 32KiB\nsegment\n{step}\nend");
        let shapes = BTreeMap::new();
        let model = parse::model(&request(&text, &shapes)).expect("legal");
        // The hash is one for all, so that only the step tells them apart.
        reference::outputs("m", &model, &ContentHash::of(b""), &[]).expect("no inputs")
    };
    let plain = answer("compute");
    for same in ["storm 3", "stream bytes=16KiB rounds=2", "cache bytes=16KiB repeat=4", "hold 1us"] {
        assert_eq!(answer(same), plain, "{same}");
    }
    let changed: Vec<_> = ["stream bytes=16KiB", "stream bytes=32KiB rounds=3", "copy 1KiB on-device"]
        .into_iter()
        .map(answer)
        .collect();
    assert!(changed.iter().all(|answer| *answer != plain));
    assert_ne!(changed[0], changed[1]);
}

#[test]
fn enemies_and_networks_are_legal_models() {
    for (units, cache) in [(16, 4u64 << 20), (132, 50 << 20), (1, 0), (u32::MAX, u64::MAX)] {
        let found = enemies(units, Bytes::new(cache));
        assert_eq!(found.len(), 7);
        for (name, text) in found {
            inspect(&text).unwrap_or_else(|error| panic!("{name} on {units}: {error}"));
        }
    }
    for memory in [false, true] {
        for width in 0..=WIDTHS.len() {
            inspect(&pace_probe(132, width, memory, 16)).expect("a probe is legal");
        }
    }
}

fn pace() -> Pace {
    let micros = |all: [u64; WIDTHS.len()]| all.map(Nanos::from_micros);
    Pace { launch: Nanos::new(1_200), compute: micros([16, 16, 16, 16, 32]), read: micros([9, 5, 3, 2, 1]) }
}

/// The time of a network's steps by the pace it was made for.
fn length_of(text: &str, shape: &Shape) -> u64 {
    let value = |line: &str, key: &str| -> String {
        let found = line.split(' ').find_map(|word| word.strip_prefix(key)).expect("a key");
        found.to_owned()
    };
    let mut total = 0;
    for line in text.lines().filter(|line| line.starts_with("compute") || line.starts_with("read")) {
        let blocks: u32 = value(line, "blocks=").parse().expect("a number");
        let width =
            WIDTHS.iter().position(|width| (shape.units * width / 8).max(1) == blocks).expect("a width");
        let rounds: u64 = value(line, "rounds=").parse().expect("a number");
        total += pace().launch.get();
        total += if line.starts_with("compute") {
            rounds * pace().compute[width].get() / 1_000
        } else {
            let bytes: Bytes = value(line, "bytes=").parse().expect("a size");
            (u128::from(rounds * bytes.get() * pace().read[width].get()) >> 20) as u64
        };
    }
    total
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn networks_have_the_length_and_segments_asked_for(
        seed in any::<u64>(), kernels in 10u32..60, segments in 1u32..6, memory_percent in 0u32..=100,
        micros in 300u64..2_000,
    ) {
        let shape = Shape {
            units: 132, segments, kernels, memory_percent, length: Nanos::from_micros(micros),
            weights: Bytes::new(64 << 20), scratch: Bytes::new(1 << 20), input: 3_072, output: 1_000,
        };
        let text = network(seed, &shape, &pace());
        let found = inspect(&text).expect("legal");
        assert_eq!(found.graph.segments(), segments as usize);
        let (length, wanted) = (length_of(&text, &shape), shape.length.get());
        // Whole rounds and pages are what is lost: a page of the narrowest read is 36 ns.
        let slack = u64::from(kernels) * 60 + wanted / 100;
        assert!(length.abs_diff(wanted) <= slack, "{length} ns for {wanted} ns");
        assert_eq!(text, network(seed, &shape, &pace()));
    }

    #[test]
    fn outputs_depend_on_every_byte_of_small_inputs(at in 0usize..143, flip in 1u8..=255) {
        let shapes = BTreeMap::new();
        let request = request(CONFORMANCE_MODEL, &shapes);
        let mut inputs = vec![vec![7; 140], vec![9; 3]];
        let before = reference(&request, &inputs).expect("legal");
        if at < 140 { inputs[0][at] ^= flip } else { inputs[1][at - 140] ^= flip }
        let after = reference(&request, &inputs).expect("legal");
        assert!(before.iter().zip(&after).all(|(before, after)| before != after));
    }
}
