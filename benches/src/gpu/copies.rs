//! Small copies by a kernel beside copies by the copy engines: what a launch costs its thread, and when results are there.
//!
//! One graph copies staging memory to the device, runs for a while on few multiprocessors and copies back. One spinning
//! thread keeps it running on each lane, as the launcher does. Two devices are open at once, one of each kind, and take
//! turns in short slices, so that the host's noise meets both.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use aegis_cuda::conformance::CountingGrant;
use aegis_cuda::cuda::{CudaDevice, CudaOptions, QueueLimit};
use aegis_cuda::kernel::KernelLoader;
use aegis_cuda::{
    BackendError, BackendLoader, Bindings, Device, DeviceMemory, DeviceSlice, HostClock, MemorySpace,
    ModelMemory, ModelRequest, PartitionRequest, RuntimeBackend, Stream, Units,
};
use aegis_types::{Bytes, Extent, LaneId, Nanos, PartitionId, SegmentIndex};
use serde::{Deserialize, Serialize};

use super::card::Gpu;
use super::error::ExperimentError;
use super::spread::{Spread, SpreadRow};
use super::store::Store;
use crate::counting::count;

mod runner;

use runner::{Runner, Side, allocations, keep_busy};

/// Lanes that are kept busy.
const LANES: [u16; 3] = [1, 4, 8];
/// Bytes that are copied in, and again out.
const SIZES: [Bytes; 2] = [Bytes::new(4 << 10), Bytes::new(64 << 10)];
/// Slices of each number of lanes and each size, both kinds together.
const SLICES: u32 = 24;
/// Launches of each kind around which heap allocations are counted.
const COUNTED: u64 = 10_000;
/// About 60 us on four multiprocessors: eight lanes leave most of a device idle, so that no kernel waits for another.
const MODEL: &str = "kernel 1\nsegment\nhold 60us blocks=4 threads=64\nend\n";
/// Memory of the model: it takes next to none.
const MEMORY: Bytes = Bytes::new(1 << 20);
/// Room for a buffer of any size.
const ROOM: Bytes = SIZES[SIZES.len() - 1];
/// The shares of launches that are compared.
const QUANTILES: [f64; 3] = [0.5, 0.99, 0.999];

/// What one kind of copies came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SideRow {
    /// Both calls: graph launch and store of the flag.
    pub hold: SpreadRow,
    /// From before the launch to the flag seen, other lanes' launches in between included.
    pub round: SpreadRow,
}

/// Both kinds for one number of lanes and one size.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CopiesRow {
    /// Lanes that were kept busy.
    pub lanes: u16,
    /// Bytes copied in, and again out.
    pub bytes: u64,
    /// Copies by a kernel.
    pub kernel: SideRow,
    /// Copies by the copy engines.
    pub engines: SideRow,
    /// Engines over kernel at p50, p99 and p99.9 of the hold; zero without launches.
    pub hold_ratio: [f64; 3],
    /// The same of the round trip.
    pub round_ratio: [f64; 3],
}

/// The stage's result.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CopiesReport {
    /// Largest copy that a kernel makes on the first of the two devices, in bytes.
    pub copy_by_kernel: u64,
    /// How long a slice is, in nanoseconds.
    pub slice_ns: u64,
    /// One row for each number of lanes and each size.
    pub rows: Vec<CopiesRow>,
    /// Launches of each kind around which allocations were counted.
    pub counted: u64,
    /// Heap allocations of this program in graph launch and store of the flag: kernel, engines. What the driver takes
    /// from the C library is not seen.
    pub allocations: [u64; 2],
}

impl SideRow {
    fn of(side: &Side) -> Self {
        Self { hold: side.hold.row(), round: side.round.row_with_histogram() }
    }
}

/// The buffers of one size on one lane.
struct Buffers {
    input: DeviceSlice,
    inside: DeviceSlice,
    output: DeviceSlice,
}

impl Buffers {
    fn lend(
        region: &Arc<dyn DeviceMemory>,
        staging: &Arc<dyn DeviceMemory>,
        size: usize,
    ) -> Result<Self, ExperimentError> {
        let [input, inside, output] = places(size);
        Ok(Self {
            input: DeviceSlice::lend(staging, input)?,
            inside: DeviceSlice::lend(region, inside)?,
            output: DeviceSlice::lend(staging, output)?,
        })
    }

    /// Fills the input with bytes that follow from the lane, and clears the output.
    fn prepare(&self, lane: u16) {
        let length = usize::try_from(self.input.len().get()).unwrap_or(0);
        self.input.write(&pattern(lane, length));
        self.output.write(&vec![0; length]);
    }

