//! Bad models and bad requests: each refused with an error that names the place, and nothing kept.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use aegis_backend_onnx::{OnnxLoader, OnnxRuntime};
use aegis_cuda::{
    BackendError, BackendLoader, BindingId, Bindings, DeviceSlice, ModelDescription, ModelRequest,
};
use aegis_types::{Bytes, Extent, SegmentIndex};

use crate::support::bench::{Bound, Lane};
use crate::support::models::{find, request};
use crate::support::tiny::{
    Axis, F32, constant, file, graph, node, node_in, value, with_gather, with_if, with_open_output,
};
use crate::support::{Seeded, no_shapes, runtime};

type Shapes<'a> = &'a [(&'a str, &'a [u64])];

fn inspect(
    runtime: &OnnxRuntime,
    artifact: &[u8],
    shapes: Shapes<'_>,
) -> Result<ModelDescription, BackendError> {
    let shapes: BTreeMap<_, _> =
        shapes.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec())).collect();
    OnnxLoader::new(runtime.clone()).inspect(&request("m", artifact, &shapes))
}

/// `y = x + w` on the given axes, with an extra constant that older files list as an input.
fn adder(axes: &[Axis]) -> Vec<u8> {
    let inputs = [value("x", F32, axes), value("w", F32, &[Axis::Fixed(1)])];
    file(&graph(
        &[node("Add", "add", &["x", "w"], &["y"])],
        &[constant("w", &[2.0])],
        &inputs,
        &[value("y", F32, axes)],
    ))
}

