//! The host's side of a model's I/O on a device whose memory the host does not share.
//!
//! Every input that the host feeds and every output has a twin in staging memory. The first segment of a job copies
//! the inputs to the device, the last one copies the outputs back, both in stream order. Where segments can work on
//! staging memory itself, the twins are what the model is bound to, and nothing is copied.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use aegis_cuda::{BackendError, Bindings, DeviceMemory, DeviceSlice, ModelDescription, Stream, TensorSpec};
use aegis_types::{Bytes, Extent};

use crate::error::ContextError;
use crate::io::{ALIGNMENT, IoLayout, Slot};

/// Staging memory for one model; [`IoPlan::staging_bytes`](crate::IoPlan::staging_bytes) says how much it needs.
#[derive(Clone)]
pub struct Staging {
    /// A region of [`MemorySpace::Staging`](aegis_cuda::MemorySpace::Staging).
    pub region: Arc<dyn DeviceMemory>,
    /// Where in it the model's twins lie; a multiple of [`ALIGNMENT`].
    pub extent: Extent,
}

impl fmt::Debug for Staging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "staging of {} at {}", self.extent.len, self.extent.offset)
    }
}

/// The twins of one set of I/O buffers, in the order of the model's description.
#[derive(Default)]
struct Twins {
    /// `None` for recurrent state, which never leaves the device.
    inputs: Vec<Option<Rc<DeviceSlice>>>,
    outputs: Vec<Rc<DeviceSlice>>,
}

/// The twins of every slot.
pub(crate) struct StagedIo {
    sets: Vec<Twins>,
    /// Segments work on the twins themselves.
    shared: bool,
}

impl StagedIo {
    /// Carves the twins of every slot out of `staging`, which a model that needs none may go without.
    pub(crate) fn carve(
        description: &ModelDescription,
        layout: &IoLayout,
        staging: Option<&Staging>,
    ) -> Result<Self, ContextError> {
        let needed = layout.staging_bytes(description).unwrap_or(Bytes::MAX);
        let granted = staging.map_or(Bytes::ZERO, |staging| staging.extent.len);
        if staging.is_none() && needed.is_zero() {
            return Ok(Self::without_twins(description, layout));
        }
        let (Some(staging), true) = (staging, needed <= granted) else {
            return Err(ContextError::Staging { model: description.name.clone(), needed, granted });
        };
        let mut next = staging.extent.offset;
        let mut slice = |spec: &TensorSpec| {
            let lent = DeviceSlice::lend(&staging.region, Extent { offset: next, len: spec.bytes })?;
            // The sum over all twins was found to fit.
            next =
                spec.bytes.checked_align_up(ALIGNMENT).and_then(|len| next.checked_add(len)).unwrap_or(next);
            Ok::<_, ContextError>(Rc::new(lent))
        };
        let mut sets: Vec<Twins> = Vec::new();
        for slot in 0..layout.input_slots() {
            let mut twins = Twins::default();
            for (position, spec) in description.inputs.iter().enumerate() {
                let fed = !layout.is_state(position);
                twins.inputs.push(if fed { Some(slice(spec)?) } else { None });
            }
            let reused = sets.get((slot % layout.output_slots()) as usize);
            twins.outputs = match reused {
                Some(earlier) => earlier.outputs.clone(),
                None => description.outputs.iter().map(&mut slice).collect::<Result<_, _>>()?,
            };
            sets.push(twins);
        }
        Ok(Self { sets, shared: staging.region.is_shared() })
    }

    /// For a model that takes nothing from the host and answers nothing: there is nothing to grant, and nothing is asked
    /// for.
    fn without_twins(description: &ModelDescription, layout: &IoLayout) -> Self {
        let twins = || Twins { inputs: vec![None; description.inputs.len()], outputs: Vec::new() };
        Self { sets: (0..layout.input_slots()).map(|_| twins()).collect(), shared: false }
    }

    /// The twin of an input, if segments read the twin itself.
    pub(crate) fn shared_input(&self, slot: u32, index: usize) -> Option<&Rc<DeviceSlice>> {
        self.sets.get(slot as usize).filter(|_| self.shared)?.inputs.get(index)?.as_ref()
    }

    /// The twin of an output, if segments write the twin itself.
    pub(crate) fn shared_output(&self, slot: u32, index: usize) -> Option<&Rc<DeviceSlice>> {
        self.sets.get(slot as usize).filter(|_| self.shared)?.outputs.get(index)
    }

    fn set(&self, slot: Slot) -> Option<&Twins> {
        self.sets.get(usize::try_from(slot.0).ok()?)
    }

    /// The twin of an input that the host feeds.
    pub(crate) fn input(&self, slot: Slot, index: usize) -> Option<&DeviceSlice> {
        self.set(slot)?.inputs.get(index)?.as_deref()
    }

    /// The twin of an output.
    pub(crate) fn output(&self, slot: Slot, index: usize) -> Option<&DeviceSlice> {
        self.set(slot)?.outputs.get(index).map(|slice| &**slice)
    }

    /// Enqueues the copies of a job's inputs to the device.
    pub(crate) fn feed(
        &self,
        slot: usize,
        device: &Bindings,
        stream: &mut dyn Stream,
    ) -> Result<(), BackendError> {
        let twins = self.sets.get(slot).into_iter().flat_map(|twins| &twins.inputs);
        let fed = twins.zip(&device.inputs).filter_map(|(twin, input)| Some((twin.as_deref()?, &**input)));
        copy_all(fed, stream)
    }

    /// Enqueues the copies of a job's outputs back to the host.
    pub(crate) fn deliver(
        &self,
        slot: usize,
        device: &Bindings,
        stream: &mut dyn Stream,
    ) -> Result<(), BackendError> {
        let twins = self.sets.get(slot).into_iter().flat_map(|twins| &twins.outputs);
        copy_all(device.outputs.iter().zip(twins).map(|(output, twin)| (&**output, &**twin)), stream)
    }
}

fn copy_all<'a>(
    pairs: impl Iterator<Item = (&'a DeviceSlice, &'a DeviceSlice)>,
    stream: &mut dyn Stream,
) -> Result<(), BackendError> {
    // A twin that the model is bound to is at both ends.
    for (from, to) in pairs.filter(|(from, to)| !from.is_empty() && !std::ptr::eq(*from, *to)) {
        stream.copy(from, to)?;
    }
    Ok(())
}
