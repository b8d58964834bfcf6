//! What every backend does alike.

use std::rc::Rc;
use std::sync::Arc;

use aegis_types::{Bytes, DispatchSeq, Extent, LaneId, MemoryClass, MemoryGrant, PartitionId, SegmentIndex};

use super::grant::CountingGrant;
use super::record::{Subject, record};
use super::{Check, Report, Stop, Violation, ensure, on_thread, run};
use crate::backend::{
    BackendLoader, BindingId, Bindings, ModelDescription, ModelMemory, ModelRequest, RuntimeBackend,
    TensorSpec,
};
use crate::device::Device;
use crate::error::BackendError;
use crate::memory::{DeviceMemory, DeviceSlice, MemorySpace};
use crate::stream::{Graph, Stream};

/// Judges outputs: given the inputs and outputs of one job, says what is wrong with them.
type Judge<'a> = &'a (dyn Fn(&[Vec<u8>], &[Vec<u8>]) -> Result<(), String> + Sync);

/// A backend on a device, with a model to try it on.
#[derive(Clone, Copy)]
pub struct BackendCase<'a> {
    /// An undivided device of which no lane is bound.
    pub device: &'a dyn Device,
    /// The backend.
    pub loader: &'a dyn BackendLoader,
    /// The model.
    pub request: ModelRequest<'a>,
    /// Inputs of two or more jobs, in binding order.
    pub jobs: &'a [Vec<Vec<u8>>],
    /// Knows which outputs are right.
    pub judge: Judge<'a>,
    /// Memory for the model besides its I/O: what it needs and not much more.
    pub memory: Bytes,
}

/// What is checked, in this order.
fn checks<'a>() -> [Check<'a, BackendCase<'a>>; 10] {
    [
        ("a model is described without loading it", description),
        ("bindings that do not fit are refused", misfits),
        ("outputs are a function of inputs alone", outputs),
        ("a captured job answers as one that is enqueued", captured),
        ("memory stays within the grant, scratch ends with its segment", memory),
        ("serving asks for no memory", serving),
        ("unloading gives all memory back", unloading),
        ("a budget that is too small is refused and all is given back", refusal),
        ("a damaged artifact is refused and all is given back", damage),
        ("two lanes run two contexts", two_lanes),
    ]
}

/// Checks the contract of [`BackendLoader`] and [`RuntimeBackend`]. Where the environment names a file
/// ([`RECORD_VARIABLE`](super::RECORD_VARIABLE)), what came of it is added there.
///
/// # Errors
/// The first [`Violation`], or that the file cannot be written.
pub fn backend(case: &BackendCase<'_>) -> Result<Report, Violation> {
    let outcome = unrecorded(case);
    let subject =
        Subject { backend: case.loader.name(), device: case.device.context().kind, model: case.request.name };
    let recorded = record(&subject, &checks().map(|(check, _)| check), &outcome);
    outcome.and_then(|report| recorded.map(|()| report))
}

/// The checks alone: for backends that are made to fail them, which are in no table.
pub(super) fn unrecorded(case: &BackendCase<'_>) -> Result<Report, Violation> {
    run(case, &checks())
}

/// A loaded model with all that it stands on; dropped from the top.
struct Loaded {
    model: Box<dyn RuntimeBackend>,
    stream: Box<dyn Stream>,
    grant: CountingGrant,
    region: Arc<dyn DeviceMemory>,
    seq: DispatchSeq,
}

/// Bytes of a tensor's slot in the region of the suite.
fn slot(spec: &TensorSpec) -> Result<u64, Stop> {
    let aligned = spec.bytes.checked_align_up(Bytes::new(256)).map(Bytes::get);
    aligned.ok_or_else(|| Stop::Violated(format!("`{}` has {}", spec.name, spec.bytes)))
}

fn io_bytes(description: &ModelDescription) -> Result<u64, Stop> {
    description.inputs.iter().chain(&description.outputs).try_fold(0, |sum, spec| Ok(sum + slot(spec)?))
}

