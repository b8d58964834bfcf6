//! What the languages of text models share: lines between a head and `end`, tensors, shapes, a chain of segments.
//!
//! Every refusal names the line or the tensor, the value, and what would be legal.

use std::collections::BTreeSet;
use std::str::FromStr;

use aegis_types::graph::Edge;
use aegis_types::{Bytes, ExecutionGraph, GraphError, Nanos, Node, NodeId, QuantityError, SegmentIndex};

use crate::backend::{ElementType, ModelRequest, TensorSpec};
use crate::error::BackendError;

/// Segments that a model may have; validating a graph takes time in the square of it.
pub(crate) const SEGMENTS_MAX: usize = 1024;
/// Inputs and outputs that a model may have each.
const TENSORS_MAX: usize = 256;

const ELEMENTS: [(&str, ElementType); 13] = [
    ("f16", ElementType::F16),
    ("bf16", ElementType::Bf16),
    ("f32", ElementType::F32),
    ("f64", ElementType::F64),
    ("i8", ElementType::I8),
    ("i16", ElementType::I16),
    ("i32", ElementType::I32),
    ("i64", ElementType::I64),
    ("u8", ElementType::U8),
    ("u16", ElementType::U16),
    ("u32", ElementType::U32),
    ("u64", ElementType::U64),
    ("bool", ElementType::Bool),
];

/// What is wrong: with a line, or with the shape of a tensor.
pub(crate) enum Fault {
    /// The line that is read.
    Line(String),
    /// A tensor of it.
    Shape {
        /// Its name.
        tensor: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Fault {
    fn at(self, model: &str, number: u32, line: &str) -> BackendError {
        let model = model.to_owned();
        match self {
            Self::Line(reason) => {
                BackendError::InvalidModel { model, reason: format!("line {number}: `{line}`: {reason}") }
            }
            Self::Shape { tensor, reason } => BackendError::Shape { model, tensor, reason },
        }
    }
}

/// Hands every line between `head` and `end` to `line`, without comments and empty lines.
///
/// # Errors
/// What `line` refuses, with its number, and [`BackendError::InvalidModel`] for a text without its head or its end.
pub(crate) fn read_lines(
    request: &ModelRequest<'_>,
    head: &str,
    mut line: impl FnMut(&str) -> Result<(), Fault>,
) -> Result<(), BackendError> {
    let invalid = |reason: String| BackendError::InvalidModel { model: request.name.into(), reason };
    let text = std::str::from_utf8(request.artifact).map_err(|error| {
        invalid(format!("not a text that begins with `{head}`: byte {} is no UTF-8", error.valid_up_to()))
    })?;
    let numbered = text.lines().zip(1u32..);
    let meaningful = numbered.map(|(line, number)| (line.split('#').next().unwrap_or("").trim(), number));
    let mut lines = meaningful.filter(|(line, _)| !line.is_empty());
    if lines.next().map(|(line, _)| line) != Some(head) {
        return Err(invalid(format!("the first line must be `{head}`")));
    }
    let mut ended = false;
    for (content, number) in lines {
        if ended {
            return Err(invalid(format!("line {number}: `{content}` stands behind `end`")));
        }
        if content == "end" {
            ended = true;
        } else {
            line(content).map_err(|fault| fault.at(request.name, number, content))?;
        }
    }
    if ended { Ok(()) } else { Err(invalid("the last line must be `end`: the text was cut off".into())) }
}

/// The tensors of a model while it is read; shapes are fixed as the request says.
pub(crate) struct Tensors<'a> {
    request: &'a ModelRequest<'a>,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    names: BTreeSet<String>,
}

impl<'a> Tensors<'a> {
    /// None yet.
    pub(crate) const fn new(request: &'a ModelRequest<'a>) -> Self {
        Self { request, inputs: Vec::new(), outputs: Vec::new(), names: BTreeSet::new() }
    }

    /// A line `input NAME TYPE SHAPE`.
    pub(crate) fn input(&mut self, name: &str, element: &str, shape: &str) -> Result<(), Fault> {
        let fixed = self.request.shapes.get(name).map(Vec::as_slice);
        let spec = self.spec(name, element, shape, fixed)?;
        push_bounded(&mut self.inputs, spec)
    }

    /// A line `output NAME TYPE SHAPE`.
    pub(crate) fn output(&mut self, name: &str, element: &str, shape: &str) -> Result<(), Fault> {
        let spec = self.spec(name, element, shape, None)?;
        push_bounded(&mut self.outputs, spec)
    }

