//! The loader: describes models and loads them on lanes of the host.

use aegis_cuda::{
    BackendError, BackendLoader, Beside, MemoryNeeds, ModelDescription, ModelMemory, ModelRequest,
    RuntimeBackend, Stream, TensorSpec,
};
use aegis_types::{ContentHash, ExecutionGraph};

use super::NAME;
use super::compile::{self, Typed};
use super::held::Purse;
use super::model::TractModel;
use crate::external;
use crate::inspect::{self, Inspected};

/// Makes models of ONNX files without a vendor library. Shared between threads; each model belongs to the thread that
/// loaded it.
#[derive(Clone, Copy, Debug, Default)]
pub struct TractLoader;

impl TractLoader {
    /// A loader. There is nothing to find or load.
    pub const fn new() -> Self {
        Self
    }
}

impl BackendLoader for TractLoader {
    fn name(&self) -> &'static str {
        NAME
    }

    /// Describes a model. The library reads all of it, because only the library knows whether it has every operator.
    fn inspect(&self, request: &ModelRequest<'_>) -> Result<ModelDescription, BackendError> {
        let inspected = inspect::inspect(request)?;
        let typed = compile::typed(request, &inspected)?;
        describe(request, &inspected, &typed)
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
        let typed = compile::typed(request, &inspected)?;
        let description = describe(request, &inspected, &typed)?;
        let Some(purse) = Purse::open(memory) else {
            return Err(BackendError::Library {
                backend: NAME,
                reason: format!(
                    "model `{}` lies in memory that the host cannot address; legal is a region of a host device",
                    request.name
                ),
            });
        };
        stream.synchronize()?;
        let plan = compile::plan(request, typed, &description.inputs)?;
        Ok(Box::new(TractModel::new(description, plan, purse)?))
    }
}

fn describe(
    request: &ModelRequest<'_>,
    inspected: &Inspected,
    typed: &Typed,
) -> Result<ModelDescription, BackendError> {
    let sizes = |specs: &[TensorSpec]| specs.iter().map(|spec| spec.bytes).collect::<Vec<_>>();
    let graph = ExecutionGraph::whole_model(request.name, &sizes(&inspected.inputs), &sizes(&typed.outputs));
    let graph = graph.map_err(|error| BackendError::InvalidModel {
        model: request.name.to_owned(),
        reason: error.to_string(),
    })?;
    Ok(ModelDescription {
        name: request.name.to_owned(),
        hash: ContentHash::of(request.artifact),
        graph,
        inputs: inspected.inputs.clone(),
        outputs: typed.outputs.clone(),
        memory: MemoryNeeds { weights: inspected.weights, scratch: None },
        operators: inspected.operators.clone(),
    })
}
