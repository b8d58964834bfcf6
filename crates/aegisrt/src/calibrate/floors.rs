//! Plain operations on one lane of an otherwise idle device: what no runtime can do without, and nothing above it.
//!
//! One thread owns a stream, launches, and polls the flag. The overhead of a job is measured against this floor, in the
//! same process on the same day.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use aegis_cuda::{
    BackendError, BackendLoader, BindingId, Bindings, CompletionFlag, Device, DeviceMemory, DeviceSlice,
    Graph, HostClock, MemorySpace, ModelMemory, ModelRequest, RuntimeBackend, Stream, TensorSpec,
};
use aegis_memory::{Demand, Ledger, LowestOffsetFirst, MemoryOrchestrator, PlanReservation};
use aegis_types::record::Discard;
use aegis_types::{Bytes, DispatchSeq, Extent, LaneId, Nanos, PartitionId, SegmentIndex, TaskId};

use super::samples::Samples;
use crate::config::Figure;
use crate::error::RuntimeError;
use crate::system::System;

/// Sizes of the copies that are timed.
const COPIES: [Bytes; 6] = [
    Bytes::new(4 << 10),
    Bytes::new(16 << 10),
    Bytes::new(64 << 10),
    Bytes::new(256 << 10),
    Bytes::new(1 << 20),
    Bytes::new(4 << 20),
];
/// The largest of them.
const COPY_MAX: Bytes = Bytes::new(4 << 20);
/// Memory for the model that does nothing, of each class.
const MODEL: Bytes = Bytes::new(1 << 20);
/// Enough samples for a 99.9th percentile with a hundred beyond it.
const SAMPLES_MAX: usize = 100_000;
/// Operations that are no samples: they fault pages in and let the device leave its idle clocks.
const WARM_UP: usize = 200;
/// How long a plain operation may take before the device is given up.
const PATIENCE: Nanos = Nanos::from_millis(5_000);

/// Measures for about `time` on the first lane of `system`, with `artifact`, a model that does nothing.
///
/// # Errors
/// What device or loader refuse; an operation that does not end.
pub fn measure(
    system: &System,
    loader: &Arc<dyn BackendLoader>,
    artifact: &str,
    time: Nanos,
) -> Result<Vec<Figure>, RuntimeError> {
    let (device, clock) = (Arc::clone(system.device()), system.clock());
    let Some((partition, _)) = system.partitions().first() else { return Ok(Vec::new()) };
    let (partition, loader, artifact) = (partition.id, Arc::clone(loader), artifact.to_owned());
    // A thread of its own: what a stream binds to its thread must not stay with the driver.
    let thread = std::thread::Builder::new().name("aegis-floors".into()).spawn(move || {
        let mut bench = Bench::set_up(device.as_ref(), partition, loader.as_ref(), &artifact, clock)?;
        bench.all(device.as_ref(), time)
    });
    let failed = |reason: String| RuntimeError::System { what: "measuring plain operations", reason };
    let ended = thread.map_err(|error| failed(error.to_string()))?.join();
    ended.map_err(|_| failed("the thread panicked".into()))?
}

/// A lane with a model that does nothing; dropped from the top.
struct Bench {
    graph: Option<Box<dyn Graph>>,
    model: Box<dyn RuntimeBackend>,
    binding: BindingId,
    flag: Arc<dyn CompletionFlag>,
    stream: Box<dyn Stream>,
    _region: Arc<dyn DeviceMemory>,
    clock: HostClock,
    seq: DispatchSeq,
}

impl Bench {
    fn set_up(
        device: &dyn Device,
        partition: PartitionId,
        loader: &dyn BackendLoader,
        artifact: &str,
        clock: HostClock,
    ) -> Result<Self, RuntimeError> {
        let lane = LaneId::new(0);
        let shapes = BTreeMap::new();
        let (name, artifact) = ("floor", artifact.as_bytes());
        let request = ModelRequest { name, artifact, shapes: &shapes, allow_control_flow: false };
        let description = loader.inspect(&request)?;
        let (task, exchange) = (TaskId::new(0), Bytes::ZERO);
        let demand = Demand { task, lane, persistent: MODEL, exchange, scratch: vec![MODEL] };
        let plan = MemoryOrchestrator::with_align(aegis_context::ALIGNMENT)?.plan(
            &[demand],
            Bytes::new(4 * MODEL.get()),
            &LowestOffsetFirst,
        )?;
        let peak = plan.peak();
        let ledger = Ledger::new(peak);
        let reservation = PlanReservation::reserve(plan, &ledger, &mut Discard, clock.now())?;
        let grant = reservation.into_grants(64).into_iter().flat_map(|grants| grants.tasks).next();
        let Some(grant) = grant else {
            let reason = "the plan has no grant for its one task".into();
            return Err(RuntimeError::System { what: "measuring plain operations", reason });
        };
        let start = peak.checked_align_up(aegis_context::ALIGNMENT).unwrap_or(peak);
        let tensors: Vec<&TensorSpec> = description.inputs.iter().chain(&description.outputs).collect();
        let extents = after(start, tensors.iter().map(|spec| spec.bytes));
        let end = extents.last().and_then(Extent::end).unwrap_or(start);
        let region = device.reserve(MemorySpace::Device, end.max(Bytes::new(1)))?;
        let mut stream = device.bind_lane(partition, lane)?;
        let memory = ModelMemory { grant: Box::new(grant), region: Arc::clone(&region) };
        let mut model = loader.load(&request, &mut *stream, memory)?;
        let lend = |extent: &Extent| DeviceSlice::lend(&region, *extent).map(Rc::new);
        let (inputs, outputs) = extents.split_at(description.inputs.len());
        let binding = model.bind(Bindings {
            inputs: inputs.iter().map(lend).collect::<Result<_, _>>()?,
            outputs: outputs.iter().map(lend).collect::<Result<_, _>>()?,
        })?;
        let segment = SegmentIndex::new(0);
        // Whatever a library makes at its first call must be there when it is captured.
        model.enqueue(&mut *stream, segment, binding)?;
        stream.synchronize()?;
        let graph = match device.context().capabilities.graphs && model.capturable(segment) {
            true => Some(stream.capture(&mut |stream| model.enqueue(stream, segment, binding))?),
            false => None,
        };
        let flag = stream.flag();
        Ok(Self { graph, model, binding, flag, stream, _region: region, clock, seq: DispatchSeq::NONE })
    }