    /// Whether the input came out.
    fn came_through(&self, lane: u16) -> bool {
        let mut found = vec![0; usize::try_from(self.output.len().get()).unwrap_or(0)];
        self.output.read(&mut found);
        found == pattern(lane, found.len())
    }
}

/// Input in staging memory, its copy in device memory, output in staging memory.
fn places(size: usize) -> [Extent; 3] {
    let (number, len) = (size as u64, SIZES[size]);
    let at = |base: Bytes, room: u64| Extent { offset: Bytes::new(base.get() + room * ROOM.get()), len };
    [at(Bytes::ZERO, 2 * number), at(MEMORY, number), at(Bytes::ZERO, 2 * number + 1)]
}

fn pattern(lane: u16, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 240 + usize::from(lane) + 1) as u8).collect()
}

/// A lane with all that its graphs use. The order of the fields is the one in which they are given up.
struct CopyLane {
    runner: Runner,
    _backend: Box<dyn RuntimeBackend>,
    buffers: Vec<Buffers>,
}

impl CopyLane {
    fn load(device: &CudaDevice, lane: u16) -> Result<Self, ExperimentError> {
        let rooms = |count: usize| ROOM.get() * count as u64;
        let region = device.reserve(MemorySpace::Device, Bytes::new(MEMORY.get() + rooms(SIZES.len())))?;
        let staging = device.reserve(MemorySpace::Staging, Bytes::new(rooms(2 * SIZES.len())))?;
        let mut stream = device.bind_lane(PartitionId::new(0), LaneId::new(lane))?;
        let buffers = (0..SIZES.len()).map(|size| Buffers::lend(&region, &staging, size));
        let buffers = buffers.collect::<Result<Vec<_>, _>>()?;
        let grant = Box::new(CountingGrant::new(Extent { offset: Bytes::ZERO, len: MEMORY }));
        let (shapes, artifact) = (BTreeMap::new(), MODEL.as_bytes());
        let request = ModelRequest { name: "copies", artifact, shapes: &shapes, allow_control_flow: false };
        let memory = ModelMemory { grant, region };
        let mut backend = KernelLoader::new().load(&request, stream.as_mut(), memory)?;
        let binding = backend.bind(Bindings { inputs: Vec::new(), outputs: Vec::new() })?;
        let mut graphs = Vec::new();
        for io in &buffers {
            io.prepare(lane);
            let mut work = |stream: &mut dyn Stream| -> Result<(), BackendError> {
                stream.copy(&io.input, &io.inside)?;
                backend.enqueue(stream, SegmentIndex::new(0), binding)?;
                Ok(stream.copy(&io.inside, &io.output)?)
            };
            // Once without a graph: what is run for the first time may be loaded then.
            work(stream.as_mut())?;
            stream.synchronize()?;
            io.prepare(lane);
            graphs.push(stream.capture(&mut work)?);
        }
        Ok(Self { runner: Runner::new(graphs, stream), _backend: backend, buffers })
    }
}

/// One of the two devices, with as many lanes as are ever busy.
struct Bench {
    lanes: Vec<CopyLane>,
    device: CudaDevice,
}

impl Bench {
    fn open(gpu: &Gpu, copy_by_kernel: Bytes) -> Result<Self, ExperimentError> {
        let queues = QueueLimit::FromEnvironmentValue(gpu.queues);
        let options = CudaOptions { ordinal: gpu.ordinal, queues, copy_by_kernel, ..CudaOptions::default() };
        let device = CudaDevice::open(options)?;
        device.partition(&[PartitionRequest { name: "all".into(), units: Units::Count(gpu.sms) }])?;
        let most = LANES.into_iter().max().unwrap_or(0);
        let lanes = (0..most).map(|lane| CopyLane::load(&device, lane)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { lanes, device })
    }

    fn serve(
        &mut self,
        clock: &HostClock,
        lanes: u16,
        size: usize,
        slice: Nanos,
    ) -> Result<Side, ExperimentError> {
        let runners = self.lanes.iter_mut().take(lanes.into()).map(|lane| &mut lane.runner);
        keep_busy(runners, clock, size, clock.now().saturating_add(slice))
    }

    /// Looks at what came out of every buffer, and gives the device up.
    fn close(self, kind: &str) -> Result<(), ExperimentError> {
        let wrong = (0..).zip(&self.lanes).find_map(|(lane, loaded)| {
            let size = loaded.buffers.iter().position(|io| !io.came_through(lane))?;
            Some(format!("lane {lane}, {}: what was copied out is not what was copied in", SIZES[size]))
        });
        drop(self.lanes);
        self.device.close()?;
        match wrong {
            Some(reason) => Err(ExperimentError::Failed { task: format!("copies by {kind}"), reason }),
            None => Ok(()),
        }
    }
}

