//! What a piece of a model takes, measured as it will run: loaded by the backend on a lane of the host, on memory of a
//! plan.

use std::collections::BTreeMap;
use std::sync::Arc;

use aegis_backend_onnx::{OnnxLoader, OnnxRuntime};
use aegis_context::{ExecutionContext, IoPlan, Lane, LaneState, Slot};
use aegis_cuda::{
    Device, DeviceMemory, HostClock, HostDevice, HostOptions, MemorySpace, ModelMemory, ModelRequest,
    TensorSpec,
};
use aegis_memory::{Demand, Ledger, LowestOffsetFirst, MemoryOrchestrator, MemoryPlan, PlanReservation};
use aegis_types::record::Discard;
use aegis_types::{Bytes, DispatchSeq, LaneId, Nanos, PartitionId, ResourceBudget, SegmentIndex, TaskId};

use super::super::answer::CliError;
use crate::error::RuntimeError;
use crate::feed::Feed;

/// Lines of the tables of a piece's arenas: more than any model holds blocks.
const LINES: usize = 8_192;

/// Runs before the first that counts.
const WARM_UP: u32 = 3;

/// Seeds the inputs.
const SEED: u64 = 1;

/// How often a piece is run and what of that counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measurement {
    /// How often; at least once.
    pub runs: u32,
    /// The percentile that counts, 1 to 100.
    pub percentile: u32,
    /// What is added to it.
    pub overhead: Nanos,
}

impl Measurement {
    /// The percentile by nearest rank, with the overhead.
    fn of(self, mut spans: Vec<Nanos>) -> Nanos {
        spans.sort_unstable();
        let rank = (spans.len() as u64 * u64::from(self.percentile)).div_ceil(100).max(1);
        let at = usize::try_from(rank - 1).unwrap_or(usize::MAX).min(spans.len().saturating_sub(1));
        spans.get(at).copied().unwrap_or(Nanos::MAX).saturating_add(self.overhead)
    }
}

/// What the segments of a model take in their places.
pub(super) struct InPlace {
    /// Of each segment.
    pub costs: Vec<Nanos>,
    /// Outputs of the model.
    pub outputs: Vec<TensorSpec>,
}

/// A lane of the host and memory for one model at a time.
pub(super) struct Gauge {
    name: String,
    wish: Measurement,
    loader: OnnxLoader,
    clock: HostClock,
    plan: MemoryPlan,
    budget: ResourceBudget,
    sequence: DispatchSeq,
    region: Arc<dyn DeviceMemory>,
    lane: Lane,
    _device: HostDevice,
}

impl Gauge {
    /// A lane with `memory`, a third of it for each way in which a model takes some.
    pub(super) fn new(
        runtime: &OnnxRuntime,
        name: &str,
        wish: Measurement,
        memory: Bytes,
    ) -> Result<Self, CliError> {
        let device = HostDevice::new(HostOptions { memory })?;
        let third =
            Bytes::new(memory.get() / 3 / aegis_context::ALIGNMENT.get() * aegis_context::ALIGNMENT.get());
        let (task, lane) = (TaskId::new(0), LaneId::new(0));
        let demand = Demand { task, lane, persistent: third, exchange: third, scratch: vec![third] };
        let orchestrator = MemoryOrchestrator::with_align(aegis_context::ALIGNMENT)?;
        let plan = orchestrator.plan(&[demand], memory, &LowestOffsetFirst)?;
        let region = device.reserve(MemorySpace::Device, plan.peak())?;
        let lane = Lane::bind(&device, PartitionId::new(0), lane)?;
        Ok(Self {
            name: name.to_owned(),
            wish,
            loader: OnnxLoader::new(runtime.clone()),
            clock: HostClock::start(),
            plan,
            budget: ResourceBudget { memory, streams: 1, compute: Nanos::MAX },
            sequence: DispatchSeq::NONE,
            region,
            lane,
            _device: device,
        })
    }

    /// What a piece takes by itself.
    ///
    /// # Errors
    /// What backend or memory refuse.
    pub(super) fn piece(&mut self, artifact: &[u8]) -> Result<Nanos, CliError> {
        let costs = self.segments(artifact, &BTreeMap::new())?.costs;
        Ok(costs.into_iter().fold(Nanos::ZERO, Nanos::saturating_add))
    }

