//! Reads a script and says, line by line, what is wrong with it.

use std::collections::{BTreeMap, BTreeSet};

use aegis_types::graph::Edge;
use aegis_types::{Bytes, ContentHash, ExecutionGraph, Nanos, Node, NodeId, SegmentIndex};

use crate::backend::{ElementType, MemoryNeeds, ModelDescription, ModelRequest, TensorSpec};
use crate::error::BackendError;

/// Bytes that are handed from one segment to the next.
pub(super) const HANDED: Bytes = Bytes::new(8);
/// Inputs and outputs that a script may have each.
const TENSORS_MAX: usize = 256;
/// Segments that a script may have; validating a graph takes time in the square of it.
const SEGMENTS_MAX: usize = 1024;

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

/// A script that was read.
#[derive(Debug)]
pub(super) struct Script {
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    pub(super) weights: Bytes,
    pub(super) segments: Vec<Segment>,
}

/// A line `segment`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) shortest: Nanos,
    pub(super) longest: Nanos,
    pub(super) scratch: Bytes,
}

/// Reads the request's artifact; shapes are fixed as the request says.
pub(super) fn script(request: &ModelRequest<'_>) -> Result<Script, BackendError> {
    let invalid = |reason: String| BackendError::InvalidModel { model: request.name.into(), reason };
    let text = std::str::from_utf8(request.artifact)
        .map_err(|error| invalid(format!("not a script: byte {} is no UTF-8 text", error.valid_up_to())))?;
    let mut reader =
        Reader { request, script: Script::empty(), scratch: Bytes::ZERO, names: BTreeSet::new() };
    let numbered = text.lines().zip(1u32..);
    let meaningful = numbered.map(|(line, number)| (line.split('#').next().unwrap_or("").trim(), number));
    let mut lines = meaningful.filter(|(line, _)| !line.is_empty());
    if lines.next().map(|(line, _)| line) != Some("script 1") {
        return Err(invalid("the first line must be `script 1`".into()));
    }
    let mut ended = false;
    for (line, number) in lines {
        if ended {
            return Err(invalid(format!("line {number}: `{line}` stands behind `end`")));
        }
        if line == "end" {
            ended = true;
        } else {
            reader.line(line).map_err(|fault| fault.at(request.name, number, line))?;
        }
    }
    if !ended {
        return Err(invalid("the last line must be `end`: the script was cut off".into()));
    }
    reader.finish()
}

impl Script {
    const fn empty() -> Self {
        Self { inputs: Vec::new(), outputs: Vec::new(), weights: Bytes::ZERO, segments: Vec::new() }
    }

    /// What the runtime knows of the model.
    pub(super) fn describe(&self, request: &ModelRequest<'_>) -> Result<ModelDescription, BackendError> {
        let graph = self.graph().map_err(|error| BackendError::InvalidModel {
            model: request.name.into(),
            reason: error.to_string(),
        })?;
        let count = u32::try_from(self.segments.len()).unwrap_or(u32::MAX);
        Ok(ModelDescription {
            name: request.name.into(),
            hash: ContentHash::of(request.artifact),
            graph,
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            memory: MemoryNeeds {
                weights: self.weights,
                scratch: Some(self.segments.iter().map(|segment| segment.scratch).collect()),
            },
            operators: BTreeMap::from([("segment".to_owned(), count)]),
        })
    }

    /// Segments in a row, inputs before the first and outputs behind the last.
    fn graph(&self) -> Result<ExecutionGraph, aegis_types::GraphError> {
        if self.segments.is_empty() {
            return Err(aegis_types::GraphError::NoSegment);
        }
        let mut nodes: Vec<Node> = (0u16..)
            .zip(&self.segments)
            .map(|(index, segment)| Node::Segment {
                index: SegmentIndex::new(index),
                name: format!("segment {index}"),
                declared: segment.longest,
            })
            .collect();
        let node = |position: usize| NodeId(u32::try_from(position).unwrap_or(u32::MAX));
        let last = nodes.len().saturating_sub(1);
        let mut edges: Vec<Edge> =
            (0..last).map(|from| Edge { from: node(from), to: node(from + 1), bytes: HANDED }).collect();
        for TensorSpec { bytes, .. } in &self.inputs {
            edges.push(Edge { from: node(nodes.len()), to: node(0), bytes: *bytes });
            nodes.push(Node::CopyIn { bytes: *bytes });
        }
        for TensorSpec { bytes, .. } in &self.outputs {
            edges.push(Edge { from: node(last), to: node(nodes.len()), bytes: *bytes });
            nodes.push(Node::CopyOut { bytes: *bytes });
        }
        ExecutionGraph::build(nodes, edges)
    }
}

