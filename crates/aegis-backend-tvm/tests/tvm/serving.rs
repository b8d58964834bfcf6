//! While jobs run, nothing is allocated outside of the grant's scratch, and what is taken is given back.

use std::collections::BTreeMap;

use aegis_backend_tvm::TvmLoader;
use aegis_cuda::BackendError;
use aegis_types::{LaneId, MemoryClass, MemoryGrant, PartitionId, SegmentIndex};

use crate::support::Model;
use crate::support::lane::{Lane, request};
use crate::tvm::counting::{count, heap};
use crate::tvm::outputs::{host, prepared};

const JOBS: u32 = 200;

#[test]
fn jobs_allocate_nothing_and_leave_nothing_behind() {
    let Some((runtime, folder)) = prepared("serving") else { return };
    let model = Model::read(&folder, "cnn", "cpu");
    let shapes = BTreeMap::new();
    let device = host();
    let mut lane = Lane::new(&device, PartitionId::new(0), LaneId::new(0));
    let loader = TvmLoader::new(runtime);
    let mut loaded = lane.load(&loader, &request("cnn", &model.artifact, &shapes)).expect("loads");
    let buffers = lane.lend(&*loaded);
    let binding = loaded.bind(buffers.clone()).expect("fits");
    lane.job(&mut *loaded, &buffers, binding, &model.jobs[0]).expect("runs");
    let (held, before) = (lane.grant.used_total(), heap());
    let mut run = || loaded.enqueue(&mut *lane.stream, SegmentIndex::new(0), binding);
    // The grant of the tests keeps a list, which it grows once; a grant of the runtime does not.
    run().expect("runs");
    let (ran, allocations) = count(|| (0..JOBS).try_for_each(|_| run()));
    ran.expect("runs");
    assert_eq!(allocations, 0, "of {JOBS} jobs");
    assert_eq!(lane.grant.used_total(), held);
    assert!(
        lane.grant.used(MemoryClass::Scratch).is_zero()
            && !lane.grant.high_water(MemoryClass::Scratch).is_zero()
    );
    // Other tests of this program run beside this one, so the heap is only printed.
    println!("heap in use before {JOBS} jobs {before} B, after {} B", heap());
    assert_eq!(runtime.uncharged_allocations(), 0);
}

#[test]
fn segments_and_bindings_that_do_not_exist_are_refused() {
    let Some((runtime, folder)) = prepared("wrong numbers") else { return };
    let model = Model::read(&folder, "mlp", "cpu");
    let shapes = BTreeMap::new();
    let device = host();
    let mut lane = Lane::new(&device, PartitionId::new(0), LaneId::new(0));
    let loader = TvmLoader::new(runtime);
    let mut loaded = lane.load(&loader, &request("mlp", &model.artifact, &shapes)).expect("loads");
    let buffers = lane.lend(&*loaded);
    let binding = loaded.bind(buffers).expect("fits");
    for (segment, binding) in [(1, binding), (0, aegis_cuda::BindingId(9))] {
        let error = loaded.enqueue(&mut *lane.stream, SegmentIndex::new(segment), binding);
        assert!(matches!(error, Err(BackendError::Execution { started: true, .. })), "{error:?}");
    }
    assert!(!loaded.capturable(SegmentIndex::new(0)), "the host has no graphs");
}
