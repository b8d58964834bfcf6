//! The contract that every backend passes.

use std::collections::BTreeMap;

use aegis_backend_tvm::TvmLoader;
use aegis_cuda::conformance::{self, BackendCase};
use aegis_types::{Bytes, LaneId, MemoryClass, MemoryGrant, PartitionId};

use crate::support::Model;
use crate::support::lane::{Lane, request};
use crate::tvm::outputs::{host, prepared};

fn check(name: &'static str) {
    let Some((runtime, folder)) = prepared("conformance") else { return };
    let model = Model::read(&folder, name, "cpu");
    let shapes = BTreeMap::new();
    let request = request(name, &model.artifact, &shapes);
    let loader = TvmLoader::new(runtime);
    let device = host();
    let mut lane = Lane::new(&device, PartitionId::new(0), LaneId::new(0));
    drop(lane.load(&loader, &request).expect("loads"));
    let water = |class| lane.grant.high_water(class).get();
    let needs = water(MemoryClass::Persistent) + water(MemoryClass::Exchange) + water(MemoryClass::Scratch);
    drop(lane);
    let case = BackendCase {
        device: &device,
        loader: &loader,
        request,
        jobs: &model.jobs,
        judge: &|inputs, outputs| model.judge(inputs, outputs),
        // A tenth more for holes; the suite's I/O starts behind it and must be aligned.
        memory: Bytes::new((needs + needs / 10).next_multiple_of(4096)),
    };
    let report = conformance::backend(&case).unwrap_or_else(|violation| panic!("{name}: {violation}"));
    println!("{name}: {report:?}");
    assert!(report.passed.len() >= 6, "{report:?}");
}

#[test]
fn a_dense_model_conforms() {
    check("mlp");
}

#[test]
fn a_convolutional_model_with_two_outputs_conforms() {
    check("cnn");
}
