//! A plan that was read: checked against what this backend runs, described, its shapes fixed.

use std::collections::BTreeMap;
use std::ffi::{CString, c_void};
use std::rc::Rc;

use aegis_cuda::{BackendError, MemoryNeeds, ModelDescription, ModelRequest, TensorSpec};
use aegis_types::{Bytes, ContentHash, ExecutionGraph};

use crate::library::{TensorRt, library_error};
use crate::shapes::{self, Fixed, Range};
use crate::supply::Supply;
use crate::vendor::{Context, Declared, Engine, Limit, Runtime};

/// A plan with its shapes fixed, ready for memory.
pub(crate) struct Plan {
    pub(crate) context: Context,
    pub(crate) description: ModelDescription,
    /// Names as the library wants them: inputs, then outputs, in the order of the description.
    pub(crate) names: Vec<CString>,
    /// Scratch of a run with these shapes.
    pub(crate) scratch: Bytes,
}

/// Reads a plan. The device is current on this thread, and what the library takes comes from `supply`.
///
/// # Errors
/// Permanent ones that name what is wrong with the plan or the fleet's shapes, and the refusal of memory.
pub(crate) fn open(
    library: &TensorRt,
    request: &ModelRequest<'_>,
    supply: Supply,
    stream: *mut c_void,
) -> Result<Plan, BackendError> {
    let reader = Reader { request };
    if request.artifact.is_empty() {
        return Err(
            reader.invalid("the file is empty; legal is a plan that TensorRT's builder serialized".into())
        );
    }
    let runtime = Runtime::new(library, supply)
        .map_err(|reason| library_error(format!("cannot make a runtime: {reason}")))?;
    let runtime = Rc::new(runtime);
    let engine =
        Engine::read(&runtime, request.artifact).ok_or_else(|| reader.refused(&runtime, "refuses it"))?;
    let engine = Rc::new(engine);
    let weights = runtime.supply().held();
    let streams = engine.streams();
    if streams > 0 {
        return Err(reader.invalid(format!(
            "it wants {streams} streams beside the lane's; legal: a plan built with `--maxAuxStreams=0`"
        )));
    }
    let (inputs, outputs): (Vec<Declared>, Vec<Declared>) =
        engine.tensors().into_iter().partition(|tensor| tensor.is_input);
    inputs.iter().chain(&outputs).try_for_each(|tensor| reader.usable(tensor))?;
    shapes::known(request, &inputs)?;
    let mut context =
        Context::new(&engine).ok_or_else(|| reader.refused(&runtime, "makes no context of it"))?;
    let input_specs = reader.fix_inputs(&mut context, &inputs, stream)?;
    let output_specs = reader.infer_outputs(&mut context, &outputs)?;
    let scratch = Bytes::new(context.scratch_bytes());
    let description = reader.describe(&engine, input_specs, output_specs, weights, scratch)?;
    let names = inputs.into_iter().chain(outputs).map(|tensor| tensor.name).collect();
    Ok(Plan { context, description, names, scratch })
}

/// What is known of a plan while it is read.
struct Reader<'a> {
    request: &'a ModelRequest<'a>,
}

