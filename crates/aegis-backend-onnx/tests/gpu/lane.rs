//! A lane of the GPU with loaded models, buffers for their I/O, and what to compare them with.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use aegis_backend_onnx::{OnnxLoader, OnnxRuntime, Reference};
use aegis_cuda::discovery::QUEUES;
use aegis_cuda::{
    BackendError, BackendLoader, BindingId, Bindings, CudaDevice, CudaOptions, Device, DeviceMemory,
    DeviceSlice, ElementType, Graph, MemorySpace, ModelMemory, QueueLimit, RuntimeBackend, Stream,
    TensorSpec,
};
use aegis_types::{Bytes, DispatchSeq, Extent, LaneId, PartitionId, SegmentIndex};
use libtest_mimic::Failed;

use crate::grant::Book;
use crate::models::{MODELS, Model, request};

const MIB: u64 = 1 << 20;
/// How far numbers may be from the host's: both sum in 32 bits, in another order.
const TOLERANCE: f64 = 2e-5;

/// Why nothing can be tested here.
pub fn missing() -> Option<String> {
    let path = std::env::var_os("AEGIS_ONNXRUNTIME");
    let Some(path) = path else { return Some("AEGIS_ONNXRUNTIME is not set".into()) };
    if !Path::new(&path).with_file_name("libonnxruntime_providers_cuda.so").is_file() {
        return Some(format!("{} has no CUDA provider beside it", path.display()));
    }
    if let Err(error) = CudaDevice::open(options()).and_then(CudaDevice::close) {
        return Some(error.to_string());
    }
    cached().is_empty().then(|| "AEGIS_CACHE holds no models".into())
}

/// The first GPU with as many queues as the driver was told.
pub fn options() -> CudaOptions {
    let told = std::env::var("CUDA_DEVICE_MAX_CONNECTIONS").ok().and_then(|queues| queues.parse().ok());
    let queues = QueueLimit::FromEnvironmentValue(told.unwrap_or(QUEUES));
    CudaOptions { queues, ..CudaOptions::default() }
}

/// The vendor library, which a process loads once.
pub fn runtime() -> Result<&'static OnnxRuntime, Failed> {
    static RUNTIME: OnceLock<Result<OnnxRuntime, String>> = OnceLock::new();
    let load = || {
        let path = std::env::var_os("AEGIS_ONNXRUNTIME").unwrap_or_default();
        OnnxRuntime::load(Path::new(&path)).map_err(|error| error.to_string())
    };
    RUNTIME.get_or_init(load).as_ref().map_err(|reason| reason.clone().into())
}

/// The models that are there.
pub fn cached() -> Vec<&'static Model> {
    let folder = crate::cache().unwrap_or_default().join("models");
    MODELS.iter().filter(|model| folder.join(format!("{}.onnx", model.name)).is_file()).collect()
}

/// A model of the cache with what it answers on the host.
pub struct Subject {
    pub name: &'static str,
    pub artifact: Vec<u8>,
    pub shapes: BTreeMap<String, Vec<u64>>,
    pub inputs: Vec<TensorSpec>,
    pub outputs: Vec<TensorSpec>,
    reference: Reference,
}

impl Subject {
    pub fn open(model: &'static Model) -> Result<Self, Failed> {
        let (artifact, shapes) = (model.bytes(), model.shapes());
        let described =
            OnnxLoader::new(runtime()?.clone()).inspect(&request(model.name, &artifact, &shapes))?;
        let reference = Reference::open(runtime()?, &artifact, &shapes)?;
        let (inputs, outputs) = (described.inputs, described.outputs);
        Ok(Self { name: model.name, artifact, shapes, inputs, outputs, reference })
    }

    /// Inputs of a job, by seed.
    pub fn job(&self, seed: u64) -> Vec<Vec<u8>> {
        let mut state = seed;
        self.inputs.iter().map(|spec| random(spec, &mut state)).collect()
    }

