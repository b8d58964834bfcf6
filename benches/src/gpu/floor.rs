//! The floor: graphs launched one after the other, a flag behind each, one spinning thread, nothing of ours in between.
//!
//! A floor has as many graphs on as many lanes as the fleet that is compared with it. A graph that was launched a while ago
//! is colder, in the caches of the host and of the device, than the only graph that there is: who calls the driver without
//! a runtime in between meets that as well.

use std::collections::BTreeMap;
use std::sync::Arc;

use aegis_cuda::conformance::CountingGrant;
use aegis_cuda::kernel::KernelLoader;
use aegis_cuda::{
    BackendLoader, Bindings, Device, DeviceMemory, Graph, HostClock, MemorySpace, ModelMemory, ModelRequest,
    PartitionRequest, RuntimeBackend, Stream, Units,
};
use aegis_types::{Bytes, DispatchSeq, Extent, LaneId, Nanos, PartitionId, SegmentIndex, Time};
use serde::{Deserialize, Serialize};

use super::between::Beat;
use super::card::{Gpu, Opened};
use super::error::ExperimentError;
use super::spread::{Spread, SpreadRow};

/// Memory of the model: it takes next to none.
const MEMORY: Bytes = Bytes::new(1 << 20);
/// About what one launch takes until its flag is seen.
const ROUND: Nanos = Nanos::from_micros(10);
/// Work that takes longer than this hangs.
const HANG: Nanos = Nanos::from_millis(2_000);

/// A thread that does not look at the clock for so long was not running: what overlaps such a gap is the host's.
pub const STALL: Nanos = Nanos::from_micros(20);
/// Launches at the beginning of a measurement that are not counted: they warm caches and page tables.
pub const WARM_UP: u64 = 100;

/// What was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FloorRow {
    /// From before the launch to the flag seen.
    pub round: SpreadRow,
    /// From the instant at which the launch was due to the flag seen: what responses are compared with, which count from
    /// their nominal arrivals too. Equal to `round` back to back.
    pub due: SpreadRow,
    /// From when the launch was due, without launches over which the thread had a gap of [`STALL`] or more.
    pub calm: SpreadRow,
    /// Both calls: graph launch and store of the flag.
    pub hold: SpreadRow,
    /// Distance of two launches; zero for back to back.
    pub pause_ns: u64,
    /// Graphs that are launched in turn.
    pub graphs: u16,
    /// Lanes that they lie on, in turn.
    pub lanes: u16,
}

/// The distributions.
#[derive(Clone, Debug, Default)]
pub struct Floor {
    /// From before the launch to the flag seen.
    pub round: Spread,
    /// From when the launch was due to the flag seen.
    pub due: Spread,
    /// From when the launch was due, without launches over which the thread had a gap of [`STALL`] or more.
    pub calm: Spread,
    /// Both calls.
    pub hold: Spread,
}

impl Floor {
    /// What is written of it; so many graphs were launched in turn on so many lanes.
    pub fn row(&self, pause: Nanos, graphs: u16, lanes: u16) -> FloorRow {
        let (round, hold) = (self.round.row(), self.hold.row());
        let due = self.due.row_with_histogram();
        FloorRow { round, due, calm: self.calm.row(), hold, pause_ns: pause.get(), graphs, lanes }
    }

    /// Adds another measurement.
    pub fn merge(&mut self, other: &Self) {
        self.round.merge(&other.round);
        self.due.merge(&other.due);
        self.calm.merge(&other.calm);
        self.hold.merge(&other.hold);
    }
}

/// One captured model and the lane it is launched on.
struct Captured {
    graph: Box<dyn Graph>,
    /// Holds what the graph works on.
    _backend: Box<dyn RuntimeBackend>,
    lane: usize,
}

/// Graphs on lanes of a device of their own, ready to be launched in turn.
pub struct Bare {
    /// Stand before what they were captured on.
    graphs: Vec<Captured>,
    streams: Vec<Box<dyn Stream>>,
    device: Opened,
    sequence: DispatchSeq,
    next: usize,
}

impl Bare {
    /// Loads a model without inputs and outputs `graphs` times on `lanes` lanes of the whole device, in turn, and captures
    /// each, as the runtime does.
    ///
    /// # Errors
    /// What device or backend refuse.
    pub fn load(gpu: &Gpu, artifact: &str, graphs: u16, lanes: u16) -> Result<Self, ExperimentError> {
        let opened = gpu.open()?;
        let device: Arc<dyn Device> = opened.device();
        let whole = PartitionRequest { name: "all".into(), units: Units::Count(gpu.sms) };
        device.partition(&[whole])?;
        let bind = |lane| device.bind_lane(PartitionId::new(0), LaneId::new(lane));
        let mut streams = (0..lanes).map(bind).collect::<Result<Vec<_>, _>>()?;
        let region = device.reserve(MemorySpace::Device, Bytes::new(MEMORY.get() * u64::from(graphs)))?;
        let mut captured = Vec::with_capacity(graphs.into());
        for number in 0..graphs {
            let lane = usize::from(number % lanes);
            let stream = streams[lane].as_mut();
            let offset = Bytes::new(MEMORY.get() * u64::from(number));
            captured.push(capture(artifact, lane, stream, Arc::clone(&region), offset)?);
        }
        Ok(Self { graphs: captured, streams, device: opened, sequence: DispatchSeq::NONE, next: 0 })
    }

