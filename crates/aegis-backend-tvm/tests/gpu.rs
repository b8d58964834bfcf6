//! Compiled models on a GPU. Without one, or without the models, every test is reported as ignored and the reason is
//! printed.
//!
//! Needs the folder named by `AEGIS_CACHE` with what `cargo xtask models --tvm --for cpu --for cuda --for cuda-source`
//! put there; `AEGIS_TVM_ARCH` names another architecture than `sm_90`. `CUDA_DEVICE_MAX_CONNECTIONS` is taken for the
//! number of hardware queues, as the driver does.

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Instant;

use aegis_backend_tvm::{TvmLoader, TvmOptions, TvmRuntime};
use aegis_cuda::conformance::{self, BackendCase};
use aegis_cuda::discovery::QUEUES;
use aegis_cuda::{CudaDevice, CudaOptions, Device, DeviceError, PartitionRequest, QueueLimit, Units};
use aegis_types::{Bytes, LaneId, MemoryClass, MemoryGrant, PartitionId, SegmentIndex};
use libtest_mimic::{Arguments, Failed, Trial};
use support::lane::{Lane, read, request};
use support::{MODELS, Model};

/// A test: its name and what it checks.
type Test = (&'static str, fn() -> Result<(), Failed>);

const TESTS: [Test; 6] = [
    ("conformance", conforms),
    ("outputs, enqueued and replayed", outputs),
    ("two partitions at once", partitions),
    ("kernels as source", source),
    ("models for another device are refused", other_device),
    ("what a job costs the thread that enqueues it", cost),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Each test binds lanes of the whole device.
    arguments.test_threads = Some(1);
    let missing = missing();
    if let (Some(reason), false) = (&missing, arguments.list) {
        TESTS.iter().for_each(|(name, _)| println!("skipped: {name}: {reason}"));
    }
    let trial = |&(name, body): &Test| Trial::test(name, body).with_ignored_flag(missing.is_some());
    libtest_mimic::run(&arguments, TESTS.iter().map(trial).collect()).exit_code()
}

/// Why nothing can be tested here.
fn missing() -> Option<String> {
    if let Err(error) = open().and_then(CudaDevice::close) {
        return Some(error.to_string());
    }
    let Some(folder) = support::folder() else {
        return Some("AEGIS_CACHE names no folder with compiled models".to_owned());
    };
    let compiled = folder.join(format!("models/mlp.{}.tvm", target("cuda")));
    (!compiled.is_file()).then(|| format!("there is no {}", compiled.display()))
}

fn open() -> Result<CudaDevice, DeviceError> {
    let told = std::env::var("CUDA_DEVICE_MAX_CONNECTIONS").ok().and_then(|queues| queues.parse().ok());
    let queues = QueueLimit::FromEnvironmentValue(told.unwrap_or(QUEUES));
    CudaDevice::open(CudaOptions { queues, memory: Some(Bytes::new(1 << 30)), ..CudaOptions::default() })
}

fn target(kind: &str) -> String {
    let arch = std::env::var("AEGIS_TVM_ARCH").unwrap_or_else(|_| "sm_90".to_owned());
    format!("{kind}-{arch}")
}

fn compiler() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("AEGIS_CACHE")?).join("nvrtc/libnvrtc.so.11.2");
    path.is_file().then_some(path)
}

/// The vendor's libraries, which a process loads once.
fn loader() -> TvmLoader {
    static RUNTIME: OnceLock<TvmRuntime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        let folder = support::folder().expect("looked for before").join("lib");
        let options = TvmOptions { folder, cuda: true, nvrtc: compiler() };
        TvmRuntime::load(&options).expect("the cache's libraries load")
    });
    TvmLoader::new(*runtime)
}

fn model(name: &'static str, kind: &str) -> Model {
    let target = if kind == "cpu" { kind.to_owned() } else { target(kind) };
    Model::read(&support::folder().expect("looked for before"), name, &target)
}

/// Fails with what was seen.
fn ensure(holds: bool, detail: impl FnOnce() -> String) -> Result<(), Failed> {
    if holds { Ok(()) } else { Err(detail().into()) }
}