/// Measures both kinds by turns, for `length` in all, and counts allocations.
///
/// # Errors
/// What device or model refuse; [`ExperimentError::Hung`]; [`ExperimentError::Failed`] if bytes did not come through;
/// [`ExperimentError::Illegal`] in a program that does not count its allocations.
pub fn measure(gpu: &Gpu, store: &Store, length: Nanos) -> Result<CopiesReport, ExperimentError> {
    counted()?;
    let (clock, copy_by_kernel) = (HostClock::start(), CudaOptions::default().copy_by_kernel);
    let mut benches = [Bench::open(gpu, copy_by_kernel)?, Bench::open(gpu, Bytes::ZERO)?];
    let slice = slice_of(length);
    let mut report = CopiesReport {
        copy_by_kernel: copy_by_kernel.get(),
        slice_ns: slice.get(),
        counted: COUNTED,
        ..CopiesReport::default()
    };
    for (bench, found) in benches.iter_mut().zip(&mut report.allocations) {
        if let Some(lane) = bench.lanes.first_mut() {
            *found = allocations(&mut lane.runner, &clock, COUNTED)?;
        }
    }
    for lanes in LANES {
        for (size, bytes) in SIZES.iter().enumerate() {
            store.tell(&format!("copies: {lanes} lanes, {bytes}"));
            let mut sides = [Side::default(), Side::default()];
            for turn in 0..SLICES as usize {
                let kind = turn % 2;
                sides[kind].merge(&benches[kind].serve(&clock, lanes, size, slice)?);
            }
            report.rows.push(row(lanes, *bytes, &sides));
        }
    }
    let [kernel, engines] = benches;
    kernel.close("a kernel")?;
    engines.close("the copy engines")?;
    Ok(report)
}

/// Refuses a program whose allocator does not count: its zero would say nothing.
fn counted() -> Result<(), ExperimentError> {
    let (_seven, allocated) = count(|| std::hint::black_box(Box::new(7)));
    if allocated == 1 {
        return Ok(());
    }
    Err(ExperimentError::Illegal {
        what: format!("one allocation is counted as {allocated}"),
        legal: "a program whose global allocator is `CountingAllocator`".into(),
    })
}

/// How long a slice is, if all of them take `length` together.
fn slice_of(length: Nanos) -> Nanos {
    let slices = LANES.len() as u64 * SIZES.len() as u64 * u64::from(SLICES);
    Nanos::new(length.get() / slices)
}

fn row(lanes: u16, bytes: Bytes, [kernel, engines]: &[Side; 2]) -> CopiesRow {
    CopiesRow {
        lanes,
        bytes: bytes.get(),
        hold_ratio: ratios(&kernel.hold, &engines.hold),
        round_ratio: ratios(&kernel.round, &engines.round),
        kernel: SideRow::of(kernel),
        engines: SideRow::of(engines),
    }
}

/// `engines` over `kernel` at each of [`QUANTILES`].
fn ratios(kernel: &Spread, engines: &Spread) -> [f64; 3] {
    QUANTILES.map(|quantile| {
        let [below, above] = [kernel, engines].map(|spread| spread.quantile(quantile).get() as f64);
        if below > 0.0 { (above / below * 1e3).round() / 1e3 } else { 0.0 }
    })
}

impl CopiesReport {
    /// Refuses a result with allocations.
    ///
    /// # Errors
    /// [`ExperimentError::Failed`] with their number.
    pub fn check(&self) -> Result<(), ExperimentError> {
        let [kernel, engines] = self.allocations;
        if kernel == 0 && engines == 0 {
            return Ok(());
        }
        let reason = format!(
            "{} launches allocated {kernel} times with copies by a kernel and {engines} times with copies by engines; \
             legal: never",
            self.counted
        );
        Err(ExperimentError::Failed { task: "a launch".into(), reason })
    }

