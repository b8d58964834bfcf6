//! A loaded model with its I/O, made under a budget.

use std::ops::Range;
use std::sync::Arc;

use aegis_cuda::{
    BackendError, BackendLoader, BindingId, DeviceSlice, ModelDescription, ModelMemory, ModelRequest,
    RuntimeBackend, SharedGrant, Stream,
};
use aegis_types::{Bytes, LaneId, MemoryClass, MemoryGrant, ResourceBudget, SegmentIndex, TaskId};

use crate::error::{ContextError, LaunchError};
use crate::graphs::Graphs;
use crate::guard::{Guarded, guarded};
use crate::io::{IoBuffers, IoLayout, IoPlan, Slot};
use crate::lane::Lane;
use crate::staging::{StagedIo, Staging};
use crate::state::{ExecutionEvent, ExecutionState, LaneState};

/// Memory that a model uses, by how long it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUse {
    /// Weights and what the backend made of them.
    pub persistent: Bytes,
    /// Inputs, outputs, state and tensors across segment boundaries.
    pub exchange: Bytes,
    /// The most scratch that a segment took.
    pub scratch: Bytes,
}

impl MemoryUse {
    fn of(grant: &SharedGrant) -> Self {
        Self {
            persistent: grant.used(MemoryClass::Persistent),
            exchange: grant.used(MemoryClass::Exchange),
            scratch: grant.high_water(MemoryClass::Scratch),
        }
    }

    /// All of it; [`Bytes::MAX`] on overflow, which no budget grants.
    pub const fn total(&self) -> Bytes {
        match self.persistent.checked_add(self.exchange) {
            Some(sum) => match sum.checked_add(self.scratch) {
                Some(sum) => sum,
                None => Bytes::MAX,
            },
            None => Bytes::MAX,
        }
    }
}

/// A model on its lane, ready to run jobs. Belongs to the lane's thread; dropping it gives all memory back, so none of
/// its segments may be in flight then ([`Lane::drain`]).
pub struct ExecutionContext {
    /// Stand before whatever they refer to.
    graphs: Graphs,
    /// `None` only while being dropped. Stands before `io`, whose buffers it is bound to.
    backend: Option<Box<dyn RuntimeBackend>>,
    bindings: Vec<BindingId>,
    io: IoBuffers,
    /// Where the device has memory of its own.
    staged: Option<StagedIo>,
    description: ModelDescription,
    segments: usize,
    lane: LaneId,
    state: ExecutionState,
    grant: SharedGrant,
}

impl ExecutionContext {
    /// Loads `model` on the thread that carries `lane` and binds its I/O, all from `memory`. Where the device has
    /// memory of its own, the host's side of the I/O lies in `staging`; elsewhere it is not used. Staging that segments
    /// can work on itself ([`is_shared`](aegis_cuda::DeviceMemory::is_shared)) is what the model is bound to, without
    /// copies. Where the device replays graphs, one job is run, every segment that can be captured is captured for every
    /// slot, and one job is run in every slot.
    ///
    /// # Errors
    /// [`ContextError`] that names what was exceeded: streams, memory before loading (weights and I/O as described),
    /// staging, memory after loading (as taken), or what backend or device refused. Everything taken has been given
    /// back then, and the lane is as it was unless the device is lost.
    pub fn create(
        model: &ModelRequest<'_>,
        budget: &ResourceBudget,
        loader: &dyn BackendLoader,
        lane: &mut Lane,
        memory: ModelMemory,
        plan: &IoPlan,
        staging: Option<&Staging>,
    ) -> Result<Self, ContextError> {
        if budget.streams < 1 {
            return Err(ContextError::Streams { model: model.name.into(), granted: budget.streams });
        }
        let LaneState::Idle(_) = lane.poll() else {
            return Err(ContextError::LaneNotIdle(lane.state()));
        };
        let described = guarded(model.name, || loader.inspect(model)).flatten()?;
        let layout = IoLayout::new(&described, plan)?;
        check_before_loading(&described, &layout, budget)?;
        let shared = lane.capabilities().unified_memory;
        let staged = if shared { None } else { Some(StagedIo::carve(&described, &layout, staging)?) };
        let grant = SharedGrant::new(memory.grant);
        let region = Arc::clone(&memory.region);
        let lent = ModelMemory { grant: Box::new(grant.clone()), region: memory.region };
        let backend = guarded(model.name, || loader.load(model, lane.stream(), lent)).flatten()?;
        // After loading, because a backend may borrow exchange memory for a warm-up and gives it back.
        let io = IoBuffers::take(&described, &layout, grant.clone(), &region, staged.as_ref())?;
        let mut context = Self {
            description: backend.describe().clone(),
            segments: backend.describe().graph.segments(),
            graphs: Graphs::default(),
            backend: Some(backend),
            bindings: Vec::new(),
            io,
            staged,
            lane: lane.id(),
            state: ExecutionState::Loaded,
            grant,
        };
        context.bind()?;
        if lane.capabilities().graphs {
            context.capture(lane)?;
        }
        let used = context.memory();
        if used.total() > budget.memory {
            return Err(over_budget(
                &context.description,
                "weights, I/O and scratch as loaded",
                used.total(),
                budget,
            ));
        }
        Ok(context)
    }

