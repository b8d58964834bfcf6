//! An asynchronous device with memory of its own, in real time: the simulated device, whose clock follows the host's.
//!
//! Work ends when the host's clock has passed the end of its span. Copies take effect at once and are written down, in
//! order, with the signals; a captured graph is only what was written down, so its replay moves no data.

use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aegis_cuda::{
    BackendError, CompletionFlag, Device, DeviceContext, DeviceError, DeviceMemory, DeviceSlice, Graph,
    HostClock, MemorySpace, Partition, PartitionRequest, SimClock, SimDevice, SimOptions, Stream,
};
use aegis_types::{Bytes, DispatchSeq, LaneId, PartitionId};

/// Something that a stream was asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A copy between two places.
    Copy([(MemorySpace, Bytes); 2]),
    /// The store of a number.
    Signal(DispatchSeq),
    /// A graph of these operations.
    Replay(Vec<Self>),
}

type Log = Arc<Mutex<Vec<Operation>>>;

fn lock(log: &Log) -> MutexGuard<'_, Vec<Operation>> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone)]
struct Follow {
    host: HostClock,
    sim: SimClock,
}

impl Follow {
    fn now(&self) {
        self.sim.advance_to(self.host.now());
    }
}

/// The device.
pub struct LateDevice {
    /// What it is made of: faults are planned here.
    pub sim: SimDevice,
    context: DeviceContext,
    follow: Follow,
    log: Log,
}

impl LateDevice {
    /// A device that replays graphs or does not.
    pub fn new(graphs: bool, options: SimOptions) -> Self {
        Self::with(graphs, false, options)
    }

    /// The same on a device that shares the host's memory or does not.
    pub fn with(graphs: bool, shares: bool, options: SimOptions) -> Self {
        let follow = Follow { host: HostClock::start(), sim: SimClock::new() };
        let sim = SimDevice::new(options, follow.sim.clone()).expect("legal options");
        Self::on(if shares { sim.sharing_memory() } else { sim }, follow, graphs)
    }

    fn on(sim: SimDevice, follow: Follow, graphs: bool) -> Self {
        let mut context = sim.context().clone();
        context.capabilities.unified_memory = false;
        context.capabilities.graphs = graphs;
        // Room for what any test asks for, so that writing it down allocates nothing.
        let log = Arc::new(Mutex::new(Vec::with_capacity(1 << 16)));
        Self { sim, context, follow, log }
    }

    /// What was asked for since this was called last.
    pub fn operations(&self) -> Vec<Operation> {
        lock(&self.log).drain(..).collect()
    }
}

impl Device for LateDevice {
    fn context(&self) -> &DeviceContext {
        &self.context
    }

    fn partition(&self, requests: &[PartitionRequest]) -> Result<Vec<Partition>, DeviceError> {
        self.sim.partition(requests)
    }

    fn partitions(&self) -> Vec<Partition> {
        self.sim.partitions()
    }

    fn reserve(&self, space: MemorySpace, bytes: Bytes) -> Result<Arc<dyn DeviceMemory>, DeviceError> {
        self.sim.reserve(space, bytes)
    }

    fn bind_lane(&self, partition: PartitionId, lane: LaneId) -> Result<Box<dyn Stream>, DeviceError> {
        self.follow.now();
        let inner = self.sim.bind_lane(partition, lane)?;
        let (follow, log) = (self.follow.clone(), Arc::clone(&self.log));
        Ok(Box::new(LateStream { inner, follow, log, captured: None }))
    }
}

struct LateStream {
    inner: Box<dyn Stream>,
    follow: Follow,
    log: Log,
    captured: Option<Vec<Operation>>,
}

struct LateGraph {
    lane: LaneId,
    operations: Vec<Operation>,
}

impl Graph for LateGraph {
    fn operations(&self) -> usize {
        self.operations.len()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct LateFlag {
    inner: Arc<dyn CompletionFlag>,
    follow: Follow,
}

impl CompletionFlag for LateFlag {
    fn load(&self) -> DispatchSeq {
        self.follow.now();
        self.inner.load()
    }
}

impl Stream for LateStream {
    fn lane(&self) -> LaneId {
        self.inner.lane()
    }

    fn partition(&self) -> PartitionId {
        self.inner.partition()
    }

    fn copy(&mut self, from: &DeviceSlice, to: &DeviceSlice) -> Result<(), DeviceError> {
        let place = |slice: &DeviceSlice| (slice.region().space(), slice.extent().offset);
        let operation = Operation::Copy([place(from), place(to)]);
        if let Some(captured) = &mut self.captured {
            captured.push(operation);
            return Ok(());
        }
        lock(&self.log).push(operation);
        self.inner.copy(from, to)
    }

    fn signal(&mut self, seq: DispatchSeq) -> Result<(), DeviceError> {
        assert!(self.captured.is_none(), "a flag is never captured");
        self.follow.now();
        lock(&self.log).push(Operation::Signal(seq));
        self.inner.signal(seq)
    }

    fn flag(&self) -> Arc<dyn CompletionFlag> {
        Arc::new(LateFlag { inner: self.inner.flag(), follow: self.follow.clone() })
    }

    fn finished(&mut self) -> Result<bool, DeviceError> {
        self.follow.now();
        self.inner.finished()
    }

    fn synchronize(&mut self) -> Result<(), DeviceError> {
        self.inner.synchronize()
    }

    fn capture(
        &mut self,
        work: &mut dyn FnMut(&mut dyn Stream) -> Result<(), BackendError>,
    ) -> Result<Box<dyn Graph>, BackendError> {
        self.captured = Some(Vec::new());
        let done = work(self);
        let operations = self.captured.take().unwrap_or_default();
        done?;
        Ok(Box::new(LateGraph { lane: self.lane(), operations }))
    }

    fn replay(&mut self, graph: &dyn Graph) -> Result<(), DeviceError> {
        let foreign = DeviceError::Unsupported { what: "replaying a graph of another stream" };
        let graph = graph.as_any().downcast_ref::<LateGraph>().filter(|graph| graph.lane == self.lane());
        let operations = graph.ok_or(foreign)?.operations.clone();
        lock(&self.log).push(Operation::Replay(operations));
        Ok(())
    }

    /// The simulated stream, so that scripts occupy it for their spans.
    fn as_any_mut(&mut self) -> &mut dyn Any {
        self.follow.now();
        self.inner.as_any_mut()
    }
}