#[test]
fn axes_must_be_fixed_and_agree() {
    let Some(runtime) = runtime("axes") else { return };
    let free = || adder(&[Axis::Named("batch"), Axis::Fixed(3), Axis::Open]);
    let cases: [(Shapes<'_>, &[&str]); 7] = [
        (&[], &["`x`", "axis 0", "batch", "[batch, 3, ?]"]),
        (&[("x", &[2, 3])], &["`x`", "2 axes", "3: [batch, 3, ?]"]),
        (&[("x", &[2, 4, 5])], &["`x`", "axis 1", "is 4", "legal is 3"]),
        (&[("x", &[0, 3, 5])], &["`x`", "axis 0", "length 0"]),
        (&[("z", &[1])], &["`z`", "no such input", "`x`"]),
        (&[("w", &[1])], &["`w`", "no such input"]),
        (&[("x", &[1 << 40, 3, 1 << 40])], &["`x`", "more bytes"]),
    ];
    for (shapes, words) in cases {
        match inspect(runtime, &free(), shapes) {
            Err(error @ BackendError::Shape { .. }) => {
                let text = error.to_string();
                assert!(words.iter().all(|word| text.contains(word)), "{shapes:?}: {text}");
            }
            other => panic!("{shapes:?}: {other:?}"),
        }
    }
    let square = adder(&[Axis::Named("n"), Axis::Named("n")]);
    let error = inspect(runtime, &square, &[("x", &[2, 3])]).unwrap_err().to_string();
    assert!(error.contains("`n` is 2 elsewhere"), "{error}");
}

#[test]
fn a_fixed_model_is_described_completely() {
    let Some(runtime) = runtime("description") else { return };
    let free = adder(&[Axis::Named("batch"), Axis::Fixed(3), Axis::Open]);
    let model = inspect(runtime, &free, &[("x", &[2, 3, 5])]).expect("legal");
    assert_eq!((model.inputs.len(), model.outputs.len()), (1, 1), "a constant is no input");
    assert_eq!(
        (model.outputs[0].shape.as_slice(), model.outputs[0].bytes),
        ([2, 3, 5].as_slice(), Bytes::new(120))
    );
    assert_eq!(model.memory.weights, Bytes::new(4));
    assert_eq!(model.operators, BTreeMap::from([("Add".to_owned(), 1)]));
    assert_eq!(model.graph.segments(), 1);
}

#[test]
fn unknown_operators_name_the_node() {
    let Some(runtime) = runtime("unknown operators") else { return };
    for (domain, operator) in [("", "Frobnicate"), ("acme", "Twist")] {
        let nodes = [
            node("Add", "fine", &["x", "x"], &["a"]),
            node_in(domain, operator, "block/odd", &["a"], &["y"]),
        ];
        let axes = || [Axis::Fixed(2)];
        let artifact = file(&graph(&nodes, &[], &[value("x", F32, &axes())], &[value("y", F32, &axes())]));
        let mut lane = Lane::roomy();
        let shapes = no_shapes();
        let loaded =
            lane.load(runtime, &request("m", &artifact, &shapes)).map(|model| model.describe().clone());
        for outcome in [inspect(runtime, &artifact, &[]), loaded] {
            match outcome {
                Err(BackendError::UnsupportedNode { node, operator: named, .. }) => {
                    assert_eq!(node, "block/odd");
                    assert!(named.contains(operator), "{named}");
                }
                other => panic!("{operator}: {other:?}"),
            }
        }
        assert!(lane.book.nothing_lent());
    }
}

#[test]
fn control_flow_is_refused_unless_allowed() {
    let Some(runtime) = runtime("control flow") else { return };
    let (artifact, shapes) = (with_if(), no_shapes());
    match inspect(runtime, &artifact, &[]) {
        Err(BackendError::UnsupportedNode { node, operator, reason, .. }) => {
            assert_eq!((node.as_str(), operator.as_str()), ("choose", "If"));
            assert!(reason.contains("allow_control_flow"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    let mut lane = Lane::roomy();
    let allowed = ModelRequest { allow_control_flow: true, ..request("m", &artifact, &shapes) };
    let model = lane.load(runtime, &allowed).expect("allowed");
    assert_eq!(model.describe().graph.segments(), 1, "one opaque segment");
    assert_eq!(model.describe().operators.get("Sub"), Some(&1), "bodies are counted");
    let mut bound = Bound::new(&lane, model);
    let x: Vec<u8> = [1.0f32, 2.0, 3.0, 4.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let sum: Vec<u8> = [2.0f32, 4.0, 6.0, 8.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(bound.run(&mut lane, &[vec![1], x.clone()]), Ok(vec![sum]));
    assert_eq!(bound.run(&mut lane, &[vec![0], x]), Ok(vec![vec![0; 16]]));
}

#[test]
fn truncated_models_are_refused_or_whole() {
    let Some(runtime) = runtime("truncated models") else { return };
    let whole = adder(&[Axis::Fixed(2)]);
    let description = inspect(runtime, &whole, &[]).expect("whole");
    // Without the last message, somebody else's operator set, the file still describes the same model.
    let spare = whole.len() - 10;
    let mut refused = 0;
    for length in 0..whole.len() {
        match inspect(runtime, &whole[..length], &[]) {
            Err(BackendError::InvalidModel { reason, .. }) => {
                refused += 1;
                assert!(!reason.is_empty());
            }
            Ok(cut) if length >= spare => assert_eq!(cut.inputs, description.inputs),
            other => panic!("cut at {length} of {}: {other:?}", whole.len()),
        }
    }
    assert!(refused >= spare, "only {refused} of {} cuts were refused", whole.len());
    let silero = find("silero_vad");
    let (bytes, shapes) = (silero.bytes(), silero.shapes());
    let mut lane = Lane::roomy();
    for step in 0..40 {
        let length = bytes.len() / 40 * step;
        let outcome = lane.load(runtime, &request("m", &bytes[..length], &shapes));
        assert!(matches!(outcome.err(), Some(BackendError::InvalidModel { .. })), "cut at {length}");
    }
    assert!(lane.book.nothing_lent());
}

#[test]
fn garbage_and_flipped_bytes_are_never_fatal() {
    let Some(runtime) = runtime("garbage") else { return };
    let mut seed = Seeded(0xBAD);
    for length in [1usize, 7, 64, 4096] {
        let garbage: Vec<u8> = (0..length).map(|_| seed.next() as u8).collect();
        assert!(inspect(runtime, &garbage, &[]).is_err(), "{length} bytes");
    }
    let whole = adder(&[Axis::Fixed(2)]);
    for position in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[position] ^= 1 << (seed.next() % 8);
        // Some flips leave a legal model; the rest must be errors, which the return of the call shows.
        let _ = inspect(runtime, &flipped, &[]);
    }
}

#[test]
fn buffers_that_do_not_fit_are_refused() {
    let Some(runtime) = runtime("bindings") else { return };
    let artifact = adder(&[Axis::Fixed(4)]);
    let shapes = no_shapes();
    let mut lane = Lane::roomy();
    let mut model = lane.load(runtime, &request("m", &artifact, &shapes)).expect("loads");
    let slice = |offset, len| {
        let extent = Extent { offset: Bytes::new(offset), len: Bytes::new(len) };
        Rc::new(DeviceSlice::lend(&lane.io, extent).expect("free"))
    };
    let (good, other) = (slice(0, 16), slice(64, 16));
    let mut bind = |inputs: &[&Rc<DeviceSlice>], outputs: &[&Rc<DeviceSlice>]| {
        let owned = |slices: &[&Rc<DeviceSlice>]| slices.iter().map(|&slice| Rc::clone(slice)).collect();
        model.bind(Bindings { inputs: owned(inputs), outputs: owned(outputs) })
    };
    let (short, long, odd) = (slice(128, 12), slice(192, 20), slice(258, 16));
    for wrong in [&short, &long] {
        let refused = bind(&[wrong], &[&other]).unwrap_err();
        assert!(matches!(&refused, BackendError::Binding { tensor, .. } if tensor == "x"), "{refused}");
        let refused = bind(&[&good], &[wrong]).unwrap_err();
        assert!(matches!(&refused, BackendError::Binding { tensor, .. } if tensor == "y"), "{refused}");
    }
    assert!(matches!(bind(&[], &[&other]), Err(BackendError::BindingCount { what: "input", .. })));
    assert!(matches!(
        bind(&[&good], &[&other, &odd]),
        Err(BackendError::BindingCount { what: "output", .. })
    ));
    assert!(bind(&[&odd], &[&other]).unwrap_err().to_string().contains("aligned"));
    assert!(bind(&[&good], &[&good]).unwrap_err().to_string().contains("another tensor"));
    let binding = bind(&[&good], &[&other]).expect("fits");
    let first = SegmentIndex::new(0);
    assert!(model.enqueue(&mut *lane.stream, SegmentIndex::new(1), binding).is_err());
    assert!(
        model.enqueue(&mut *lane.stream, first, BindingId(9)).unwrap_err().to_string().contains("binding 9")
    );
    assert_eq!(model.enqueue(&mut *lane.stream, first, binding), Ok(()), "refusals leave the model usable");
}

#[test]
fn a_job_that_fails_leaves_the_model_usable() {
    let Some(runtime) = runtime("failing job") else { return };
    let (artifact, shapes) = (with_gather(), no_shapes());
    let mut lane = Lane::roomy();
    let loaded = lane.load(runtime, &request("m", &artifact, &shapes)).expect("loads");
    let mut bound = Bound::new(&lane, loaded);
    let index = |i: i64| vec![i.to_le_bytes().to_vec()];
    let element = |value: f32| Ok(vec![value.to_le_bytes().to_vec()]);
    assert_eq!(bound.run(&mut lane, &index(2)), element(7.0));
    match bound.run(&mut lane, &index(99)) {
        Err(BackendError::Execution { reason, started: true, .. }) => {
            assert!(reason.contains("look_up") && reason.contains("99"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(bound.run(&mut lane, &index(1)), element(6.0));
    drop(bound);
    assert!(lane.book.nothing_lent());
}

#[test]
fn a_shape_that_only_a_run_tells_is_learned_within_limits() {
    let Some(runtime) = runtime("open outputs") else { return };
    let artifact = file(&graph(
        &[node("Relu", "relu", &["x"], &["y"])],
        &[],
        &[value("x", F32, &[Axis::Named("rows"), Axis::Fixed(4)])],
        &[value("y", F32, &[Axis::Open, Axis::Named("found")])],
    ));
    let model = inspect(runtime, &artifact, &[("x", &[3, 4])]).expect("learned");
    assert_eq!(
        (model.outputs[0].shape.as_slice(), model.outputs[0].bytes),
        ([3, 4].as_slice(), Bytes::new(48))
    );
    let refused = inspect(runtime, &artifact, &[("x", &[1 << 40, 4])]).unwrap_err();
    assert!(matches!(&refused, BackendError::Shape { tensor, .. } if tensor == "x"), "{refused}");
    assert!(refused.to_string().contains("1GiB"), "{refused}");
}

#[test]
fn an_output_whose_length_depends_on_the_data_is_refused() {
    let Some(runtime) = runtime("outputs by data") else { return };
    // Zeros have no element that is not zero, so that a run finds an output without elements.
    let error = inspect(runtime, &with_open_output(), &[("x", &[3, 4])]).unwrap_err();
    assert!(matches!(error, BackendError::InvalidModel { .. }), "{error}");
    let said = error.to_string();
    assert!(said.contains("output `y`: axis 1 has length 0, or a length that depends on the data"), "{said}");
}

/// The file says three elements, the operator makes four.
#[test]
fn an_output_of_another_shape_than_the_file_says_is_told_as_such() {
    let Some(runtime) = runtime("another shape") else { return };
    let nodes = [node("Transpose", "turn", &["x"], &["y"])];
    let input = [value("x", F32, &[Axis::Fixed(2), Axis::Fixed(4)])];
    let stated = [value("y", F32, &[Axis::Fixed(4), Axis::Fixed(3)])];
    let artifact = file(&graph(&nodes, &[], &input, &stated));
    let (mut lane, shapes) = (Lane::roomy(), no_shapes());
    let loaded = lane.load(runtime, &request("m", &artifact, &shapes)).map(|_| ());
    let said = loaded.expect_err("its output does not fit").to_string();
    assert!(said.contains("output `y` has shape {4,2} in this run and had {4,3} before"), "{said}");
    assert!(!said.contains(".cc:"), "{said}");
    assert!(lane.book.nothing_lent());
}

#[test]
fn tensors_are_named_once_and_made_by_something() {
    let Some(runtime) = runtime("names of tensors") else { return };
    let tensor = |name: &str| value(name, F32, &[Axis::Fixed(4)]);
    let refused = |inputs: &[&str], outputs: &[&str]| {
        let tensors = |names: &[&str]| names.iter().map(|name| tensor(name)).collect::<Vec<_>>();
        let nodes = [node("Relu", "relu", &["x"], &["y"])];
        let artifact = file(&graph(&nodes, &[], &tensors(inputs), &tensors(outputs)));
        let error = inspect(runtime, &artifact, &[]).expect_err("it is no model");
        assert!(matches!(error, BackendError::InvalidModel { .. }), "{error}");
        error.to_string()
    };
    for (inputs, outputs, words) in [
        (["x"].as_slice(), ["y", "y"].as_slice(), "output `y` is listed twice"),
        (&["x", "x"], &["y"], "input `x` is listed twice"),
        (&["x"], &["y", "z"], "no operator makes output `z`"),
        (&["x"], &["y", ""], "output 1 has no name"),
    ] {
        let said = refused(inputs, outputs);
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_library_that_is_none_is_an_error() {
    let Some(_) = runtime("library") else { return };
    for path in ["/nonexistent/libonnxruntime.so", "/"] {
        let error = OnnxRuntime::load(Path::new(path)).unwrap_err();
        assert!(matches!(error, BackendError::Library { .. }), "{error}");
        assert!(error.to_string().contains(path), "{error}");
    }
    let path = crate::support::cache().expect("set").join("onnxruntime/libonnxruntime.so");
    let again = OnnxRuntime::load(&path).unwrap_err().to_string();
    assert!(again.contains("environment"), "{again}");
}

#[test]
fn an_output_that_no_operator_writes_is_refused() {
    let Some(runtime) = runtime("an output that is an input") else { return };
    let axes = [Axis::Fixed(4)];
    let passed = file(&graph(
        &[node("Relu", "relu", &["x"], &["y"])],
        &[],
        &[value("x", F32, &axes)],
        &[value("y", F32, &axes), value("x", F32, &axes)],
    ));
    let error = inspect(runtime, &passed, &[]).unwrap_err();
    assert!(matches!(error, BackendError::InvalidModel { .. }), "{error}");
    assert!(error.to_string().contains("output `x` is an input"), "{error}");
}

#[test]
fn what_the_library_says_is_one_line() {
    let Some(runtime) = runtime("messages of one line") else { return };
    let axes = [Axis::Fixed(4)];
    let hostile = file(&graph(
        &[node("Fr\u{1b}[31mob\n", "relu", &["x"], &["y"])],
        &[],
        &[value("x", F32, &axes)],
        &[value("y", F32, &axes)],
    ));
    let error = inspect(runtime, &hostile, &[]).unwrap_err().to_string();
    assert!(!error.contains(char::is_control), "{error:?}");
}
