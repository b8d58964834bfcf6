//! Outputs equal plain ONNX Runtime's bit for bit, whatever lies in the memory that tasks share.

use std::time::Instant;

use aegis_backend_onnx::Reference;
use aegis_types::{MemoryClass, MemoryGrant};

use crate::support::bench::{Bound, Lane, random};
use crate::support::models::{MODELS, Model, find, request};
use crate::support::{Seeded, runtime};

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