fn load(case: &BackendCase<'_>, lane: u16) -> Result<Loaded, Stop> {
    let description = case.loader.inspect(&case.request)?;
    let io = 2 * io_bytes(&description)?;
    let bytes = Bytes::new(case.memory.get() + io);
    let region = case.device.reserve(MemorySpace::Device, bytes)?;
    let mut stream = case.device.bind_lane(PartitionId::new(0), LaneId::new(lane))?;
    let grant = CountingGrant::new(Extent { offset: Bytes::ZERO, len: case.memory });
    let memory = ModelMemory { grant: Box::new(grant.clone()), region: Arc::clone(&region) };
    let model = case.loader.load(&case.request, &mut *stream, memory)?;
    Ok(Loaded { model, stream, grant, region, seq: DispatchSeq::NONE })
}

impl Loaded {
    /// One set of I/O behind the model's memory; there is room for two.
    fn lend(&self, case: &BackendCase<'_>, set: u64) -> Result<Bindings, Stop> {
        let description = self.model.describe();
        let mut offset = case.memory.get() + set * io_bytes(description)?;
        let mut lend = |spec: &TensorSpec| -> Result<Rc<DeviceSlice>, Stop> {
            let extent = Extent { offset: Bytes::new(offset), len: spec.bytes };
            offset += slot(spec)?;
            Ok(Rc::new(DeviceSlice::lend(&self.region, extent)?))
        };
        Ok(Bindings {
            inputs: description.inputs.iter().map(&mut lend).collect::<Result<_, Stop>>()?,
            outputs: description.outputs.iter().map(&mut lend).collect::<Result<_, Stop>>()?,
        })
    }

