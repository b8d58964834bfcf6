//! The memory of a model's inputs, outputs and recurrent state.
//!
//! Inputs have as many slots as jobs may be pending, so that a client fills one while another is read. An input that is
//! recurrent state has one slice: jobs of a task run one after the other, and the output of one is copied into it
//! for the next.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use aegis_cuda::{Bindings, DeviceMemory, DeviceSlice, ModelDescription, SharedGrant, TensorSpec};
use aegis_types::{Bytes, Extent, MemoryClass, MemoryGrant};

use crate::error::ContextError;
use crate::staging::StagedIo;

/// Slots start at multiples of this: a cache line of the host and a transaction of a GPU divide it.
pub const ALIGNMENT: Bytes = Bytes::new(256);
/// More slots are refused: each is memory that a model must have before it serves its first job.
const SLOTS_MAX: u32 = 4096;

/// The position of a job's set of I/O buffers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slot{}", self.0)
    }
}

/// How a model's I/O is laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoPlan {
    /// Slots of each input: the most jobs that may be pending, at least one.
    pub input_slots: u32,
    /// Slots of each output, at most as many; slot `s` of the inputs writes slot `s % output_slots`.
    pub output_slots: u32,
    /// Recurrent state: the output named first feeds the input named second of the next job.
    pub state: Vec<(String, String)>,
}

impl IoPlan {
    /// One slot for everything and no state.
    pub const fn single() -> Self {
        Self { input_slots: 1, output_slots: 1, state: Vec::new() }
    }

    /// Bytes of exchange memory that the plan takes for a model; `None` on overflow.
    ///
    /// # Errors
    /// [`ContextError::Slots`] or [`ContextError::State`] if the plan does not fit the model.
    pub fn bytes(&self, description: &ModelDescription) -> Result<Option<Bytes>, ContextError> {
        Ok(IoLayout::new(description, self)?.bytes(description))
    }

    /// Bytes of staging memory that the plan takes for a model where the device does not share the host's memory: twins
    /// of every output and of every input that is not state. `None` on overflow.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes).
    pub fn staging_bytes(&self, description: &ModelDescription) -> Result<Option<Bytes>, ContextError> {
        Ok(IoLayout::new(description, self)?.staging_bytes(description))
    }
}

/// Positions of the two ends of a state pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StatePair {
    output: usize,
    input: usize,
}

/// A validated plan for one model.
#[derive(Clone, Debug)]
pub(crate) struct IoLayout {
    input_slots: u32,
    output_slots: u32,
    state: Vec<StatePair>,
}

impl IoLayout {
    pub(crate) fn new(description: &ModelDescription, plan: &IoPlan) -> Result<Self, ContextError> {
        let slots = |what, asked, most| {
            let legal = (1..=most).contains(&asked);
            let model = description.name.clone();
            if legal { Ok(asked) } else { Err(ContextError::Slots { model, what, asked, most }) }
        };
        let input_slots = slots("input", plan.input_slots, SLOTS_MAX)?;
        let output_slots = slots("output", plan.output_slots, plan.input_slots)?;
        let mut state: Vec<StatePair> = Vec::new();
        for (output, input) in &plan.state {
            let pair = find_pair(description, output, input)?;
            if state.iter().any(|other| other.input == pair.input) {
                let reason = "the input is fed twice; legal: one output for each input";
                return Err(bad_state(description, output, input, reason.into()));
            }
            state.push(pair);
        }
        Ok(Self { input_slots, output_slots, state })
    }

    pub(crate) const fn input_slots(&self) -> u32 {
        self.input_slots
    }

    pub(crate) const fn output_slots(&self) -> u32 {
        self.output_slots
    }

    /// Bytes of all slices, each aligned; `None` on overflow.
    pub(crate) fn bytes(&self, description: &ModelDescription) -> Option<Bytes> {
        self.sum(description, 1)
    }

    /// Bytes of what the host reaches of them: state stays on the device.
    pub(crate) fn staging_bytes(&self, description: &ModelDescription) -> Option<Bytes> {
        self.sum(description, 0)
    }

    /// The sum over all slices, each input that is state as often as `state` says.
    fn sum(&self, description: &ModelDescription, state: u32) -> Option<Bytes> {
        let each = |spec: &TensorSpec, slots: u32| {
            spec.bytes.checked_align_up(ALIGNMENT)?.get().checked_mul(slots.into())
        };
        let mut sum = Bytes::ZERO;
        for (position, spec) in description.inputs.iter().enumerate() {
            let slots = if self.is_state(position) { state } else { self.input_slots };
            sum = sum.checked_add(Bytes::new(each(spec, slots)?))?;
        }
        for spec in &description.outputs {
            sum = sum.checked_add(Bytes::new(each(spec, self.output_slots)?))?;
        }
        Some(sum)
    }

    pub(crate) fn is_state(&self, input: usize) -> bool {
        self.state.iter().any(|pair| pair.input == input)
    }
}

