//! Models in memory: scripted ones behind the contracts of production (backend, execution context, lane, plan, grants),
//! with scratch that lane-mates share and that is poisoned between segments' jobs.
//!
//! Beside every model stands a twin in memory of its own that runs the same jobs one after the other. Outputs depend on
//! inputs, weights, scratch, what one segment hands to the next and what one job leaves to the next, so any two tasks
//! whose memory overlaps wrongly end up with outputs that differ from their twins'.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use aegis_context::{ExecutionContext, IoPlan, Lane, Slot};
use aegis_cuda::script::Durations;
use aegis_cuda::{
    BackendLoader, CompletionFlag, Device, DeviceMemory, DeviceSlice, MemorySpace, ModelDescription,
    ModelMemory, ModelRequest, ScriptedLoader, SimClock, SimDevice, SimOptions,
};
use aegis_memory::{Demand, Ledger, LowestOffsetFirst, MemoryOrchestrator, TaskGrant};
use aegis_sched::engine::Dispatch;
use aegis_sched::{Certificate, charge};
use aegis_types::record::Discard;
use aegis_types::records::SegmentOutcome;
use aegis_types::{
    Bytes, DispatchSeq, Extent, LaneId, Nanos, PartitionId, ResourceBudget, SegmentIndex, TaskId,
};

use super::SimulateError;
use super::episode::Episode;
use super::faults::FaultPlan;
use super::generate::Scenario;
use super::memory::grants;
use super::plant::{self, SimWork};
use crate::feed::{Feed, SplitMix};

/// Alignment of everything that is planned.
const ALIGN: Bytes = Bytes::new(256);
/// Lines of an arena: two for each slot of the longest queue of a drawn set, and some.
const LINES: usize = 512;
/// What poisoned scratch holds.
const POISON: u8 = 0xA5;
/// Messages kept of one run.
const KEPT: usize = 4;

/// A model as text, and how it is lodged.
struct Script {
    name: String,
    text: String,
    task: TaskId,
    lane: LaneId,
    io: IoPlan,
    description: ModelDescription,
}

/// A loaded model with its inputs.
struct Model {
    context: ExecutionContext,
    feed: Feed,
}

/// A model in memory of its own.
struct Twin {
    model: Model,
    lane: Lane,
    dispatch: DispatchSeq,
}

/// The lanes of a device with their models, each beside its twin.
struct LoadedLanes {
    // Contexts give their memory back before lanes and region go.
    models: Vec<Model>,
    twins: Vec<Twin>,
    lanes: Vec<Lane>,
    region: Arc<dyn DeviceMemory>,
    /// By lane.
    scratch: Vec<Option<Extent>>,
    compared: u64,
    found: Vec<String>,
}

/// Runs the scenario as promised with models in memory. Returns how many jobs were compared, and what was wrong.
///
/// # Errors
/// [`SimulateError`] if a model cannot be made ready.
pub fn loaded(
    scenario: &Scenario,
    certificate: &Certificate,
    horizon: Nanos,
) -> Result<(u64, Vec<String>), SimulateError> {
    let device = plant::device(&scenario.set, &scenario.slowdown)?;
    let lanes = LoadedLanes::load(scenario, certificate, &device)?;
    let plan = FaultPlan::none();
    let seed = scenario.seed;
    let episode = Episode { scenario, certificate, judged: certificate, plan: &plan, horizon, seed };
    let ask = |lanes: &mut LoadedLanes| (lanes.compared, std::mem::take(&mut lanes.found));
    let watched = Arc::clone(&device);
    let (outcome, (compared, mut found)) =
        episode.run_work(scenario.policy.make(), device, lanes, &mut Discard, ask)?;
    found.extend(outcome.violations.iter().map(ToString::to_string));
    let collisions = watched.scratch_collisions();
    if let Some(first) = collisions.first() {
        found.push(format!(
            "checker 3: {} times two lanes used one scratch, first {first:?}",
            collisions.len()
        ));
    }
    Ok((compared, found))
}

fn scripts(scenario: &Scenario, certificate: &Certificate) -> Result<Vec<Script>, SimulateError> {
    let charged = charge(&scenario.set)?;
    let behaviours = plant::behaviours(scenario, &charged);
    let mut draw = SplitMix(scenario.seed ^ 0x4C4F_4144_4544_0001);
    let mut scripts = Vec::new();
    for (task, behaviour) in scenario.set.tasks().iter().zip(behaviours) {
        let (inputs, state, outputs) = (1 + draw.below(64), 1 + draw.below(8), 1 + draw.below(64));
        let mut text = format!(
            "script 1\ninput x f32 1x{inputs}\ninput h_in f32 1x{state}\noutput y f32 1x{outputs}\n\
             output h_out f32 1x{state}\nweights {}B\n",
            draw.below(4_096)
        );
        for longest in &behaviour.longest {
            let longest = longest.get().max(2);
            let shortest = (u128::from(longest) * u128::from(behaviour.shortest_ppm) / 1_000_000).max(1);
            // Writing to a string cannot fail.
            let _infallible =
                writeln!(text, "segment {shortest}ns..{longest}ns scratch {}B", 1 + draw.below(8_192));
        }
        text.push_str("end\n");
        let slots = certificate.task(task.id).map_or(1, |(lane, at)| lane.tasks()[at].queue);
        let io = IoPlan {
            input_slots: slots,
            output_slots: slots.min(2),
            state: vec![("h_out".into(), "h_in".into())],
        };
        let description =
            ScriptedLoader::new(Durations::Longest).inspect(&request(&task.name, &text, &BTreeMap::new()))?;
        scripts.push(Script {
            name: task.name.clone(),
            text,
            task: task.id,
            lane: task.lane,
            io,
            description,
        });
    }
    Ok(scripts)
}

