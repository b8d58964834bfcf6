//! A lane of the host device with one loaded model and buffers for its I/O.

use std::rc::Rc;
use std::sync::Arc;

use aegis_backend_onnx::{OnnxLoader, OnnxRuntime};
use aegis_cuda::host::{HostDevice, HostOptions};
use aegis_cuda::{
    BackendError, BackendLoader, BindingId, Bindings, Device, DeviceMemory, DeviceSlice, ElementType,
    MemorySpace, ModelMemory, ModelRequest, RuntimeBackend, Stream, TensorSpec,
};
use aegis_types::{Bytes, Extent, LaneId, MemoryClass, MemoryGrant, PartitionId, SegmentIndex};

use super::Seeded;
use super::grant::Book;

/// A lane, its memory, and the book of the one task on it. Fields are dropped in this order.
pub struct Lane {
    pub book: Book,
    pub region: Arc<dyn DeviceMemory>,
    pub io: Arc<dyn DeviceMemory>,
    pub stream: Box<dyn Stream>,
    _device: HostDevice,
}

const MIB: u64 = 1 << 20;

impl Lane {
    /// A lane whose task may use `own` bytes, with `scratch` bytes of scratch.
    pub fn new(own: u64, scratch: u64) -> Self {
        let device = HostDevice::new(HostOptions { memory: Bytes::new(1024 * MIB) }).expect("a host");
        let book = Book::new(own, scratch);
        let region = device.reserve(MemorySpace::Device, book.region_size()).expect("fits");
        let io = device.reserve(MemorySpace::Device, Bytes::new(32 * MIB)).expect("fits");
        let stream = device.bind_lane(PartitionId::new(0), LaneId::new(0)).expect("a free lane");
        Self { book, region, io, stream, _device: device }
    }

    /// A lane that is large enough for every model of the cache.
    pub fn roomy() -> Self {
        Self::new(64 * MIB, 128 * MIB)
    }

    pub fn load(
        &mut self,
        runtime: &OnnxRuntime,
        request: &ModelRequest<'_>,
    ) -> Result<Box<dyn RuntimeBackend>, BackendError> {
        let memory = ModelMemory { grant: self.book.grant(), region: Arc::clone(&self.region) };
        OnnxLoader::new(runtime.clone()).load(request, &mut *self.stream, memory)
    }

    /// Slices for tensors, one after the other from `offset`; returns them and the first free offset.
    pub fn slices(&self, specs: &[TensorSpec], offset: u64) -> (Vec<Rc<DeviceSlice>>, u64) {
        let mut at = offset;
        let mut slices = Vec::new();
        for spec in specs {
            let extent = Extent { offset: Bytes::new(at), len: spec.bytes };
            slices.push(Rc::new(DeviceSlice::lend(&self.io, extent).expect("fits")));
            at = (at + spec.bytes.get()).next_multiple_of(64);
        }
        (slices, at)
    }

    /// Fills all of the lane's scratch that was ever used with a byte that is no harmless number in any type.
    pub fn poison_scratch(&self) {
        let used = self.book.high_water(MemoryClass::Scratch);
        // Holes between blocks count for the highest address, so twice the most that was lent at once is poisoned.
        let len = Bytes::new((used.get() * 2).min(self.book.scratch().len.get()));
        let extent = Extent { offset: self.book.scratch().offset, len };
        let scratch = DeviceSlice::lend(&self.region, extent).expect("nobody holds scratch between jobs");
        scratch.write(&vec![0xA5; usize::try_from(len.get()).expect("a word has 64 bits")]);
    }
}

/// A model bound to one set of buffers.
pub struct Bound {
    pub model: Box<dyn RuntimeBackend>,
    pub buffers: Bindings,
    pub binding: BindingId,
}

impl Bound {
    pub fn new(lane: &Lane, mut model: Box<dyn RuntimeBackend>) -> Self {
        let (inputs, next) = lane.slices(&model.describe().inputs.clone(), 0);
        let (outputs, _) = lane.slices(&model.describe().outputs.clone(), next);
        let buffers = Bindings { inputs, outputs };
        let binding = model.bind(buffers.clone()).expect("fits");
        Self { model, buffers, binding }
    }

    /// Writes the inputs, runs one job and reads the outputs.
    pub fn run(&mut self, lane: &mut Lane, inputs: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, BackendError> {
        for (slice, bytes) in self.buffers.inputs.iter().zip(inputs) {
            slice.write(bytes);
        }
        self.model.enqueue(&mut *lane.stream, SegmentIndex::new(0), self.binding)?;
        let read = |slice: &Rc<DeviceSlice>| {
            let mut bytes = vec![0; usize::try_from(slice.len().get()).expect("a word has 64 bits")];
            slice.read(&mut bytes);
            bytes
        };
        Ok(self.buffers.outputs.iter().map(read).collect())
    }
}

/// Seeded values for a tensor: small numbers of both signs, bytes for integers.
pub fn random(spec: &TensorSpec, seed: &mut Seeded) -> Vec<u8> {
    let elements = spec.bytes.get() / spec.element.size().get();
    let mut bytes = Vec::new();
    for _ in 0..elements {
        let word = seed.next();
        let unit = (word >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
        let small = word & 0xFF;
        match spec.element {
            ElementType::F32 => bytes.extend_from_slice(&unit.to_le_bytes()),
            ElementType::F64 => bytes.extend_from_slice(&f64::from(unit).to_le_bytes()),
            ElementType::Bool => bytes.push(u8::from(word & 1 == 1)),
            other => bytes.extend_from_slice(
                &small.to_le_bytes()[..usize::try_from(other.size().get()).expect("a word has 64 bits")],
            ),
        }
    }
    bytes
}
