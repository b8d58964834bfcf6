//! A piece of a model as a model of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use aegis_cuda::{BackendError, TensorSpec};
use prost::Message;

use super::anatomy::{Anatomy, Spans, invalid};
use crate::elements;
use crate::proto::{Dimension, TensorShape, TensorType, TypeProto, ValueInfo};
use crate::wire;

/// Field numbers of the file format.
const GRAPH: u32 = 7;
const INPUT: u32 = 11;
const OUTPUT: u32 = 12;

/// The live nodes of a range with everything that they need, and what passes in and out.
#[derive(Debug)]
pub(super) struct Piece {
    /// Tensors that it reads and does not make: inputs of the model, then what earlier pieces hand over.
    pub inputs: Vec<String>,
    /// Tensors that outputs of the model or later pieces read.
    pub outputs: Vec<String>,
    /// Its nodes, fixed ones included, by position.
    nodes: BTreeSet<usize>,
    constants: BTreeSet<String>,
}

impl Piece {
    /// The piece that consists of the live nodes at `ranks`. `spans` are those of the anatomy.
    pub(super) fn of(anatomy: &Anatomy<'_>, spans: &Spans, ranks: Range<usize>) -> Self {
        let bound: BTreeSet<&String> = anatomy.inputs.iter().collect();
        let mut gathered = Gathered::nothing(anatomy, bound, ranks.clone());
        let mut outputs = Vec::new();
        for rank in ranks.clone() {
            gathered.nodes.insert(anatomy.live[rank]);
            let node = anatomy.live_node(rank);
            gathered.need(&node.reads);
            let leaves = |name: &&String| {
                let later = spans.get(name.as_str()).is_some_and(|span| span.1 >= ranks.end);
                later || anatomy.outputs.contains(name)
            };
            outputs.extend(node.makes.iter().filter(leaves).cloned());
        }
        if ranks.end == anatomy.live.len() {
            // Outputs that are the same in every job come with the last piece.
            let made = |name: &&String| anatomy.rank_of(name).is_none();
            let constant: Vec<String> = anatomy.outputs.iter().filter(made).cloned().collect();
            gathered.need(&constant);
            outputs.extend(constant);
        }
        let of_model = anatomy.inputs.iter().filter(|name| gathered.read.contains(*name)).cloned();
        let handed = gathered.read.iter().filter(|name| !gathered.bound.contains(name)).cloned();
        let inputs = of_model.chain(handed).collect();
        Self { inputs, outputs, nodes: gathered.nodes, constants: gathered.constants }
    }

    /// The model file of the piece, with every input and output of the shape in `specs`.
    ///
    /// # Errors
    /// [`BackendError::InvalidModel`] naming a tensor that `specs` lacks.
    pub(super) fn encode(
        &self,
        anatomy: &Anatomy<'_>,
        specs: &BTreeMap<String, TensorSpec>,
    ) -> Result<Vec<u8>, BackendError> {
        let mut graph: Vec<u8> = Vec::new();
        self.nodes.iter().for_each(|&at| graph.extend_from_slice(anatomy.nodes[at].whole));
        let constants = self.constants.iter().filter_map(|name| anatomy.constants.get(name));
        constants.flatten().for_each(|whole| graph.extend_from_slice(whole));
        for (field, names) in [(INPUT, &self.inputs), (OUTPUT, &self.outputs)] {
            for name in names {
                let spec = specs.get(name).ok_or_else(|| {
                    invalid(&anatomy.model, format!("nobody knows type and shape of tensor `{name}`"))
                })?;
                wire::put(&mut graph, field, &value_info(name, spec).encode_to_vec());
            }
        }
        for name in self.nodes.iter().flat_map(|&at| &anatomy.nodes[at].makes) {
            if let Some(note) = anatomy.notes.get(name).filter(|_| !self.outputs.contains(name)) {
                graph.extend_from_slice(note);
            }
        }
        anatomy.rest.iter().for_each(|whole| graph.extend_from_slice(whole));
        let mut model: Vec<u8> = anatomy.frame.concat();
        wire::put(&mut model, GRAPH, &graph);
        Ok(model)
    }
}

/// What a piece turns out to need.
struct Gathered<'a, 'b> {
    anatomy: &'a Anatomy<'b>,
    bound: BTreeSet<&'a String>,
    ranks: Range<usize>,
    nodes: BTreeSet<usize>,
    constants: BTreeSet<String>,
    read: BTreeSet<String>,
}

impl<'a, 'b> Gathered<'a, 'b> {
    fn nothing(anatomy: &'a Anatomy<'b>, bound: BTreeSet<&'a String>, ranks: Range<usize>) -> Self {
        let (nodes, constants, read) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        Self { anatomy, bound, ranks, nodes, constants, read }
    }

    /// Takes in what makes these tensors: constants and fixed nodes as they are, everything else as an input.
    fn need(&mut self, tensors: &[String]) {
        let mut needed: Vec<&str> = tensors.iter().map(String::as_str).collect();
        while let Some(name) = needed.pop() {
            if self.anatomy.constants.contains_key(name) {
                self.constants.insert(name.to_owned());
                continue;
            }
            match self.anatomy.maker(name) {
                Some(at) if self.anatomy.nodes[at].fixed => {
                    if self.nodes.insert(at) {
                        needed.extend(self.anatomy.nodes[at].reads.iter().map(String::as_str));
                    }
                }
                Some(_) if self.anatomy.rank_of(name).is_some_and(|rank| self.ranks.contains(&rank)) => {}
                Some(_) | None => {
                    self.read.insert(name.to_owned());
                }
            }
        }
    }
}

fn value_info(name: &str, spec: &TensorSpec) -> ValueInfo {
    let axis = |&length: &u64| Dimension { value: i64::try_from(length).ok(), param: None };
    let shape = TensorShape { dim: spec.shape.iter().map(axis).collect() };
    let tensor = TensorType { elem_type: elements::vendor(spec.element) as i32, shape: Some(shape) };
    ValueInfo { name: name.to_owned(), r#type: Some(TypeProto { tensor_type: Some(tensor) }) }
}