    /// What the host answers.
    pub fn expected(&mut self, inputs: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, Failed> {
        Ok(self.reference.run(inputs)?)
    }

    /// The largest difference between two answers, relative to numbers above one.
    ///
    /// # Errors
    /// It is above the tolerance, or integers differ.
    pub fn difference(&self, seen: &[Vec<u8>], expected: &[Vec<u8>]) -> Result<f64, String> {
        compare(&self.outputs, seen, expected)
    }
}

/// As [`Subject::difference`], for outputs of these kinds.
pub fn compare(outputs: &[TensorSpec], seen: &[Vec<u8>], expected: &[Vec<u8>]) -> Result<f64, String> {
    let mut largest = 0.0_f64;
    for (spec, (seen, expected)) in outputs.iter().zip(seen.iter().zip(expected)) {
        if spec.element != ElementType::F32 {
            if seen != expected {
                return Err(format!("`{}` differs", spec.name));
            }
            continue;
        }
        for (index, (seen, expected)) in numbers(seen).zip(numbers(expected)).enumerate() {
            let distance = (seen - expected).abs() / expected.abs().max(1.0);
            if distance.is_nan() || distance > TOLERANCE {
                return Err(format!("`{}` has {seen} at {index}, the host {expected}", spec.name));
            }
            largest = largest.max(distance);
        }
    }
    Ok(largest)
}

fn numbers(bytes: &[u8]) -> impl Iterator<Item = f64> + '_ {
    let number = |word: &[u8]| word.try_into().map_or(f64::NAN, |word| f64::from(f32::from_le_bytes(word)));
    bytes.chunks_exact(4).map(number)
}

