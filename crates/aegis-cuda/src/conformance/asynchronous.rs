//! What devices do alike whose work is queued and runs later.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aegis_types::{Bytes, DispatchSeq, Extent, LaneId, Nanos, PartitionId};

use super::copies::{copies, flag_order};
use super::device::{Make, slice, two};
use super::{Report, Stop, Violation, ensure, run};
use crate::device::Device;
use crate::error::BackendError;
use crate::memory::{DeviceMemory, DeviceSlice, MemorySpace};
use crate::script::SplitMix64;
use crate::stream::{CompletionFlag, Stream};

/// How long a flag may stay away before the suite gives up.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a long segment occupies its lane: long beside any delay of the host.
const LONG: Nanos = Nanos::from_millis(200);
/// How often one lane is seen behind another before it counts: a host that sleeps through [`LONG`] sees it once.
const ATTEMPTS: u32 = 3;

/// Work besides copies that the checks enqueue, loaded inside the partition of one stream.
pub trait Probe {
    /// Enqueues work that occupies one unit for `span`.
    ///
    /// # Errors
    /// Those of the launch.
    fn hold(&mut self, stream: &mut dyn Stream, span: Nanos) -> Result<(), BackendError>;

    /// Enqueues as many pieces of work as `into` has words of four bytes, each of which writes the number of the unit
    /// that it ran on into its word.
    ///
    /// # Errors
    /// Those of the launch.
    fn whereabouts(&mut self, stream: &mut dyn Stream, into: &DeviceSlice) -> Result<(), BackendError>;
}

/// Loads a [`Probe`] inside the partition of a stream.
pub type LoadProbe<'a> = &'a (dyn Fn(&mut dyn Stream) -> Result<Box<dyn Probe>, BackendError> + Sync);

/// An asynchronous device with work to try it on.
#[derive(Clone, Copy)]
pub struct AsynchronousCase<'a> {
    /// Makes the device under test. Called for each check, because a device is divided once.
    pub make: Make<'a>,
    /// Loads the work inside the partition of a stream.
    pub probe: LoadProbe<'a>,
    /// Largest copy that the device enqueues as one operation; the checks copy lengths around it.
    pub copy_chunk: Bytes,
    /// Largest copy that the device makes in another way than larger ones, zero if there is no other way; the checks
    /// copy lengths around it.
    pub copy_small: Bytes,
}

/// Checks queued work: copies, flags, graphs, independence of lanes, confinement to partitions.
///
/// # Errors
/// The first [`Violation`].
pub fn asynchronous(case: &AsynchronousCase<'_>) -> Result<Report, Violation> {
    run(
        case,
        &[
            ("copies between all spaces carry every byte, whatever the length", copies),
            ("a flag that is seen is seen after the work before it", flag_order),
            ("a graph does when replayed what its work does", replay),
            ("a graph belongs to its stream, and a broken capture leaves the stream usable", misused_graphs),
            (INDEPENDENCE, false_serialisation),
            ("work stays on the units of its partition", confinement),
        ],
    )
}

/// Checks of [`asynchronous`] only that lanes do not wait for each other: on a device that is made to fail it, it shows
/// that the check can fail.
///
/// # Errors
/// The [`Violation`].
pub fn independence(case: &AsynchronousCase<'_>) -> Result<Report, Violation> {
    run(case, &[(INDEPENDENCE, false_serialisation)])
}

const INDEPENDENCE: &str = "a long segment delays no other lane";

pub(super) fn device(case: &AsynchronousCase<'_>) -> Result<Box<dyn Device>, Stop> {
    let device = (case.make)()?;
    if device.context().capabilities.asynchronous {
        Ok(device)
    } else {
        Err(Stop::Skip("work is done when the call returns".into()))
    }
}

pub(super) fn lane(device: &dyn Device, partition: u16, lane: u16) -> Result<Box<dyn Stream>, Stop> {
    Ok(device.bind_lane(PartitionId::new(partition), LaneId::new(lane))?)
}

pub(super) fn reserve(
    device: &dyn Device,
    space: MemorySpace,
    bytes: u64,
) -> Result<Arc<dyn DeviceMemory>, Stop> {
    Ok(device.reserve(space, Bytes::new(bytes))?)
}

/// Polls until the flag shows `seq`, as a driver does.
pub(super) fn wait(flag: &dyn CompletionFlag, seq: DispatchSeq) -> Result<(), Stop> {
    let start = Instant::now();
    while flag.load() < seq {
        ensure(start.elapsed() < PATIENCE, || {
            format!("after {PATIENCE:?} the flag shows {:?}, not {seq:?}", flag.load())
        })?;
        std::hint::spin_loop();
    }
    Ok(())
}

