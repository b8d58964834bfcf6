//! Models in segments: what the pieces compute together is what the whole computes, wherever a model is cut.

use aegis_backend_onnx::segment::Cutter;
use aegis_backend_onnx::{OnnxLoader, OnnxRuntime, Reference};
use aegis_cuda::conformance::{self, BackendCase};
use aegis_cuda::host::{HostDevice, HostOptions};
use aegis_cuda::{BackendError, BackendLoader, ElementType, ModelDescription, TensorSpec};
use aegis_types::{Bytes, MemoryClass, MemoryGrant, SegmentIndex};

use crate::support::bench::{Bound, Lane, random};
use crate::support::dag;
use crate::support::models::{MODELS, find, request};
use crate::support::tiny::{
    Axis, F32, I64, Message, file, graph, integer, node, value, with_gather, with_if,
};
use crate::support::{Seeded, no_shapes, runtime};

type Shapes = std::collections::BTreeMap<String, Vec<u64>>;

/// The model's file with cuts at these candidates.
fn cut(
    runtime: &OnnxRuntime,
    artifact: &[u8],
    shapes: &Shapes,
    choose: impl Fn(usize) -> Vec<usize>,
) -> Vec<u8> {
    let cutter = Cutter::open(runtime, &request("m", artifact, shapes)).expect("can be cut");
    cutter.write(&choose(cutter.atoms())).expect("candidates")
}

/// So many cuts spread over the atoms.
fn spread(count: usize) -> impl Fn(usize) -> Vec<usize> {
    move |atoms| {
        let mut cuts: Vec<usize> =
            (1..=count).map(|at| at * atoms / (count + 1)).filter(|&cut| cut > 0).collect();
        cuts.dedup();
        cuts
    }
}

/// Runs all segments of a job; scratch is overwritten before each of them.
fn run(lane: &mut Lane, bound: &mut Bound, inputs: &[Vec<u8>]) -> Vec<Vec<u8>> {
    for (slice, bytes) in bound.buffers.inputs.iter().zip(inputs) {
        slice.write(bytes);
    }
    for segment in 0..bound.model.describe().graph.segments() {
        lane.poison_scratch();
        let segment = SegmentIndex::new(u16::try_from(segment).expect("few"));
        bound.model.enqueue(&mut *lane.stream, segment, bound.binding).expect("runs");
        assert!(lane.book.used(MemoryClass::Scratch).is_zero(), "scratch ends with its segment");
    }
    let read = |slice: &std::rc::Rc<aegis_cuda::DeviceSlice>| {
        let mut bytes = vec![0; usize::try_from(slice.len().get()).expect("a word has 64 bits")];
        slice.read(&mut bytes);
        bytes
    };
    bound.buffers.outputs.iter().map(read).collect()
}

/// The largest difference between floating-point outputs, as a share of the largest number among those of the output.
fn difference(specs: &[TensorSpec], expected: &[Vec<u8>], found: &[Vec<u8>]) -> f64 {
    let mut worst = 0.0f64;
    for (spec, (expected, found)) in specs.iter().zip(expected.iter().zip(found)) {
        if spec.element != ElementType::F32 {
            assert_eq!(expected, found, "{}", spec.name);
            continue;
        }
        let numbers = |bytes: &[u8]| -> Vec<f64> {
            let word = |word: &[u8]| f64::from(f32::from_le_bytes([word[0], word[1], word[2], word[3]]));
            bytes.chunks_exact(4).map(word).collect()
        };
        let (expected, found) = (numbers(expected), numbers(found));
        let scale = expected.iter().fold(1.0f64, |most, number| most.max(number.abs()));
        for (a, b) in expected.iter().zip(found) {
            assert!(a.is_finite() && b.is_finite(), "{}: {a} and {b}", spec.name);
            worst = worst.max((a - b).abs() / scale);
        }
    }
    worst
}

/// What is compared: a whole model, the same with cuts, and the shapes of its inputs.
type Subject<'a> = (&'a [u8], &'a [u8], &'a Shapes);