    /// Launches `count` times, one graph after the other, at nominal instants `pause` apart or back to back for zero, and polls the flag.
    ///
    /// # Errors
    /// What the device refuses; [`ExperimentError::Hung`] if the flag does not come.
    pub fn measure(&mut self, count: u64, pause: Nanos) -> Result<Floor, ExperimentError> {
        let clock = HostClock::start();
        let mut floor = Floor::default();
        let mut due = clock.now();
        for number in 0..count + WARM_UP {
            due = next_due(due, pause, &clock);
            self.once(&clock, due, (number >= WARM_UP).then_some(&mut floor))?;
        }
        Ok(floor)
    }

    /// Launches between the jobs of a run, `pause` apart as they are.
    ///
    /// # Errors
    /// As [`measure`](Self::measure).
    pub fn measure_between(&mut self, beat: Beat<'_>, pause: Nanos) -> Result<Floor, ExperimentError> {
        let clock = HostClock::start();
        let mut floor = Floor::default();
        for (number, due) in (0..).zip(beat.dues(&clock, pause, ROUND)) {
            self.once(&clock, due, (number >= WARM_UP).then_some(&mut floor))?;
        }
        Ok(floor)
    }

    /// One launch that is due at an instant, and what it took.
    fn once(
        &mut self,
        clock: &HostClock,
        due: Time,
        into: Option<&mut Floor>,
    ) -> Result<(), ExperimentError> {
        let graph = &self.graphs[self.next % self.graphs.len()];
        self.next += 1;
        let stream = &mut self.streams[graph.lane];
        let flag = stream.flag();
        let mut begun = clock.now();
        let mut waited = begun;
        while begun < due {
            std::hint::spin_loop();
            waited = begun;
            begun = clock.now();
        }
        self.sequence = self.sequence.next();
        stream.replay(graph.graph.as_ref())?;
        stream.signal(self.sequence)?;
        let held = clock.now();
        // The gap in which the launch became due counts as a whole, as the driver's gaps do; the launch itself is none, as it
        // is none there.
        let mut gap = begun.since(waited).max(begun.since(due));
        let mut seen = held;
        while flag.load() != self.sequence {
            let now = clock.now();
            gap = gap.max(now.since(seen));
            seen = now;
            if seen.since(begun) > HANG {
                let (what, seconds) = ("the floor's graph".to_owned(), HANG.get() / 1_000_000_000);
                return Err(ExperimentError::Hung { what, seconds });
            }
        }
        let ended = clock.now().max(seen);
        gap = gap.max(ended.since(seen));
        if let Some(floor) = into {
            floor.round.add(ended.since(begun));
            floor.due.add(ended.since(due));
            floor.hold.add(held.since(begun));
            if gap < STALL {
                floor.calm.add(ended.since(due));
            }
        }
        Ok(())
    }

    /// Gives the device up.
    ///
    /// # Errors
    /// As [`Opened::close`].
    pub fn close(self) -> Result<(), ExperimentError> {
        let Self { graphs, streams, device, .. } = self;
        drop(graphs);
        drop(streams);
        device.close()
    }
}

/// Loads one model on a lane and captures what it enqueues.
fn capture(
    artifact: &str,
    lane: usize,
    stream: &mut dyn Stream,
    region: Arc<dyn DeviceMemory>,
    offset: Bytes,
) -> Result<Captured, ExperimentError> {
    let grant = Box::new(CountingGrant::new(Extent { offset, len: MEMORY }));
    let shapes = BTreeMap::new();
    let artifact = artifact.as_bytes();
    let request = ModelRequest { name: "floor", artifact, shapes: &shapes, allow_control_flow: false };
    let mut backend = KernelLoader::new().load(&request, stream, ModelMemory { grant, region })?;
    let binding = backend.bind(Bindings { inputs: Vec::new(), outputs: Vec::new() })?;
    let segment = SegmentIndex::new(0);
    backend.enqueue(stream, segment, binding)?;
    stream.synchronize()?;
    let graph = stream.capture(&mut |stream| backend.enqueue(stream, segment, binding))?;
    Ok(Captured { graph, _backend: backend, lane })
}

/// When the launch after one that was due at `last` is due: `pause` later, or now where launches are back to back or that
/// instant has passed already.
fn next_due(last: Time, pause: Nanos, clock: &HostClock) -> Time {
    let now = clock.now();
    let next = last.saturating_add(pause);
    if pause == Nanos::ZERO || next < now { now } else { next }
}
