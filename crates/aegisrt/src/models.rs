//! What a carrier carries: the models of one lane, with their inputs and what is kept of their outputs.

use std::sync::Arc;

use aegis_context::{BudgetWatch, ExecutionContext, Lane, LaunchError, MemoryUse, Slot, Staging};
use aegis_cuda::{Capabilities, DeviceError, DeviceMemory, DeviceSlice, TensorSpec};
use aegis_memory::{TaskGrant, TaskUsage};
use aegis_sched::Arrival;
use aegis_types::records::{JobOutcome, SegmentOutcome};
use aegis_types::{Bytes, Extent, MemoryClass, Nanos, ResourceBudget, Sink, TaskId, Time};

use crate::carrier::{LaneReport, ModelReport, Work};
use crate::client::{Packet, Port};
use crate::error::RuntimeError;
use crate::feed::Feed;
use crate::inventory::Model;
use crate::mailbox::Launch;

mod turns;

use turns::{Turns, Visit};

/// The byte that poisoned scratch is filled with: as a number in any format neither zero nor harmless.
const POISON: u8 = 0xA5;

/// Where the inputs of a task come from.
#[derive(Clone)]
pub enum Source {
    /// Prepared inputs.
    Feed(Feed),
    /// Clients.
    Port(Arc<Port>),
}

/// A model to be loaded on a lane.
pub struct ModelSpec {
    /// The model.
    pub model: Model,
    /// Its memory.
    pub grant: Box<TaskGrant>,
    /// The region that the grant's extents lie in.
    pub region: Arc<dyn DeviceMemory>,
    /// The host's side of its I/O, where the device has memory of its own.
    pub staging: Option<Staging>,
    /// Input slots.
    pub slots: u32,
    /// Where its inputs come from.
    pub source: Source,
    /// Outputs of how many jobs are kept, from the first.
    pub keep: usize,
    /// Whether the outputs of every job are read, as a client would.
    pub probe: bool,
}

/// The models of one lane, loaded.
pub struct LaneModels {
    lane: Lane,
    models: Vec<Loaded>,
    poison: Option<Poison>,
    /// What the launcher does in the visit under way.
    visit: Visit,
    /// Why the lane's flag will never show a launch again.
    lost: Option<String>,
}

/// Overwrites a lane's scratch, so that whatever survives in it from one segment to the next is nobody's data.
struct Poison {
    region: Arc<dyn DeviceMemory>,
    extent: Extent,
    bytes: Vec<u8>,
}

impl Poison {
    fn new(region: Arc<dyn DeviceMemory>, extent: Extent) -> Result<Self, DeviceError> {
        let length = usize::try_from(extent.len.get()).unwrap_or(0);
        // Borrowed once here, so that a place that can never be overwritten is refused and not passed over.
        drop(DeviceSlice::lend(&region, extent)?);
        Ok(Self { region, extent, bytes: vec![POISON; length] })
    }

    /// Between segments only: a backend may borrow the same bytes while one runs, and a region lends each byte once.
    fn spread(&self) {
        if let Ok(scratch) = DeviceSlice::lend(&self.region, self.extent) {
            scratch.write(&self.bytes);
        }
    }
}

struct Loaded {
    task: TaskId,
    context: ExecutionContext,
    usage: Arc<TaskUsage>,
    watch: BudgetWatch,
    data: JobData,
    failure: Option<String>,
    remarks: Vec<String>,
    /// What loading took of the device besides the budget.
    outside: Bytes,
    /// Whether graphs of some segments are missing that the device could replay.
    plain: bool,
    /// Visits to segments of the model.
    turns: Turns,
}

/// Where the inputs of a model's jobs come from, and who gets their outputs.
struct JobData {
    source: Source,
    /// Positions of the inputs that are not state.
    fed: Vec<usize>,
    /// Whether the inputs of all jobs lie in their slots already.
    standing: bool,
    /// What the client of the job under way brought.
    packet: Option<Box<Packet>>,
    kept: Vec<(u64, Vec<Vec<u8>>)>,
    /// How many of these hold the outputs of a job.
    filled: usize,
    /// Where outputs go that only the profiler reads.
    probe: Vec<Vec<u8>>,
}

impl LaneModels {
    /// Loads the models of a lane, in the order of their tasks, on the calling thread. Scratch is overwritten before
    /// every segment if its place is given.
    ///
    /// # Errors
    /// The first model's refusal; what was loaded before is given back.
    pub fn load(
        mut lane: Lane,
        specs: Vec<ModelSpec>,
        poison: Option<(Arc<dyn DeviceMemory>, Extent)>,
    ) -> Result<Self, RuntimeError> {
        let models = specs.into_iter().map(|spec| Loaded::new(&mut lane, spec)).collect::<Result<_, _>>()?;
        let poison = poison.map(|(region, extent)| Poison::new(region, extent)).transpose()?;
        Ok(Self { lane, models, poison, visit: Visit::default(), lost: None })
    }
}