    /// The figures as a short table: kernel, engines and engines over kernel at each quantile.
    pub fn table(&self) -> String {
        let mut text = format!(
            "copies, us: by a kernel (up to {}) | by engines | engines over kernel; {SLICES} slices of {:.0} ms each\n\
             {:<26} {:>8} {:>8}   {:^24}   {:^24}   {:^24}\n",
            Bytes::new(self.copy_by_kernel),
            self.slice_ns as f64 / 1e6,
            "",
            "n",
            "n",
            "p50",
            "p99",
            "p99.9"
        );
        for row in &self.rows {
            let name = format!("{} lanes, {}", row.lanes, Bytes::new(row.bytes));
            let (kernel, engines) = (&row.kernel, &row.engines);
            line(&mut text, &format!("{name:<18} hold"), [&kernel.hold, &engines.hold], row.hold_ratio);
            line(&mut text, &format!("{:<18} round", ""), [&kernel.round, &engines.round], row.round_ratio);
        }
        let [kernel, engines] = self.allocations;
        let counted = self.counted;
        // Writing into a text cannot fail.
        let _ok = writeln!(text, "heap allocations in {counted} launches: {kernel} | {engines}");
        text
    }
}

fn line(text: &mut String, name: &str, [kernel, engines]: [&SpreadRow; 2], ratios: [f64; 3]) {
    let us = |ns: u64| ns as f64 / 1e3;
    let points = |row: &SpreadRow| [row.p50_ns, row.p99_ns, row.p999_ns].map(us);
    // Writing into a text cannot fail.
    let _ok = write!(text, "{name:<26} {:>8} {:>8}", kernel.n, engines.n);
    for ((kernel, engines), ratio) in points(kernel).into_iter().zip(points(engines)).zip(ratios) {
        let _ok = write!(text, "   {kernel:>8.1} {engines:>8.1} {ratio:>6.2}");
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zero_is_believed_only_where_allocations_are_counted_and_only_a_zero_passes() {
        // The allocator of this test program is the system's.
        assert!(matches!(counted(), Err(ExperimentError::Illegal { .. })));
        let with = |allocations| CopiesReport { allocations, counted: COUNTED, ..CopiesReport::default() };
        with([0, 0]).check().expect("none");
        for allocations in [[1, 0], [0, 3]] {
            let refusal = with(allocations).check().expect_err("some").to_string();
            assert!(refusal.contains("10000 launches"), "{refusal}");
        }
    }

    #[test]
    fn the_model_is_legal_and_buffers_share_no_byte() {
        let shapes = BTreeMap::new();
        let artifact = MODEL.as_bytes();
        let request = ModelRequest { name: "copies", artifact, shapes: &shapes, allow_control_flow: false };
        let described = KernelLoader::new().inspect(&request).expect("a legal model");
        assert_eq!((described.inputs.len(), described.graph.segments()), (0, 1));
        let all: Vec<[Extent; 3]> = (0..SIZES.len()).map(places).collect();
        let mut staging: Vec<Extent> = all.iter().flat_map(|[input, _, output]| [*input, *output]).collect();
        let mut inside: Vec<Extent> = all.iter().map(|[_, inside, _]| *inside).collect();
        for extents in [&mut staging, &mut inside] {
            extents.sort_unstable_by_key(|extent| extent.offset);
            let end = |extent: &Extent| extent.offset.get() + extent.len.get();
            assert!(extents.windows(2).all(|pair| end(&pair[0]) <= pair[1].offset.get()), "{extents:?}");
        }
        assert!(inside.iter().all(|extent| extent.offset >= MEMORY), "the model's own memory: {inside:?}");
        assert!(SIZES.iter().all(|bytes| *bytes <= ROOM && *bytes <= CudaOptions::default().copy_by_kernel));
        assert!(pattern(0, 4_096) != pattern(7, 4_096) && !pattern(7, 4_096).contains(&0));
    }

    #[test]
    fn slices_fill_the_time_and_ratios_are_engines_over_kernel() {
        assert_eq!(slice_of(Nanos::from_millis(14_400)), Nanos::from_millis(100));
        let of = |ns: u64| {
            let mut spread = Spread::new();
            spread.add(Nanos::new(ns));
            spread
        };
        let side = |hold, round| Side { hold: of(hold), round: of(round) };
        let row = row(4, SIZES[1], &[side(2_000, 80_000), side(5_000, 100_000)]);
        assert_eq!((row.hold_ratio, row.round_ratio), ([2.5; 3], [1.25; 3]));
        assert_eq!(ratios(&Spread::new(), &of(1)), [0.0; 3]);
        let report = CopiesReport { rows: vec![row; 6], counted: COUNTED, ..CopiesReport::default() };
        let table = report.table();
        assert_eq!(table.lines().count(), 2 + 2 * 6 + 1, "{table}");
        assert!(table.contains("4 lanes, 64KiB") && table.contains("2.0      5.0   2.50"), "{table}");
        assert!(table.ends_with("heap allocations in 10000 launches: 0 | 0\n"), "{table}");
    }
}
