//! What only the CUDA device does: closing, carriers, wakers, clocks.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use aegis_cuda::conformance::{KernelProbe, Probe};
use aegis_cuda::cuda::{DeviceClock, Event};
use aegis_cuda::discovery::QUEUES;
use aegis_cuda::interop::with_cuda_stream;
use aegis_cuda::{
    CudaDevice, CudaOptions, Device, DeviceContext, DeviceError, DeviceMemory, DeviceSlice, HostClock,
    MemorySpace, Partition, PartitionRequest, QueueLimit, Stream, Units,
};
use aegis_types::{Bytes, DispatchSeq, Extent, LaneId, Nanos, PartitionId};
use libtest_mimic::Failed;

/// The first GPU with as many queues as the driver was told.
pub fn options() -> CudaOptions {
    let told = std::env::var("CUDA_DEVICE_MAX_CONNECTIONS").ok().and_then(|queues| queues.parse().ok());
    let queues = QueueLimit::FromEnvironmentValue(told.unwrap_or(QUEUES));
    CudaOptions { queues, ..CudaOptions::default() }
}

/// Whether there is a GPU at all.
pub fn open() -> Result<(), DeviceError> {
    CudaDevice::open(options())?.close()
}

/// A device that is closed when it is dropped: the suite opens one for each check.
pub struct Closing {
    device: Option<CudaDevice>,
    context: DeviceContext,
}

impl Closing {
    pub fn open(options: CudaOptions) -> Result<Self, DeviceError> {
        let device = CudaDevice::open(options)?;
        let context = device.context().clone();
        Ok(Self { device: Some(device), context })
    }

    /// A device that says of itself that it has so many queues.
    pub fn believed(options: CudaOptions, queues: u32) -> Result<Self, DeviceError> {
        let mut closing = Self::open(options)?;
        closing.context.queue_limit = queues;
        Ok(closing)
    }

    fn device(&self) -> &CudaDevice {
        self.device.as_ref().expect("taken in `drop` only")
    }
}

impl Device for Closing {
    fn context(&self) -> &DeviceContext {
        &self.context
    }

    fn partition(&self, requests: &[PartitionRequest]) -> Result<Vec<Partition>, DeviceError> {
        self.device().partition(requests)
    }

    fn partitions(&self) -> Vec<Partition> {
        self.device().partitions()
    }

    fn twin(&self, partition: PartitionId) -> Result<PartitionId, DeviceError> {
        self.device().twin(partition)
    }

    fn reserve(&self, space: MemorySpace, bytes: Bytes) -> Result<Arc<dyn DeviceMemory>, DeviceError> {
        self.device().reserve(space, bytes)
    }

    fn bind_lane(&self, partition: PartitionId, lane: LaneId) -> Result<Box<dyn Stream>, DeviceError> {
        self.device().bind_lane(partition, lane)
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        // What a check keeps longer than its device would leak from one check into the next.
        let closed = self.device.take().map(CudaDevice::close);
        if let Some(Err(error)) = closed {
            assert!(thread::panicking(), "not closed: {error}");
            println!("not closed: {error}");
        }
    }
}

/// Fails with what was seen.
fn ensure(holds: bool, detail: impl FnOnce() -> String) -> Result<(), Failed> {
    if holds { Ok(()) } else { Err(detail().into()) }
}

fn cuda<R>(
    stream: &mut dyn Stream,
    work: impl FnOnce(&mut aegis_cuda::CudaStream) -> Result<R, DeviceError>,
) -> Result<R, Failed> {
    Ok(with_cuda_stream(stream, work).ok_or("no CUDA stream")??)
}

/// One of everything is made in two partitions, used and dropped.
fn use_everything(device: &CudaDevice) -> Result<(), Failed> {
    let units = device.context().unit_minimum;
    let request = |name: &str| PartitionRequest { name: name.into(), units: Units::Count(units) };
    let whole = [PartitionRequest { name: "all".into(), units: Units::Count(device.context().units) }];
    let two = [request("a"), request("b")];
    let made = device.partition(if device.context().capabilities.partitions { &two } else { &whole })?;
    let memory = device.reserve(MemorySpace::Device, Bytes::new(1 << 20))?;
    let staging = device.reserve(MemorySpace::Staging, Bytes::new(1 << 20))?;
    let whole = Extent { offset: Bytes::ZERO, len: Bytes::new(1 << 20) };
    let (here, there) = (DeviceSlice::lend(&staging, whole)?, DeviceSlice::lend(&memory, whole)?);
    for partition in made {
        let mut stream = device.bind_lane(partition.id, LaneId::new(partition.id.get()))?;
        let mut probe = KernelProbe::load(&mut *stream)?;
        let graph = stream.capture(&mut |stream| {
            stream.copy(&here, &there)?;
            probe.hold(stream, Nanos::from_micros(1))
        })?;
        let event = cuda(&mut *stream, |stream| Event::new(stream))?;
        stream.replay(&*graph)?;
        cuda(&mut *stream, |stream| stream.mark(&event))?;
        stream.signal(DispatchSeq::new(1))?;
        stream.synchronize()?;
        ensure(event.reached()?, || "an event behind which the stream waited is not reached".into())?;
    }
    Ok(())
}