impl Loaded {
    fn new(lane: &mut Lane, spec: ModelSpec) -> Result<Self, RuntimeError> {
        let usage = spec.grant.usage();
        let ModelSpec { model, grant, region, staging, slots, source, keep, probe } = spec;
        let config = &model.config;
        let budget = ResourceBudget {
            memory: config.budget.memory,
            streams: config.budget.streams,
            compute: config.budget.compute.unwrap_or(Nanos::MAX),
        };
        let memory = aegis_cuda::ModelMemory { grant, region };
        let io = model.io_plan(slots);
        let (request, loader) = (model.request(), model.loader.as_ref());
        let context =
            ExecutionContext::create(&request, &budget, loader, lane, memory, &io, staging.as_ref())?;
        let (remarks, outside) = (context.remarks()?, context.outside()?);
        let whole = usize::try_from(slots).unwrap_or(usize::MAX).saturating_mul(context.segments());
        let Capabilities { graphs, asynchronous, .. } = lane.capabilities();
        let plain = graphs && asynchronous && context.graphs() < whole;
        let data = JobData::new(&model, source, keep, probe, staging.is_some());
        if let (true, Source::Feed(feed)) = (data.standing, &data.source) {
            (0..slots).for_each(|slot| write_inputs(&context, Slot(slot), &data.fed, feed.sample(0)));
        }
        let (task, failure, turns) = (model.task, None, Turns::new()?);
        let watch = BudgetWatch::new(task, budget);
        Ok(Self { task, context, usage, watch, data, failure, remarks, outside, plain, turns })
    }

    /// Whether a job has no segment after the launched one.
    fn is_last(&self, launch: &Launch) -> bool {
        launch.segment.index() + 1 == self.context.segments()
    }
}

impl JobData {
    fn new(model: &Model, source: Source, keep: usize, probe: bool, own_memory: bool) -> Self {
        // A client brings inputs and takes outputs, whose copies must be in what is measured before there is one.
        let client = model.config.arrival == Arrival::Sporadic;
        let standing = own_memory && !client && matches!(&source, Source::Feed(feed) if feed.stays());
        let inputs = model.description.inputs.iter().enumerate();
        let fed = inputs.filter(|(_, input)| !model.is_state(input)).map(|(index, _)| index).collect();
        let size = |spec: &TensorSpec| vec![0; usize::try_from(spec.bytes.get()).unwrap_or(0)];
        let buffers = || -> Vec<Vec<u8>> { model.description.outputs.iter().map(size).collect() };
        let kept = (0..keep).map(|_| (0, buffers())).collect();
        let probe = if probe && (client || !own_memory) { buffers() } else { Vec::new() };
        Self { source, fed, standing, packet: None, kept, filled: 0, probe }
    }

    /// Brings the inputs of a job into its slot, unless an attempt before did. Sizes were checked when the feed was
    /// made and when the packet was submitted. `false` if a client's job has no data: it must not run on old ones.
    fn fill(&mut self, launch: &Launch, context: &ExecutionContext) -> bool {
        let slot = Slot(launch.slot);
        match &self.source {
            Source::Feed(_) if self.standing => {}
            Source::Feed(feed) => write_inputs(context, slot, &self.fed, feed.sample(launch.job.number)),
            Source::Port(port) => {
                if self.packet.as_ref().is_some_and(|packet| packet.job() == Some(launch.job)) {
                    return true;
                }
                if let Some(mut stale) = self.packet.take() {
                    // Its job ended without a last segment, so nobody gave it back.
                    if let Some(job) = stale.job() {
                        stale.end(job, JobOutcome::Failed);
                    }
                    port.give_back(stale);
                }
                self.packet = port.packet_of(launch.job);
                let Some(packet) = &self.packet else { return false };
                write_inputs(context, slot, &self.fed, &packet.inputs);
            }
        }
        true
    }

    /// Takes the outputs to whoever wants them once the job is over: its `last` segment ran, or one failed. On a
    /// synchronous device that is before the flag is stored, on an asynchronous one after it was seen. Returns whether the
    /// job is over; a segment that did not start may be launched again.
    fn drain(
        &mut self,
        launch: &Launch,
        outcome: SegmentOutcome,
        last: bool,
        context: &ExecutionContext,
    ) -> bool {
        let done = outcome == SegmentOutcome::Done;
        if !(outcome == SegmentOutcome::Failed || (done && last)) {
            return false;
        }
        let slot = Slot(launch.slot);
        if done {
            read_outputs(context, slot, &mut self.probe);
        }
        if done && let Some((number, outputs)) = self.kept.get_mut(self.filled) {
            *number = launch.job.number;
            read_outputs(context, slot, outputs);
            self.filled += 1;
        }
        if let (Some(mut packet), Source::Port(port)) = (self.packet.take(), &self.source) {
            if done {
                read_outputs(context, slot, &mut packet.outputs);
            }
            packet.end(launch.job, if done { JobOutcome::Completed } else { JobOutcome::Failed });
            port.give_back(packet);
        }
        true
    }
}