const fn request<'a>(
    name: &'a str,
    text: &'a str,
    shapes: &'a BTreeMap<String, Vec<u64>>,
) -> ModelRequest<'a> {
    ModelRequest { name, artifact: text.as_bytes(), shapes, allow_control_flow: false }
}

impl Script {
    fn demand(&self) -> Result<Demand, SimulateError> {
        let io = self.io.bytes(&self.description)?.unwrap_or(Bytes::MAX);
        Ok(Demand {
            task: self.task,
            lane: self.lane,
            persistent: self.description.memory.weights,
            // What one segment hands to the next takes a line of its own.
            exchange: io.checked_add(ALIGN).unwrap_or(Bytes::MAX),
            scratch: self.description.memory.scratch.clone().unwrap_or_default(),
        })
    }

    fn load(
        &self,
        seed: u64,
        lane: &mut Lane,
        grant: TaskGrant,
        region: &Arc<dyn DeviceMemory>,
    ) -> Result<Model, SimulateError> {
        let shapes = BTreeMap::new();
        let budget = ResourceBudget { memory: region.size(), streams: 1, compute: Nanos::MAX };
        let memory = ModelMemory { grant: Box::new(grant), region: Arc::clone(region) };
        let loader = ScriptedLoader::new(Durations::Seeded(seed));
        let request = request(&self.name, &self.text, &shapes);
        let context = ExecutionContext::create(&request, &budget, &loader, lane, memory, &self.io, None)?;
        let feed = Feed::seeded(seed ^ u64::from(self.task.get()), &self.description.inputs[..1]);
        Ok(Model { context, feed })
    }

    fn twin(&self, seed: u64) -> Result<Twin, SimulateError> {
        let device = SimDevice::new(SimOptions::default(), SimClock::new())?;
        let (region, mut grants, _) = lodge(&device, &[self.demand()?])?;
        let mut lane = Lane::bind(&device, PartitionId::new(0), self.lane)?;
        let grant = grants.remove(0);
        let model = self.load(seed, &mut lane, grant, &region)?;
        Ok(Twin { model, lane, dispatch: DispatchSeq::NONE })
    }
}

/// A region of the device with its grants by task, and the scratch of each lane that has one.
type Lodging = (Arc<dyn DeviceMemory>, Vec<TaskGrant>, Vec<(LaneId, Extent)>);

fn lodge(device: &SimDevice, demands: &[Demand]) -> Result<Lodging, SimulateError> {
    let ledger = Ledger::new(device.context().memory);
    let plan = MemoryOrchestrator::with_align(ALIGN)?.plan(demands, ledger.capacity(), &LowestOffsetFirst)?;
    let region = device.reserve(MemorySpace::Device, plan.peak())?;
    let scratch = plan.lanes().iter().map(|lane| (lane.lane, lane.extent)).collect();
    Ok((region, grants(plan, &ledger, LINES)?, scratch))
}

impl LoadedLanes {
    fn load(
        scenario: &Scenario,
        certificate: &Certificate,
        device: &Arc<SimDevice>,
    ) -> Result<Self, SimulateError> {
        let scripts = scripts(scenario, certificate)?;
        let demands = scripts.iter().map(Script::demand).collect::<Result<Vec<_>, _>>()?;
        let (region, grants, extents) = lodge(device, &demands)?;
        let mut lanes = plant::lanes(&scenario.set)
            .map(|(partition, lane)| Lane::bind(device.as_ref(), partition, lane))
            .collect::<Result<Vec<_>, _>>()?;
        let mut scratch = vec![None; lanes.len()];
        extents.iter().for_each(|(lane, extent)| scratch[lane.index()] = Some(*extent));
        let seed = scenario.seed;
        let mut models = Vec::with_capacity(scripts.len());
        for (script, grant) in scripts.iter().zip(grants) {
            models.push(script.load(seed, &mut lanes[script.lane.index()], grant, &region)?);
        }
        let twins = scripts.iter().map(|script| script.twin(seed)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { models, twins, lanes, region, scratch, compared: 0, found: Vec::new() })
    }

    fn found(&mut self, what: String) {
        if self.found.len() < KEPT {
            self.found.push(what);
        }
    }