pub fn closing() -> Result<(), Failed> {
    let mut free = Vec::new();
    for _ in 0..5 {
        let device = CudaDevice::open(options())?;
        free.push(device.context().memory.get());
        use_everything(&device)?;
        device.close()?;
    }
    println!("free memory at each opening: {free:?} B");
    // The first opening may leave what the driver keeps for the process; later ones must leave nothing.
    let lost = free[1].saturating_sub(free[4]);
    ensure(lost < 8 << 20, || format!("{lost} B are gone after three more openings"))?;
    let device = CudaDevice::open(options())?;
    let kept = device.reserve(MemorySpace::Device, Bytes::new(64))?;
    let refused = device.close();
    let told = matches!(&refused, Err(DeviceError::Refused { .. }));
    ensure(told, || format!("closing under a region gave {refused:?}"))?;
    drop(kept);
    Ok(())
}

pub fn carriers() -> Result<(), Failed> {
    let device = Closing::open(options())?;
    let home = PartitionId::new(0);
    let stream = device.bind_lane(home, LaneId::new(0))?;
    let elsewhere = || device.bind_lane(home, LaneId::new(1)).map(drop).err();
    let refused = thread::scope(|scope| scope.spawn(elsewhere).join()).map_err(|_| "panicked")?;
    let told = matches!(refused, Some(DeviceError::Unsupported { .. }));
    ensure(told, || format!("a second thread got {refused:?}"))?;
    drop(stream);
    let moved = thread::scope(|scope| scope.spawn(elsewhere).join()).map_err(|_| "panicked")?;
    ensure(moved.is_none(), || format!("after the first thread has left, another got {moved:?}"))
}

/// The units that work of a lane runs on.
fn units_of(device: &dyn Device, partition: PartitionId, lane: u16) -> Result<BTreeSet<u32>, String> {
    let run = || -> Result<BTreeSet<u32>, Failed> {
        let len = Bytes::new(64 * u64::from(device.context().units));
        let memory = device.reserve(MemorySpace::Device, len)?;
        let into = DeviceSlice::lend(&memory, Extent { offset: Bytes::ZERO, len })?;
        let mut stream = device.bind_lane(partition, LaneId::new(lane))?;
        KernelProbe::load(&mut *stream)?.whereabouts(&mut *stream, &into)?;
        stream.signal(DispatchSeq::new(1))?;
        stream.synchronize()?;
        let mut bytes = vec![0; usize::try_from(len.get()).unwrap_or(0)];
        into.read(&mut bytes);
        Ok(bytes.as_chunks().0.iter().map(|word: &[u8; 4]| u32::from_ne_bytes(*word)).collect())
    };
    run().map_err(|failed| failed.message().unwrap_or("no reason").to_owned())
}

pub fn twins() -> Result<(), Failed> {
    let device = Closing::open(options())?;
    let units = device.context().unit_minimum;
    let whole = !device.context().capabilities.partitions || 2 * units > device.context().units;
    let request = |name: &str, units| PartitionRequest { name: name.into(), units: Units::Count(units) };
    let two = vec![request("a", units), request("b", units)];
    let requests = if whole { vec![request("all", device.context().units)] } else { two };
    let made = device.partition(&requests)?;
    let home = made[0].id;
    let twin = device.twin(home)?;
    ensure(device.partitions() == made, || "a twin is told as a partition".into())?;
    // Both are carried at once, so that neither thread can take over the other's context.
    let stream = device.bind_lane(home, LaneId::new(0))?;
    let beside = thread::scope(|scope| scope.spawn(|| units_of(&device, twin, 1)).join());
    let beside = beside.map_err(|_| "panicked")??;
    drop(stream);
    let own = units_of(&device, home, 0)?;
    let limit = usize::try_from(made[0].units).unwrap_or(usize::MAX);
    let together: BTreeSet<u32> = own.union(&beside).copied().collect();
    ensure(!own.is_empty() && together.len() <= limit, || format!("{own:?} beside {beside:?} of {limit}"))?;
    if let Some(other) = made.get(1) {
        let apart = units_of(&device, other.id, 2)?;
        ensure(apart.is_disjoint(&together), || format!("{apart:?} beside {together:?}"))?;
    }
    let unknown = device.twin(PartitionId::new(9));
    let told = matches!(unknown, Err(DeviceError::UnknownPartition { .. }));
    ensure(told, || format!("a twin of nothing gave {unknown:?}"))
}