/// Loads a segmented model on a lane, runs `jobs` jobs and compares with the whole model; returns its description and
/// the largest difference, which is zero only if every bit is equal.
fn compare(
    runtime: &OnnxRuntime,
    lane: &mut Lane,
    (artifact, cut, shapes): Subject<'_>,
    (jobs, seed): (usize, u64),
) -> (ModelDescription, f64) {
    let loaded = lane.load(runtime, &request("m", cut, shapes)).expect("loads");
    let description = loaded.describe().clone();
    let mut bound = Bound::new(lane, loaded);
    let mut whole = Reference::open_whole(runtime, artifact, shapes).expect("opens");
    let mut chain = Reference::open(runtime, cut, shapes).expect("opens");
    let (mut seed, mut worst) = (Seeded(seed), 0.0f64);
    let mut distinct = std::collections::BTreeSet::new();
    for _ in 0..jobs {
        let inputs: Vec<Vec<u8>> = description.inputs.iter().map(|spec| random(spec, &mut seed)).collect();
        let outputs = run(lane, &mut bound, &inputs);
        assert!(outputs == chain.run(&inputs).expect("runs"), "the plain run in pieces differs");
        let expected = whole.run(&inputs).expect("runs");
        worst = worst.max(difference(&description.outputs, &expected, &outputs));
        if outputs != expected {
            // Zeros of different signs are no difference of numbers, but one of bits.
            worst = worst.max(f64::MIN_POSITIVE);
        }
        distinct.insert(outputs);
    }
    assert!(jobs < 2 || distinct.len() > 1, "outputs that never change prove nothing");
    drop(bound);
    assert!(lane.book.nothing_lent(), "dropping the model gives everything back");
    (description, worst)
}

#[test]
fn trained_models_in_pieces_equal_the_whole() {
    let Some(runtime) = runtime("segments of trained models") else { return };
    let plain = runtime.unoptimized();
    let mut lane = Lane::roomy();
    for model in &MODELS {
        let (artifact, shapes) = (model.bytes(), model.shapes());
        let cut = cut(runtime, &artifact, &shapes, spread(3));
        let subject = (artifact.as_slice(), cut.as_slice(), &shapes);
        let (described, far) = compare(runtime, &mut lane, subject, (2, 0x5E6));
        let segments = described.graph.segments();
        assert!(segments > 1, "{} has no candidates", model.name);
        assert!(far <= 1e-5, "{} in {segments} pieces: {far:e}", model.name);
        let (_, bits) = compare(&plain, &mut lane, subject, (2, 0x5E6));
        assert!(bits == 0.0, "{} in {segments} pieces without optimisation: {bits:e}", model.name);
        println!("{}: {segments} pieces, largest difference {far:e}", model.name);
    }
}

#[test]
fn a_file_with_cuts_is_the_same_model_to_everybody_else() {
    let Some(runtime) = runtime("files with cuts") else { return };
    let model = find("dtln_1");
    let (artifact, shapes) = (model.bytes(), model.shapes());
    let cut = cut(runtime, &artifact, &shapes, spread(2));
    let mut whole = Reference::open_whole(runtime, &artifact, &shapes).expect("opens");
    let mut other = Reference::open_whole(runtime, &cut, &shapes).expect("opens");
    let inputs: Vec<Vec<u8>> = whole.inputs().iter().map(|spec| random(spec, &mut Seeded(4))).collect();
    assert_eq!(whole.run(&inputs), other.run(&inputs));
    let cutter = Cutter::open(runtime, &request("m", &cut, &shapes)).expect("cut again");
    assert_eq!(cutter.write(&[]).expect("no cuts"), artifact, "without cuts it is the file it was");
}