pub(super) fn pattern(seed: u64, len: u64) -> Vec<u8> {
    let mut generator = SplitMix64::new(seed);
    let words = (0..len.div_ceil(8)).flat_map(|_| generator.draw().to_ne_bytes());
    words.take(usize::try_from(len).unwrap_or(0)).collect()
}

pub(super) fn holds(slice: &DeviceSlice, expected: &[u8], what: &str) -> Result<(), Stop> {
    let mut seen = vec![0; expected.len()];
    slice.read(&mut seen);
    let wrong = seen.iter().zip(expected).position(|(seen, expected)| seen != expected);
    ensure(wrong.is_none(), || format!("{what}: byte {wrong:?} of {} is wrong", expected.len()))
}

/// Buffers of a job: bytes go from `source` over two places on the device to `target`.
struct Job {
    source: DeviceSlice,
    first: DeviceSlice,
    second: DeviceSlice,
    target: DeviceSlice,
}

impl Job {
    const LEN: u64 = 3000;

    fn lend(device: &dyn Device) -> Result<Self, Stop> {
        let memory = reserve(device, MemorySpace::Device, 2 * Self::LEN)?;
        let staging = reserve(device, MemorySpace::Staging, 2 * Self::LEN)?;
        Ok(Self {
            source: slice(&staging, 0, Self::LEN)?,
            first: slice(&memory, 0, Self::LEN)?,
            second: slice(&memory, Self::LEN, Self::LEN)?,
            target: slice(&staging, Self::LEN, Self::LEN)?,
        })
    }

    fn enqueue(&self, stream: &mut dyn Stream) -> Result<(), BackendError> {
        stream.copy(&self.source, &self.first)?;
        stream.copy(&self.first, &self.second)?;
        stream.copy(&self.second, &self.target)?;
        Ok(())
    }
}

fn graphs(case: &AsynchronousCase<'_>) -> Result<Box<dyn Device>, Stop> {
    let device = device(case)?;
    let graphs = device.context().capabilities.graphs;
    if graphs { Ok(device) } else { Err(Stop::Skip("the device has no graphs".into())) }
}

fn replay(case: &AsynchronousCase<'_>) -> Result<(), Stop> {
    let device = graphs(case)?;
    let job = Job::lend(&*device)?;
    let mut stream = lane(&*device, 0, 0)?;
    let mut probe = (case.probe)(&mut *stream)?;
    job.source.write(&pattern(1, Job::LEN));
    let graph = stream.capture(&mut |stream| {
        probe.hold(stream, Nanos::from_micros(5))?;
        job.enqueue(stream)
    })?;
    ensure(graph.operations() >= 4, || format!("{} operations of 4 were recorded", graph.operations()))?;
    stream.synchronize()?;
    holds(&job.target, &[0; Job::LEN as usize], "what a capture must not run")?;
    let flag = stream.flag();
    for turn in 1..=20 {
        let bytes = pattern(turn, Job::LEN);
        job.source.write(&bytes);
        // By turns: replayed, and enqueued one by one.
        if turn % 4 == 0 {
            job.enqueue(&mut *stream)?
        } else {
            stream.replay(&*graph)?
        }
        stream.signal(DispatchSeq::new(turn))?;
        wait(&*flag, DispatchSeq::new(turn))?;
        holds(&job.target, &bytes, "a replayed job")?;
    }
    Ok(())
}

fn misused_graphs(case: &AsynchronousCase<'_>) -> Result<(), Stop> {
    let device = graphs(case)?;
    let job = Job::lend(&*device)?;
    let mut stream = lane(&*device, 0, 0)?;
    let broken = stream.capture(&mut |stream| {
        job.enqueue(stream)?;
        Err(BackendError::Library { backend: "suite", reason: "gives up".into() })
    });
    let told = matches!(broken.as_ref().err(), Some(BackendError::Library { .. }));
    ensure(told, || format!("work that gave up gave {:?}", broken.err()))?;
    let signalled = stream.capture(&mut |stream| Ok(stream.signal(DispatchSeq::new(9))?));
    ensure(signalled.is_err(), || "a signal was captured".into())?;
    let nested = stream.capture(&mut |stream| stream.capture(&mut |_| Ok(())).map(drop));
    ensure(nested.is_err(), || "a capture was captured".into())?;
    let empty = stream.capture(&mut |_| Ok(()))?;
    ensure(empty.operations() == 0, || format!("nothing has {} operations", empty.operations()))?;
    stream.replay(&*empty)?;
    let graph = stream.capture(&mut |stream| job.enqueue(stream))?;
    let bytes = pattern(7, Job::LEN);
    job.source.write(&bytes);
    stream.replay(&*graph)?;
    stream.synchronize()?;
    holds(&job.target, &bytes, "a job after broken captures")?;
    ensure(stream.flag().load() == DispatchSeq::NONE, || "a captured signal was stored".into())?;
    if device.context().queue_limit > 1 {
        let mut other = lane(&*device, 0, 1)?;
        ensure(other.replay(&*graph).is_err(), || "another lane replayed the graph".into())?;
    }
    // The lane's next stream is another one, too.
    drop(stream);
    let mut next = lane(&*device, 0, 0)?;
    ensure(next.replay(&*graph).is_err(), || "the lane's next stream replayed the graph".into())
}

