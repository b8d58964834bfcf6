//! A model file with cuts as the pieces that it says, each a model of its own, and how they are wired.

use std::collections::{BTreeMap, BTreeSet};

use aegis_cuda::{BackendError, MemoryNeeds, ModelDescription, ModelRequest, TensorSpec};
use aegis_types::graph::Edge;
use aegis_types::{Bytes, ContentHash, ExecutionGraph, Nanos, Node, NodeId, SegmentIndex};

use super::anatomy::{Anatomy, invalid};
use super::cuts;
use super::piece::Piece;
use super::tensors;
use crate::inspect::{self, Inspected};
use crate::library::OnnxRuntime;

/// Where a tensor that a piece reads or writes lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wire {
    /// In the buffer of this input of the model.
    Input(usize),
    /// In the buffer of this output of the model.
    Output(usize),
    /// In memory between pieces.
    Crossing(usize),
}

/// A piece as a model file of its own.
#[derive(Debug)]
pub(crate) struct Part {
    /// The model file.
    pub artifact: Vec<u8>,
    /// Where each of its inputs lies.
    pub inputs: Vec<Wire>,
    /// Where each of its outputs lies.
    pub outputs: Vec<Wire>,
    /// Constants as stored.
    pub weights: Bytes,
}

/// A model in pieces.
#[derive(Debug)]
pub(crate) struct Split {
    /// In execution order; at least two.
    pub parts: Vec<Part>,
    /// Tensors that lie in memory between pieces.
    pub crossing: Vec<TensorSpec>,
    /// Outputs of the model.
    pub outputs: Vec<TensorSpec>,
}

impl Split {
    /// Splits a model as its file says; `None` for one without cuts, which runs whole.
    ///
    /// # Errors
    /// [`BackendError::InvalidModel`] if a cut is not legal here, and what the library refuses of the whole model.
    pub(crate) fn of(
        runtime: &OnnxRuntime,
        request: &ModelRequest<'_>,
        inspected: &Inspected,
    ) -> Result<Option<Self>, BackendError> {
        let named = cuts::read(request.name, request.artifact)?;
        if named.is_empty() {
            return Ok(None);
        }
        let anatomy = Anatomy::read(request.name, request.artifact)?;
        let ranks = resolve(&anatomy, &named)?;
        let pieces = pieces(&anatomy, &ranks);
        let wanted: BTreeSet<&String> =
            pieces.iter().flat_map(|piece| piece.inputs.iter().chain(&piece.outputs)).collect();
        let inner = wanted.into_iter().filter(|name| !anatomy.inputs.contains(name)).cloned();
        let names: Vec<String> = inner.collect();
        let mut specs = tensors::learn(runtime, request, inspected, &names, None)?;
        specs.extend(inspected.inputs.iter().map(|spec| (spec.name.clone(), spec.clone())));
        Self::wire(request, &anatomy, inspected, &pieces, &specs).map(Some)
    }

    fn wire(
        request: &ModelRequest<'_>,
        anatomy: &Anatomy<'_>,
        inspected: &Inspected,
        pieces: &[Piece],
        specs: &BTreeMap<String, TensorSpec>,
    ) -> Result<Self, BackendError> {
        let unknown = |name: &String| {
            invalid(
                request.name,
                format!("`{name}` is not a dense tensor; nothing else can be bound to memory"),
            )
        };
        let spec = |name: &String| specs.get(name).cloned().ok_or_else(|| unknown(name));
        let outputs = anatomy.outputs.iter().map(spec).collect::<Result<Vec<_>, _>>()?;
        let mut crossing: Vec<TensorSpec> = Vec::new();
        let mut place = |name: &String| -> Result<Wire, BackendError> {
            if let Some(at) = inspected.inputs.iter().position(|input| input.name == *name) {
                return Ok(Wire::Input(at));
            }
            if let Some(at) = outputs.iter().position(|output| output.name == *name) {
                return Ok(Wire::Output(at));
            }
            if let Some(at) = crossing.iter().position(|known| known.name == *name) {
                return Ok(Wire::Crossing(at));
            }
            crossing.push(spec(name)?);
            Ok(Wire::Crossing(crossing.len() - 1))
        };
        let mut parts = Vec::with_capacity(pieces.len());
        for piece in pieces {
            check_crossing(request, anatomy, piece, specs)?;
            let artifact = piece.encode(anatomy, specs)?;
            let shapes = BTreeMap::new();
            let weights =
                inspect::inspect(&ModelRequest { artifact: &artifact, shapes: &shapes, ..*request })?;
            parts.push(Part {
                inputs: piece.inputs.iter().map(&mut place).collect::<Result<_, _>>()?,
                outputs: piece.outputs.iter().map(&mut place).collect::<Result<_, _>>()?,
                weights: weights.weights,
                artifact,
            });
        }
        Ok(Self { parts, crossing, outputs })
    }

