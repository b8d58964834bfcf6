//! Plain `tract`: no grants, no buffers of others. What the backend's outputs are compared with, bit by bit.

use aegis_cuda::{BackendError, ModelRequest, TensorSpec};
use aegis_types::Bytes;
use tract_onnx::prelude::{TValue, Tensor};

use super::compile::{self, Plan};
use crate::inspect;

/// A model that runs plainly, each time from scratch.
pub struct TractReference {
    model: String,
    inputs: Vec<TensorSpec>,
    plan: Plan,
}

impl TractReference {
    /// Opens a model.
    ///
    /// # Errors
    /// As [`aegis_cuda::BackendLoader::inspect`].
    pub fn open(request: &ModelRequest<'_>) -> Result<Self, BackendError> {
        let inspected = inspect::inspect(request)?;
        let typed = compile::typed(request, &inspected)?;
        let plan = compile::plan(request, typed, &inspected.inputs)?;
        Ok(Self { model: request.name.to_owned(), inputs: inspected.inputs, plan })
    }

    /// Runs the model once on packed elements and returns the outputs in the model's order.
    ///
    /// # Errors
    /// [`BackendError::BindingCount`], [`BackendError::Binding`] if the inputs do not fit, or
    /// [`BackendError::Execution`] with the library's message.
    pub fn run(&self, inputs: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, BackendError> {
        let (model, expected) = (self.model.clone(), self.inputs.len());
        if inputs.len() != expected {
            return Err(BackendError::BindingCount { model, what: "input", expected, got: inputs.len() });
        }
        for (spec, bytes) in self.inputs.iter().zip(inputs) {
            if bytes.len() as u64 != spec.bytes.get() {
                let (tensor, got) = (spec.name.clone(), Bytes::new(bytes.len() as u64));
                return Err(BackendError::Binding { model, tensor, expected: spec.bytes, got });
            }
        }
        self.run_checked(inputs).map_err(|reason| BackendError::Execution { model, reason, started: true })
    }

    fn run_checked(&self, inputs: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, String> {
        let value = |&position: &usize| -> Result<TValue, String> {
            let spec = &self.inputs[position];
            let mut tensor: Tensor = compile::zeros(spec)?;
            tensor.as_bytes_mut().copy_from_slice(&inputs[position]);
            Ok(tensor.into())
        };
        let values = self.plan.order.iter().map(value).collect::<Result<_, _>>()?;
        let outputs = self.plan.runnable.run(values).map_err(|error| format!("{error:#}"))?;
        Ok(outputs.iter().map(|output| output.as_bytes().to_vec()).collect())
    }
}