    fn spec(
        &mut self,
        name: &str,
        element: &str,
        shape: &str,
        fixed: Option<&[u64]>,
    ) -> Result<TensorSpec, Fault> {
        if !self.names.insert(name.to_owned()) {
            return Err(Fault::Line(format!("`{name}` stands twice; legal: a name of its own")));
        }
        let Some((_, element)) = ELEMENTS.iter().find(|(word, _)| *word == element) else {
            let legal: Vec<&str> = ELEMENTS.iter().map(|(word, _)| *word).collect();
            return Err(Fault::Line(format!("`{element}` is no type; legal: {}", legal.join(", "))));
        };
        let shape = fix_shape(name, shape, fixed)?;
        let bytes = shape.iter().try_fold(element.size().get(), |product, &axis| product.checked_mul(axis));
        let bytes = bytes.filter(|&bytes| bytes > 0 && bytes <= u64::from(u32::MAX)).ok_or_else(|| {
            Fault::Shape { tensor: name.into(), reason: format!("{shape:?} is not between 1 B and 4 GiB") }
        })?;
        Ok(TensorSpec { name: name.into(), element: *element, shape, bytes: Bytes::new(bytes) })
    }

    /// Inputs and outputs.
    ///
    /// # Errors
    /// [`BackendError::Shape`] if the request fixes the shape of an input that is not there.
    pub(crate) fn finish(self) -> Result<(Vec<TensorSpec>, Vec<TensorSpec>), BackendError> {
        for name in self.request.shapes.keys() {
            if !self.inputs.iter().any(|input| input.name == *name) {
                let names: Vec<&str> = self.inputs.iter().map(|input| input.name.as_str()).collect();
                return Err(BackendError::Shape {
                    model: self.request.name.into(),
                    tensor: name.clone(),
                    reason: format!("the model has no such input; it has: {}", names.join(", ")),
                });
            }
        }
        Ok((self.inputs, self.outputs))
    }
}

/// Segments in a row, inputs before the first and outputs behind the last; `handed` bytes go from one to the next.
///
/// # Errors
/// [`GraphError::NoSegment`] without any.
pub(crate) fn chain(
    declared: impl Iterator<Item = Nanos>,
    handed: Bytes,
    inputs: &[TensorSpec],
    outputs: &[TensorSpec],
) -> Result<ExecutionGraph, GraphError> {
    let mut nodes: Vec<Node> = (0u16..)
        .zip(declared)
        .map(|(index, declared)| Node::Segment {
            index: SegmentIndex::new(index),
            name: format!("segment {index}"),
            declared,
        })
        .collect();
    if nodes.is_empty() {
        return Err(GraphError::NoSegment);
    }
    let node = |position: usize| NodeId(u32::try_from(position).unwrap_or(u32::MAX));
    let last = nodes.len().saturating_sub(1);
    let mut edges: Vec<Edge> =
        (0..last).map(|from| Edge { from: node(from), to: node(from + 1), bytes: handed }).collect();
    for TensorSpec { bytes, .. } in inputs {
        edges.push(Edge { from: node(nodes.len()), to: node(0), bytes: *bytes });
        nodes.push(Node::CopyIn { bytes: *bytes });
    }
    for TensorSpec { bytes, .. } in outputs {
        edges.push(Edge { from: node(last), to: node(nodes.len()), bytes: *bytes });
        nodes.push(Node::CopyOut { bytes: *bytes });
    }
    ExecutionGraph::build(nodes, edges)
}

/// A quantity with its unit.
pub(crate) fn quantity<Q: FromStr<Err = QuantityError>>(text: &str) -> Result<Q, Fault> {
    text.parse().map_err(|error: QuantityError| Fault::Line(error.to_string()))
}

fn push_bounded(tensors: &mut Vec<TensorSpec>, spec: TensorSpec) -> Result<(), Fault> {
    if tensors.len() == TENSORS_MAX {
        return Err(Fault::Line(format!("one tensor too many; legal: at most {TENSORS_MAX}")));
    }
    tensors.push(spec);
    Ok(())
}

/// The shape as written, with `?` replaced by what the request fixes.
fn fix_shape(tensor: &str, text: &str, fixed: Option<&[u64]>) -> Result<Vec<u64>, Fault> {
    let bad = |reason: String| Fault::Shape { tensor: tensor.into(), reason };
    let axes: Vec<&str> = if text == "scalar" { Vec::new() } else { text.split('x').collect() };
    if let Some(fixed) = fixed
        && fixed.len() != axes.len()
    {
        return Err(bad(format!("the request fixes {} axes, the model has {}", fixed.len(), axes.len())));
    }
    let resolve = |(position, axis): (usize, &&str)| {
        let asked = fixed.and_then(|fixed| fixed.get(position)).copied();
        if *axis == "?" {
            return asked.ok_or_else(|| bad(format!("axis {position} is dynamic and no shape fixes it")));
        }
        let length: u64 = axis.parse().map_err(|_| {
            bad(format!("axis {position} is `{axis}`; legal: a number or `?`, joined by `x`, or `scalar`"))
        })?;
        match asked {
            Some(asked) if asked != length => {
                Err(bad(format!("axis {position} is {length} in the model, {asked} in the request")))
            }
            _ => Ok(length),
        }
    };
    axes.iter().enumerate().map(resolve).collect()
}
