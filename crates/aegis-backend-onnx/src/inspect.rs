//! Reads a model file without running anything: inputs, outputs, weights, operators, control flow.
//!
//! Everything that can be refused from the file alone is refused here, by name, before the vendor library sees it.

use std::collections::{BTreeMap, BTreeSet};

use aegis_cuda::{BackendError, ModelRequest, TensorSpec};
use aegis_types::Bytes;
use prost::Message;

use crate::elements;
use crate::proto::{
    EXTERNAL_DATA, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto, ValueInfo,
};
use crate::shapes::{self, NamedAxes, OpenOutput};

/// What the file tells of a model, with the request's shapes applied.
pub(crate) struct Inspected {
    /// Inputs that the caller binds, in the file's order.
    pub inputs: Vec<TensorSpec>,
    /// Outputs, of which some axes may be open.
    pub outputs: Vec<OpenOutput>,
    /// Axes to be fixed by name in the vendor library.
    pub named: NamedAxes,
    /// Constants as stored.
    pub weights: Bytes,
    /// Operators with how often they occur, bodies of control flow included.
    pub operators: BTreeMap<String, u32>,
    /// Node names by operator, to name the node when the vendor library only names the operator.
    pub nodes: BTreeMap<String, String>,
}

/// Reads and validates a model file.
///
/// # Errors
/// [`BackendError::InvalidModel`], [`BackendError::UnsupportedNode`] or [`BackendError::Shape`], all Permanent.
pub(crate) fn inspect(request: &ModelRequest<'_>) -> Result<Inspected, BackendError> {
    let model = decode(request)?;
    let graph = model
        .graph
        .as_ref()
        .ok_or_else(|| invalid(request, "it has no graph; the file is cut or is no ONNX model"))?;
    let mut walk = Walk { request, weights: 0, operators: BTreeMap::new(), nodes: BTreeMap::new() };
    walk.graph(graph)?;
    for function in &model.functions {
        walk.nodes(&function.node)?;
    }
    let (inputs, named) = shapes::fix_inputs(request, &bound_inputs(graph))?;
    let outputs = graph
        .output
        .iter()
        .map(|output| shapes::open_output(request.name, output, &named))
        .collect::<Result<Vec<_>, _>>()?;
    if outputs.is_empty() {
        return Err(invalid(request, "it has no output, so running it would have no effect"));
    }
    check_names(graph).map_err(|reason| invalid(request, &reason))?;
    // The library leaves the caller's output buffer as it was then: it knows the value already.
    if let Some(output) = graph.output.iter().find(|output| graph.input.iter().any(|i| i.name == output.name))
    {
        let reason = format!("output `{}` is an input passed through, which no operator writes", output.name);
        return Err(invalid(request, &reason));
    }
    let Walk { weights, operators, nodes, .. } = walk;
    Ok(Inspected { inputs, outputs, named, weights: Bytes::new(weights), operators, nodes })
}

fn decode(request: &ModelRequest<'_>) -> Result<ModelProto, BackendError> {
    if request.artifact.is_empty() {
        return Err(invalid(request, "the file is empty"));
    }
    let model = ModelProto::decode(request.artifact).map_err(|error| {
        let size = request.artifact.len();
        invalid(request, &format!("the file of {size} B is cut or is no ONNX model ({error})"))
    })?;
    if model.ir_version <= 0 {
        return Err(invalid(request, "it has no format version; the file is cut or is no ONNX model"));
    }
    if model.opset_import.is_empty() {
        return Err(invalid(request, "it names no operator set; the file is cut or is no ONNX model"));
    }
    Ok(model)
}

/// Older files list constants among the inputs; nobody binds those.
fn bound_inputs(graph: &GraphProto) -> Vec<&ValueInfo> {
    let dense = graph.initializer.iter().map(|tensor| tensor.name.as_str());
    let sparse = graph.sparse_initializer.iter().filter_map(|tensor| tensor.values.as_ref());
    let constants: BTreeSet<&str> = dense.chain(sparse.map(|values| values.name.as_str())).collect();
    graph.input.iter().filter(|input| !constants.contains(input.name.as_str())).collect()
}

/// Whether every input and output is one of its own, and something makes each output. Tensors are bound by name.
fn check_names(graph: &GraphProto) -> Result<(), String> {
    for (what, tensors) in [("input", &graph.input), ("output", &graph.output)] {
        let mut known = BTreeSet::new();
        for (number, tensor) in tensors.iter().enumerate() {
            if tensor.name.is_empty() {
                return Err(format!("{what} {number} has no name; legal is a name of its own for each"));
            }
            if !known.insert(tensor.name.as_str()) {
                return Err(format!("{what} `{}` is listed twice; legal is once", tensor.name));
            }
        }
    }
    let sparse = graph.sparse_initializer.iter().filter_map(|tensor| tensor.values.as_ref());
    let constants = graph.initializer.iter().chain(sparse).map(|tensor| &tensor.name);
    let inputs = graph.input.iter().map(|input| &input.name);
    let made: BTreeSet<&String> =
        graph.node.iter().flat_map(|node| &node.output).chain(constants).chain(inputs).collect();
    match graph.output.iter().find(|output| !made.contains(&output.name)) {
        Some(output) => Err(format!("no operator makes output `{}`", output.name)),
        None => Ok(()),
    }
}

