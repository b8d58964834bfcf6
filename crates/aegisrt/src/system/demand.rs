//! What memory each task demands of a plan: measured where a profile knows it, declared where the backend does, and
//! otherwise all that the budget leaves.

use std::sync::Arc;

use aegis_context::{ALIGNMENT, Staging};
use aegis_cuda::{MemorySpace, ModelDescription, TensorSpec};
use aegis_memory::Demand;
use aegis_types::{Bytes, Extent, Node, NodeId};

use super::System;
use crate::config::{MemoryProfile, Profile};
use crate::error::RuntimeError;
use crate::inventory::Model;

/// Input slots of a task while it is profiled: one is filled while the other is read.
pub(crate) const SLOTS_PROFILED: u32 = 2;

/// What a task takes besides what its backend keeps or uses while a segment runs.
#[derive(Clone, Copy, Debug)]
struct Handed {
    /// Inputs, outputs and recurrent state.
    io: Bytes,
    /// Tensors that one segment writes and a later one reads.
    crossing: Bytes,
    /// Host memory that inputs and outputs pass through.
    staging: Bytes,
}

impl Handed {
    /// Its sum with more; `None` on overflow.
    fn with(&self, more: [Bytes; 2]) -> Option<Bytes> {
        let parts = [self.io, self.crossing, self.staging].into_iter().chain(more);
        parts.into_iter().try_fold(Bytes::ZERO, Bytes::checked_add)
    }

    /// Its device memory, which a sum that did not overflow holds.
    fn exchange(&self) -> Bytes {
        self.io.checked_add(self.crossing).unwrap_or(Bytes::MAX)
    }

    /// The parts in words, for what a budget must hold.
    fn words(&self) -> String {
        let part = |bytes: Bytes, of: &str| {
            if bytes.is_zero() { String::new() } else { format!(", {bytes} {of}") }
        };
        let Self { io, crossing, staging } = self;
        format!("{io} of I/O{}{}", part(*crossing, "between segments"), part(*staging, "of staging"))
    }
}

impl System {
    /// What each task needs: what the profile measured, or, without one, all that its budget allows.
    ///
    /// # Errors
    /// [`RuntimeError::Config`] naming the task whose budget is smaller than what it is known to need.
    pub fn demands(&self, profile: Option<&Profile>, slots: &[u32]) -> Result<Vec<Demand>, RuntimeError> {
        self.models.iter().map(|model| self.demand(model, profile, slots)).collect()
    }

    fn demand(
        &self,
        model: &Model,
        profile: Option<&Profile>,
        slots: &[u32],
    ) -> Result<Demand, RuntimeError> {
        let (task, budget) = (model.task, model.config.budget.memory);
        let too_small = |needed: String| {
            let problem = format!("the task is granted {budget}");
            let legal = format!("at least {needed}");
            RuntimeError::from(self.fleet.complain(task, "budget.memory", problem, legal))
        };
        let slots = slots_of(model, slots);
        let known = profile.and_then(|profile| profile.task(&model.config.name)).map(|known| &known.memory);
        let handed = self
            .handed(model, known, slots)?
            .ok_or_else(|| too_small("more than can be addressed".to_owned()))?;
        let (persistent, scratch) = match known {
            Some(known) => (known.persistent, known.scratch),
            None => (model.description.memory.weights, declared_scratch(&model.description)),
        };
        let needed = handed.with([persistent, scratch]);
        let Some(rest) = needed.and_then(|needed| budget.checked_sub(needed)) else {
            let kept = if known.is_some() { "persistent" } else { "of weights" };
            return Err(too_small(format!(
                "{persistent} {kept}, {} and {scratch} of scratch",
                handed.words()
            )));
        };
        let lane = self.lanes[task.index()];
        let demand = Demand { task, lane, persistent, exchange: handed.exchange(), scratch: vec![scratch] };
        Ok(if known.is_some() { demand } else { unknown(&model.description, demand, rest) })
    }

