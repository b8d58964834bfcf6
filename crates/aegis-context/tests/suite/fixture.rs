//! A device with one region, and what it takes to put models on its lanes.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use aegis_context::{ContextError, ExecutionContext, IoPlan, Lane, LaunchReport, Slot};
use aegis_cuda::conformance::CountingGrant;
use aegis_cuda::script::Durations;
use aegis_cuda::{
    BackendLoader, Device, DeviceMemory, MemorySpace, ModelMemory, ModelRequest, ScriptedLoader, SimClock,
    SimDevice, SimOptions,
};
use aegis_types::{Bytes, DispatchSeq, Extent, LaneId, Nanos, PartitionId, ResourceBudget, SegmentIndex};

/// Bytes of each of the two parts of the region, one for each of two models.
pub const PART: u64 = 1 << 16;
/// A stateful model of two segments: `h2` feeds `h`.
pub const STATEFUL: &str = "script 1\ninput x f32 1x4\ninput h f32 2\noutput y f32 1x4\noutput h2 f32 2\n\
    weights 4KiB\nscratch 1KiB\nsegment 10us\nsegment 5us..20us\nend\n";

pub struct Bench {
    pub region: Arc<dyn DeviceMemory>,
    pub grants: [CountingGrant; 2],
    seq: Cell<u64>,
}

impl Bench {
    pub fn on(device: &dyn Device) -> Self {
        let region = device.reserve(MemorySpace::Device, Bytes::new(2 * PART)).expect("fits");
        let part = |number: u64| Extent { offset: Bytes::new(number * PART), len: Bytes::new(PART) };
        let grants = [CountingGrant::new(part(0)), CountingGrant::new(part(1))];
        Self { region, grants, seq: Cell::new(0) }
    }

    pub fn memory(&self, part: usize) -> ModelMemory {
        ModelMemory { grant: Box::new(self.grants[part].clone()), region: Arc::clone(&self.region) }
    }

    /// Puts a model on a lane, with all of its part of the region as budget.
    pub fn create(
        &self,
        part: usize,
        script: &str,
        loader: &dyn BackendLoader,
        lane: &mut Lane,
        plan: &IoPlan,
    ) -> Result<ExecutionContext, ContextError> {
        with_request(script, |request| {
            ExecutionContext::create(request, &budget(PART), loader, lane, self.memory(part), plan, None)
        })
    }

    /// Launches with the next dispatch number and lets the device finish it.
    pub fn launch(
        &self,
        lane: &mut Lane,
        context: &mut ExecutionContext,
        slot: u32,
        segment: u16,
    ) -> LaunchReport {
        self.seq.set(self.seq.get() + 1);
        let dispatch = DispatchSeq::new(self.seq.get());
        let report = lane.launch(context, Slot(slot), SegmentIndex::new(segment), dispatch);
        if report.signalled {
            lane.drain().expect("the device lives");
        }
        report
    }
}

pub fn with_request<T>(script: &str, f: impl FnOnce(&ModelRequest<'_>) -> T) -> T {
    let shapes = BTreeMap::new();
    f(&ModelRequest { name: "m", artifact: script.as_bytes(), shapes: &shapes, allow_control_flow: false })
}

pub fn sim() -> SimDevice {
    let options = SimOptions { memory: Bytes::new(4 * PART), ..SimOptions::default() };
    SimDevice::new(options, SimClock::new()).expect("legal options")
}

pub fn lane(device: &dyn Device, number: u16) -> Lane {
    Lane::bind(device, PartitionId::new(0), LaneId::new(number)).expect("a free lane")
}

pub fn budget(memory: u64) -> ResourceBudget {
    ResourceBudget { memory: Bytes::new(memory), streams: 1, compute: Nanos::from_millis(1) }
}

pub fn scripted() -> ScriptedLoader {
    ScriptedLoader::new(Durations::Seeded(11))
}

pub fn stateful_plan(slots: u32) -> IoPlan {
    IoPlan { input_slots: slots, output_slots: slots.min(2), state: vec![("h2".into(), "h".into())] }
}

/// The bytes of an output.
pub fn output(context: &ExecutionContext, slot: u32, index: usize) -> Vec<u8> {
    let bytes = context.description().outputs[index].bytes.get();
    let mut seen = vec![0; usize::try_from(bytes).expect("small")];
    context.read_output(Slot(slot), index, &mut seen).expect("it fits");
    seen
}