fn invalid(request: &ModelRequest<'_>, reason: &str) -> BackendError {
    BackendError::InvalidModel { model: request.name.to_owned(), reason: reason.to_owned() }
}

/// Walks graphs and the graphs inside their nodes. The decoder's own nesting limit bounds the recursion.
struct Walk<'a> {
    request: &'a ModelRequest<'a>,
    weights: u64,
    operators: BTreeMap<String, u32>,
    nodes: BTreeMap<String, String>,
}

impl Walk<'_> {
    fn graph(&mut self, graph: &GraphProto) -> Result<(), BackendError> {
        for tensor in &graph.initializer {
            self.constant(tensor)?;
        }
        for sparse in &graph.sparse_initializer {
            self.sparse(sparse)?;
        }
        self.nodes(&graph.node)
    }

    fn nodes(&mut self, nodes: &[NodeProto]) -> Result<(), BackendError> {
        nodes.iter().try_for_each(|node| self.node(node))
    }

    fn node(&mut self, node: &NodeProto) -> Result<(), BackendError> {
        let bodies = || node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs));
        let control_flow = is_control_flow(node) || bodies().next().is_some();
        if control_flow && !self.request.allow_control_flow {
            return Err(BackendError::UnsupportedNode {
                model: self.request.name.to_owned(),
                node: node_name(node),
                operator: node.op_type.clone(),
                reason: "control flow makes the time of a job depend on its data; with `allow_control_flow = true` \
                         the model runs as one opaque segment, whose budget covers only what was measured"
                    .to_owned(),
            });
        }
        let operator = operator_name(node);
        self.nodes.entry(operator.clone()).or_insert_with(|| node_name(node));
        let count = self.operators.entry(operator).or_default();
        *count = count.saturating_add(1);
        for attribute in &node.attribute {
            attribute.t.iter().chain(&attribute.tensors).try_for_each(|tensor| self.constant(tensor))?;
            attribute.sparse_tensor.iter().try_for_each(|tensor| self.sparse(tensor))?;
        }
        bodies().try_for_each(|body| self.graph(body))
    }

    fn sparse(&mut self, tensor: &SparseTensorProto) -> Result<(), BackendError> {
        tensor.values.iter().chain(&tensor.indices).try_for_each(|part| self.constant(part))
    }

    fn constant(&mut self, tensor: &TensorProto) -> Result<(), BackendError> {
        let fail = |reason: String| invalid(self.request, &format!("constant `{}` {reason}", tensor.name));
        if tensor.data_location == EXTERNAL_DATA {
            return Err(fail("lies in another file; legal is an artifact that was completed".to_owned()));
        }
        let bytes = stored_bytes(tensor).ok_or_else(|| {
            fail(format!("has no legal size: type {}, axes {:?}", tensor.data_type, tensor.dims))
        })?;
        if let Some(raw) = tensor.raw_data.as_ref().filter(|raw| raw.len() as u64 != bytes) {
            return Err(fail(format!(
                "holds {} B, but its axes {:?} need {bytes} B",
                raw.len(),
                tensor.dims
            )));
        }
        self.weights =
            self.weights.checked_add(bytes).ok_or_else(|| fail("overflows the sum of weights".to_owned()))?;
        Ok(())
    }
}

/// Size of a constant as stored without packing overhead; `None` if its type or axes are illegal.
fn stored_bytes(tensor: &TensorProto) -> Option<u64> {
    if !tensor.string_data.is_empty() {
        return Some(tensor.string_data.iter().map(|text| text.len() as u64).sum());
    }
    let elements =
        tensor.dims.iter().try_fold(1u64, |product, &axis| product.checked_mul(u64::try_from(axis).ok()?))?;
    if elements == 0 {
        return Some(0);
    }
    Some(elements.checked_mul(elements::stored_bits(tensor.data_type)?)?.div_ceil(8))
}

fn is_control_flow(node: &NodeProto) -> bool {
    in_standard_domain(node) && matches!(node.op_type.as_str(), "If" | "Loop" | "Scan" | "SequenceMap")
}

fn in_standard_domain(node: &NodeProto) -> bool {
    node.domain.is_empty() || node.domain == "ai.onnx"
}

/// The operator, with its domain unless it is the standard one.
fn operator_name(node: &NodeProto) -> String {
    if in_standard_domain(node) { node.op_type.clone() } else { format!("{}.{}", node.domain, node.op_type) }
}

/// The node's name, or what identifies a nameless node: its first output.
fn node_name(node: &NodeProto) -> String {
    match node.output.first() {
        _ if !node.name.is_empty() => node.name.clone(),
        Some(output) => format!("(nameless, makes `{output}`)"),
        None => "(nameless)".to_owned(),
    }
}