    fn bind(&mut self) -> Result<(), ContextError> {
        for set in self.io.sets() {
            if let Some(backend) = &mut self.backend {
                let bound = guarded(&self.description.name, || backend.bind(set.clone())).flatten()?;
                self.bindings.push(bound);
            }
        }
        if let Ok(ready) = self.state.next(ExecutionEvent::Bind) {
            self.state = ready;
        }
        Ok(())
    }

    /// Captures every segment that can be, for every slot. One job is run before, because whatever a library makes at
    /// its first call must be there when it is captured, and one in every slot after, because a graph's first replay
    /// may take longer than all later ones. The state of these jobs is forgotten.
    fn capture(&mut self, lane: &mut Lane) -> Result<(), ContextError> {
        let capturable = self.capturable()?;
        if capturable.is_empty() {
            return Ok(());
        }
        self.rehearse(lane, 0..1)?;
        self.graphs = Graphs::new(self.bindings.len(), self.segments);
        for slot in 0..self.bindings.len() {
            for &segment in &capturable {
                let graph =
                    lane.stream().capture(&mut |stream| self.perform(stream, slot, segment).flatten())?;
                self.graphs.put(slot, segment, graph);
            }
        }
        self.rehearse(lane, 0..self.bindings.len())
    }

    /// Runs one job in each of these slots without signals, as it will be run in service, and forgets its state.
    fn rehearse(&mut self, lane: &mut Lane, slots: Range<usize>) -> Result<(), ContextError> {
        let segments = self.segments;
        let mut jobs = slots.flat_map(|slot| indices(segments).map(move |segment| (slot, segment)));
        let ran = jobs.try_for_each(|(slot, segment)| self.dispatch(lane.stream(), slot, segment).flatten());
        // Also after a refusal, because what was enqueued before it uses the buffers that are given back.
        let drained = lane.drain();
        ran?;
        drained?;
        self.io.reset_state();
        Ok(())
    }

    fn capturable(&self) -> Result<Vec<SegmentIndex>, ContextError> {
        let Some(backend) = &self.backend else { return Ok(Vec::new()) };
        let asked = || Ok(indices(self.segments).filter(|segment| backend.capturable(*segment)).collect());
        Ok(guarded(&self.description.name, asked).flatten()?)
    }

    /// The task whose budget is charged.
    pub fn task(&self) -> TaskId {
        self.grant.owner()
    }

    /// What the model is.
    pub const fn description(&self) -> &ModelDescription {
        &self.description
    }

    /// What the backend has to say of how the model was loaded; empty if nothing.
    ///
    /// # Errors
    /// [`ContextError::Backend`] if the backend panics.
    pub fn remarks(&self) -> Result<Vec<String>, ContextError> {
        let Some(backend) = &self.backend else { return Ok(Vec::new()) };
        Ok(guarded(&self.description.name, || Ok(backend.remarks())).flatten()?)
    }

    /// Memory of the device that loading took besides the budget, as the backend saw it.
    ///
    /// # Errors
    /// [`ContextError::Backend`] if the backend panics.
    pub fn outside(&self) -> Result<Bytes, ContextError> {
        let Some(backend) = &self.backend else { return Ok(Bytes::ZERO) };
        Ok(guarded(&self.description.name, || Ok(backend.outside())).flatten()?)
    }