    /// The description of the model: one segment for each piece.
    ///
    /// # Errors
    /// [`BackendError::InvalidModel`] if sizes overflow.
    pub(crate) fn describe(
        &self,
        request: &ModelRequest<'_>,
        inspected: &Inspected,
    ) -> Result<ModelDescription, BackendError> {
        let sum = |sum: Bytes, part: &Part| sum.checked_add(part.weights);
        let weights =
            self.parts.iter().try_fold(Bytes::ZERO, sum).ok_or_else(|| {
                invalid(request.name, "the weights of all pieces together overflow".to_owned())
            })?;
        Ok(ModelDescription {
            name: request.name.to_owned(),
            hash: ContentHash::of(request.artifact),
            graph: self.graph(request.name, &inspected.inputs)?,
            inputs: inspected.inputs.clone(),
            outputs: self.outputs.clone(),
            memory: MemoryNeeds { weights, scratch: None },
            operators: inspected.operators.clone(),
        })
    }

    /// Segments are the first nodes, in their order. All copies in belong to the first and all copies out to the last,
    /// whichever piece reads or writes the tensor; an edge without bytes stands where a piece takes nothing from the
    /// one before it, because it runs behind it all the same.
    fn graph(&self, model: &str, inputs: &[TensorSpec]) -> Result<ExecutionGraph, BackendError> {
        let overflow =
            || invalid(model, "more pieces and tensors than a graph of a job can number".to_owned());
        let id = |at: usize| u32::try_from(at).map(NodeId).map_err(|_| overflow());
        let mut nodes = Vec::new();
        for at in 0..self.parts.len() {
            let index = SegmentIndex::new(u16::try_from(at).map_err(|_| overflow())?);
            nodes.push(Node::Segment { index, name: format!("{model}.{at}"), declared: Nanos::ZERO });
        }
        let mut edges = self.handed()?;
        let last = id(self.parts.len().saturating_sub(1))?;
        for spec in inputs {
            edges.push(Edge { from: id(nodes.len())?, to: NodeId(0), bytes: spec.bytes });
            nodes.push(Node::CopyIn { bytes: spec.bytes });
        }
        for spec in &self.outputs {
            edges.push(Edge { from: last, to: id(nodes.len())?, bytes: spec.bytes });
            nodes.push(Node::CopyOut { bytes: spec.bytes });
        }
        ExecutionGraph::build(nodes, edges).map_err(|error| invalid(model, error.to_string()))
    }

    /// What pieces hand on. Each edge with bytes stands for memory of its own, so a tensor that several pieces read has
    /// one, to the last of them. Outputs that a later piece reads lie in the caller's buffer and have none.
    fn handed(&self) -> Result<Vec<Edge>, BackendError> {
        let id = |at: usize| NodeId(u32::try_from(at).unwrap_or(u32::MAX));
        let mut edges: Vec<Edge> = (1..self.parts.len())
            .map(|at| Edge { from: id(at - 1), to: id(at), bytes: Bytes::ZERO })
            .collect();
        for (tensor, spec) in self.crossing.iter().enumerate() {
            let wire = Wire::Crossing(tensor);
            let maker = self.parts.iter().position(|part| part.outputs.contains(&wire));
            let reader = self.parts.iter().rposition(|part| part.inputs.contains(&wire));
            if let (Some(maker), Some(reader)) = (maker, reader) {
                edges.push(Edge { from: id(maker), to: id(reader), bytes: spec.bytes });
            }
        }
        Ok(edges)
    }
}

/// The positions of cuts behind the nodes that make these tensors.
///
/// # Errors
/// [`BackendError::InvalidModel`] naming the tensor and what would be legal.
pub(super) fn resolve(anatomy: &Anatomy<'_>, named: &[String]) -> Result<Vec<usize>, BackendError> {
    let mut ranks = Vec::with_capacity(named.len());
    for name in named {
        let bad =
            |reason: &str| Err(invalid(&anatomy.model, format!("it is cut behind `{name}`, but {reason}")));
        let Some(rank) = anatomy.rank_of(name) else {
            return bad(
                "no node makes that tensor whose result depends on an input and reaches an output; legal is one that does",
            );
        };
        let behind = rank + 1;
        if behind == anatomy.live.len() {
            return bad("nothing runs behind it; legal is any node but the last");
        }
        if ranks.last().is_some_and(|&last| last >= behind) {
            return bad(
                "that does not lie behind the cut before it; legal are cuts in the order of the nodes",
            );
        }
        ranks.push(behind);
    }
    Ok(ranks)
}

/// The pieces between cuts.
pub(super) fn pieces(anatomy: &Anatomy<'_>, ranks: &[usize]) -> Vec<Piece> {
    let spans = anatomy.spans();
    let starts = std::iter::once(0).chain(ranks.iter().copied());
    let ends = ranks.iter().copied().chain([anatomy.live.len()]);
    starts.zip(ends).map(|(start, end)| Piece::of(anatomy, &spans, start..end)).collect()
}

/// Refuses tensors between pieces that must not be handed over.
fn check_crossing(
    request: &ModelRequest<'_>,
    anatomy: &Anatomy<'_>,
    piece: &Piece,
    specs: &BTreeMap<String, TensorSpec>,
) -> Result<(), BackendError> {
    for name in piece.inputs.iter().filter(|name| !anatomy.inputs.contains(name)) {
        if let Some(spec) = specs.get(name).filter(|spec| !tensors::may_cross(spec.element)) {
            let reason = format!(
                "tensor `{name}` of {:?} crosses a cut; legal are cuts that only numbers of floating point or of 8 \
                 bits cross",
                spec.element
            );
            return Err(invalid(request.name, reason));
        }
    }
    Ok(())
}
