//! A model on a lane with the memory of a grant, and one job of it after the other.

use std::sync::Arc;

use aegis_context::{ExecutionContext, Lane, Slot, Staging};
use aegis_cuda::{DeviceMemory, ModelMemory};
use aegis_memory::{TaskGrant, TaskUsage};
use aegis_types::{Bytes, DispatchSeq, Extent, MemoryClass, ResourceBudget, SegmentIndex};
use aegisrt::RuntimeError;
use aegisrt::feed::Feed;
use aegisrt::inventory::Model;

use super::alone::Needs;
use super::error::SharingError;
use super::ground::Ground;

/// A loaded model. Belongs to the thread of its lane.
pub(super) struct Runner<'a> {
    model: &'a Model,
    feed: &'a Feed,
    context: ExecutionContext,
    usage: Arc<TaskUsage>,
    /// Positions of the inputs that are not state.
    fed: Vec<usize>,
    outputs: Vec<Vec<u8>>,
    /// Jobs that ran.
    jobs: u64,
}

impl<'a> Runner<'a> {
    pub(super) fn load(
        ground: &Ground,
        lane: &mut Lane,
        (model, feed): (&'a Model, &'a Feed),
        grant: TaskGrant,
        region: &Arc<dyn DeviceMemory>,
    ) -> Result<Self, SharingError> {
        let usage = grant.usage();
        // What a task may take is what its grant has; a second limit would hide which one was reached.
        let budget = ResourceBudget { memory: Bytes::MAX, streams: 1, compute: aegis_types::Nanos::MAX };
        let memory = ModelMemory { grant: Box::new(grant), region: Arc::clone(region) };
        let (request, plan) = (model.request(), model.io_plan(1));
        let staged = plan.staging_bytes(&model.description).map_err(RuntimeError::from)?;
        let len = staged.unwrap_or(Bytes::MAX);
        let staging =
            ground.stage(len)?.map(|region| Staging { region, extent: Extent { offset: Bytes::ZERO, len } });
        let loader = model.loader.as_ref();
        let context =
            ExecutionContext::create(&request, &budget, loader, lane, memory, &plan, staging.as_ref())
                .map_err(RuntimeError::from)?;
        let is_state = |name: &str| model.config.state.iter().any(|pair| pair.input == name);
        let inputs = model.description.inputs.iter().enumerate();
        let fed = inputs.filter(|(_, input)| !is_state(&input.name)).map(|(index, _)| index).collect();
        let room = |spec: &aegis_cuda::TensorSpec| vec![0; usize::try_from(spec.bytes.get()).unwrap_or(0)];
        let outputs = model.description.outputs.iter().map(room).collect();
        Ok(Self { model, feed, context, usage, fed, outputs, jobs: 0 })
    }

    /// Runs the next job and returns its outputs. `before` is called before every segment, with nothing in flight.
    pub(super) fn run(
        &mut self,
        lane: &mut Lane,
        dispatch: &mut DispatchSeq,
        before: &mut dyn FnMut() -> Result<(), SharingError>,
    ) -> Result<&[Vec<u8>], SharingError> {
        self.start(lane, dispatch, before)?;
        self.finish(lane)
    }

    /// Launches the next job. On a GPU its last segment may still run then.
    pub(super) fn start(
        &mut self,
        lane: &mut Lane,
        dispatch: &mut DispatchSeq,
        before: &mut dyn FnMut() -> Result<(), SharingError>,
    ) -> Result<(), SharingError> {
        let slot = Slot(0);
        for (&index, bytes) in self.fed.iter().zip(self.feed.sample(self.jobs)) {
            self.context.write_input(slot, index, bytes).map_err(RuntimeError::from)?;
        }
        for segment in 0..self.context.segments() {
            lane.drain()?;
            before()?;
            *dispatch = DispatchSeq::new(dispatch.get() + 1);
            // A model has far fewer segments than u16 numbers.
            let report = lane.launch(&mut self.context, slot, SegmentIndex::new(segment as u16), *dispatch);
            if let Some(error) = report.error {
                let task = self.model.config.name.clone();
                return Err(SharingError::Job { task, reason: error.to_string() });
            }
        }
        Ok(())
    }

    /// Waits for the job that was launched, and returns its outputs.
    pub(super) fn finish(&mut self, lane: &mut Lane) -> Result<&[Vec<u8>], SharingError> {
        lane.drain()?;
        for (index, bytes) in self.outputs.iter_mut().enumerate() {
            self.context.read_output(Slot(0), index, bytes).map_err(RuntimeError::from)?;
        }
        self.jobs += 1;
        Ok(&self.outputs)
    }

    /// Jobs that ran.
    pub(super) const fn jobs(&self) -> u64 {
        self.jobs
    }

    /// The most that it held of each kind of memory.
    pub(super) fn needs(&self) -> Needs {
        let usage = self.usage.snapshot();
        Needs {
            persistent: usage.high_water(MemoryClass::Persistent),
            exchange: usage.high_water(MemoryClass::Exchange),
            scratch: usage.high_water(MemoryClass::Scratch),
        }
    }
}
