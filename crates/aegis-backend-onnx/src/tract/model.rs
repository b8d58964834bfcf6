//! A model on a lane: inputs are copied in, the library runs, outputs are copied out.

use std::rc::Rc;
use std::sync::Arc;

use aegis_cuda::{
    BackendError, BindingId, Bindings, DeviceError, DeviceSlice, ModelDescription, RuntimeBackend, Stream,
};
use aegis_types::{Bytes, MemoryClass, SegmentIndex};
use tract_onnx::prelude::{TValue, Tensor, TypedRunnableModel, TypedSimpleState};

use super::compile::{self, Plan};
use super::held::{Held, Purse};

/// A loaded model.
pub struct TractModel {
    description: ModelDescription,
    runnable: Arc<TypedRunnableModel>,
    /// Kept from job to job where no operator keeps anything in it; otherwise each job has its own, because outputs are
    /// a function of inputs alone.
    state: Option<TypedSimpleState>,
    /// The library's inputs, in its own order, each with the position of the file's.
    inputs: Vec<(usize, Arc<Tensor>)>,
    bound: Vec<Bindings>,
    alive: Bytes,
    purse: Purse,
    _constants: Held,
}

impl TractModel {
    /// A planned model with its constants counted, run once on zeros so that what a first run prepares is prepared.
    pub(super) fn new(description: ModelDescription, plan: Plan, purse: Purse) -> Result<Self, BackendError> {
        let Plan { runnable, order, constants, alive } = plan;
        let memory = |source| BackendError::Memory { model: description.name.clone(), source };
        let counted = constants.max(description.memory.weights);
        let constants = purse.hold(MemoryClass::Persistent, counted).map_err(memory)?;
        let invalid = |reason| BackendError::InvalidModel { model: description.name.clone(), reason };
        let input =
            |position: usize| Ok((position, Arc::new(compile::zeros(&description.inputs[position])?)));
        let inputs = order.into_iter().map(input).collect::<Result<_, String>>().map_err(invalid)?;
        let state = runnable.spawn().map_err(|error| invalid(format!("{error:#}")))?;
        let state = state.op_states.iter().all(Option::is_none).then_some(state);
        let bound = Vec::new();
        let mut model =
            Self { description, runnable, state, inputs, bound, alive, purse, _constants: constants };
        let _scratch = model.scratch()?;
        model.run().map_err(|reason| model.execution(reason))?;
        Ok(model)
    }

    /// Counts the values of one job.
    fn scratch(&self) -> Result<Held, BackendError> {
        let held = self.purse.hold(MemoryClass::Scratch, self.alive);
        held.map_err(|source| BackendError::Memory { model: self.description.name.clone(), source })
    }

    fn run(&mut self) -> Result<Vec<TValue>, String> {
        let inputs = self.inputs.iter().map(|(_, value)| TValue::from_const(Arc::clone(value))).collect();
        let outputs = match &mut self.state {
            Some(state) => state.run(inputs),
            None => self.runnable.run(inputs),
        };
        let outputs = outputs.map_err(|error| format!("{error:#}"))?;
        let sizes = self.description.outputs.iter().map(|spec| spec.bytes);
        for (value, (size, spec)) in outputs.iter().zip(sizes.zip(&self.description.outputs)) {
            let made = Bytes::new(value.as_bytes().len() as u64);
            if made != size {
                return Err(format!("output `{}` has {made} instead of {size}", spec.name));
            }
        }
        Ok(outputs.into_iter().collect())
    }

    fn execution(&self, reason: String) -> BackendError {
        BackendError::Execution { model: self.description.name.clone(), reason, started: true }
    }
}

impl RuntimeBackend for TractModel {
    fn describe(&self) -> &ModelDescription {
        &self.description
    }

    fn remarks(&self) -> Vec<String> {
        vec![format!(
            "its memory is counted and not enforced: a job takes about {} from the process's heap",
            self.alive
        )]
    }

    fn bind(&mut self, bindings: Bindings) -> Result<BindingId, BackendError> {
        bindings.check_sizes(&self.description)?;
        check_overlap(&bindings.outputs)?;
        let id = BindingId(u32::try_from(self.bound.len()).unwrap_or(u32::MAX));
        self.bound.push(bindings);
        Ok(id)
    }

    /// Runs the model on the calling thread; the host's stream is synchronous, so nothing is enqueued on it.
    fn enqueue(
        &mut self,
        _stream: &mut dyn Stream,
        segment: SegmentIndex,
        binding: BindingId,
    ) -> Result<(), BackendError> {
        // Neither refusal below heals by being tried again, which `started` stands for.
        if segment.index() != 0 {
            return Err(self.execution(format!("{segment:?} asked for; the model is one segment, number 0")));
        }
        let Some(bound) = self.bound.get(binding.0 as usize) else {
            let made = self.bound.len();
            return Err(self.execution(format!("binding {} was not made; there are {made}", binding.0)));
        };
        for (position, value) in &mut self.inputs {
            // The library may have kept the last job's input, and is then left with that one.
            bound.inputs[*position].read(Arc::make_mut(value).as_bytes_mut());
        }
        let scratch = self.scratch()?;
        let ran = self.run();
        drop(scratch);
        let outputs = ran.map_err(|reason| self.execution(reason))?;
        let lent = self.bound[binding.0 as usize].outputs.iter();
        for (slice, value) in lent.zip(&outputs) {
            slice.write(value.as_bytes());
        }
        Ok(())
    }
}

/// Two outputs in the same bytes would leave only one of them. An input is read before any output is written.
fn check_overlap(outputs: &[Rc<DeviceSlice>]) -> Result<(), DeviceError> {
    for (position, output) in outputs.iter().enumerate() {
        for other in &outputs[position + 1..] {
            let same_region = Arc::ptr_eq(output.region(), other.region());
            if same_region && output.extent().overlaps(&other.extent()) {
                return Err(output.unfit("is bound as two outputs"));
            }
        }
    }
    Ok(())
}