    /// What it is doing.
    pub const fn state(&self) -> ExecutionState {
        self.state
    }

    /// How many segments a job has.
    pub const fn segments(&self) -> usize {
        self.segments
    }

    /// How many slots its inputs have.
    pub fn slots(&self) -> usize {
        self.bindings.len()
    }

    /// How many graphs were captured: one for each slot and segment that can be.
    pub fn graphs(&self) -> usize {
        self.graphs.len()
    }

    /// What it uses of its memory budget.
    pub fn memory(&self) -> MemoryUse {
        MemoryUse::of(&self.grant)
    }

    /// The buffer in which the host leaves an input, to be filled before the job that uses the slot is launched. Where
    /// the device has memory of its own, recurrent state has none.
    pub fn input(&self, slot: Slot, index: usize) -> Option<&DeviceSlice> {
        if let Some(staged) = &self.staged {
            return staged.input(slot, index);
        }
        let set = self.io.sets().get(usize::try_from(slot.0).ok()?)?;
        set.inputs.get(index).map(|slice| &**slice)
    }

    /// The buffer in which the host finds an output, to be read when the job's last segment is complete.
    pub fn output(&self, slot: Slot, index: usize) -> Option<&DeviceSlice> {
        if let Some(staged) = &self.staged {
            return staged.output(slot, index);
        }
        let set = self.io.sets().get(usize::try_from(slot.0).ok()?)?;
        set.outputs.get(index).map(|slice| &**slice)
    }

    /// Fills an input of a slot.
    ///
    /// # Errors
    /// [`ContextError::Access`] if there is no such slot or input, or `bytes` are not exactly its size.
    pub fn write_input(&self, slot: Slot, index: usize, bytes: &[u8]) -> Result<(), ContextError> {
        let slice = self.fitting(self.input(slot, index), "input", slot, index, bytes.len())?;
        slice.write(bytes);
        Ok(())
    }

    /// Reads an output of a slot.
    ///
    /// # Errors
    /// [`ContextError::Access`] if there is no such slot or output, or `bytes` are not exactly its size.
    pub fn read_output(&self, slot: Slot, index: usize, bytes: &mut [u8]) -> Result<(), ContextError> {
        let slice = self.fitting(self.output(slot, index), "output", slot, index, bytes.len())?;
        slice.read(bytes);
        Ok(())
    }