    /// Runs the job on the twin and compares all outputs.
    fn compare(&mut self, command: &Dispatch) -> Result<bool, SimulateError> {
        let expected = self.twins[command.job.task.index()].run(command.job.number)?;
        let outputs = self.models[command.job.task.index()].outputs(Slot(command.slot))?;
        Ok(expected == outputs)
    }

    /// Scratch belongs to nobody between two segments, so whoever relies on it is found out.
    fn poison(&self, lane: LaneId) -> Result<(), SimulateError> {
        if let Some(extent) = self.scratch[lane.index()].filter(|extent| !extent.len.is_zero()) {
            let bytes = vec![POISON; usize::try_from(extent.len.get()).unwrap_or(0)];
            DeviceSlice::lend(&self.region, extent)?.write(&bytes);
        }
        Ok(())
    }
}

impl Model {
    fn fill(&self, slot: Slot, number: u64) -> Result<(), SimulateError> {
        let inputs = self.feed.sample(number).iter().enumerate();
        for (index, bytes) in inputs {
            self.context.write_input(slot, index, bytes)?;
        }
        Ok(())
    }

    fn outputs(&self, slot: Slot) -> Result<Vec<Vec<u8>>, SimulateError> {
        let mut outputs = Vec::new();
        while let Some(slice) = self.context.output(slot, outputs.len()) {
            let mut bytes = vec![0; usize::try_from(slice.len().get()).unwrap_or(0)];
            self.context.read_output(slot, outputs.len(), &mut bytes)?;
            outputs.push(bytes);
        }
        Ok(outputs)
    }
}

impl Twin {
    fn run(&mut self, number: u64) -> Result<Vec<Vec<u8>>, SimulateError> {
        self.model.fill(Slot(0), number)?;
        for segment in (0u16..).take(self.model.context.segments()).map(SegmentIndex::new) {
            self.dispatch = self.dispatch.next();
            let report = self.lane.launch(&mut self.model.context, Slot(0), segment, self.dispatch);
            debug_assert_eq!(report.outcome, SegmentOutcome::Done, "a twin has no faults");
            self.lane.drain()?;
        }
        self.model.outputs(Slot(0))
    }
}

impl SimWork for LoadedLanes {
    fn flags(&self) -> Vec<Arc<dyn CompletionFlag>> {
        self.lanes.iter().map(Lane::flag).collect()
    }

    fn launch(&mut self, command: &Dispatch, _span: Nanos) -> SegmentOutcome {
        let (model, slot) = (&mut self.models[command.job.task.index()], Slot(command.slot));
        let filled = if command.segment.get() == 0 { model.fill(slot, command.job.number) } else { Ok(()) };
        let lane = &mut self.lanes[command.lane.index()];
        let report = lane.launch(&mut model.context, slot, command.segment, command.dispatch);
        if let Err(error) = filled {
            self.found(error.to_string());
        }
        if let Some(error) = report.error {
            self.found(format!("{}: {error}", command.job));
        }
        report.outcome
    }

    fn landed(&mut self, command: &Dispatch, outcome: SegmentOutcome) {
        self.lanes[command.lane.index()].poll();
        let last = command.segment.index() + 1 == self.models[command.job.task.index()].context.segments();
        if last && outcome == SegmentOutcome::Done {
            self.compared += 1;
            match self.compare(command) {
                Ok(true) => {}
                Ok(false) => {
                    self.found(format!("checker 3: {}: outputs differ from private memory", command.job))
                }
                Err(error) => self.found(format!("{}: {error}", command.job)),
            }
        }
        if let Err(error) = self.poison(command.lane) {
            self.found(error.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use aegis_sched::{AdmissionController, AdmissionRequest};

    use super::*;

    /// Two tasks that read each other's inputs are as good as two whose memory overlaps.
    #[test]
    fn outputs_of_other_inputs_are_found_out() {
        let scenario = Scenario::generate(2).expect("a model");
        let admission = AdmissionController::new(scenario.policy.make());
        let report = admission.analyze(&AdmissionRequest::new(&scenario.set).tight());
        let certificate = report.certificate().expect("seed 2 is admitted");
        let device = plant::device(&scenario.set, &scenario.slowdown).expect("it fits");
        let mut lanes = LoadedLanes::load(&scenario, certificate, &device).expect("models load");
        let specs = lanes.models[1].context.description().inputs.clone();
        lanes.models[1].feed = Feed::seeded(99, &specs[..1]);
        let plan = FaultPlan::none();
        let horizon = Nanos::from_millis(100);
        let episode =
            Episode { scenario: &scenario, certificate, judged: certificate, plan: &plan, horizon, seed: 2 };
        let ask = |lanes: &mut LoadedLanes| std::mem::take(&mut lanes.found);
        let run = episode.run_work(scenario.policy.make(), device, lanes, &mut Discard, ask);
        let (_, found) = run.expect("a world");
        assert!(found.iter().all(|what| what.contains("task1#")) && !found.is_empty(), "{found:?}");
    }
}
