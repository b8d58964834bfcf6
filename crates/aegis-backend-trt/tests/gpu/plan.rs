//! A plan of the user's, on a GPU. Its outputs are compared with its own: nobody else has made them.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use aegis_backend_trt::TensorRtLoader;
use aegis_cuda::conformance::{self, BackendCase, CountingGrant};
use aegis_cuda::{
    BackendLoader, Bindings, CudaDevice, CudaOptions, Device, DeviceSlice, MemorySpace, ModelDescription,
    ModelMemory, ModelRequest, TensorSpec,
};
use aegis_types::{Bytes, Extent, LaneId, PartitionId, SegmentIndex};
use libtest_mimic::Failed;

/// Room for holes, and for what the library takes beside the weights.
const BESIDE: u64 = 64 << 20;

/// Inputs of a job that are harmless numbers in any type.
fn inputs(description: &ModelDescription, job: u8) -> Vec<Vec<u8>> {
    let bytes = |spec: &TensorSpec| (0..spec.bytes.get()).map(|at| (at as u8 ^ job) & 0x3B).collect();
    description.inputs.iter().map(bytes).collect()
}

fn io_bytes(description: &ModelDescription) -> u64 {
    let slots = description.inputs.iter().chain(&description.outputs);
    slots.map(|spec| spec.bytes.get().next_multiple_of(256)).sum()
}

/// Memory for the model: what it says, its warm-up's I/O, and room.
fn memory(description: &ModelDescription) -> u64 {
    let scratch: u64 = description.memory.scratch.iter().flatten().map(|bytes| bytes.get()).sum();
    (description.memory.weights.get() + scratch + io_bytes(description) + BESIDE).next_multiple_of(4096)
}

pub fn conforms() -> Result<(), Failed> {
    let (loader, artifact) = (TensorRtLoader::new(crate::library()?, 0), std::fs::read(crate::plan()?)?);
    let shapes = BTreeMap::new();
    let request =
        ModelRequest { name: "plan", artifact: &artifact, shapes: &shapes, allow_control_flow: false };
    let description = loader.inspect(&request)?;
    println!("{description:?}");
    let jobs: Vec<_> = (0..3).map(|job| inputs(&description, job)).collect();
    let known = Mutex::new(BTreeMap::<Vec<Vec<u8>>, Vec<Vec<u8>>>::new());
    let judge = |inputs: &[Vec<u8>], outputs: &[Vec<u8>]| {
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        let first = known.entry(inputs.to_vec()).or_insert_with(|| outputs.to_vec());
        if first == outputs { Ok(()) } else { Err("outputs differ from those of the first run".to_owned()) }
    };
    let device = CudaDevice::open(CudaOptions::default())?;
    let memory = Bytes::new(memory(&description));
    let case = BackendCase { device: &device, loader: &loader, request, jobs: &jobs, judge: &judge, memory };
    println!("{:?}", conformance::backend(&case)?);
    Ok(device.close()?)
}

pub fn captured() -> Result<(), Failed> {
    let device = CudaDevice::open(CudaOptions::default())?;
    compare(&device)?;
    Ok(device.close()?)
}

/// Runs a job plainly, then as a graph on other contents of the outputs.
fn compare(device: &CudaDevice) -> Result<(), Failed> {
    let (loader, artifact) = (TensorRtLoader::new(crate::library()?, 0), std::fs::read(crate::plan()?)?);
    let shapes = BTreeMap::new();
    let request =
        ModelRequest { name: "plan", artifact: &artifact, shapes: &shapes, allow_control_flow: false };
    let description = loader.inspect(&request)?;
    let own = memory(&description);
    let region = device.reserve(MemorySpace::Device, Bytes::new(own + io_bytes(&description)))?;
    let mut stream = device.bind_lane(PartitionId::new(0), LaneId::new(0))?;
    let grant = CountingGrant::new(Extent { offset: Bytes::ZERO, len: Bytes::new(own) });
    let granted = ModelMemory { grant: Box::new(grant), region: Arc::clone(&region) };
    let mut model = loader.load(&request, &mut *stream, granted)?;
    let mut next = own;
    let mut lend = |spec: &TensorSpec| {
        let extent = Extent { offset: Bytes::new(next), len: spec.bytes };
        next += spec.bytes.get().next_multiple_of(256);
        DeviceSlice::lend(&region, extent).map(Rc::new)
    };
    let buffers = Bindings {
        inputs: description.inputs.iter().map(&mut lend).collect::<Result<_, _>>()?,
        outputs: description.outputs.iter().map(&mut lend).collect::<Result<_, _>>()?,
    };
    let (segment, binding) = (SegmentIndex::new(0), model.bind(buffers.clone())?);
    for (slice, bytes) in buffers.inputs.iter().zip(inputs(&description, 7)) {
        slice.write(&bytes);
    }
    model.enqueue(&mut *stream, segment, binding)?;
    stream.synchronize()?;
    let read = || {
        let bytes = |slice: &Rc<DeviceSlice>| {
            let mut bytes = vec![0; usize::try_from(slice.len().get()).unwrap_or(0)];
            slice.read(&mut bytes);
            bytes
        };
        buffers.outputs.iter().map(bytes).collect::<Vec<_>>()
    };
    let plain = read();
    let graph = stream.capture(&mut |stream| model.enqueue(stream, segment, binding))?;
    buffers.outputs.iter().zip(&plain).for_each(|(slice, bytes)| slice.write(&vec![0xA5; bytes.len()]));
    stream.replay(&*graph)?;
    stream.synchronize()?;
    if read() == plain { Ok(()) } else { Err("the graph's outputs are others".into()) }
}