    /// Runs a whole job and returns its outputs.
    fn job(&mut self, io: &Bindings, binding: BindingId, inputs: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, Stop> {
        self.submit(io, binding, inputs)?;
        self.collect(io)
    }

    /// Enqueues a whole job.
    fn submit(&mut self, io: &Bindings, binding: BindingId, inputs: &[Vec<u8>]) -> Result<(), Stop> {
        for (slice, bytes) in io.inputs.iter().zip(inputs) {
            slice.write(bytes);
        }
        for index in 0..self.model.describe().graph.segments() {
            let segment = u16::try_from(index).map_err(|_| Stop::Violated(format!("{index} segments")))?;
            self.model.enqueue(&mut *self.stream, SegmentIndex::new(segment), binding)?;
        }
        self.seq = self.seq.next();
        Ok(self.stream.signal(self.seq)?)
    }

    /// As [`job`](Self::job), by a graph of the whole job; outputs are overwritten before.
    fn replayed(
        &mut self,
        io: &Bindings,
        graph: &dyn Graph,
        inputs: &[Vec<u8>],
    ) -> Result<Vec<Vec<u8>>, Stop> {
        for (slice, bytes) in io.inputs.iter().zip(inputs) {
            slice.write(bytes);
        }
        for slice in &io.outputs {
            slice.write(&vec![0xA5; usize::try_from(slice.len().get()).unwrap_or(0)]);
        }
        self.stream.replay(graph)?;
        self.seq = self.seq.next();
        self.stream.signal(self.seq)?;
        self.collect(io)
    }

    /// Waits for the job that was enqueued last and returns its outputs.
    fn collect(&mut self, io: &Bindings) -> Result<Vec<Vec<u8>>, Stop> {
        self.stream.synchronize()?;
        let seen = self.stream.flag().load();
        ensure(seen == self.seq, || format!("after dispatch {:?} the flag shows {seen:?}", self.seq))?;
        let read = |slice: &Rc<DeviceSlice>| {
            let mut bytes = vec![0; usize::try_from(slice.len().get()).unwrap_or(0)];
            slice.read(&mut bytes);
            bytes
        };
        Ok(io.outputs.iter().map(read).collect())
    }

    fn judged(&mut self, case: &BackendCase<'_>, io: &Bindings, id: BindingId) -> Result<(), Stop> {
        for inputs in case.jobs {
            let outputs = self.job(io, id, inputs)?;
            (case.judge)(inputs, &outputs).map_err(Stop::Violated)?;
        }
        Ok(())
    }
}

fn description(case: &BackendCase<'_>) -> Result<(), Stop> {
    let inspected = case.loader.inspect(&case.request)?;
    let loaded = load(case, 0)?;
    ensure(inspected == *loaded.model.describe(), || {
        format!("inspected {inspected:?}, loaded {:?}", loaded.model.describe())
    })?;
    for spec in inspected.inputs.iter().chain(&inspected.outputs) {
        let product: u64 = spec.shape.iter().product::<u64>() * spec.element.size().get();
        ensure(spec.bytes.get() == product, || {
            format!("`{}`: {:?} in {}", spec.name, spec.shape, spec.bytes)
        })?;
    }
    ensure(case.jobs.len() > 1, || "the suite needs two jobs".into())
}

fn misfits(case: &BackendCase<'_>) -> Result<(), Stop> {
    let mut loaded = load(case, 0)?;
    let io = loaded.lend(case, 0)?;
    let mut fewer = io.clone();
    fewer.outputs.pop();
    let refused = loaded.model.bind(fewer).err();
    let typed = matches!(refused, Some(BackendError::BindingCount { .. }));
    ensure(typed, || format!("an output too few gave {refused:?}"))?;
    drop(io);
    let mut io = loaded.lend(case, 0)?;
    let Some(first) = io.inputs.first_mut() else {
        return Err(Stop::Skip("the model has no input".into()));
    };
    let free = Extent {
        offset: Bytes::new(case.memory.get() + io_bytes(loaded.model.describe())?),
        len: Bytes::ZERO,
    };
    *first = Rc::new(DeviceSlice::lend(&loaded.region, free)?);
    let refused = loaded.model.bind(io).err();
    let typed = matches!(refused, Some(BackendError::Binding { .. }));
    ensure(typed, || format!("an empty input gave {refused:?}"))
}

/// Every job twice, on two bindings by turns: what ran before must not matter.
fn outputs(case: &BackendCase<'_>) -> Result<(), Stop> {
    let mut loaded = load(case, 0)?;
    let sets = [loaded.lend(case, 0)?, loaded.lend(case, 1)?];
    let ids = [loaded.model.bind(sets[0].clone())?, loaded.model.bind(sets[1].clone())?];
    ensure(ids[0] != ids[1], || format!("two bindings are {:?}", ids[0]))?;
    for turn in 0..4 {
        loaded.judged(case, &sets[turn % 2], ids[turn % 2])?;
    }
    let [first, second] = [&case.jobs[0], &case.jobs[1]];
    let once = loaded.job(&sets[0], ids[0], first)?;
    loaded.job(&sets[1], ids[1], second)?;
    let again = loaded.job(&sets[0], ids[0], first)?;
    ensure(once == again, || "equal inputs gave unequal outputs".into())
}

fn memory(case: &BackendCase<'_>) -> Result<(), Stop> {
    let mut loaded = load(case, 0)?;
    let needs = loaded.model.describe().memory.weights;
    let weights = loaded.grant.high_water(MemoryClass::Persistent);
    ensure(weights >= needs, || format!("{weights} were taken for {needs} of weights"))?;
    let io = loaded.lend(case, 0)?;
    let id = loaded.model.bind(io.clone())?;
    let before = loaded.grant.used_total();
    loaded.judged(case, &io, id)?;
    let after = loaded.grant.used_total();
    ensure(before == after, || format!("{before} were taken before the jobs, {after} after"))?;
    let scratch = loaded.grant.used(MemoryClass::Scratch);
    ensure(scratch.is_zero(), || format!("{scratch} of scratch outlived its segment"))
}

/// A model whose every segment can be captured, recorded once as a whole for a set of I/O.
fn whole_job(loaded: &mut Loaded, id: BindingId) -> Result<Option<Box<dyn Graph>>, Stop> {
    let Loaded { model, stream, .. } = loaded;
    let segments = u16::try_from(model.describe().graph.segments()).unwrap_or(u16::MAX);
    if !(0..segments).all(|segment| model.capturable(SegmentIndex::new(segment))) {
        return Ok(None);
    }
    let graph = stream.capture(&mut |stream| {
        (0..segments).try_for_each(|segment| model.enqueue(stream, SegmentIndex::new(segment), id))
    })?;
    Ok(Some(graph))
}

/// A job is enqueued before it is captured, as whoever serves it does: what a library makes at its first call is there
/// then.
fn captured(case: &BackendCase<'_>) -> Result<(), Stop> {
    if !case.device.context().capabilities.graphs {
        return Err(Stop::Skip("the device replays no graphs".into()));
    }
    let mut loaded = load(case, 0)?;
    let io = loaded.lend(case, 0)?;
    let id = loaded.model.bind(io.clone())?;
    loaded.judged(case, &io, id)?;
    let Some(graph) = whole_job(&mut loaded, id)? else {
        let reason = loaded.model.remarks().join("; ");
        let reason = if reason.is_empty() { "the model is not captured".to_owned() } else { reason };
        return Err(Stop::Skip(reason));
    };
    for _ in 0..2 {
        for inputs in case.jobs {
            let outputs = loaded.replayed(&io, graph.as_ref(), inputs)?;
            (case.judge)(inputs, &outputs).map_err(|wrong| Stop::Violated(format!("replayed: {wrong}")))?;
        }
    }
    loaded.judged(case, &io, id)
}

/// Every class of memory.
const CLASSES: [MemoryClass; 3] = [MemoryClass::Persistent, MemoryClass::Exchange, MemoryClass::Scratch];

/// Jobs as they are served: replayed where they can be captured, enqueued elsewhere.
fn serving(case: &BackendCase<'_>) -> Result<(), Stop> {
    let mut loaded = load(case, 0)?;
    let io = loaded.lend(case, 0)?;
    let id = loaded.model.bind(io.clone())?;
    loaded.judged(case, &io, id)?;
    let graph = if case.device.context().capabilities.graphs { whole_job(&mut loaded, id)? } else { None };
    let before = CLASSES.map(|class| loaded.grant.requests(class));
    for _ in 0..2 {
        for inputs in case.jobs {
            match &graph {
                Some(graph) => loaded.replayed(&io, graph.as_ref(), inputs)?,
                None => loaded.job(&io, id, inputs)?,
            };
        }
    }
    for (class, before) in CLASSES.into_iter().zip(before) {
        let asked = loaded.grant.requests(class) - before;
        let jobs = 2 * case.jobs.len();
        match class {
            _ if asked == 0 => {}
            MemoryClass::Scratch => {
                return Err(Stop::Skip(format!(
                    "{asked} requests of scratch in {jobs} jobs, all given back"
                )));
            }
            _ => return Err(Stop::Violated(format!("{asked} requests of {class:?} memory in {jobs} jobs"))),
        }
    }
    Ok(())
}

fn unloading(case: &BackendCase<'_>) -> Result<(), Stop> {
    let mut loaded = load(case, 0)?;
    let io = loaded.lend(case, 0)?;
    let id = loaded.model.bind(io.clone())?;
    loaded.judged(case, &io, id)?;
    let Loaded { model, stream, grant, region, .. } = loaded;
    drop((io, model, stream));
    ensure(grant.used_total().is_zero(), || format!("{} outlived the model", grant.used_total()))?;
    DeviceSlice::lend(&region, Extent { offset: Bytes::ZERO, len: region.size() })?;
    Ok(())
}

/// Loads into `limit` bytes, which must be refused, and checks that nothing stays taken.
fn refused(case: &BackendCase<'_>, request: &ModelRequest<'_>, limit: Bytes) -> Result<BackendError, Stop> {
    let region = case.device.reserve(MemorySpace::Device, case.memory)?;
    let mut stream = case.device.bind_lane(PartitionId::new(0), LaneId::new(0))?;
    let grant = CountingGrant::new(Extent { offset: Bytes::ZERO, len: limit });
    let memory = ModelMemory { grant: Box::new(grant.clone()), region: Arc::clone(&region) };
    let Err(error) = case.loader.load(request, &mut *stream, memory) else {
        return Err(Stop::Violated(format!(
            "{} bytes of artifact were loaded into {limit}",
            request.artifact.len()
        )));
    };
    ensure(grant.used_total().is_zero(), || format!("{} stay taken after: {error}", grant.used_total()))?;
    DeviceSlice::lend(&region, Extent { offset: Bytes::ZERO, len: region.size() })?;
    Ok(error)
}

fn refusal(case: &BackendCase<'_>) -> Result<(), Stop> {
    let loaded = load(case, 0)?;
    let taken = loaded.grant.used_total();
    drop(loaded);
    if taken.is_zero() {
        return Err(Stop::Skip("the model takes no memory".into()));
    }
    for part in [0, 2, 4, 7] {
        let limit = Bytes::new(taken.get() * part / 8);
        let error = refused(case, &case.request, limit)?;
        let typed = matches!(error, BackendError::Memory { .. });
        ensure(typed, || format!("{limit} of {taken} gave {error:?}"))?;
    }
    Ok(())
}

fn damage(case: &BackendCase<'_>) -> Result<(), Stop> {
    let whole = case.request.artifact;
    for artifact in [&whole[..0], &whole[..whole.len() / 2], &[0xFF; 64]] {
        let request = ModelRequest { artifact, ..case.request };
        let described = case.loader.inspect(&request);
        ensure(described.is_err(), || format!("{} damaged bytes were described", artifact.len()))?;
        refused(case, &request, case.memory)?;
    }
    Ok(())
}

fn two_lanes(case: &BackendCase<'_>) -> Result<(), Stop> {
    let context = case.device.context();
    if context.queue_limit < 2 {
        return Err(Stop::Skip("the device carries one lane".into()));
    }
    if context.capabilities.asynchronous { one_launcher(case) } else { two_carriers(case) }
}

/// Lanes whose work is queued are carried by one thread, and their jobs run at the same time.
fn one_launcher(case: &BackendCase<'_>) -> Result<(), Stop> {
    let mut lanes = Vec::new();
    for number in 0..2 {
        let mut loaded = load(case, number)?;
        let io = loaded.lend(case, 0)?;
        let id = loaded.model.bind(io.clone())?;
        lanes.push((loaded, io, id));
    }
    for turn in 0..8 {
        let inputs = |lane: usize| &case.jobs[(turn + lane) % case.jobs.len()];
        for (lane, (loaded, io, id)) in lanes.iter_mut().enumerate() {
            loaded.submit(io, *id, inputs(lane))?;
        }
        for (lane, (loaded, io, _)) in lanes.iter_mut().enumerate() {
            let outputs = loaded.collect(io)?;
            (case.judge)(inputs(lane), &outputs).map_err(Stop::Violated)?;
        }
    }
    Ok(())
}

fn two_carriers(case: &BackendCase<'_>) -> Result<(), Stop> {
    let barrier = std::sync::Barrier::new(2);
    let lane = |number| {
        let loaded = load(case, number);
        // Both lanes are bound and loaded before either runs; a failed one must not leave the other waiting.
        barrier.wait();
        let mut loaded = loaded?;
        let io = loaded.lend(case, 0)?;
        let id = loaded.model.bind(io.clone())?;
        (0..8).try_for_each(|_| loaded.judged(case, &io, id))
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| lane(1));
        let here = on_thread(|| lane(0));
        let there = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        here.and(there)
    })
}
