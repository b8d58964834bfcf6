//! A lane of the host device with the mock below it.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aegis_cuda::conformance::CountingGrant;
use aegis_cuda::{
    BackendError, BackendLoader, BindingId, Bindings, Device, DeviceMemory, DeviceSlice, HostDevice,
    HostOptions, MemorySpace, ModelDescription, ModelMemory, ModelRequest, RuntimeBackend, Stream,
    TensorSpec, interop,
};
use aegis_types::{Bytes, Extent, LaneId, PartitionId, SegmentIndex};

use super::mock::Mock;
use crate::loader::TensorRtLoader;
use crate::machine::{Machine, Visit};

/// The host in the place of a GPU; its stream is a counter of what was enqueued.
#[derive(Clone, Default)]
pub struct Host {
    pub enqueued: Arc<AtomicU64>,
}

impl Machine for Host {
    fn address(&self, region: &dyn DeviceMemory, extent: Extent) -> Option<u64> {
        interop::with_host_pointer(region, extent, |start| start as u64)
    }

    fn with_stream(&self, _: &mut dyn Stream, f: &mut dyn FnMut(*mut c_void)) -> Option<()> {
        f(self.enqueued.as_ptr().cast());
        Some(())
    }

    fn visit(&self, visit: Visit<'_>) -> Result<(), BackendError> {
        let device: Arc<dyn Device> = Arc::new(HostDevice::new(HostOptions { memory: MEMORY })?);
        visit(&device)
    }
}

pub const MEMORY: Bytes = Bytes::new(16 << 20);

/// Where the model's memory ends and its I/O begins.
const IO: u64 = 1 << 20;

/// A lane with a grant, a loader on a mock of its own, and what was asked of it.
pub struct Bench {
    pub mock: Mock,
    pub host: Host,
    pub loader: TensorRtLoader,
    pub grant: CountingGrant,
    pub region: Arc<dyn DeviceMemory>,
    pub stream: Box<dyn Stream>,
    _device: HostDevice,
}

impl Bench {
    /// `None`, with the reason printed, where the mock cannot be compiled.
    pub fn open() -> Option<Self> {
        let mock = Mock::fresh()?;
        let host = Host::default();
        let loader = TensorRtLoader::on(mock.library.clone(), Arc::new(host.clone()));
        let device = HostDevice::new(HostOptions { memory: MEMORY }).unwrap();
        let region = device.reserve(MemorySpace::Device, Bytes::new(2 * IO)).unwrap();
        let stream = device.bind_lane(PartitionId::new(0), LaneId::new(0)).unwrap();
        let grant = CountingGrant::new(Extent { offset: Bytes::ZERO, len: Bytes::new(IO) });
        Some(Self { mock, host, loader, grant, region, stream, _device: device })
    }

    pub fn inspect(
        &self,
        plan: &str,
        shapes: &BTreeMap<String, Vec<u64>>,
    ) -> Result<ModelDescription, BackendError> {
        self.loader.inspect(&request(plan.as_bytes(), shapes))
    }

    pub fn load(
        &mut self,
        plan: &str,
        shapes: &BTreeMap<String, Vec<u64>>,
    ) -> Result<Box<dyn RuntimeBackend>, BackendError> {
        let memory = ModelMemory { grant: Box::new(self.grant.clone()), region: Arc::clone(&self.region) };
        self.loader.load(&request(plan.as_bytes(), shapes), &mut *self.stream, memory)
    }

    /// I/O for a model, from an offset behind the model's memory.
    pub fn buffers(&self, description: &ModelDescription, offset: u64) -> Bindings {
        let mut next = IO + offset;
        let mut lend = |spec: &TensorSpec| {
            let extent = Extent { offset: Bytes::new(next), len: spec.bytes };
            next = (next + spec.bytes.get()).next_multiple_of(256);
            Rc::new(DeviceSlice::lend(&self.region, extent).unwrap())
        };
        Bindings {
            inputs: description.inputs.iter().map(&mut lend).collect(),
            outputs: description.outputs.iter().map(&mut lend).collect(),
        }
    }

    pub fn enqueue(
        &mut self,
        model: &mut dyn RuntimeBackend,
        binding: BindingId,
    ) -> Result<(), BackendError> {
        model.enqueue(&mut *self.stream, SegmentIndex::new(0), binding)
    }

    pub fn enqueued(&self) -> u64 {
        self.host.enqueued.load(Ordering::Relaxed)
    }

    /// Nothing of the library's is alive, and nothing of the grant is taken.
    pub fn assert_empty(&self, after: &str) {
        assert_eq!(self.mock.live(), (0, 0), "objects and recorders after {after}");
        assert_eq!(self.grant.used_total(), Bytes::ZERO, "memory after {after}");
    }
}

pub fn request<'a>(plan: &'a [u8], shapes: &'a BTreeMap<String, Vec<u64>>) -> ModelRequest<'a> {
    ModelRequest { name: "net", artifact: plan, shapes, allow_control_flow: false }
}

pub fn shapes(given: &[(&str, &[u64])]) -> BTreeMap<String, Vec<u64>> {
    given.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec())).collect()
}

/// What the mock answers, computed anew: a plan's weights are pieces of so many bytes.
pub fn expected(weights: &[usize], inputs: &[Vec<u8>], outputs: &[TensorSpec]) -> Vec<Vec<u8>> {
    let joined = inputs.concat();
    let weight = |piece: usize, at: usize| (at.wrapping_mul(7) + piece * 13 + 5) as u8;
    let byte = |number: usize, at: usize| {
        let base = joined[at % joined.len()].wrapping_mul(3).wrapping_add(number as u8);
        weights.iter().enumerate().fold(base, |sum, (piece, &bytes)| sum ^ weight(piece, at % bytes))
    };
    outputs
        .iter()
        .enumerate()
        .map(|(number, spec)| (0..spec.bytes.get() as usize).map(|at| byte(number, at)).collect())
        .collect()
}
