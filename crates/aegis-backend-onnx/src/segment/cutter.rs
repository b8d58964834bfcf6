//! Where a model may be cut, its pieces as models of their own, and the file with the cuts.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use aegis_cuda::{BackendError, ModelRequest, TensorSpec};
use aegis_types::Bytes;

use super::anatomy::{Anatomy, Spans, invalid};
use super::cuts;
use super::piece::Piece;
use super::split;
use super::tensors;
use crate::inspect::{self, Inspected};
use crate::library::OnnxRuntime;

/// Tensors that are looked at in one run of the whole model: all of them are kept until it ends.
const LOOKED_AT: usize = 64;

/// A place where a model may be cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// A tensor that the last node before the cut makes: the cut's name.
    pub tensor: String,
    /// Tensors that cross it.
    pub crossing: Vec<TensorSpec>,
    /// What they take between segments. Outputs of the model lie in the caller's buffers and take nothing.
    pub bytes: Bytes,
}

/// A model with its axes fixed that may be cut. Between two neighbouring candidates lies an *atom*: nodes that always
/// run together. Pieces are ranges of atoms.
#[derive(Debug)]
pub struct Cutter<'a> {
    artifact: &'a [u8],
    anatomy: Anatomy<'a>,
    spans: Spans,
    specs: BTreeMap<String, TensorSpec>,
    inputs: Vec<TensorSpec>,
    candidates: Vec<Candidate>,
    /// Positions of the candidates among the live nodes.
    ranks: Vec<usize>,
}

impl<'a> Cutter<'a> {
    /// Finds every place where a model may be cut: between nodes, where only dense tensors of floating-point or 8-bit
    /// numbers cross whose shapes do not depend on data. The library runs the whole model a few times for that, outside
    /// of any budget. Cuts that the file lists already are passed over.
    ///
    /// # Errors
    /// As [`aegis_cuda::BackendLoader::inspect`]; [`BackendError::UnsupportedNode`] for control flow.
    pub fn open(runtime: &OnnxRuntime, request: &ModelRequest<'a>) -> Result<Self, BackendError> {
        let anatomy = Anatomy::read(request.name, request.artifact)?;
        let inspected = inspect::inspect(request)?;
        let spans = anatomy.spans();
        let specs = all_specs(runtime, request, &inspected, &anatomy, &spans)?;
        let mut found = Vec::new();
        for rank in 1..anatomy.live.len() {
            if let Some(candidate) = candidate(&anatomy, &spans, &specs, rank) {
                found.push((rank, candidate));
            }
        }
        let (ranks, candidates) = found.into_iter().unzip();
        let (artifact, inputs) = (request.artifact, inspected.inputs);
        Ok(Self { artifact, anatomy, spans, specs, inputs, candidates, ranks })
    }

    /// Places where it may be cut, in the order in which its nodes run.
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// How many pieces it has if it is cut everywhere: one more than candidates.
    pub fn atoms(&self) -> usize {
        self.candidates.len() + 1
    }

    /// Inputs of the whole model.
    pub fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    /// The nodes of a piece, for people: name and operator.
    pub fn nodes(&self, atoms: Range<usize>) -> Vec<String> {
        let label = |rank| {
            let node = self.anatomy.live_node(rank);
            format!("{} ({})", node.label, node.operator)
        };
        (self.rank(atoms.start)..self.rank(atoms.end)).map(label).collect()
    }

    /// A piece as a model file with every axis fixed.
    ///
    /// # Errors
    /// [`BackendError::InvalidModel`] naming a tensor that cannot be bound.
    pub fn piece(&self, atoms: Range<usize>) -> Result<Vec<u8>, BackendError> {
        let ranks = self.rank(atoms.start)..self.rank(atoms.end);
        if ranks.is_empty() {
            let reason = format!("atoms {atoms:?} are no piece; there are {}", self.atoms());
            return Err(invalid(&self.anatomy.model, reason));
        }
        Piece::of(&self.anatomy, &self.spans, ranks).encode(&self.anatomy, &self.specs)
    }