    /// What the task hands over; `None` on overflow.
    fn handed(
        &self,
        model: &Model,
        known: Option<&MemoryProfile>,
        slots: u32,
    ) -> Result<Option<Handed>, RuntimeError> {
        let io = |slots: u32| model.io_plan(slots).bytes(&model.description);
        // The profile counts what it saw of I/O and of tensors between segments together.
        let seen = known.map_or(Bytes::ZERO, |known| known.exchange);
        let crossing = seen.saturating_sub(io(SLOTS_PROFILED)?.unwrap_or(Bytes::MAX));
        let crossing = declared_crossing(&model.description).map(|declared| declared.max(crossing));
        let (io, staging) = (io(slots)?, self.staging_of(model, slots)?);
        Ok(io.zip(crossing).zip(staging).map(|((io, crossing), staging)| Handed { io, crossing, staging }))
    }

    /// The blocks that each task takes of its exchange memory with so many input slots: its inputs, outputs and state,
    /// and what its segments hand over, as far as its backend declares that.
    pub(crate) fn exchange_blocks(&self, slots: &[u32]) -> Vec<Vec<Bytes>> {
        let of = |model: &Model| {
            let slots = slots_of(model, slots);
            let input = |spec: &TensorSpec| {
                let count = if model.is_state(spec) { 1 } else { slots as usize };
                std::iter::repeat_n(spec.bytes, count)
            };
            let description = &model.description;
            let io = description.inputs.iter().flat_map(input);
            let io = io.chain(description.outputs.iter().map(|spec| spec.bytes));
            io.chain(crossing(description)).collect()
        };
        self.models.iter().map(of).collect()
    }

    /// Staging memory of each task with so many input slots: host memory that its inputs and outputs pass through on
    /// their way to and from the device. Nothing where the device's memory is the host's.
    ///
    /// # Errors
    /// As [`System::demands`].
    pub fn staging(&self, slots: &[u32]) -> Result<Vec<Bytes>, RuntimeError> {
        let of = |model: &Model| {
            let slots = slots_of(model, slots);
            // What overflows is refused by the budget, with the task's name.
            Ok(self.staging_of(model, slots)?.unwrap_or(Bytes::MAX))
        };
        self.models.iter().map(of).collect()
    }

    /// One reservation for the [`staging`](Self::staging) of all tasks, carved task after task; `None` where a task needs
    /// none because no task does.
    ///
    /// # Errors
    /// As [`staging`](Self::staging), and what the device refuses.
    pub(crate) fn reserve_staging(&self, slots: &[u32]) -> Result<Vec<Option<Staging>>, RuntimeError> {
        let demands = self.staging(slots)?;
        let total = demands.iter().try_fold(Bytes::ZERO, |sum, demand| sum.checked_add(*demand));
        let total = total.ok_or_else(|| RuntimeError::System {
            what: "reserving staging memory",
            reason: "all tasks together take more than can be addressed".into(),
        })?;
        if total.is_zero() {
            return Ok(vec![None; demands.len()]);
        }
        let region = self.device().reserve(MemorySpace::Staging, total)?;
        let mut offset = Bytes::ZERO;
        let carve = |len: Bytes| {
            let extent = Extent { offset, len };
            // The sum of all was found to be in range.
            offset = offset.checked_add(len).unwrap_or(offset);
            Some(Staging { region: Arc::clone(&region), extent })
        };
        Ok(demands.into_iter().map(carve).collect())
    }

    /// Host memory that inputs and outputs of a task pass through on their way to and from the device: none where the
    /// device's memory is the host's, `None` on overflow.
    fn staging_of(&self, model: &Model, slots: u32) -> Result<Option<Bytes>, RuntimeError> {
        if self.device.context().capabilities.unified_memory {
            return Ok(Some(Bytes::ZERO));
        }
        Ok(model.io_plan(slots).staging_bytes(&model.description)?)
    }
}

/// The input slots of a model among those of all tasks: at least one.
fn slots_of(model: &Model, slots: &[u32]) -> u32 {
    slots.get(model.task.index()).copied().unwrap_or(1).max(1)
}