    fn fitting<'a>(
        &self,
        slice: Option<&'a DeviceSlice>,
        what: &'static str,
        slot: Slot,
        index: usize,
        len: usize,
    ) -> Result<&'a DeviceSlice, ContextError> {
        let bad = |reason| {
            let model = self.description.name.clone();
            ContextError::Access { model, what, index, slot: slot.0, reason }
        };
        match slice {
            Some(slice) if slice.len().get() == len as u64 => Ok(slice),
            Some(slice) => Err(bad(format!("{len} bytes; legal: exactly {}", slice.len().get()))),
            None => Err(bad(format!("no such buffer; there are {} slots", self.slots()))),
        }
    }

    /// Zeroes the recurrent state, so that the next job starts a new sequence. Only while no segment is in flight.
    pub fn reset_state(&mut self) {
        self.io.reset_state();
    }

    /// Launches one segment: state machine, then its graph or its calls. The lane signals.
    pub(crate) fn enqueue(
        &mut self,
        stream: &mut dyn Stream,
        slot: Slot,
        segment: SegmentIndex,
    ) -> Result<(), LaunchError> {
        let (home, here) = (self.lane, stream.lane());
        if home != here {
            return Err(LaunchError::OtherLane { home, here });
        }
        let position = slot.0 as usize;
        let slots = self.bindings.len();
        if position >= slots {
            return Err(LaunchError::Slot { slot: slot.0, slots });
        }
        self.step(ExecutionEvent::Launch { segment, slot })?;
        let ended = self.dispatch(stream, position, segment);
        let more = segment.index() + 1 < self.segments;
        let (event, result) = match ended {
            Guarded::Returned(Ok(())) => (ExecutionEvent::Done { more }, Ok(())),
            Guarded::Returned(Err(error)) if not_started(&error) => (ExecutionEvent::NotStarted, Err(error)),
            Guarded::Returned(Err(error)) => (ExecutionEvent::Fail, Err(error)),
            Guarded::Panicked(error) => (ExecutionEvent::Panic, Err(error)),
        };
        self.step(event)?;
        result.map_err(LaunchError::Backend)
    }

    /// Enqueues a segment of the job in `slot`: its graph if it has one, else its calls.
    fn dispatch(&mut self, stream: &mut dyn Stream, slot: usize, segment: SegmentIndex) -> Guarded<()> {
        match self.graphs.get(slot, segment) {
            Some(graph) => Guarded::Returned(stream.replay(graph).map_err(BackendError::from)),
            None => self.perform(stream, slot, segment),
        }
    }

    /// Enqueues what a segment of the job in `slot` is: before the first its inputs, behind the last its state for the
    /// next job and its outputs.
    fn perform(&mut self, stream: &mut dyn Stream, slot: usize, segment: SegmentIndex) -> Guarded<()> {
        let (first, last) = (segment.index() == 0, segment.index() + 1 == self.segments);
        let (io, staged) = (&self.io, self.staged.as_ref());
        let (Some(backend), Some(&binding), Some(set)) =
            (&mut self.backend, self.bindings.get(slot), io.sets().get(slot))
        else {
            // The slot was checked, and the backend goes only with its owner.
            return Guarded::Returned(Ok(()));
        };
        guarded(&self.description.name, || {
            if let (true, Some(staged)) = (first, staged) {
                staged.feed(slot, set, stream)?;
            }
            backend.enqueue(stream, segment, binding)?;
            if last {
                carry(io, slot, stream)?;
            }
            if let (true, Some(staged)) = (last, staged) {
                staged.deliver(slot, set, stream)?;
            }
            Ok(())
        })
    }

    fn step(&mut self, event: ExecutionEvent) -> Result<(), LaunchError> {
        self.state = self.state.next(event).map_err(LaunchError::Context)?;
        Ok(())
    }
}

impl Drop for ExecutionContext {
    fn drop(&mut self) {
        self.graphs = Graphs::default();
        let backend = self.backend.take();
        // Nobody is left to tell: a panic while unloading must not end the lane's thread.
        let _ = guarded(&self.description.name, || {
            drop(backend);
            Ok(())
        });
    }
}

/// The first `count` segments.
fn indices(count: usize) -> impl Iterator<Item = SegmentIndex> {
    (0u16..=u16::MAX).take(count).map(SegmentIndex::new)
}

/// Whether the same launch may be tried again.
pub(crate) const fn not_started(error: &BackendError) -> bool {
    matches!(error, BackendError::Execution { started: false, .. })
}

/// Copies the state that a finished job hands on.
fn carry(io: &IoBuffers, slot: usize, stream: &mut dyn Stream) -> Result<(), BackendError> {
    for (output, input) in io.carried(slot) {
        stream.copy(output, input)?;
    }
    Ok(())
}

/// Refuses what cannot fit before anything is loaded: loading a model that is too large can take minutes.
fn check_before_loading(
    described: &ModelDescription,
    layout: &IoLayout,
    budget: &ResourceBudget,
) -> Result<(), ContextError> {
    let weights = described.memory.weights;
    if weights > budget.memory {
        return Err(over_budget(described, "weights", weights, budget));
    }
    let io = layout.bytes(described).unwrap_or(Bytes::MAX);
    let scratch = described.memory.scratch.iter().flatten().max().copied().unwrap_or(Bytes::ZERO);
    let sum = weights.checked_add(io).and_then(|sum| sum.checked_add(scratch)).unwrap_or(Bytes::MAX);
    if sum > budget.memory {
        return Err(over_budget(described, "weights, I/O and scratch as described", sum, budget));
    }
    Ok(())
}

fn over_budget(
    described: &ModelDescription,
    what: &'static str,
    needed: Bytes,
    budget: &ResourceBudget,
) -> ContextError {
    ContextError::MemoryBudget { model: described.name.clone(), what, needed, granted: budget.memory }
}