    /// The candidate that lies right behind the node that makes `tensor`, as a number of atoms before it.
    ///
    /// # Errors
    /// [`BackendError::InvalidModel`] if there is none, and why.
    pub fn behind(&self, tensor: &str) -> Result<usize, BackendError> {
        let ranks = split::resolve(&self.anatomy, &[tensor.to_owned()])?;
        let at = ranks.first().and_then(|rank| self.ranks.binary_search(rank).ok());
        at.map(|at| at + 1).ok_or_else(|| {
            let reason = format!(
                "it cannot be cut behind `{tensor}`: something else than floating-point or 8-bit numbers of fixed shape \
                 crosses there"
            );
            invalid(&self.anatomy.model, reason)
        })
    }

    /// The model file with these cuts and no others, each given by the number of atoms before it, rising.
    ///
    /// # Errors
    /// [`BackendError::InvalidModel`] if a number is no candidate's.
    pub fn write(&self, cuts: &[usize]) -> Result<Vec<u8>, BackendError> {
        let tensor = |&cut: &usize| {
            let candidate = cut.checked_sub(1).and_then(|at| self.candidates.get(at));
            candidate.map(|candidate| candidate.tensor.clone()).ok_or_else(|| {
                invalid(
                    &self.anatomy.model,
                    format!("cut {cut} is none; there are {}", self.candidates.len()),
                )
            })
        };
        let tensors = cuts.iter().map(tensor).collect::<Result<Vec<_>, _>>()?;
        Ok(cuts::write(self.artifact, &tensors))
    }

    /// The position among the live nodes where an atom starts.
    fn rank(&self, atom: usize) -> usize {
        match atom.checked_sub(1) {
            None => 0,
            Some(at) => self.ranks.get(at).copied().unwrap_or(self.anatomy.live.len()),
        }
    }
}

/// Types and shapes of everything that a cut anywhere could hand over, and of inputs and outputs.
fn all_specs(
    runtime: &OnnxRuntime,
    request: &ModelRequest<'_>,
    inspected: &Inspected,
    anatomy: &Anatomy<'_>,
    spans: &Spans,
) -> Result<BTreeMap<String, TensorSpec>, BackendError> {
    let read_later = spans.iter().filter(|(_, span)| span.1 > span.0).map(|(name, _)| name);
    let names: BTreeSet<&String> = read_later.chain(&anatomy.outputs).collect();
    let names: Vec<String> = names.into_iter().cloned().collect();
    let mut specs = BTreeMap::new();
    for some in names.chunks(LOOKED_AT) {
        specs.extend(tensors::learn(runtime, request, inspected, some, Some(tensors::ones))?);
    }
    specs.extend(inspected.inputs.iter().map(|spec| (spec.name.clone(), spec.clone())));
    Ok(specs)
}

/// The cut before the live node at `rank`, if it is legal.
fn candidate(
    anatomy: &Anatomy<'_>,
    spans: &Spans,
    specs: &BTreeMap<String, TensorSpec>,
    rank: usize,
) -> Option<Candidate> {
    let made = &anatomy.live_node(rank - 1).makes;
    let tensor = made.iter().find(|name| cuts::is_writable(name))?.clone();
    let crosses = |span: &(usize, usize)| span.0 < rank && rank <= span.1;
    let crossing = spans
        .iter()
        .filter(|(_, span)| crosses(span))
        .map(|(name, _)| specs.get(name).filter(|spec| tensors::may_cross(spec.element)).cloned())
        .collect::<Option<Vec<TensorSpec>>>()?;
    let kept = crossing.iter().filter(|spec| !anatomy.outputs.contains(&spec.name));
    let bytes = kept.map(|spec| spec.bytes).try_fold(Bytes::ZERO, Bytes::checked_add)?;
    Some(Candidate { tensor, crossing, bytes })
}