/// Seeded values for a tensor: numbers of both signs below one, bytes for integers.
fn random(spec: &TensorSpec, state: &mut u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..spec.bytes.get() / spec.element.size().get() {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let unit = (*state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0;
        let small = (*state >> 56).to_le_bytes();
        match spec.element {
            ElementType::F32 => bytes.extend_from_slice(&unit.to_le_bytes()),
            ElementType::Bool => bytes.push(small[0] & 1),
            other => bytes.extend_from_slice(&small[..usize::try_from(other.size().get()).unwrap_or(1)]),
        }
    }
    bytes
}

/// A lane, its memory, and the book of the one task on it. Fields are dropped in this order.
pub struct Lane {
    pub book: Book,
    region: Arc<dyn DeviceMemory>,
    io: Arc<dyn DeviceMemory>,
    pub stream: Box<dyn Stream>,
    seq: DispatchSeq,
}

impl Lane {
    /// A lane that is large enough for every model of the cache.
    pub fn roomy(device: &dyn Device, partition: u16, lane: u16) -> Result<Self, Failed> {
        Self::new(device, (partition, lane), 256 * MIB, 512 * MIB)
    }

    /// A lane whose task may use `own` bytes, with `scratch` bytes of scratch.
    pub fn new(
        device: &dyn Device,
        (partition, lane): (u16, u16),
        own: u64,
        scratch: u64,
    ) -> Result<Self, Failed> {
        let book = Book::new(own, scratch);
        let region = device.reserve(MemorySpace::Device, book.region_size())?;
        let io = device.reserve(MemorySpace::Device, Bytes::new(64 * MIB))?;
        let stream = device.bind_lane(PartitionId::new(partition), LaneId::new(lane))?;
        Ok(Self { book, region, io, stream, seq: DispatchSeq::NONE })
    }

    pub fn load(&mut self, subject: &Subject) -> Result<Box<dyn RuntimeBackend>, BackendError> {
        self.load_bytes(subject, &subject.artifact)
    }

    /// Loads other bytes under a subject's name.
    pub fn load_bytes(
        &mut self,
        subject: &Subject,
        artifact: &[u8],
    ) -> Result<Box<dyn RuntimeBackend>, BackendError> {
        let runtime = runtime().map_err(|failed| BackendError::Library {
            backend: "onnx",
            reason: failed.message().unwrap_or("not loaded").to_owned(),
        })?;
        let memory = ModelMemory { grant: self.book.grant(), region: Arc::clone(&self.region) };
        let request = request(subject.name, artifact, &subject.shapes);
        OnnxLoader::new(runtime.clone()).load(&request, &mut *self.stream, memory)
    }

    fn slices(&self, specs: &[TensorSpec], at: &mut u64) -> Result<Vec<Rc<DeviceSlice>>, Failed> {
        let mut slices = Vec::new();
        for spec in specs {
            let extent = Extent { offset: Bytes::new(*at), len: spec.bytes };
            slices.push(Rc::new(DeviceSlice::lend(&self.io, extent)?));
            *at = (*at + spec.bytes.get()).next_multiple_of(256);
        }
        Ok(slices)
    }

    /// Loads a model and binds it.
    pub fn bound(&mut self, subject: &Subject) -> Result<Bound, Failed> {
        let mut model = self.load(subject)?;
        let mut at = 0;
        let inputs = self.slices(&subject.inputs, &mut at)?;
        let outputs = self.slices(&subject.outputs, &mut at)?;
        let buffers = Bindings { inputs, outputs };
        let binding = model.bind(buffers.clone())?;
        Ok(Bound { model, buffers, binding })
    }

    /// Signals and waits until the flag says so, as a driver does.
    pub fn signal_and_poll(&mut self) -> Result<(), Failed> {
        self.seq = self.seq.next();
        self.stream.signal(self.seq)?;
        let flag = self.stream.flag();
        while flag.load() < self.seq {
            std::hint::spin_loop();
        }
        Ok(())
    }

    /// Records one job of a bound model.
    pub fn capture(&mut self, bound: &mut Bound) -> Result<Box<dyn Graph>, Failed> {
        let (model, binding) = (&mut bound.model, bound.binding);
        Ok(self.stream.capture(&mut |stream| model.enqueue(stream, SegmentIndex::new(0), binding))?)
    }
}

/// A model bound to one set of buffers.
pub struct Bound {
    pub model: Box<dyn RuntimeBackend>,
    pub buffers: Bindings,
    pub binding: BindingId,
}

impl Bound {
    pub fn write(&self, inputs: &[Vec<u8>]) {
        self.buffers.inputs.iter().zip(inputs).for_each(|(slice, bytes)| slice.write(bytes));
        self.buffers.outputs.iter().for_each(|slice| slice.write(&vec![0xA5; length(slice)]));
    }

    pub fn read(&self) -> Vec<Vec<u8>> {
        let read = |slice: &Rc<DeviceSlice>| {
            let mut bytes = vec![0; length(slice)];
            slice.read(&mut bytes);
            bytes
        };
        self.buffers.outputs.iter().map(read).collect()
    }

    pub fn enqueue(&mut self, lane: &mut Lane) -> Result<(), Failed> {
        Ok(self.model.enqueue(&mut *lane.stream, SegmentIndex::new(0), self.binding)?)
    }

    /// Writes the inputs, runs one job and reads the outputs.
    pub fn run(&mut self, lane: &mut Lane, inputs: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, Failed> {
        self.write(inputs);
        self.enqueue(lane)?;
        lane.signal_and_poll()?;
        Ok(self.read())
    }

    /// Writes the inputs, replays a job and reads the outputs.
    pub fn replay(
        &self,
        lane: &mut Lane,
        graph: &dyn Graph,
        inputs: &[Vec<u8>],
    ) -> Result<Vec<Vec<u8>>, Failed> {
        self.write(inputs);
        lane.stream.replay(graph)?;
        lane.signal_and_poll()?;
        Ok(self.read())
    }
}

fn length(slice: &DeviceSlice) -> usize {
    usize::try_from(slice.len().get()).unwrap_or(0)
}

/// Opens the device, does the work, and closes the device, which says so if anything was left open.
pub fn on_device(work: impl FnOnce(&CudaDevice) -> Result<(), Failed>) -> Result<(), Failed> {
    let device = CudaDevice::open(options())?;
    work(&device)?;
    Ok(device.close()?)
}

/// Fails with what was seen.
pub fn ensure(holds: bool, detail: impl FnOnce() -> String) -> Result<(), Failed> {
    if holds { Ok(()) } else { Err(detail().into()) }
}
