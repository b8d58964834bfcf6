//! Outputs equal plain ONNX Runtime's bit for bit, whatever lies in the memory that tasks share.

use std::time::Instant;

use aegis_backend_onnx::{OnnxLoader, Reference};
use aegis_cuda::BackendLoader as _;
use aegis_types::{MemoryClass, MemoryGrant};

use crate::support::bench::{Bound, Lane, random};
use crate::support::models::{MODELS, Model, find, request};
use crate::support::tiny::{Axis, F32, Message, constant, file, graph, node, value};
use crate::support::{Seeded, no_shapes, runtime};

const JOBS: usize = 20;

/// Runs jobs with seeded inputs and carried state, against a plain run of the same inputs.
fn check(model: &Model, poison: bool) {
    let test = format!("outputs of {}", model.name);
    let Some(runtime) = runtime(&test) else { return };
    let (artifact, shapes) = (model.bytes(), model.shapes());
    let mut lane = Lane::roomy();
    let loaded = lane.load(runtime, &request(model.name, &artifact, &shapes)).expect("loads");
    let description = loaded.describe().clone();
    let mut bound = Bound::new(&lane, loaded);
    let mut reference = Reference::open(runtime, &artifact, &shapes).expect("opens");
    let mut seed = Seeded(0x5EED);
    let mut inputs: Vec<Vec<u8>> = description.inputs.iter().map(|spec| random(spec, &mut seed)).collect();
    let mut distinct = std::collections::BTreeSet::new();
    let (mut spans, mut plain_spans) = (Vec::with_capacity(JOBS), Vec::with_capacity(JOBS));
    for job in 0..JOBS {
        for (spec, bytes) in description.inputs.iter().zip(&mut inputs) {
            if !model.state.iter().any(|(_, input)| *input == spec.name) {
                *bytes = random(spec, &mut seed);
            }
        }
        if poison {
            lane.poison_scratch();
        }
        let start = Instant::now();
        let outputs = bound.run(&mut lane, &inputs).expect("runs");
        spans.push(start.elapsed());
        let start = Instant::now();
        let expected = reference.run(&inputs).expect("runs");
        plain_spans.push(start.elapsed());
        assert!(outputs == expected, "{}: job {job} differs from the plain run", model.name);
        for (output, input) in model.state {
            let from = description.outputs.iter().position(|spec| spec.name == *output).expect("an output");
            let to = description.inputs.iter().position(|spec| spec.name == *input).expect("an input");
            inputs[to].clone_from(&outputs[from]);
        }
        distinct.insert(outputs);
    }
    assert!(distinct.len() > 1, "{}: outputs that never change prove nothing", model.name);
    let (weights, book) = (description.memory.weights, lane.book.clone());
    spans.sort();
    plain_spans.sort();
    println!(
        "{}: weights {weights}, persistent {}, scratch {}, jobs with their copies p50 {:?} max {:?}, plain p50 {:?}",
        model.name,
        book.high_water(MemoryClass::Persistent),
        book.high_water(MemoryClass::Scratch),
        spans[JOBS / 2],
        spans[JOBS - 1],
        plain_spans[JOBS / 2],
    );
    drop(bound);
    assert!(book.nothing_lent(), "{}: dropping the model gives everything back", model.name);
    assert_eq!((runtime.foreign_allocations(), runtime.corrupt_blocks()), (0, 0));
}

#[test]
fn silero_equals_the_plain_run() {
    check(find("silero_vad"), false);
}

#[test]
fn every_model_equals_the_plain_run_on_poisoned_scratch() {
    MODELS.iter().for_each(|model| check(model, true));
}

#[test]
fn constants_in_another_file_are_the_models_own() {
    let Some(runtime) = runtime("external data") else { return };
    let loader = OnnxLoader::new(runtime.clone());
    let entry = |key: &str, value: &str| Message::new().text(1, key).text(2, value);
    let far = Message::new().int(1, 2).int(2, F32).text(8, "w").int(14, 1);
    let far = far.message(13, &entry("location", "m.onnx.data")).message(13, &entry("offset", "4"));
    let model = |constant: Message| {
        let axes = [Axis::Fixed(2)];
        let nodes = [node("Add", "add", &["x", "w"], &["y"])];
        file(&graph(&nodes, &[constant], &[value("x", F32, &axes)], &[value("y", F32, &axes)]))
    };
    let alone = model(far.clone());
    let error = loader.inspect(&request("m", &alone, &no_shapes())).unwrap_err().to_string();
    assert!(error.contains("`w` lies in another file"), "{error}");
    let data: Vec<u8> = [9.0f32, 2.0, -3.0].iter().flat_map(|number| number.to_le_bytes()).collect();
    let mut asked = Vec::new();
    let mut beside = |path: &str| {
        asked.push(path.to_owned());
        Ok(data.clone())
    };
    let completed = loader.complete("m", alone, &mut beside).expect("the data is there");
    assert_eq!(asked, ["m.onnx.data"]);
    let whole = model(constant("w", &[2.0, -3.0]));
    let describe = |artifact: &[u8]| loader.inspect(&request("m", artifact, &no_shapes())).expect("legal");
    assert_eq!(describe(&completed).memory, describe(&whole).memory);
    let run = |artifact: &[u8]| {
        let inputs = [[1.0f32, 1.0].iter().flat_map(|number| number.to_le_bytes()).collect()];
        Reference::open(runtime, artifact, &no_shapes()).expect("opens").run(&inputs).expect("runs")
    };
    assert_eq!(run(&completed), run(&whole));
    assert_eq!(loader.complete("m", whole.clone(), &mut |_| panic!("it is whole")).expect("legal"), whole);
}