impl Reader<'_> {
    /// Fixes the shapes of the inputs, in a profile that takes them.
    fn fix_inputs(
        &self,
        context: &mut Context,
        inputs: &[Declared],
        stream: *mut c_void,
    ) -> Result<Vec<TensorSpec>, BackendError> {
        let engine = Rc::clone(context.engine());
        let profiles = engine.profiles();
        let mut open = Vec::new();
        let mut specs = Vec::with_capacity(inputs.len());
        for tensor in inputs {
            let name = tensor.name.to_string_lossy().into_owned();
            let axes = self.axes(tensor)?;
            let shape = shapes::input(self.request, &name, axes)?;
            if axes.iter().any(|&axis| axis < 0) {
                let ranges = (0..profiles).map(|profile| range(&engine, tensor, profile)).collect();
                open.push(Fixed { name: name.clone(), shape: shape.clone(), ranges });
            }
            let element = shapes::element(tensor.element).map_err(|reason| self.invalid(reason))?;
            specs.push(shapes::spec(self.request, &name, element, shape)?);
        }
        let profile = shapes::profile(self.request, profiles, &open)?;
        let runtime = engine.runtime();
        if profile > 0 && !context.set_profile(profile, stream) {
            return Err(self.refused(runtime, "does not switch to the profile of these shapes"));
        }
        for (tensor, spec) in inputs.iter().zip(&specs) {
            if !context.set_shape(&tensor.name, &spec.shape) {
                let reason = format!("TensorRT refuses shape {:?}: {}", spec.shape, runtime.reasons());
                return Err(shapes::refusal(self.request, &spec.name, reason));
            }
        }
        Ok(specs)
    }

    /// Has the library work out the shapes of the outputs.
    fn infer_outputs(
        &self,
        context: &mut Context,
        outputs: &[Declared],
    ) -> Result<Vec<TensorSpec>, BackendError> {
        if !context.infer() {
            let runtime = Rc::clone(context.engine().runtime());
            return Err(self.refused(&runtime, "cannot work out the shapes of its outputs"));
        }
        let spec = |tensor: &Declared| {
            let name = tensor.name.to_string_lossy().into_owned();
            let axes = context.shape(&tensor.name).unwrap_or_default();
            let lengths: Result<Vec<u64>, _> = axes.iter().map(|&axis| u64::try_from(axis)).collect();
            let Ok(shape) = lengths else {
                let reason = format!(
                    "its shape {} depends on the values of a job; legal are plans whose outputs have one size",
                    shapes::spelled(&axes)
                );
                return Err(shapes::refusal(self.request, &name, reason));
            };
            let element = shapes::element(tensor.element).map_err(|reason| self.invalid(reason))?;
            shapes::spec(self.request, &name, element, shape)
        };
        outputs.iter().map(spec).collect()
    }

    fn describe(
        &self,
        engine: &Engine,
        inputs: Vec<TensorSpec>,
        outputs: Vec<TensorSpec>,
        weights: Bytes,
        scratch: Bytes,
    ) -> Result<ModelDescription, BackendError> {
        let sizes = |specs: &[TensorSpec]| specs.iter().map(|spec| spec.bytes).collect::<Vec<_>>();
        let graph = ExecutionGraph::whole_model(self.request.name, &sizes(&inputs), &sizes(&outputs))
            .map_err(|error| self.invalid(error.to_string()))?;
        Ok(ModelDescription {
            name: self.request.name.to_owned(),
            hash: ContentHash::of(self.request.artifact),
            graph,
            inputs,
            outputs,
            memory: MemoryNeeds { weights, scratch: Some(vec![scratch]) },
            // The builder has fused the operators away; layers are what is left to count.
            operators: BTreeMap::from([("layer".to_owned(), engine.layers())]),
        })
    }

    /// Whether this backend can lend memory to a tensor.
    fn usable(&self, tensor: &Declared) -> Result<(), BackendError> {
        let name = tensor.name.to_string_lossy();
        if tensor.on_host {
            return Err(self.invalid(format!(
                "tensor `{name}` lies on the host; legal are plans whose inputs and outputs all lie on the device"
            )));
        }
        if let Some(format) = &tensor.format {
            return Err(self.invalid(format!(
                "tensor `{name}` is laid out as `{format}`; legal: a plan built with linear formats of I/O"
            )));
        }
        shapes::element(tensor.element)
            .map(drop)
            .map_err(|reason| self.invalid(format!("tensor `{name}`: {reason}")))
    }

    fn axes<'t>(&self, tensor: &'t Declared) -> Result<&'t [i64], BackendError> {
        let name = tensor.name.to_string_lossy();
        let unknown =
            || self.invalid(format!("tensor `{name}` has an unknown number of axes, or more than 8"));
        tensor.shape.as_deref().ok_or_else(unknown)
    }

    /// The library said no: for want of memory, if it asked in vain, or for the reasons that it recorded.
    fn refused(&self, runtime: &Runtime, what: &str) -> BackendError {
        let reasons = runtime.reasons();
        match runtime.supply().take_refusal() {
            Some(refusal) => refusal.of(self.request.name),
            None => {
                let version = runtime.library().version();
                self.invalid(format!("TensorRT {version} {what}: {reasons}"))
            }
        }
    }

    fn invalid(&self, reason: String) -> BackendError {
        BackendError::InvalidModel { model: self.request.name.to_owned(), reason }
    }
}

fn range(engine: &Engine, tensor: &Declared, profile: u32) -> Option<Range> {
    let limit = |which| engine.limit(&tensor.name, profile, which);
    Some((limit(Limit::Least)?, limit(Limit::Largest)?))
}