fn find_pair(description: &ModelDescription, output: &str, input: &str) -> Result<StatePair, ContextError> {
    let bad = |reason| bad_state(description, output, input, reason);
    let find = |specs: &[TensorSpec], name: &str, what: &str| {
        specs.iter().position(|spec| spec.name == name).ok_or_else(|| {
            let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
            bad(format!("the model has no {what} `{name}`; it has: {}", names.join(", ")))
        })
    };
    let pair = StatePair {
        output: find(&description.outputs, output, "output")?,
        input: find(&description.inputs, input, "input")?,
    };
    let (from, to) = (&description.outputs[pair.output], &description.inputs[pair.input]);
    if (from.element, &from.shape) != (to.element, &to.shape) {
        let (a, b) = ((from.element, &from.shape), (to.element, &to.shape));
        return Err(bad(format!("{a:?} cannot feed {b:?}; legal: equal type and shape")));
    }
    Ok(pair)
}

fn bad_state(description: &ModelDescription, output: &str, input: &str, reason: String) -> ContextError {
    let model = description.name.clone();
    ContextError::State { model, output: output.into(), input: input.into(), reason }
}

/// The buffers of a model. Dropping them gives their memory back; whoever was bound to them goes first.
pub(crate) struct IoBuffers {
    sets: Vec<Bindings>,
    state: Vec<StatePair>,
    /// Zeros, as long as the longest state.
    zeros: Vec<u8>,
    taken: Vec<Extent>,
    grant: SharedGrant,
}

impl IoBuffers {
    /// Takes a slice for everything from the grant, but for what segments reach in `staged` itself.
    pub(crate) fn take(
        description: &ModelDescription,
        layout: &IoLayout,
        grant: SharedGrant,
        region: &Arc<dyn DeviceMemory>,
        staged: Option<&StagedIo>,
    ) -> Result<Self, ContextError> {
        // What was taken before a refusal is given back by `Drop`.
        let mut io = Self {
            sets: Vec::with_capacity(layout.input_slots as usize),
            state: layout.state.clone(),
            zeros: Vec::new(),
            taken: Vec::new(),
            grant,
        };
        for slot in 0..layout.input_slots {
            let fresh_outputs = slot < layout.output_slots;
            let reused = (slot % layout.output_slots) as usize;
            let mut inputs = Vec::with_capacity(description.inputs.len());
            for (position, spec) in description.inputs.iter().enumerate() {
                inputs.push(match io.sets.first() {
                    Some(first) if layout.is_state(position) => Rc::clone(&first.inputs[position]),
                    _ => match staged.and_then(|staged| staged.shared_input(slot, position)) {
                        Some(twin) => Rc::clone(twin),
                        None => io.slice(description, spec, region)?,
                    },
                });
            }
            let mut outputs = Vec::with_capacity(description.outputs.len());
            for (position, spec) in description.outputs.iter().enumerate() {
                outputs.push(match io.sets.get(reused) {
                    Some(earlier) if !fresh_outputs => Rc::clone(&earlier.outputs[position]),
                    _ => match staged.and_then(|staged| staged.shared_output(slot, position)) {
                        Some(twin) => Rc::clone(twin),
                        None => io.slice(description, spec, region)?,
                    },
                });
            }
            io.sets.push(Bindings { inputs, outputs });
        }
        let longest = layout.state.iter().map(|pair| description.inputs[pair.input].bytes.get()).max();
        io.zeros = vec![0; longest.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0)];
        io.reset_state();
        Ok(io)
    }

    fn slice(
        &mut self,
        description: &ModelDescription,
        spec: &TensorSpec,
        region: &Arc<dyn DeviceMemory>,
    ) -> Result<Rc<DeviceSlice>, ContextError> {
        let refused =
            |source| ContextError::Io { model: description.name.clone(), tensor: spec.name.clone(), source };
        let extent = self.grant.allocate(MemoryClass::Exchange, spec.bytes, ALIGNMENT).map_err(refused)?;
        self.taken.push(extent);
        Ok(Rc::new(DeviceSlice::lend(region, extent)?))
    }

    pub(crate) fn sets(&self) -> &[Bindings] {
        &self.sets
    }

    /// Output and input slices of the state that the job in `slot` hands on.
    pub(crate) fn carried(&self, slot: usize) -> impl Iterator<Item = (&DeviceSlice, &DeviceSlice)> {
        let pairs =
            self.sets.get(slot).into_iter().flat_map(|set| self.state.iter().map(move |pair| (set, pair)));
        pairs.map(|(set, pair)| (&*set.outputs[pair.output], &*set.inputs[pair.input]))
    }

    /// Zeroes the recurrent state.
    pub(crate) fn reset_state(&self) {
        for (_, input) in self.carried(0) {
            let len = usize::try_from(input.len().get()).unwrap_or(self.zeros.len());
            input.write(&self.zeros[..len.min(self.zeros.len())]);
        }
    }
}

impl Drop for IoBuffers {
    fn drop(&mut self) {
        // The region must have its extents back before the grant may lend them again.
        self.sets.clear();
        for extent in self.taken.drain(..) {
            self.grant.free(MemoryClass::Exchange, extent);
        }
    }
}