/// The model of a launch: the engine dispatches only tasks of this lane.
fn model_of<'a>(models: &'a mut [Loaded], launch: &Launch) -> Option<&'a mut Loaded> {
    models.iter_mut().find(|model| model.task == launch.job.task)
}

fn write_inputs(context: &ExecutionContext, slot: Slot, positions: &[usize], inputs: &[Vec<u8>]) {
    for (&index, bytes) in positions.iter().zip(inputs) {
        if let Some(slice) = context.input(slot, index) {
            slice.write(bytes);
        }
    }
}

fn read_outputs(context: &ExecutionContext, slot: Slot, outputs: &mut [Vec<u8>]) {
    for (index, bytes) in outputs.iter_mut().enumerate() {
        if let Some(slice) = context.output(slot, index) {
            slice.read(bytes);
        }
    }
}

impl Work for LaneModels {
    fn run(&mut self, launch: &Launch, ended: &mut dyn FnMut(SegmentOutcome)) {
        if let Some(poison) = &self.poison {
            poison.spread();
        }
        self.visit.fills |= launch.segment.get() == 0;
        let model = model_of(&mut self.models, launch);
        let ready =
            model.map(|model| (launch.segment.get() > 0 || model.data.fill(launch, &model.context), model));
        // A job's data arrive before its launch.
        let Some((true, model)) = ready else {
            ended(SegmentOutcome::Failed);
            self.lost = self.lane.stream().signal(launch.dispatch).err().map(|error| error.to_string());
            return;
        };
        let last = model.is_last(launch);
        let synchronous = !self.lane.capabilities().asynchronous;
        let Loaded { context, data, failure, .. } = model;
        let finish = |outcome: SegmentOutcome, error: Option<&LaunchError>, context: &ExecutionContext| {
            if let Some(error) = error {
                *failure = Some(error.to_string());
            }
            if synchronous {
                data.drain(launch, outcome, last, context);
            }
            ended(outcome);
        };
        let report =
            self.lane.launch_with(context, Slot(launch.slot), launch.segment, launch.dispatch, finish);
        if !report.signalled {
            let unknown = || "its completion flag cannot be written".to_owned();
            self.lost = Some(report.error.map_or_else(unknown, |error| error.to_string()));
        }
    }

    fn landed(&mut self, launch: &Launch, outcome: SegmentOutcome) {
        if let Some(model) = model_of(&mut self.models, launch) {
            let last = model.is_last(launch);
            self.visit.drains |= model.data.drain(launch, outcome, last, &model.context);
        }
    }

    fn probe(&mut self) {
        if let Err(error) = self.lane.probe() {
            self.lost = Some(error.to_string());
        }
    }

    fn asked(&mut self, launch: &Launch, took: Nanos) {
        if let Some(model) = model_of(&mut self.models, launch) {
            model.turns.ask(took);
        }
    }

    fn settled(&mut self) -> bool {
        self.lane.settled()
    }

    fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }

    fn turned(&mut self, launch: &Launch, turn: Nanos) -> Nanos {
        let visit = std::mem::take(&mut self.visit);
        let model = model_of(&mut self.models, launch);
        model.map_or(Nanos::ZERO, |model| model.turns.push(visit, turn))
    }

    fn loaded(&self, now: Time, sink: &mut dyn Sink) {
        for model in &self.models {
            model.watch.created(&model.context.memory(), now, sink);
        }
    }

    fn watch(&mut self, launch: &Launch, occupancy: Nanos, now: Time, sink: &mut dyn Sink) {
        if let Some(model) = model_of(&mut self.models, launch) {
            let last = model.is_last(launch);
            // The engine judges what follows from a breach; here it is only recorded.
            let _memory = model.watch.memory(&model.context.memory(), now, sink);
            let _compute = model.watch.ran(occupancy, last, now, sink);
        }
    }

    fn finish(self: Box<Self>) -> LaneReport {
        // Whichever job of the lane ended in the visit that began one of the model's.
        let draining = self.models.iter().map(|model| model.turns.draining()).max().unwrap_or(Nanos::ZERO);
        let report = |model: Loaded| {
            let JobData { source, packet, kept: mut outputs, filled, .. } = model.data;
            if let (Some(packet), Source::Port(port)) = (packet, &source) {
                port.give_back(packet);
            }
            let usage = model.usage.snapshot();
            outputs.truncate(filled);
            ModelReport {
                task: model.task,
                memory: MemoryUse {
                    persistent: usage.high_water(MemoryClass::Persistent),
                    exchange: usage.high_water(MemoryClass::Exchange),
                    scratch: usage.high_water(MemoryClass::Scratch),
                },
                outside: model.outside,
                turn: model.turns.mark(draining),
                outputs,
                failure: model.failure,
                plain: model.plain,
                remarks: model.remarks,
            }
        };
        LaneReport { models: self.models.into_iter().map(report).collect() }
    }
}