fn conforms() -> Result<(), Failed> {
    for name in ["mlp", "cnn"] {
        let (model, shapes, loader, device) = (model(name, "cuda"), BTreeMap::new(), loader(), open()?);
        let request = request(name, &model.artifact, &shapes);
        let mut lane = Lane::new(&device, PartitionId::new(0), LaneId::new(0));
        drop(lane.load(&loader, &request)?);
        let water = |class| lane.grant.high_water(class).get();
        let needs =
            water(MemoryClass::Persistent) + water(MemoryClass::Exchange) + water(MemoryClass::Scratch);
        drop(lane);
        let report = conformance::backend(&BackendCase {
            device: &device,
            loader: &loader,
            request,
            jobs: &model.jobs,
            judge: &|inputs, outputs| model.judge(inputs, outputs),
            memory: Bytes::new((needs + needs / 10).next_multiple_of(4096)),
        })?;
        report.passed.iter().for_each(|check| println!("{name}: passed: {check}"));
        report.skipped.iter().for_each(|(check, why)| println!("{name}: skipped: {check}: {why}"));
        device.close()?;
    }
    Ok(())
}

/// Runs jobs as they are enqueued and as a graph replays them.
fn both_ways(lane: &mut Lane, model: &Model) -> Result<(), Failed> {
    let shapes = BTreeMap::new();
    let segment = SegmentIndex::new(0);
    let mut loaded = lane.load(&loader(), &request(model.name, &model.artifact, &shapes))?;
    let buffers = lane.lend(&*loaded);
    let binding = loaded.bind(buffers.clone())?;
    for inputs in &model.jobs {
        let outputs = lane.job(&mut *loaded, &buffers, binding, inputs)?;
        model.judge(inputs, &outputs)?;
    }
    ensure(loaded.capturable(segment), || "a model on a GPU can be captured".to_owned())?;
    let graph = lane.stream.capture(&mut |stream| loaded.enqueue(stream, segment, binding))?;
    for turn in 0..6 {
        let inputs = &model.jobs[turn % 2];
        buffers.inputs.iter().zip(inputs).for_each(|(slice, bytes)| slice.write(bytes));
        buffers.outputs.iter().for_each(|slice| slice.write(&vec![0xA5; slice.len().get() as usize]));
        lane.finish(|stream| Ok(stream.replay(&*graph)?))?;
        model.judge(inputs, &read(&buffers)).map_err(|wrong| format!("replayed: {wrong}"))?;
    }
    println!(
        "{}: {} operations in a graph, weights {}, scratch {}",
        model.name,
        graph.operations(),
        lane.grant.high_water(MemoryClass::Persistent),
        lane.grant.high_water(MemoryClass::Scratch),
    );
    drop((graph, loaded, buffers));
    ensure(lane.grant.used_total().is_zero(), || format!("{} stay taken", lane.grant.used_total()))
}

fn outputs() -> Result<(), Failed> {
    let device = open()?;
    let mut lane = Lane::new(&device, PartitionId::new(0), LaneId::new(0));
    for name in MODELS {
        both_ways(&mut lane, &model(name, "cuda"))?;
    }
    drop(lane);
    device.close()?;
    Ok(())
}