    /// What each segment of a model takes, run behind those before it.
    ///
    /// # Errors
    /// As [`Gauge::piece`].
    pub(super) fn segments(
        &mut self,
        artifact: &[u8],
        shapes: &BTreeMap<String, Vec<u64>>,
    ) -> Result<InPlace, CliError> {
        let mut context = self.load(artifact, shapes)?;
        let description = context.description();
        let outputs = description.outputs.clone();
        feed(&context, &inputs(&description.inputs))?;
        let mut spans: Vec<Vec<Nanos>> =
            vec![Vec::with_capacity(self.wish.runs as usize); context.segments()];
        for run in 0..WARM_UP + self.wish.runs {
            for (segment, spans) in spans.iter_mut().enumerate() {
                let span = self.launch(&mut context, segment)?;
                if run >= WARM_UP {
                    spans.push(span);
                }
            }
        }
        Ok(InPlace { costs: spans.into_iter().map(|spans| self.wish.of(spans)).collect(), outputs })
    }

    /// The outputs of one job.
    ///
    /// # Errors
    /// As [`Gauge::piece`].
    pub(super) fn run(
        &mut self,
        artifact: &[u8],
        shapes: &BTreeMap<String, Vec<u64>>,
        inputs: &[Vec<u8>],
    ) -> Result<Vec<Vec<u8>>, CliError> {
        let mut context = self.load(artifact, shapes)?;
        feed(&context, inputs)?;
        for segment in 0..context.segments() {
            self.launch(&mut context, segment)?;
        }
        let outputs = context.description().outputs.iter().enumerate();
        let read = |(at, spec): (usize, &TensorSpec)| {
            let mut bytes = vec![0; usize::try_from(spec.bytes.get()).unwrap_or(0)];
            context.read_output(Slot(0), at, &mut bytes).map_err(RuntimeError::from)?;
            Ok(bytes)
        };
        outputs.map(read).collect()
    }

    fn load(
        &mut self,
        artifact: &[u8],
        shapes: &BTreeMap<String, Vec<u64>>,
    ) -> Result<ExecutionContext, CliError> {
        let request = ModelRequest { name: &self.name, artifact, shapes, allow_control_flow: false };
        let ledger = Ledger::new(self.plan.peak());
        let reservation =
            PlanReservation::reserve(self.plan.clone(), &ledger, &mut Discard, self.clock.now())?;
        let grant = reservation.into_grants(LINES).into_iter().flat_map(|lane| lane.tasks).next();
        let grant = grant.ok_or_else(|| failed("the plan has no grant for its one task".to_owned()))?;
        let memory = ModelMemory { grant: Box::new(grant), region: Arc::clone(&self.region) };
        let (budget, plan) = (&self.budget, IoPlan::single());
        let made =
            ExecutionContext::create(&request, budget, &self.loader, &mut self.lane, memory, &plan, None);
        Ok(made.map_err(RuntimeError::from)?)
    }

    /// Runs a segment and waits for its end.
    fn launch(&mut self, context: &mut ExecutionContext, segment: usize) -> Result<Nanos, CliError> {
        self.sequence = self.sequence.next();
        let segment = SegmentIndex::new(u16::try_from(segment).unwrap_or(u16::MAX));
        let begun = self.clock.now();
        let report = self.lane.launch(context, Slot(0), segment, self.sequence);
        while let LaneState::Launched(_) = self.lane.poll() {
            std::hint::spin_loop();
        }
        let span = self.clock.now().since(begun);
        match report.error {
            None => Ok(span),
            Some(error) => Err(failed(error.to_string())),
        }
    }
}

/// Inputs that are the same in every run of the program.
pub(super) fn inputs(specs: &[TensorSpec]) -> Vec<Vec<u8>> {
    Feed::seeded(SEED, specs).sample(0).to_vec()
}

fn feed(context: &ExecutionContext, inputs: &[Vec<u8>]) -> Result<(), CliError> {
    for (at, bytes) in inputs.iter().enumerate() {
        context.write_input(Slot(0), at, bytes).map_err(RuntimeError::from)?;
    }
    Ok(())
}

fn failed(reason: String) -> CliError {
    RuntimeError::System { what: "measuring a piece of the model", reason }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentile_is_of_the_nearest_rank() {
        let spans: Vec<Nanos> = (1..=50).rev().map(Nanos::new).collect();
        let of = |percentile| {
            let wish = Measurement { runs: 50, percentile, overhead: Nanos::new(1_000) };
            wish.of(spans.clone()).get()
        };
        assert_eq!([of(1), of(50), of(98), of(99), of(100)], [1_001, 1_025, 1_049, 1_050, 1_050]);
    }
}
