//! From a file to a plan: the library's passes, with every failure turned into an error that names the model.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use aegis_cuda::{BackendError, ElementType, ModelRequest, TensorSpec};
use aegis_types::Bytes;
use tract_onnx::prelude::{
    DatumType, Framework, InferenceFact, InferenceModelExt, RunOptions, Tensor, TypedModel,
    TypedRunnableModel, multithread::Executor,
};
use tract_onnx::tract_core::ops::konst::Const;

use crate::inspect::Inspected;
use crate::shapes;

/// A model as the library understands it, with types and shapes everywhere, not yet optimised.
pub(super) struct Typed {
    graph: TypedModel,
    /// The outputs, in the file's order.
    pub(super) outputs: Vec<TensorSpec>,
}

/// A model that can run.
pub(super) struct Plan {
    /// The library's plan.
    pub(super) runnable: Arc<TypedRunnableModel>,
    /// For each input of the plan the position of it among the file's.
    pub(super) order: Vec<usize>,
    /// Constants of the optimised model.
    pub(super) constants: Bytes,
    /// The largest sum of values alive at one node.
    pub(super) alive: Bytes,
}

/// Reads a model whose inputs are as `inspected` says and finds the type and shape of every value.
///
/// # Errors
/// [`BackendError::InvalidModel`] with the library's words; [`BackendError::Shape`] for an output that no run could
/// have.
pub(super) fn typed(request: &ModelRequest<'_>, inspected: &Inspected) -> Result<Typed, BackendError> {
    let graph = guarded(request, "read", || read(request, &inspected.inputs))?;
    let facts = graph.output_outlets().map_err(|error| invalid(request, "read", &format!("{error:#}")))?;
    if facts.len() != inspected.outputs.len() {
        let reason = format!("{} outputs instead of {}", facts.len(), inspected.outputs.len());
        return Err(invalid(request, "read", &reason));
    }
    let outputs = facts.iter().zip(&inspected.outputs).map(|(&outlet, output)| {
        let fact =
            graph.outlet_fact(outlet).map_err(|error| invalid(request, "read", &format!("{error:#}")))?;
        let reason = |what: &str| invalid(request, "read", &format!("output `{}` {what}", output.name));
        let shape = fact.shape.as_concrete().ok_or_else(|| reason("has a shape that depends on data"))?;
        if element(fact.datum_type) != Some(output.element) {
            return Err(reason(&format!("is of type {:?} instead of {:?}", fact.datum_type, output.element)));
        }
        let shape = shape.iter().map(|&axis| axis as u64).collect();
        shapes::output(request, &output.name, output.element, shape)
    });
    let outputs = outputs.collect::<Result<_, BackendError>>()?;
    Ok(Typed { graph, outputs })
}

/// Optimises a model and plans its run.
///
/// # Errors
/// [`BackendError::InvalidModel`] with the library's words.
pub(super) fn plan(
    request: &ModelRequest<'_>,
    typed: Typed,
    inputs: &[TensorSpec],
) -> Result<Plan, BackendError> {
    guarded(request, "plan", || {
        let graph = typed.graph.into_optimized().map_err(words)?;
        let options = RunOptions { executor: Some(Executor::SingleThread), ..RunOptions::default() };
        let runnable = graph.into_runnable_with_options(&options).map_err(words)?;
        let order = order(runnable.model(), inputs)?;
        let (constants, alive) = (constants(runnable.model())?, alive(&runnable)?);
        Ok(Plan { runnable, order, constants, alive })
    })
}

fn read(request: &ModelRequest<'_>, inputs: &[TensorSpec]) -> Result<TypedModel, String> {
    // The file's own shapes of outputs may name axes that the request has fixed.
    let reader = tract_onnx::onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
    let mut graph = reader.model_for_read(&mut &request.artifact[..]).map_err(words)?;
    let outlets = graph.input_outlets().map_err(words)?.to_vec();
    for (position, outlet) in outlets.into_iter().enumerate() {
        let name = graph.node(outlet.node).name.clone();
        let Some(spec) = inputs.iter().find(|spec| spec.name == name) else {
            return Err(format!("it has an input `{name}` that the file does not list"));
        };
        let kind = datum(spec.element)
            .ok_or_else(|| format!("input `{name}` is of type {:?}, which it lacks", spec.element))?;
        let fact = InferenceFact::dt_shape(kind, lengths(spec)?);
        graph.set_input_fact(position, fact).map_err(words)?;
    }
    graph.into_typed().map_err(words)
}

