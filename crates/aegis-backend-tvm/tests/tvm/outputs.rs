//! Outputs against the definition of the operators in double precision, whatever lies in the memory that tasks share.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Instant;

use aegis_backend_tvm::{TvmLoader, TvmOptions, TvmRuntime};
use aegis_cuda::host::{HostDevice, HostOptions};
use aegis_cuda::{BackendLoader, DeviceSlice};
use aegis_types::{Bytes, Extent, LaneId, MemoryClass, MemoryGrant, PartitionId};

use crate::support::lane::{Lane, request};
use crate::support::{MODELS, Model, folder};

/// The vendor's library, which a process loads once, and the folder of models; `None`, with a printed skip, without.
pub fn prepared(test: &str) -> Option<(TvmRuntime, PathBuf)> {
    static RUNTIME: OnceLock<Option<TvmRuntime>> = OnceLock::new();
    let Some(folder) = folder() else {
        println!("skip {test}: AEGIS_CACHE names no folder with what `cargo xtask models --tvm` makes");
        return None;
    };
    let load = || {
        let options = TvmOptions { folder: folder.join("lib"), ..TvmOptions::default() };
        Some(TvmRuntime::load(&options).expect("the cache's library loads"))
    };
    RUNTIME.get_or_init(load).map(|runtime| (runtime, folder))
}

pub fn host() -> HostDevice {
    HostDevice::new(HostOptions { memory: Bytes::new(1 << 30) }).expect("a host")
}

/// Fills everything that nobody holds between jobs with a byte that is no harmless number.
fn poison(lane: &Lane) {
    let from = lane.grant.used(MemoryClass::Persistent).get().next_multiple_of(4096);
    let most = lane.grant.high_water(MemoryClass::Scratch).get() * 2;
    let extent = Extent { offset: Bytes::new(from), len: Bytes::new(most) };
    let scratch = DeviceSlice::lend(&lane.region, extent).expect("nobody holds scratch between jobs");
    scratch.write(&vec![0xA5; usize::try_from(most).expect("a word has 64 bits")]);
}

#[test]
fn every_model_computes_what_its_operators_say_on_poisoned_scratch() {
    let Some((runtime, folder)) = prepared("outputs") else { return };
    let device = host();
    for name in MODELS {
        let model = Model::read(&folder, name, "cpu");
        let shapes = BTreeMap::new();
        let loader = TvmLoader::new(runtime);
        let mut lane = Lane::new(&device, PartitionId::new(0), LaneId::new(0));
        let mut loaded = lane.load(&loader, &request(name, &model.artifact, &shapes)).expect("loads");
        let buffers = lane.lend(&*loaded);
        let binding = loaded.bind(buffers.clone()).expect("fits");
        let mut spans = Vec::new();
        for turn in 0..20 {
            poison(&lane);
            let inputs = &model.jobs[turn % 2];
            let start = Instant::now();
            let outputs = lane.job(&mut *loaded, &buffers, binding, inputs).expect("runs");
            spans.push(start.elapsed());
            model.judge(inputs, &outputs).unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
        }
        spans.sort();
        println!(
            "{name}: operators {:?}, weights {}, scratch {}, jobs with their copies p50 {:?} max {:?}",
            loaded.describe().operators,
            lane.grant.high_water(MemoryClass::Persistent),
            lane.grant.high_water(MemoryClass::Scratch),
            spans[spans.len() / 2],
            spans[spans.len() - 1],
        );
        drop((loaded, buffers));
        assert!(lane.grant.used_total().is_zero(), "{name}: dropping the model gives everything back");
    }
    assert_eq!(runtime.uncharged_allocations(), 0);
}

#[test]
fn a_model_is_described_without_a_library_or_a_device() {
    let Some((runtime, folder)) = prepared("description") else { return };
    let model = Model::read(&folder, "cnn", "cpu");
    let shapes = BTreeMap::from([("x".to_owned(), vec![1, 3, 32, 32])]);
    let loader = TvmLoader::new(runtime);
    let described = loader.inspect(&request("cnn", &model.artifact, &shapes)).expect("describes");
    assert_eq!(loader.name(), "tvm");
    assert_eq!(described.operators.get("Conv"), Some(&4));
    assert_eq!(described.outputs.iter().map(|spec| spec.bytes.get()).collect::<Vec<_>>(), [40, 4096]);
    assert!(described.memory.weights.get() > 17_000, "{described:?}");
}