/// A bound lane with work for it.
struct Bound {
    stream: Box<dyn Stream>,
    probe: Box<dyn Probe>,
    flag: Arc<dyn CompletionFlag>,
    seq: DispatchSeq,
}

impl Bound {
    fn hold(&mut self, span: Nanos) -> Result<(), Stop> {
        self.probe.hold(&mut *self.stream, span)?;
        self.seq = self.seq.next();
        Ok(self.stream.signal(self.seq)?)
    }

    fn busy(&self) -> bool {
        self.flag.load() < self.seq
    }
}

fn false_serialisation(case: &AsynchronousCase<'_>) -> Result<(), Stop> {
    let device = device(case)?;
    let limit = device.context().queue_limit;
    let lanes = u16::try_from(limit).unwrap_or(u16::MAX);
    if !(2..=128).contains(&lanes) {
        return Err(Stop::Skip(format!("{limit} queues")));
    }
    let mut bound = Vec::new();
    for number in 0..lanes {
        let mut stream = lane(&*device, 0, number)?;
        let probe = (case.probe)(&mut *stream)?;
        let flag = stream.flag();
        bound.push(Bound { stream, probe, flag, seq: DispatchSeq::NONE });
    }
    for long in 0..bound.len() {
        let mut behind = Vec::new();
        for _ in 0..ATTEMPTS {
            behind = delayed_by(&mut bound, long)?;
            if behind.is_empty() {
                break;
            }
        }
        ensure(behind.is_empty(), || {
            format!("of {lanes} lanes, those numbered {behind:?} waited for a segment of lane {long}")
        })?;
    }
    Ok(())
}

/// Runs a long segment on one lane and a short one on each other; which of those came after the long one.
fn delayed_by(bound: &mut [Bound], long: usize) -> Result<Vec<usize>, Stop> {
    bound[long].hold(LONG)?;
    let mut behind = Vec::new();
    for short in (0..bound.len()).filter(|&short| short != long) {
        bound[short].hold(Nanos::new(1))?;
    }
    for short in (0..bound.len()).filter(|&short| short != long) {
        wait(&*bound[short].flag, bound[short].seq)?;
        if !bound[long].busy() {
            behind.push(short);
        }
    }
    wait(&*bound[long].flag, bound[long].seq)?;
    Ok(behind)
}

fn confinement(case: &AsynchronousCase<'_>) -> Result<(), Stop> {
    let device = device(case)?;
    let requests = two(&*device)?;
    let made = device.partition(&requests)?;
    let words = 16 * u64::from(device.context().units);
    let memory = reserve(&*device, MemorySpace::Device, 4 * words * made.len() as u64)?;
    let mut seen: Vec<BTreeSet<u32>> = Vec::new();
    for (at, partition) in (0_u16..).zip(&made) {
        let mut stream = lane(&*device, at, at)?;
        let mut probe = (case.probe)(&mut *stream)?;
        let extent = Extent { offset: Bytes::new(4 * words * u64::from(at)), len: Bytes::new(4 * words) };
        let into = DeviceSlice::lend(&memory, extent)?;
        probe.whereabouts(&mut *stream, &into)?;
        stream.synchronize()?;
        let mut bytes = vec![0; usize::try_from(4 * words).unwrap_or(0)];
        into.read(&mut bytes);
        let units: BTreeSet<u32> =
            bytes.as_chunks().0.iter().map(|word: &[u8; 4]| u32::from_ne_bytes(*word)).collect();
        ensure(units.len() <= partition.units as usize, || {
            format!("{partition:?} ran on {} units: {units:?}", units.len())
        })?;
        seen.push(units);
    }
    let shared: Vec<&u32> = seen[0].intersection(&seen[1]).collect();
    ensure(shared.is_empty(), || format!("both partitions ran on units {shared:?}"))
}
