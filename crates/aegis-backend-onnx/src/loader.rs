//! The loader: describes models and loads them on lanes.

use std::rc::Rc;

use aegis_cuda::{
    BackendError, BackendLoader, Beside, MemoryNeeds, ModelDescription, ModelMemory, ModelRequest,
    RuntimeBackend, Stream, TensorSpec, interop,
};
use aegis_types::{Bytes, ContentHash, ExecutionGraph};

use crate::backend::OnnxModel;
use crate::charge::Charge;
use crate::cuda::CudaModel;
use crate::external;
use crate::inspect::{self, Inspected};
use crate::library::{OnnxRuntime, library_error};
use crate::reference::Reference;
use crate::segment::{SegmentedModel, Split};
use crate::shapes;

/// Makes models of ONNX files. Shared between threads; each model belongs to the thread that loaded it.
#[derive(Clone, Debug)]
pub struct OnnxLoader {
    runtime: OnnxRuntime,
}

impl OnnxLoader {
    /// A loader on a library that the composition root loaded.
    pub const fn new(runtime: OnnxRuntime) -> Self {
        Self { runtime }
    }

    /// Loads a model, or a piece of one, as one segment.
    fn load_whole(
        &self,
        request: &ModelRequest<'_>,
        stream: &mut dyn Stream,
        memory: ModelMemory,
    ) -> Result<Box<dyn RuntimeBackend>, BackendError> {
        let inspected = inspect::inspect(request)?;
        let description = describe(request, &inspected, || {
            let mut plain = Reference::from_inspected(&self.runtime, request, &inspected)?;
            run_on(&mut plain, &inspected.inputs, zeros)
        })?;
        let charge = Rc::new(Charge::new(memory));
        stream.synchronize()?;
        if interop::with_raw_stream(stream, |_| ()).is_some() {
            let model = CudaModel::load(&self.runtime, request, description, &inspected, stream, charge)?;
            return Ok(Box::new(model));
        }
        if !charge.is_host_memory() {
            return Err(library_error(format!(
                "model `{}` lies in memory that the host cannot address; legal is a region of a host device",
                request.name
            )));
        }
        let model = OnnxModel::load(&self.runtime, request, description, &inspected, charge)?;
        Ok(Box::new(model))
    }
}

impl BackendLoader for OnnxLoader {
    fn name(&self) -> &'static str {
        "onnx"
    }

    /// Describes a model. The library opens it once plainly, outside any budget, because only the library knows
    /// whether it has every operator, and only a run tells the shapes that a file leaves open. A model whose file lists
    /// cuts has one segment for each piece.
    fn inspect(&self, request: &ModelRequest<'_>) -> Result<ModelDescription, BackendError> {
        let inspected = inspect::inspect(request)?;
        if let Some(split) = Split::of(&self.runtime, request, &inspected)? {
            return split.describe(request, &inspected);
        }
        let mut plain = Reference::from_inspected(&self.runtime, request, &inspected)?;
        describe(request, &inspected, || run_on(&mut plain, &inspected.inputs, zeros))
    }

    fn complete(&self, name: &str, artifact: Vec<u8>, beside: Beside<'_>) -> Result<Vec<u8>, BackendError> {
        external::complete(name, artifact, beside)
    }

    fn load(
        &self,
        request: &ModelRequest<'_>,
        stream: &mut dyn Stream,
        memory: ModelMemory,
    ) -> Result<Box<dyn RuntimeBackend>, BackendError> {
        let inspected = inspect::inspect(request)?;
        match Split::of(&self.runtime, request, &inspected)? {
            None => self.load_whole(request, stream, memory),
            Some(split) => {
                let description = split.describe(request, &inspected)?;
                let mut load =
                    |piece: &ModelRequest<'_>, lent: ModelMemory| self.load_whole(piece, &mut *stream, lent);
                let model = SegmentedModel::load(request, split, description, memory, &mut load)?;
                Ok(Box::new(model))
            }
        }
    }
}

/// The description of a model; `learn` runs it once if the file leaves the shape of an output open.
fn describe(
    request: &ModelRequest<'_>,
    inspected: &Inspected,
    learn: impl FnOnce() -> Result<Vec<Vec<u64>>, BackendError>,
) -> Result<ModelDescription, BackendError> {
    let known: Option<Vec<Vec<u64>>> = inspected.outputs.iter().map(|output| output.closed()).collect();
    let output_shapes = match known {
        Some(known) => known,
        None => learn()?,
    };
    let outputs = inspected
        .outputs
        .iter()
        .zip(output_shapes)
        .map(|(output, shape)| shapes::output(request, &output.name, output.element, shape))
        .collect::<Result<Vec<_>, _>>()?;
    let sizes = |specs: &[TensorSpec]| specs.iter().map(|spec| spec.bytes).collect::<Vec<_>>();
    let graph =
        ExecutionGraph::whole_model(request.name, &sizes(&inspected.inputs), &sizes(&outputs)).map_err(
            |error| BackendError::InvalidModel { model: request.name.to_owned(), reason: error.to_string() },
        )?;
    Ok(ModelDescription {
        name: request.name.to_owned(),
        hash: ContentHash::of(request.artifact),
        graph,
        inputs: inspected.inputs.clone(),
        outputs,
        memory: MemoryNeeds { weights: inspected.weights, scratch: None },
        operators: inspected.operators.clone(),
    })
}

/// The most that inputs may add up to in a run that only learns shapes: its buffers are outside of every budget.
const DRY_RUN_LIMIT: u64 = 1 << 30;

/// An input of nothing but zeros.
pub(crate) fn zeros(spec: &TensorSpec) -> Vec<u8> {
    vec![0; usize::try_from(spec.bytes.get()).unwrap_or(usize::MAX)]
}

/// The shapes of a plain model's outputs when it runs on inputs that `fill` makes.
///
/// # Errors
/// [`BackendError::Shape`] if the inputs are too large for that; [`BackendError::Execution`].
pub(crate) fn run_on(
    plain: &mut Reference,
    inputs: &[TensorSpec],
    fill: fn(&TensorSpec) -> Vec<u8>,
) -> Result<Vec<Vec<u64>>, BackendError> {
    let total = inputs.iter().try_fold(0u64, |sum, spec| sum.checked_add(spec.bytes.get()));
    if let Some(largest) = inputs.iter().max_by_key(|spec| spec.bytes)
        && total.is_none_or(|total| total > DRY_RUN_LIMIT)
    {
        return Err(BackendError::Shape {
            model: plain.model().to_owned(),
            tensor: largest.name.clone(),
            reason: format!(
                "the file leaves the shape of an output open, and a run to learn it takes inputs of at most {} in all; \
                 this one alone has {}",
                Bytes::new(DRY_RUN_LIMIT),
                largest.bytes
            ),
        });
    }
    let inputs: Vec<Vec<u8>> = inputs.iter().map(fill).collect();
    Ok(plain.run_shaped(&inputs)?.into_iter().map(|tensor| tensor.shape).collect())
}
