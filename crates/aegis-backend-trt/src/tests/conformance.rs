//! The contract that every backend passes.

use std::collections::BTreeMap;
use std::sync::Arc;

use aegis_cuda::conformance::{self, BackendCase};
use aegis_cuda::{BackendLoader, HostDevice, HostOptions};
use aegis_types::Bytes;

use super::bench::{Host, MEMORY, expected, request, shapes};
use super::mock::Mock;
use crate::loader::TensorRtLoader;

fn check(plan: &str, weights: &[usize], shapes: &BTreeMap<String, Vec<u64>>) {
    let Some(mock) = Mock::fresh() else { return };
    let loader = TensorRtLoader::on(mock.library.clone(), Arc::new(Host::default()));
    let request = request(plan.as_bytes(), shapes);
    let description = loader.inspect(&request).unwrap();
    let byte = |job: u64, input: usize, at: u64| (at * 31 + job * 7 + input as u64) as u8;
    let bytes = |job: u64, (input, spec): (usize, &aegis_cuda::TensorSpec)| {
        (0..spec.bytes.get()).map(|at| byte(job, input, at)).collect::<Vec<u8>>()
    };
    let jobs: Vec<Vec<Vec<u8>>> = (0..3)
        .map(|job| description.inputs.iter().enumerate().map(|input| bytes(job, input)).collect())
        .collect();
    let judge = |inputs: &[Vec<u8>], outputs: &[Vec<u8>]| {
        let right = expected(weights, inputs, &description.outputs);
        if right == outputs { Ok(()) } else { Err("outputs are not the mock's".to_owned()) }
    };
    let device = HostDevice::new(HostOptions { memory: MEMORY }).unwrap();
    let memory = Bytes::new(16 << 10);
    let case = BackendCase { device: &device, loader: &loader, request, jobs: &jobs, judge: &judge, memory };
    let report = conformance::backend(&case).unwrap_or_else(|violation| panic!("{violation}"));
    println!("{report:?}");
    assert!(report.passed.len() >= 6, "{report:?}");
    assert_eq!(mock.live(), (0, 0), "objects and recorders after the suite");
}

#[test]
fn a_plan_of_fixed_shapes_conforms() {
    let plan = "mockplan 1\ninput x 0 2x3\ninput t 5 7\noutput y 1 33\noutput z 8 2x2\n\
                weights 4096\nweights 1001\ncontext 512\nscratch 1024\nlayers 3\nend\n";
    check(plan, &[4096, 1001], &BTreeMap::new());
}

#[test]
fn a_plan_of_open_shapes_in_its_second_profile_conforms() {
    let plan = "mockplan 1\ninput x 0 ?x4\nprofile x 1x4 2x4\nprofile x 3x4 16x4\noutput y 0 ?x4\n\
                weights 333\nthread\ncontext 64\nscratch 100\nend\n";
    check(plan, &[333], &shapes(&[("x", &[9, 4])]));
}

#[test]
fn a_plan_without_scratch_or_memory_of_its_context_conforms() {
    check("mockplan 1\ninput x 0 5\noutput y 0 5\nweights 20\nend\n", &[20], &BTreeMap::new());
}