pub fn illegal_options() -> Result<(), Failed> {
    for illegal in [
        CudaOptions { ordinal: 4_000, ..options() },
        CudaOptions { copy_chunk: Bytes::ZERO, ..options() },
        CudaOptions { queues: QueueLimit::FromEnvironmentValue(0), ..options() },
    ] {
        let refused = CudaDevice::open(illegal).map(drop);
        let told = matches!(&refused, Err(DeviceError::Unavailable { .. }));
        ensure(told, || format!("{illegal:?} gave {refused:?}"))?;
        refused.err().iter().for_each(|error| println!("refused: {error}"));
    }
    Ok(())
}

/// Operations of a graph with a copy of three pieces' length, or the one kernel that makes it.
fn operations(copy_by_kernel: u64) -> Result<usize, Failed> {
    const LEN: u64 = 3 << 10;
    let (copy_chunk, copy_by_kernel) = (Bytes::new(1 << 10), Bytes::new(copy_by_kernel));
    let device = Closing::open(CudaOptions { copy_chunk, copy_by_kernel, ..options() })?;
    let memory = device.reserve(MemorySpace::Device, Bytes::new(LEN))?;
    let staging = device.reserve(MemorySpace::Staging, Bytes::new(LEN))?;
    let whole = Extent { offset: Bytes::ZERO, len: Bytes::new(LEN) };
    let (here, there) = (DeviceSlice::lend(&staging, whole)?, DeviceSlice::lend(&memory, whole)?);
    let mut stream = device.bind_lane(PartitionId::new(0), LaneId::new(0))?;
    let graph = stream.capture(&mut |stream| Ok(stream.copy(&here, &there)?))?;
    Ok(graph.operations())
}

pub fn engines_only() -> Result<(), Failed> {
    for (threshold, expected) in [(0, 3), ((3 << 10) - 1, 3), (3 << 10, 1)] {
        let made = operations(threshold)?;
        ensure(made == expected, || format!("{made} operations, not {expected}, below {threshold} B"))?;
    }
    Ok(())
}

pub fn waker() -> Result<(), Failed> {
    let device = CudaDevice::open(CudaOptions { blocking: true, ..options() })?;
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    device.set_waker(Arc::new(move || {
        counted.fetch_add(1, Ordering::Relaxed);
    }));
    let mut stream = device.bind_lane(PartitionId::new(0), LaneId::new(0))?;
    for seq in 1..=5 {
        stream.signal(DispatchSeq::new(seq))?;
    }
    stream.synchronize()?;
    ensure(calls.load(Ordering::Relaxed) == 5, || format!("{calls:?} calls for 5 signals"))?;
    ensure(stream.flag().load() == DispatchSeq::new(5), || format!("{:?}", stream.flag().load()))?;
    drop(stream);
    Ok(device.close()?)
}

/// A kernel of known length between two marks, after anchoring twice.
pub fn clock() -> Result<(), Failed> {
    const HELD: Nanos = Nanos::from_micros(300);
    let device = Closing::open(options())?;
    let mut stream = device.bind_lane(PartitionId::new(0), LaneId::new(0))?;
    let mut probe = KernelProbe::load(&mut *stream)?;
    let host = HostClock::start();
    let mut clock = cuda(&mut *stream, |stream| DeviceClock::new(stream, host))?;
    let [first, last] = [0, 1].map(|_| cuda(&mut *stream, |stream| Event::new(stream)));
    let (first, last) = (first?, last?);
    for turn in 0..10 {
        let entered = host.now();
        cuda(&mut *stream, |stream| stream.mark(&first))?;
        probe.hold(&mut *stream, HELD)?;
        cuda(&mut *stream, |stream| stream.mark(&last))?;
        stream.synchronize()?;
        let seen = host.now();
        let mapped = |event| -> Result<_, Failed> { Ok(clock.map(event)?.ok_or("not reached")?) };
        let ((start, early), (end, late)) = (mapped(&first)?, mapped(&last)?);
        println!(
            "turn {turn}: from {start:?} ± {early:?} to {end:?} ± {late:?}, host {entered:?} to {seen:?}"
        );
        let inside = start.saturating_add(early) >= entered && end.saturating_sub(late) <= seen;
        ensure(inside, || format!("{start:?} to {end:?} is outside {entered:?} to {seen:?}"))?;
        let longest = end.since(start).saturating_add(early).saturating_add(late);
        ensure(longest >= HELD, || format!("{HELD:?} of work took {longest:?} at most"))?;
        if turn == 4 {
            cuda(&mut *stream, |stream| clock.anchor(stream))?;
        }
    }
    Ok(())
}