/// Two models in two partitions of the device, their jobs in flight together.
fn partitions() -> Result<(), Failed> {
    let device = open()?;
    if !device.context().capabilities.partitions {
        println!("skipped: the driver cannot divide this device");
        return Ok(());
    }
    let units = Units::Count(device.context().unit_minimum);
    let request_of = |name: &str| PartitionRequest { name: name.into(), units: units.clone() };
    let made = device.partition(&[request_of("a"), request_of("b")])?;
    let (shapes, model, segment) = (BTreeMap::new(), model("resnet_small", "cuda"), SegmentIndex::new(0));
    let mut lanes = Vec::new();
    for partition in &made {
        let mut lane = Lane::new(&device, partition.id, LaneId::new(partition.id.get()));
        let mut loaded = lane.load(&loader(), &request(model.name, &model.artifact, &shapes))?;
        let buffers = lane.lend(&*loaded);
        let binding = loaded.bind(buffers.clone())?;
        lanes.push((lane, loaded, buffers, binding));
    }
    for turn in 0..8 {
        let inputs = |lane: usize| &model.jobs[(turn + lane) % 2];
        for (index, (lane, loaded, buffers, binding)) in lanes.iter_mut().enumerate() {
            buffers.inputs.iter().zip(inputs(index)).for_each(|(slice, bytes)| slice.write(bytes));
            loaded.enqueue(&mut *lane.stream, segment, *binding)?;
        }
        for (index, (lane, _, buffers, _)) in lanes.iter_mut().enumerate() {
            lane.stream.synchronize()?;
            model.judge(inputs(index), &read(buffers))?;
        }
    }
    drop(lanes);
    device.close()?;
    Ok(())
}

fn source() -> Result<(), Failed> {
    let compiled =
        support::folder().map(|folder| folder.join(format!("models/cnn.{}.tvm", target("cuda-source"))));
    if compiler().is_none() || compiled.is_none_or(|path| !path.is_file()) {
        println!("skipped: AEGIS_CACHE holds no compiler of kernels, or no model with its kernels as source");
        return Ok(());
    }
    let device = open()?;
    let mut lane = Lane::new(&device, PartitionId::new(0), LaneId::new(0));
    for name in ["mlp", "cnn"] {
        both_ways(&mut lane, &model(name, "cuda-source"))?;
    }
    drop(lane);
    device.close()?;
    Ok(())
}

fn other_device() -> Result<(), Failed> {
    let (device, shapes) = (open()?, BTreeMap::new());
    let mut lane = Lane::new(&device, PartitionId::new(0), LaneId::new(0));
    let for_host = model("mlp", "cpu");
    let refused = lane.load(&loader(), &request("mlp", &for_host.artifact, &shapes)).err();
    let said = refused.map(|error| error.to_string()).unwrap_or_default();
    ensure(said.contains("compiled for the host's processor"), || said.clone())?;
    ensure(lane.grant.used_total().is_zero(), || format!("{} stay taken", lane.grant.used_total()))?;
    drop(lane);
    device.close()?;
    Ok(())
}

/// Prints what enqueueing and replaying cost; times are measured elsewhere, nothing is asserted of them.
fn cost() -> Result<(), Failed> {
    const JOBS: usize = 300;
    let device = open()?;
    let (shapes, segment) = (BTreeMap::new(), SegmentIndex::new(0));
    for name in MODELS {
        let model = model(name, "cuda");
        let mut lane = Lane::new(&device, PartitionId::new(0), LaneId::new(0));
        let mut loaded = lane.load(&loader(), &request(name, &model.artifact, &shapes))?;
        let buffers = lane.lend(&*loaded);
        let binding = loaded.bind(buffers.clone())?;
        let graph = lane.stream.capture(&mut |stream| loaded.enqueue(stream, segment, binding))?;
        for replayed in [false, true] {
            let (mut held, mut whole) = (Vec::with_capacity(JOBS), Vec::with_capacity(JOBS));
            for _ in 0..JOBS {
                let start = Instant::now();
                if replayed {
                    lane.stream.replay(&*graph)?;
                } else {
                    loaded.enqueue(&mut *lane.stream, segment, binding)?;
                }
                held.push(start.elapsed());
                lane.stream.synchronize()?;
                whole.push(start.elapsed());
            }
            held.sort();
            whole.sort();
            let (way, p99) = (if replayed { "replayed" } else { "enqueued" }, JOBS * 99 / 100);
            println!(
                "{name} {way}: thread p50 {:?} p99 {:?}, until done p50 {:?} p99 {:?}",
                held[JOBS / 2],
                held[p99],
                whole[JOBS / 2],
                whole[p99]
            );
        }
        drop((graph, loaded, buffers, lane));
    }
    device.close()?;
    Ok(())
}
