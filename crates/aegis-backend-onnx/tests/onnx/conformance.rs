//! The contract that every backend passes, with trained models.

use aegis_backend_onnx::{OnnxLoader, Reference};
use aegis_cuda::conformance::{self, BackendCase};
use aegis_cuda::host::{HostDevice, HostOptions};
use aegis_types::{Bytes, MemoryClass, MemoryGrant};

use crate::support::bench::{Lane, random};
use crate::support::models::{find, request};
use crate::support::{Seeded, runtime};

fn check(name: &str) {
    let Some(runtime) = runtime("conformance") else { return };
    let model = find(name);
    let (artifact, shapes) = (model.bytes(), model.shapes());
    let request = request(name, &artifact, &shapes);
    let mut lane = Lane::roomy();
    let specs = lane.load(runtime, &request).expect("loads").describe().inputs.clone();
    let water = |class| lane.book.high_water(class).get();
    let needs = water(MemoryClass::Persistent) + water(MemoryClass::Exchange) + water(MemoryClass::Scratch);
    let mut seed = Seeded(0xC0);
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
        // A tenth more for holes; the suite's I/O starts behind it and must be aligned.
        memory: Bytes::new((needs + needs / 10).next_multiple_of(4096)),
    };
    let report = conformance::backend(&case).unwrap_or_else(|violation| panic!("{name}: {violation}"));
    println!("{name}: {report:?}");
    assert!(report.passed.len() >= 6, "{report:?}");
}

#[test]
fn a_recurrent_model_conforms() {
    check("silero_vad");
}

#[test]
fn a_convolutional_model_with_open_axes_conforms() {
    check("ocr_cls");
}