/// A failing seed runs alone with `AEGIS_SEED=n cargo test -p aegis-backend-onnx --test onnx random_graphs`.
#[test]
fn random_graphs_cut_anywhere_equal_the_whole_bit_for_bit() {
    let Some(runtime) = runtime("random graphs") else { return };
    let plain = runtime.unoptimized();
    let alone = std::env::var("AEGIS_SEED").ok().map(|seed| seed.parse::<u64>().expect("a number"));
    let seeds: Vec<u64> = alone.map_or_else(|| (0..60).collect(), |seed| vec![seed]);
    let (mut cuts_made, mut residuals) = (0, 0);
    let mut lane = Lane::new(1 << 20, 1 << 20);
    for seed in seeds {
        println!("AEGIS_SEED={seed} cargo test -p aegis-backend-onnx --test onnx random_graphs");
        let mut random = Seeded(seed);
        let artifact = dag::random(&mut random);
        let shapes = no_shapes();
        let cutter = Cutter::open(&plain, &request("m", &artifact, &shapes)).expect("can be cut");
        residuals += cutter.candidates().iter().filter(|candidate| candidate.crossing.len() > 1).count();
        let everywhere: Vec<usize> = (1..cutter.atoms()).collect();
        let some: Vec<usize> =
            everywhere.iter().copied().filter(|_| random.next().is_multiple_of(3)).collect();
        for cuts in [everywhere, some] {
            let cut = cutter.write(&cuts).expect("candidates");
            let (described, far) = compare(&plain, &mut lane, (&artifact, &cut, &shapes), (2, seed));
            assert_eq!(
                (described.graph.segments(), far),
                (cuts.len() + 1, 0.0),
                "seed {seed}, cuts {cuts:?}"
            );
            let (_, far) = compare(runtime, &mut lane, (&artifact, &cut, &shapes), (1, seed));
            assert!(far <= 1e-5, "seed {seed}, cuts {cuts:?}: {far:e}");
            cuts_made += cuts.len();
        }
    }
    // A single seed says nothing of how many cuts all of them make.
    let enough = alone.is_some() || cuts_made > 300 && residuals > 100;
    assert!(enough, "{cuts_made} cuts, {residuals} with branches");
}

#[test]
fn a_model_in_pieces_conforms() {
    let Some(runtime) = runtime("conformance in pieces") else { return };
    let model = find("dtln_2");
    let (artifact, shapes) = (model.bytes(), model.shapes());
    let artifact = cut(runtime, &artifact, &shapes, spread(2));
    let request = request(model.name, &artifact, &shapes);
    let mut lane = Lane::roomy();
    let loaded = lane.load(runtime, &request).expect("loads");
    let specs = loaded.describe().inputs.clone();
    let water = |class| lane.book.high_water(class).get();
    let needs = water(MemoryClass::Persistent) + water(MemoryClass::Exchange) + water(MemoryClass::Scratch);
    drop(loaded);
    let mut seed = Seeded(0xC1);
    let jobs: Vec<Vec<Vec<u8>>> =
        (0..3).map(|_| specs.iter().map(|spec| random(spec, &mut seed)).collect()).collect();
    let mut reference = Reference::open(runtime, &artifact, &shapes).expect("opens");
    let right: Vec<_> = jobs.iter().map(|inputs| reference.run(inputs).expect("runs")).collect();
    let judge = |inputs: &[Vec<u8>], outputs: &[Vec<u8>]| {
        let job = jobs.iter().position(|job| job == inputs).ok_or("inputs of no job")?;
        if right[job] == outputs { Ok(()) } else { Err(format!("job {job} differs from the plain run")) }
    };
    let device = HostDevice::new(HostOptions { memory: Bytes::new(256 << 20) }).expect("a host");
    let case = BackendCase {
        device: &device,
        loader: &OnnxLoader::new(runtime.clone()),
        request,
        jobs: &jobs,
        judge: &judge,
        memory: Bytes::new((needs + needs / 10).next_multiple_of(4096)),
    };
    let report = conformance::backend(&case).unwrap_or_else(|violation| panic!("{violation}"));
    assert!(report.passed.len() >= 6, "{report:?}");
}

const LENGTH: [Axis; 1] = [Axis::Fixed(4)];

/// `y = relu(x) + tanh(relu(x))`, of which `h = relu(x)` crosses the cut behind `g` too.
fn residual() -> Vec<u8> {
    let nodes = [
        node("Relu", "first", &["x"], &["h"]),
        node("Tanh", "second", &["h"], &["g"]),
        node("Add", "third", &["h", "g"], &["y"]),
    ];
    file(&graph(&nodes, &[], &[value("x", F32, &LENGTH)], &[value("y", F32, &LENGTH)]))
}

/// A file as a list of cuts would have it, legal or not.
fn listed(artifact: &[u8], tensors: &str) -> Vec<u8> {
    let entry = Message::new().text(1, "aegis.cuts").text(2, tensors);
    [artifact, &Message::new().message(14, &entry).into_bytes()].concat()
}

