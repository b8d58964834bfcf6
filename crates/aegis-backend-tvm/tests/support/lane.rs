//! A lane of a device with memory for one model and its I/O.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use aegis_backend_tvm::TvmLoader;
use aegis_cuda::conformance::CountingGrant;
use aegis_cuda::{
    BackendError, BackendLoader, BindingId, Bindings, Device, DeviceMemory, DeviceSlice, MemorySpace,
    ModelMemory, ModelRequest, RuntimeBackend, Stream, TensorSpec,
};
use aegis_types::{Bytes, DispatchSeq, Extent, LaneId, PartitionId, SegmentIndex};

/// Memory of a model on a lane.
pub const ROOM: u64 = 96 << 20;
/// Memory of its I/O.
const IO: u64 = 4 << 20;

/// A lane, its memory, and the grant of the one model on it. Fields are dropped in this order.
pub struct Lane {
    pub grant: CountingGrant,
    pub region: Arc<dyn DeviceMemory>,
    pub stream: Box<dyn Stream>,
    seq: DispatchSeq,
}

/// A request without shapes: compiled models have theirs.
pub fn request<'a>(
    name: &'a str,
    artifact: &'a [u8],
    shapes: &'a BTreeMap<String, Vec<u64>>,
) -> ModelRequest<'a> {
    ModelRequest { name, artifact, shapes, allow_control_flow: false }
}

impl Lane {
    pub fn new(device: &dyn Device, partition: PartitionId, lane: LaneId) -> Self {
        let region = device.reserve(MemorySpace::Device, Bytes::new(ROOM + IO)).expect("fits");
        let stream = device.bind_lane(partition, lane).expect("a free lane");
        let grant = CountingGrant::new(Extent { offset: Bytes::ZERO, len: Bytes::new(ROOM) });
        Self { grant, region, stream, seq: DispatchSeq::NONE }
    }

    pub fn load(
        &mut self,
        loader: &TvmLoader,
        request: &ModelRequest<'_>,
    ) -> Result<Box<dyn RuntimeBackend>, BackendError> {
        let memory = ModelMemory { grant: Box::new(self.grant.clone()), region: Arc::clone(&self.region) };
        loader.load(request, &mut *self.stream, memory)
    }

    /// Buffers behind the model's memory.
    pub fn lend(&self, model: &dyn RuntimeBackend) -> Bindings {
        let mut at = ROOM;
        let mut lend = |spec: &TensorSpec| {
            let extent = Extent { offset: Bytes::new(at), len: spec.bytes };
            at = (at + spec.bytes.get()).next_multiple_of(256);
            Rc::new(DeviceSlice::lend(&self.region, extent).expect("fits"))
        };
        let described = model.describe();
        let inputs = described.inputs.iter().map(&mut lend).collect();
        Bindings { inputs, outputs: described.outputs.iter().map(&mut lend).collect() }
    }

    /// Waits for what `enqueue` enqueued, as the driver of a lane does.
    pub fn finish(
        &mut self,
        enqueue: impl FnOnce(&mut dyn Stream) -> Result<(), BackendError>,
    ) -> Result<(), BackendError> {
        enqueue(&mut *self.stream)?;
        self.seq = self.seq.next();
        self.stream.signal(self.seq)?;
        self.stream.synchronize()?;
        assert_eq!(self.stream.flag().load(), self.seq, "what was signalled is not seen");
        Ok(())
    }

    /// Runs one job and returns its outputs.
    pub fn job(
        &mut self,
        model: &mut dyn RuntimeBackend,
        buffers: &Bindings,
        binding: BindingId,
        inputs: &[Vec<u8>],
    ) -> Result<Vec<Vec<u8>>, BackendError> {
        for (slice, bytes) in buffers.inputs.iter().zip(inputs) {
            slice.write(bytes);
        }
        self.finish(|stream| model.enqueue(stream, SegmentIndex::new(0), binding))?;
        Ok(read(buffers))
    }
}

/// What the outputs hold.
pub fn read(buffers: &Bindings) -> Vec<Vec<u8>> {
    let read = |slice: &Rc<DeviceSlice>| {
        let mut bytes = vec![0; usize::try_from(slice.len().get()).expect("a word has 64 bits")];
        slice.read(&mut bytes);
        bytes
    };
    buffers.outputs.iter().map(read).collect()
}