    fn all(&mut self, device: &dyn Device, time: Nanos) -> Result<Vec<Figure>, RuntimeError> {
        // Half for the launches, the other half for the copies in equal parts.
        let (half, each) = (Nanos::new(time.get() / 2), Nanos::new(time.get() / 4 / COPIES.len() as u64));
        let (launch, round) = self.launches(half)?;
        let mut figures: Vec<Figure> =
            [launch.figure("floor_launch"), round.figure("floor_round_trip")].into_iter().flatten().collect();
        let (device_side, host_side) =
            (device.reserve(MemorySpace::Device, COPY_MAX)?, device.reserve(MemorySpace::Staging, COPY_MAX)?);
        for size in COPIES {
            let extent = Extent { offset: Bytes::ZERO, len: size };
            let near = DeviceSlice::lend(&device_side, extent)?;
            let far = DeviceSlice::lend(&host_side, extent)?;
            for (way, from, to) in [("to_device", &far, &near), ("to_host", &near, &far)] {
                let samples = self.copies(from, to, each)?;
                figures.extend(samples.figure(format!("floor_copy_{way}_{size}")));
            }
        }
        Ok(figures)
    }

    /// Launch calls, and round trips from the first call to the flag seen.
    fn launches(&mut self, time: Nanos) -> Result<(Samples, Samples), RuntimeError> {
        let (mut launch, mut round) = (Vec::with_capacity(SAMPLES_MAX), Vec::with_capacity(SAMPLES_MAX));
        let end = self.clock.now().saturating_add(time);
        let mut done = 0;
        while done < WARM_UP || (round.len() < SAMPLES_MAX && self.clock.now() < end) {
            let (called, seen) = self.round_trip(|bench| {
                match &bench.graph {
                    Some(graph) => bench.stream.replay(graph.as_ref())?,
                    None => bench.model.enqueue(&mut *bench.stream, SegmentIndex::new(0), bench.binding)?,
                }
                Ok(())
            })?;
            done += 1;
            if done > WARM_UP {
                launch.push(called);
                round.push(seen);
            }
        }
        Ok((Samples::new(launch), Samples::new(round)))
    }

    fn copies(&mut self, from: &DeviceSlice, to: &DeviceSlice, time: Nanos) -> Result<Samples, RuntimeError> {
        let mut samples = Vec::with_capacity(SAMPLES_MAX / 10);
        let end = self.clock.now().saturating_add(time);
        while samples.is_empty() || (samples.len() < SAMPLES_MAX / 10 && self.clock.now() < end) {
            let (_, seen) = self.round_trip(|bench| Ok(bench.stream.copy(from, to)?))?;
            samples.push(seen);
        }
        Ok(Samples::new(samples))
    }

    /// Times the calls of an operation with its signal, and until the flag shows it.
    fn round_trip(
        &mut self,
        operation: impl FnOnce(&mut Self) -> Result<(), BackendError>,
    ) -> Result<(Nanos, Nanos), RuntimeError> {
        self.seq = self.seq.next();
        let entered = self.clock.now();
        operation(self)?;
        self.stream.signal(self.seq)?;
        let called = self.clock.now();
        let mut looked = called;
        while self.flag.load() != self.seq {
            if looked.since(entered) > PATIENCE {
                // A lost device says why; one that only hangs does not come back from here, and the user ends it.
                self.stream.synchronize()?;
                let reason = format!("a plain operation took longer than {PATIENCE}");
                return Err(RuntimeError::System { what: "measuring plain operations", reason });
            }
            std::hint::spin_loop();
            looked = self.clock.now();
        }
        let seen = self.clock.now();
        Ok((called.since(entered), seen.since(entered)))
    }
}

/// Extents of these lengths, aligned, one behind the other from `start` on.
fn after(start: Bytes, lengths: impl Iterator<Item = Bytes>) -> Vec<Extent> {
    let mut next = start;
    lengths
        .map(|len| {
            let extent = Extent { offset: next, len };
            let end = extent.end().and_then(|end| end.checked_align_up(aegis_context::ALIGNMENT));
            next = end.unwrap_or(next);
            extent
        })
        .collect()
}