/// What is wrong: with a line, or with the shape of a tensor.
enum Fault {
    Line(String),
    Shape { tensor: String, reason: String },
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

struct Reader<'a> {
    request: &'a ModelRequest<'a>,
    script: Script,
    scratch: Bytes,
    names: BTreeSet<String>,
}

impl Reader<'_> {
    fn line(&mut self, line: &str) -> Result<(), Fault> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["input", name, element, shape] => {
                let spec = self.tensor(name, element, shape, true)?;
                push_bounded(&mut self.script.inputs, spec)
            }
            ["output", name, element, shape] => {
                let spec = self.tensor(name, element, shape, false)?;
                push_bounded(&mut self.script.outputs, spec)
            }
            ["weights", size] => quantity(size).map(|size| self.script.weights = size),
            ["scratch", size] => quantity(size).map(|size| self.scratch = size),
            ["segment", range] => self.segment(range, self.scratch),
            ["segment", range, "scratch", size] => self.segment(range, quantity(size)?),
            _ => Err(Fault::Line(
                "legal: `input NAME TYPE SHAPE`, `output NAME TYPE SHAPE`, `weights SIZE`, `scratch SIZE`, \
                 `segment DURATION`, `segment SHORTEST..LONGEST scratch SIZE`, `end`"
                    .into(),
            )),
        }
    }

    fn segment(&mut self, range: &str, scratch: Bytes) -> Result<(), Fault> {
        let (low, high) = range.split_once("..").unwrap_or((range, range));
        let (shortest, longest): (Nanos, Nanos) = (quantity(low)?, quantity(high)?);
        if shortest > longest {
            return Err(Fault::Line(format!(
                "{shortest} is longer than {longest}; legal: SHORTEST..LONGEST"
            )));
        }
        if self.script.segments.len() == SEGMENTS_MAX {
            return Err(Fault::Line(format!("one segment too many; legal: at most {SEGMENTS_MAX}")));
        }
        self.script.segments.push(Segment { shortest, longest, scratch });
        Ok(())
    }

    fn tensor(&mut self, name: &str, element: &str, shape: &str, input: bool) -> Result<TensorSpec, Fault> {
        if !self.names.insert(name.to_owned()) {
            return Err(Fault::Line(format!("`{name}` stands twice; legal: a name of its own")));
        }
        let Some((_, element)) = ELEMENTS.iter().find(|(word, _)| *word == element) else {
            let legal: Vec<&str> = ELEMENTS.iter().map(|(word, _)| *word).collect();
            return Err(Fault::Line(format!("`{element}` is no type; legal: {}", legal.join(", "))));
        };
        let fixed = if input { self.request.shapes.get(name).map(Vec::as_slice) } else { None };
        let shape = fix_shape(name, shape, fixed)?;
        let bytes = shape.iter().try_fold(element.size().get(), |product, &axis| product.checked_mul(axis));
        let bytes = bytes.filter(|&bytes| bytes > 0 && bytes <= u64::from(u32::MAX)).ok_or_else(|| {
            Fault::Shape { tensor: name.into(), reason: format!("{shape:?} is not between 1 B and 4 GiB") }
        })?;
        Ok(TensorSpec { name: name.into(), element: *element, shape, bytes: Bytes::new(bytes) })
    }

    fn finish(self) -> Result<Script, BackendError> {
        for name in self.request.shapes.keys() {
            if !self.script.inputs.iter().any(|input| input.name == *name) {
                let names: Vec<&str> = self.script.inputs.iter().map(|input| input.name.as_str()).collect();
                return Err(BackendError::Shape {
                    model: self.request.name.into(),
                    tensor: name.clone(),
                    reason: format!("the model has no such input; it has: {}", names.join(", ")),
                });
            }
        }
        Ok(self.script)
    }
}

fn push_bounded(tensors: &mut Vec<TensorSpec>, spec: TensorSpec) -> Result<(), Fault> {
    if tensors.len() == TENSORS_MAX {
        return Err(Fault::Line(format!("one tensor too many; legal: at most {TENSORS_MAX}")));
    }
    tensors.push(spec);
    Ok(())
}

fn quantity<Q: std::str::FromStr<Err = aegis_types::QuantityError>>(text: &str) -> Result<Q, Fault> {
    text.parse().map_err(|error: aegis_types::QuantityError| Fault::Line(error.to_string()))
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
