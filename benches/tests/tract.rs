//! The backend `tract` on generated networks: the contract of every backend, and an independent opinion on its outputs.
//!
//! What compares with ONNX Runtime needs the folder named by `AEGIS_CACHE`, and says so where there is none.

use std::collections::BTreeMap;
use std::path::PathBuf;

use aegis_backend_onnx::{OnnxRuntime, Reference, TractLoader, TractReference};
use aegis_benches::networks::{DESIGNS, Design, Precision, Size};
use aegis_cuda::conformance::{self, BackendCase, CountingGrant};
use aegis_cuda::host::{HostDevice, HostOptions};
use aegis_cuda::{BackendError, BackendLoader, Device, MemorySpace, ModelMemory, ModelRequest};
use aegis_types::{Bytes, Extent, LaneId, MemoryClass, MemoryGrant, PartitionId};
use aegisrt::feed::{Feed, SplitMix};

const MIB: u64 = 1 << 20;

fn file(name: &str, precision: Precision) -> Vec<u8> {
    Design::find(name).expect("a network").make(Size::Tiny, precision, 5).file
}

fn request<'a>(artifact: &'a [u8], shapes: &'a BTreeMap<String, Vec<u64>>) -> ModelRequest<'a> {
    ModelRequest { name: "generated", artifact, shapes, allow_control_flow: false }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four bytes"))).collect()
}

/// The largest difference, relative to the largest value.
fn apart(ours: &[u8], theirs: &[u8]) -> f32 {
    let (ours, theirs) = (floats(ours), floats(theirs));
    assert_eq!(ours.len(), theirs.len());
    let largest = theirs.iter().fold(f32::MIN_POSITIVE, |most, value| most.max(value.abs()));
    ours.iter().zip(&theirs).fold(0f32, |most, (a, b)| most.max((a - b).abs())) / largest
}

#[test]
fn outputs_are_those_of_onnx_runtime() {
    let Some(cache) = std::env::var_os("AEGIS_CACHE") else {
        println!("skip outputs_are_those_of_onnx_runtime: AEGIS_CACHE is not set");
        return;
    };
    let library = PathBuf::from(cache).join("onnxruntime/libonnxruntime.so");
    let runtime = OnnxRuntime::load(&library).expect("the cache's library loads");
    let shapes = BTreeMap::new();
    for (precision, limit) in [(Precision::Fp32, 1e-4), (Precision::Fp16, 2e-2)] {
        for design in &DESIGNS {
            let file = file(design.name, precision);
            let mut theirs = Reference::open(&runtime, &file, &shapes).expect("opens");
            let ours = TractReference::open(&request(&file, &shapes))
                .unwrap_or_else(|error| panic!("{} {precision:?}: {error}", design.name));
            let feed = Feed::seeded(11, theirs.inputs());
            for job in 0..2 {
                let inputs = feed.sample(job).to_vec();
                let [expected, found] =
                    [theirs.run(&inputs), ours.run(&inputs)].map(|run| run.expect("runs"));
                for (found, expected) in found.iter().zip(&expected) {
                    let apart = apart(found, expected);
                    assert!(apart <= limit, "{} {precision:?} job {job}: {apart}", design.name);
                }
            }
        }
    }
}

/// What a model takes of a grant that has room for more: constants for good, and values while it runs.
fn needs(device: &HostDevice, file: &[u8]) -> u64 {
    let shapes = BTreeMap::new();
    let region = device.reserve(MemorySpace::Device, Bytes::new(64 * MIB)).expect("fits");
    let mut stream = device.bind_lane(PartitionId::new(0), LaneId::new(0)).expect("a free lane");
    let grant = CountingGrant::new(Extent { offset: Bytes::ZERO, len: Bytes::new(64 * MIB) });
    let memory = ModelMemory { grant: Box::new(grant.clone()), region };
    let model = TractLoader::new().load(&request(file, &shapes), &mut *stream, memory).expect("loads");
    let remarks = model.remarks();
    assert!(remarks.iter().any(|remark| remark.contains("not enforced")), "{remarks:?}");
    let water = |class| grant.high_water(class).get();
    assert!(water(MemoryClass::Scratch) > 0, "a run takes something");
    water(MemoryClass::Persistent) + water(MemoryClass::Exchange) + water(MemoryClass::Scratch)
}

fn conforms(name: &str) {
    let file = file(name, Precision::Fp32);
    let shapes = BTreeMap::new();
    let request = request(&file, &shapes);
    let device = HostDevice::new(HostOptions { memory: Bytes::new(256 * MIB) }).expect("a host");
    let needs =
        std::thread::scope(|scope| scope.spawn(|| needs(&device, &file)).join().expect("the model loads"));
    let inputs = TractLoader::new().inspect(&request).expect("is described").inputs;
    let feed = Feed::seeded(3, &inputs);
    let jobs: Vec<Vec<Vec<u8>>> = (0..3).map(|job| feed.sample(job).to_vec()).collect();
    let reference = TractReference::open(&request).expect("opens");
    let right: Vec<_> = jobs.iter().map(|inputs| reference.run(inputs).expect("runs")).collect();
    let judge = |inputs: &[Vec<u8>], outputs: &[Vec<u8>]| {
        let job = jobs.iter().position(|job| job == inputs).ok_or("inputs of no job")?;
        if right[job] == outputs { Ok(()) } else { Err(format!("job {job} differs from the plain run")) }
    };
    let case = BackendCase {
        device: &device,
        loader: &TractLoader::new(),
        request,
        jobs: &jobs,
        judge: &judge,
        memory: Bytes::new((needs + needs / 10).next_multiple_of(4096)),
    };
    let report = conformance::backend(&case).unwrap_or_else(|violation| panic!("{name}: {violation}"));
    println!("{name}: {report:?}");
    assert!(report.passed.len() >= 6, "{report:?}");
}

#[test]
fn a_detector_conforms() {
    conforms("detector");
}

#[test]
fn a_network_with_attention_conforms() {
    conforms("speech");
}

#[test]
fn an_operator_that_it_lacks_is_named() {
    let mut file = file("classifier", Precision::Fp32);
    let places: Vec<usize> = (0..file.len() - 4).filter(|&at| file[at..].starts_with(b"Relu")).collect();
    for &at in &places {
        file[at + 3] = b'y';
    }
    assert!(!places.is_empty());
    let error = TractLoader::new().inspect(&request(&file, &BTreeMap::new())).expect_err("there is no Rely");
    assert!(matches!(error, BackendError::InvalidModel { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("Rely") && text.contains("legal"), "{text}");
}

/// Files with a few wrong bytes are described or refused; nothing panics through the loader.
#[test]
fn damaged_files_are_answered() {
    let whole = file("keyword", Precision::Fp32);
    let shapes = BTreeMap::new();
    let seed = 0xDA;
    let mut random = SplitMix(seed);
    let mut refused = 0;
    for round in 0..60 {
        let mut damaged = whole.clone();
        for _ in 0..3 {
            // Where the structure is: weights lie between, and a wrong weight is a right file.
            let at = random.below(2_000);
            let from_end = random.below(2) == 1;
            let at = if from_end { damaged.len() as u64 - 1 - at } else { at };
            let at = usize::try_from(at).expect("small");
            damaged[at] ^= 1 << random.below(8);
        }
        let answer =
            std::panic::catch_unwind(|| TractLoader::new().inspect(&request(&damaged, &shapes)).err());
        let answer = answer.unwrap_or_else(|_| panic!("round {round} of seed {seed} panicked"));
        refused += u32::from(answer.is_some());
    }
    assert!(refused > 20, "{refused} of 60 were refused");
}