/// The largest scratch that the backend declares of any segment; nothing where only a profile can tell.
fn declared_scratch(description: &ModelDescription) -> Bytes {
    description.memory.scratch.iter().flatten().copied().max().unwrap_or(Bytes::ZERO)
}

/// What the model's graph hands from segment to segment, each piece in whole steps of the alignment; `None` on overflow.
fn declared_crossing(description: &ModelDescription) -> Option<Bytes> {
    crossing(description)
        .map(|bytes| bytes.checked_align_up(ALIGNMENT))
        .try_fold(Bytes::ZERO, |sum, bytes| sum.checked_add(bytes?))
}

/// The pieces that the model's graph hands from segment to segment.
fn crossing(description: &ModelDescription) -> impl Iterator<Item = Bytes> + '_ {
    let graph = &description.graph;
    let is_segment = |id: NodeId| matches!(graph.nodes().get(id.0 as usize), Some(Node::Segment { .. }));
    let between = graph.edges().iter().filter(move |edge| is_segment(edge.from) && is_segment(edge.to));
    between.map(|edge| edge.bytes)
}

/// A demand of which only the least is known, with what the budget leaves beyond it wherever the backend may take it:
/// what one part takes is missing in the others, but which part that is nobody knows.
fn unknown(description: &ModelDescription, least: Demand, rest: Bytes) -> Demand {
    let more = |bytes: Bytes| bytes.checked_add(rest).unwrap_or(Bytes::MAX);
    let persistent = more(least.persistent);
    if description.memory.scratch.is_some() {
        // The backend declares what lives in a segment and what its graph hands over.
        return Demand { persistent, ..least };
    }
    let exchange = if description.graph.segments() > 1 { more(least.exchange) } else { least.exchange };
    Demand { persistent, exchange, scratch: vec![persistent], ..least }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use aegis_cuda::kernel::KernelLoader;
    use aegis_cuda::{BackendLoader, ModelRequest};
    use aegis_types::{LaneId, TaskId};

    use super::*;

    fn model(segments: usize) -> ModelDescription {
        let text = format!(
            "kernel 1\ninput x f32 64\noutput y f32 64\nscratch 64KiB\n{}end\n",
            "segment\nstorm 1\n".repeat(segments)
        );
        let shapes = BTreeMap::new();
        let request = ModelRequest {
            name: "model",
            artifact: text.as_bytes(),
            shapes: &shapes,
            allow_control_flow: false,
        };
        KernelLoader::new().inspect(&request).expect("a model")
    }

    /// Persistent, exchange and scratch of a demand for 1,000, 200 and 50 bytes with 4,000 bytes to spare.
    fn given(description: &ModelDescription) -> [u64; 3] {
        let least = Demand {
            task: TaskId::new(0),
            lane: LaneId::new(0),
            persistent: Bytes::new(1_000),
            exchange: Bytes::new(200),
            scratch: vec![Bytes::new(50)],
        };
        let Demand { persistent, exchange, scratch, .. } = unknown(description, least, Bytes::new(4_000));
        [persistent.get(), exchange.get(), scratch[0].get()]
    }

    #[test]
    fn what_is_not_declared_may_take_what_the_budget_leaves() {
        let mut model = model(3);
        assert_eq!(declared_crossing(&model), Some(Bytes::new(2 * 4096)), "the state crosses both cuts");
        assert_eq!(declared_scratch(&model), Bytes::new(64 << 10));
        assert_eq!(given(&model), [5_000, 200, 50]);
        model.memory.scratch = None;
        assert_eq!(declared_scratch(&model), Bytes::ZERO);
        assert_eq!(given(&model), [5_000, 4_200, 5_000]);
    }

    #[test]
    fn one_segment_hands_nothing_to_another() {
        let mut model = model(1);
        assert_eq!(declared_crossing(&model), Some(Bytes::ZERO));
        model.memory.scratch = None;
        assert_eq!(given(&model), [5_000, 200, 5_000]);
    }
}