/// For each input of the graph the position of the file's input of that name.
fn order(graph: &TypedModel, inputs: &[TensorSpec]) -> Result<Vec<usize>, String> {
    let outlets = graph.input_outlets().map_err(words)?;
    let position = |name: &str| inputs.iter().position(|spec| spec.name == name);
    outlets
        .iter()
        .map(|outlet| {
            let name = &graph.node(outlet.node).name;
            position(name).ok_or_else(|| format!("it has an input `{name}` that the file does not list"))
        })
        .collect()
}

fn constants(graph: &TypedModel) -> Result<Bytes, String> {
    let mut sum = 0u64;
    for node in graph.nodes().iter().filter(|node| node.op_is::<Const>()) {
        for output in &node.outputs {
            let size = output.fact.mem_size().as_i64().and_then(|size| u64::try_from(size).ok());
            let size = size.ok_or_else(|| format!("constant `{}` has no size", node.name))?;
            sum = sum.checked_add(size).ok_or("constants overflow any memory")?;
        }
    }
    Ok(Bytes::new(sum))
}

fn alive(plan: &TypedRunnableModel) -> Result<Bytes, String> {
    let order = plan.order_without_consts();
    let steps = plan.model().eval_tmp_memory_usage(order, |node| !node.op_is::<Const>()).map_err(words)?;
    let mut most = 0;
    for (node, size) in steps {
        let size = size.as_i64().and_then(|size| u64::try_from(size).ok());
        let name = || &plan.model().node(node).name;
        most = most.max(size.ok_or_else(|| format!("values at `{}` have no size", name()))?);
    }
    Ok(Bytes::new(most))
}

/// A value of an input's type and shape, all zeros.
///
/// # Errors
/// Why there is none, in words.
pub(super) fn zeros(spec: &TensorSpec) -> Result<Tensor, String> {
    let kind = datum(spec.element).ok_or_else(|| format!("`{}` is of type {:?}", spec.name, spec.element))?;
    Tensor::zero_dt(kind, &lengths(spec)?).map_err(words)
}

/// Lengths of axes in the library's type.
fn lengths(spec: &TensorSpec) -> Result<Vec<usize>, String> {
    let length = |&axis: &u64| {
        usize::try_from(axis).map_err(|_| format!("`{}` has an axis of {axis} elements", spec.name))
    };
    spec.shape.iter().map(length).collect()
}

/// Every element type that both sides have.
const TYPES: [(ElementType, DatumType); 12] = [
    (ElementType::F16, DatumType::F16),
    (ElementType::F32, DatumType::F32),
    (ElementType::F64, DatumType::F64),
    (ElementType::I8, DatumType::I8),
    (ElementType::I16, DatumType::I16),
    (ElementType::I32, DatumType::I32),
    (ElementType::I64, DatumType::I64),
    (ElementType::U8, DatumType::U8),
    (ElementType::U16, DatumType::U16),
    (ElementType::U32, DatumType::U32),
    (ElementType::U64, DatumType::U64),
    (ElementType::Bool, DatumType::Bool),
];

/// The library's type of elements; `None` where it has none.
fn datum(element: ElementType) -> Option<DatumType> {
    TYPES.iter().find(|(ours, _)| *ours == element).map(|(_, its)| *its)
}

fn element(datum: DatumType) -> Option<ElementType> {
    TYPES.iter().find(|(_, its)| *its == datum).map(|(ours, _)| *ours)
}

/// Runs one of the library's passes. It was written for models that people made, and a damaged one may break an
/// assumption that it asserts: its panic is that model's error, and what it was working on is dropped.
fn guarded<T>(
    request: &ModelRequest<'_>,
    what: &str,
    pass: impl FnOnce() -> Result<T, String>,
) -> Result<T, BackendError> {
    let done = catch_unwind(AssertUnwindSafe(pass)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Err(text.unwrap_or("a panic without words").to_owned())
    });
    done.map_err(|reason| invalid(request, what, &reason))
}

fn invalid(request: &ModelRequest<'_>, what: &str, reason: &str) -> BackendError {
    let reason = format!("tract cannot {what} it: {reason}; legal is a model of operators that tract has");
    BackendError::InvalidModel { model: request.name.to_owned(), reason }
}

/// The library's error with what it says of the place: the node and its operator.
fn words(error: impl std::fmt::Display) -> String {
    format!("{error:#}")
}