#[test]
fn the_description_tells_of_segments_and_of_what_crosses() {
    let Some(runtime) = runtime("description of segments") else { return };
    let (artifact, shapes) = (listed(&residual(), "h\ng"), no_shapes());
    let loader = OnnxLoader::new(runtime.clone());
    let described = loader.inspect(&request("m", &artifact, &shapes)).expect("legal");
    assert_eq!((described.graph.segments(), described.outputs[0].name.as_str()), (3, "y"));
    let handed = described.graph.edges().iter().filter(|edge| edge.from.0 < 3 && edge.to.0 < 3);
    let bytes: u64 = handed.map(|edge| edge.bytes.get()).sum();
    assert_eq!(bytes, 2 * 16, "each of two tensors once");
    let mut lane = Lane::new(1 << 20, 1 << 20);
    let model = lane.load(runtime, &request("m", &artifact, &shapes)).expect("loads");
    assert_eq!(
        lane.book.used(MemoryClass::Exchange),
        Bytes::new(bytes),
        "that is what it holds between segments"
    );
    drop(model);
    assert!(lane.book.nothing_lent());
}

#[test]
fn candidates_are_named_with_what_crosses() {
    let Some(runtime) = runtime("candidates") else { return };
    let (artifact, shapes) = (residual(), no_shapes());
    let cutter = Cutter::open(runtime, &request("m", &artifact, &shapes)).expect("can be cut");
    let named: Vec<(&str, Vec<&str>, u64)> = cutter
        .candidates()
        .iter()
        .map(|c| {
            (c.tensor.as_str(), c.crossing.iter().map(|spec| spec.name.as_str()).collect(), c.bytes.get())
        })
        .collect();
    assert_eq!(named, [("h", vec!["h"], 16), ("g", vec!["g", "h"], 32)]);
    assert_eq!(cutter.nodes(1..3), ["second (Tanh)", "third (Add)"]);
    assert_eq!((cutter.behind("g"), cutter.atoms()), (Ok(2), 3));
    assert!(cutter.behind("y").unwrap_err().to_string().contains("nothing runs behind it"));
}

/// Loads a file and expects a refusal that says all of these.
#[track_caller]
fn refused(runtime: &OnnxRuntime, artifact: &[u8], words: &[&str]) {
    let shapes = no_shapes();
    let error =
        OnnxLoader::new(runtime.clone()).inspect(&request("m", artifact, &shapes)).expect_err("illegal");
    let text = error.to_string();
    assert!(words.iter().all(|word| text.contains(word)), "{text}");
    let mut lane = Lane::new(1 << 20, 1 << 20);
    assert!(lane.load(runtime, &request("m", artifact, &shapes)).is_err());
    assert!(lane.book.nothing_lent());
}

#[test]
fn cuts_that_are_not_legal_are_refused_by_name() {
    let Some(runtime) = runtime("illegal cuts") else { return };
    let model = residual();
    refused(runtime, &listed(&model, "nothing"), &["cut behind `nothing`", "no node makes that tensor"]);
    refused(runtime, &listed(&model, "x"), &["cut behind `x`", "no node makes"]);
    refused(runtime, &listed(&model, "y"), &["cut behind `y`", "nothing runs behind it"]);
    refused(runtime, &listed(&model, "g\nh"), &["cut behind `h`", "in the order of the nodes"]);
    refused(runtime, &listed(&model, "h\nh"), &["cut behind `h`", "in the order of the nodes"]);
    refused(runtime, &listed(&listed(&model, "h"), "g"), &["aegis.cuts", "more than once"]);
    // `i` is an index that the second node reads: a number of 64 bits.
    let nodes = [
        node("ArgMax", "where", &["x"], &["i"]).message(5, &integer("axis", 0)),
        node("Cast", "number", &["i"], &["y"]).message(5, &integer("to", 1)),
    ];
    let indexed =
        file(&graph(&nodes, &[], &[value("x", F32, &LENGTH)], &[value("y", F32, &[Axis::Fixed(1)])]));
    refused(runtime, &listed(&indexed, "i"), &["tensor `i` of I64 crosses a cut"]);
    let shapes = no_shapes();
    let cutter = Cutter::open(runtime, &request("m", &indexed, &shapes)).expect("opens");
    assert!(cutter.candidates().is_empty(), "an index is no candidate");
    assert!(cutter.behind("i").unwrap_err().to_string().contains("cannot be cut behind `i`"));
}

#[test]
fn shapes_that_depend_on_data_are_no_candidates() {
    let Some(runtime) = runtime("data-dependent shapes") else { return };
    let nodes = [
        node("Relu", "first", &["x"], &["h"]),
        node("NonZero", "find", &["h"], &["found"]),
        node("Cast", "number", &["found"], &["numbers"]).message(5, &integer("to", 1)),
        node("ReduceSum", "sum", &["numbers"], &["y"]).message(5, &integer("keepdims", 0)),
    ];
    let artifact = file(&graph(&nodes, &[], &[value("x", F32, &LENGTH)], &[value("y", F32, &[])]));
    let shapes = no_shapes();
    let cutter = Cutter::open(runtime, &request("m", &artifact, &shapes)).expect("opens");
    let tensors: Vec<&str> = cutter.candidates().iter().map(|candidate| candidate.tensor.as_str()).collect();
    assert_eq!(tensors, ["h"]);
}

#[test]
fn control_flow_is_refused_by_the_node() {
    let Some(runtime) = runtime("control flow in pieces") else { return };
    let (artifact, shapes) = (with_if(), no_shapes());
    let mut asked = request("m", &artifact, &shapes);
    asked.allow_control_flow = true;
    match Cutter::open(runtime, &asked) {
        Err(BackendError::UnsupportedNode { node, operator, reason, .. }) => {
            assert_eq!((node.as_str(), operator.as_str()), ("choose", "If"));
            assert!(reason.contains("control flow"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    let cut = listed(&artifact, "y");
    let loaded =
        OnnxLoader::new(runtime.clone()).inspect(&aegis_cuda::ModelRequest { artifact: &cut, ..asked });
    assert!(matches!(loaded, Err(BackendError::UnsupportedNode { .. })), "{loaded:?}");
}

#[test]
fn an_input_that_a_late_piece_reads_is_read_there() {
    let Some(runtime) = runtime("late inputs") else { return };
    let nodes = [node("Relu", "first", &["x"], &["h"]), node("Add", "last", &["h", "late"], &["y"])];
    let inputs = [value("x", F32, &LENGTH), value("late", F32, &LENGTH)];
    let outputs = [value("y", F32, &LENGTH), value("h", F32, &LENGTH)];
    let artifact = file(&graph(&nodes, &[], &inputs, &outputs));
    let cut = listed(&artifact, "h");
    let mut lane = Lane::new(1 << 20, 1 << 20);
    let (described, far) = compare(runtime, &mut lane, (&artifact, &cut, &no_shapes()), (5, 1));
    assert_eq!((described.graph.segments(), far), (2, 0.0));
    let crossing: u64 =
        described.graph.edges().iter().filter(|edge| edge.to.0 == 1).map(|e| e.bytes.get()).sum();
    assert_eq!(crossing, 0, "an output that is read again lies in the caller's buffer");
}

#[test]
fn pieces_need_room_for_what_crosses() {
    let Some(runtime) = runtime("budget of pieces") else { return };
    let model = find("dtln_1");
    let (artifact, shapes) = (model.bytes(), model.shapes());
    let artifact = cut(runtime, &artifact, &shapes, spread(2));
    let request = request(model.name, &artifact, &shapes);
    for own in [0, 64 << 10, 700 << 10, 1400 << 10] {
        let mut lane = Lane::new(own, 8 << 20);
        match lane.load(runtime, &request).err() {
            Some(BackendError::Memory { model, .. }) => assert_eq!(model, "dtln_1"),
            other => panic!("own {own}: {other:?}"),
        }
        assert!(lane.book.nothing_lent(), "own {own}: a failed load gives everything back");
    }
}

#[test]
fn a_model_of_one_node_has_no_candidates() {
    let Some(runtime) = runtime("one node") else { return };
    let (artifact, shapes) = (with_gather(), no_shapes());
    let cutter = Cutter::open(runtime, &request("m", &artifact, &shapes)).expect("opens");
    assert_eq!((cutter.atoms(), cutter.nodes(0..1).len()), (1, 1));
    let element = cutter.inputs()[0].element;
    assert_eq!(element, ElementType::I64, "{I64}");
}
