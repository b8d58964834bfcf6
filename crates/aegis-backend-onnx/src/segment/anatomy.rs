//! What a model consists of: nodes in an order in which they can run, what they read and make, and the bytes that say
//! so.
//!
//! Positions of cuts count *live* nodes: those whose results depend on an input and reach an output. Nodes that depend
//! on no input's data are *fixed*: they are repeated in every piece that needs them instead of having their results
//! handed over, which costs nothing where the library folds constants. The shape of an input is fixed too, because a
//! request fixes it.

use std::collections::{BTreeMap, BTreeSet};

use aegis_cuda::BackendError;
use prost::Message;

use super::cuts;
use crate::wire::{self, Field};

/// A field of a graph by its number in the file format.
mod number {
    pub(super) const GRAPH: u32 = 7;
    pub(super) const NODE: u32 = 1;
    pub(super) const INITIALIZER: u32 = 5;
    pub(super) const INPUT: u32 = 11;
    pub(super) const OUTPUT: u32 = 12;
    pub(super) const VALUE_INFO: u32 = 13;
    pub(super) const QUANTIZATION: u32 = 14;
    pub(super) const SPARSE_INITIALIZER: u32 = 15;
}

/// A node as far as its place in the graph matters.
#[derive(Clone, PartialEq, Message)]
struct NodeEnds {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    op_type: String,
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<Bodies>,
    #[prost(string, tag = "7")]
    domain: String,
}

/// The graphs inside an attribute, which nobody here reads.
#[derive(Clone, PartialEq, Message)]
struct Bodies {
    #[prost(bytes = "vec", optional, tag = "6")]
    g: Option<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "11")]
    graphs: Vec<Vec<u8>>,
}

/// The name of an input, output or described tensor.
#[derive(Clone, PartialEq, Message)]
struct NamedValue {
    #[prost(string, tag = "1")]
    name: String,
}

/// The name of a constant.
#[derive(Clone, PartialEq, Message)]
struct NamedTensor {
    #[prost(string, tag = "8")]
    name: String,
}

/// A constant of which some elements are stored, named by its values.
#[derive(Clone, PartialEq, Message)]
struct NamedSparse {
    #[prost(message, optional, tag = "1")]
    values: Option<NamedTensor>,
}

/// A node.
#[derive(Debug)]
pub(super) struct Node<'a> {
    /// The field of the graph that holds it.
    pub whole: &'a [u8],
    /// For people: its name or what it makes.
    pub label: String,
    /// The operator.
    pub operator: String,
    /// Tensors that it reads.
    pub reads: Vec<String>,
    /// Tensors that it makes.
    pub makes: Vec<String>,
    /// Whether its results are the same in every job.
    pub fixed: bool,
    /// Whether equal inputs give equal results.
    deterministic: bool,
    /// Whether there are graphs inside.
    bodies: bool,
}

/// A model taken apart. Borrows the file's bytes.
#[derive(Debug)]
pub(super) struct Anatomy<'a> {
    /// The name it goes by in messages.
    pub model: String,
    /// Fields of the model beside its graph and its cuts.
    pub frame: Vec<&'a [u8]>,
    /// Fields of the graph that belong to no node, constant or tensor.
    pub rest: Vec<&'a [u8]>,
    /// Nodes in an order in which they can run: the file's, as far as it is one.
    pub nodes: Vec<Node<'a>>,
    /// Positions in `nodes` of the live ones, in their order: what cuts lie between.
    pub live: Vec<usize>,
    /// Fields that make a constant, by its name.
    pub constants: BTreeMap<String, Vec<&'a [u8]>>,
    /// Inputs that the caller binds, in the file's order.
    pub inputs: Vec<String>,
    /// Outputs in the file's order.
    pub outputs: Vec<String>,
    /// What the file says of tensors inside the graph, by name.
    pub notes: BTreeMap<String, &'a [u8]>,
    /// Which node makes a tensor.
    makers: BTreeMap<String, usize>,
    /// Positions among the live nodes.
    ranks: BTreeMap<usize, usize>,
}

/// For every tensor that a live node makes, the positions of its maker and of its last live reader.
pub(super) type Spans = BTreeMap<String, (usize, usize)>;

impl<'a> Anatomy<'a> {
    /// Takes a model apart.
    ///
    /// # Errors
    /// [`BackendError::UnsupportedNode`] for a node with graphs inside: they read tensors of the graph around them
    /// that the node does not list, so nobody sees what would cross a cut. [`BackendError::InvalidModel`] for what is
    /// no graph.
    pub(super) fn read(model: &str, artifact: &'a [u8]) -> Result<Self, BackendError> {
        let broken = || invalid(model, "the file is cut or is no ONNX model".to_owned());
        let (mut frame, mut graph) = (Vec::new(), None);
        for field in wire::fields(artifact).ok_or_else(broken)? {
            if field.number == number::GRAPH {
                graph = Some(field.payload);
            } else if !cuts::is_cuts(&field) {
                frame.push(field.whole);
            }
        }
        let mut anatomy = Self {
            model: model.to_owned(),
            frame,
            rest: Vec::new(),
            nodes: Vec::new(),
            live: Vec::new(),
            constants: BTreeMap::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            notes: BTreeMap::new(),
            makers: BTreeMap::new(),
            ranks: BTreeMap::new(),
        };
        let fields = graph.and_then(wire::fields).ok_or_else(broken)?;
        fields.iter().try_for_each(|field| anatomy.take(field).ok_or_else(broken))?;
        anatomy.nodes.iter().try_for_each(|node| refuse_bodies(model, node))?;
        anatomy.settle_inputs(&fields);
        anatomy.sort()?;
        anatomy.mark_fixed();
        anatomy.mark_live();
        Ok(anatomy)
    }

    /// Takes in one field of the graph; `None` if it is broken.
    fn take(&mut self, field: &Field<'a>) -> Option<()> {
        let value = || Some(NamedValue::decode(field.payload).ok()?.name);
        match field.number {
            number::NODE => self.nodes.push(node(field)?),
            number::INITIALIZER => {
                let name = NamedTensor::decode(field.payload).ok()?.name;
                self.constants.entry(name).or_default().push(field.whole);
            }
            number::SPARSE_INITIALIZER => {
                let name = NamedSparse::decode(field.payload).ok()?.values?.name;
                self.constants.entry(name).or_default().push(field.whole);
            }
            number::INPUT => self.inputs.push(value()?),
            number::OUTPUT => self.outputs.push(value()?),
            number::VALUE_INFO => {
                self.notes.insert(value()?, field.whole);
            }
            // How tensors were quantised, for programs that compile a model; it names tensors that a piece lacks.
            number::QUANTIZATION => {}
            _ => self.rest.push(field.whole),
        }
        Some(())
    }

    /// Older files list constants among the inputs: the entry stays with the constant.
    fn settle_inputs(&mut self, fields: &[Field<'a>]) {
        let listed = fields.iter().filter(|field| field.number == number::INPUT).map(|field| field.whole);
        for (name, whole) in self.inputs.iter().zip(listed) {
            if let Some(parts) = self.constants.get_mut(name) {
                parts.push(whole);
            }
        }
        self.inputs.retain(|name| !self.constants.contains_key(name));
    }

    /// Puts nodes into an order in which they can run, ties by the file's order, and finds who makes what.
    fn sort(&mut self) -> Result<(), BackendError> {
        let makers = |nodes: &[Node<'_>]| -> BTreeMap<String, usize> {
            let made = |(at, node): (usize, &Node<'_>)| {
                node.makes.iter().map(move |name| (name.clone(), at)).collect::<Vec<_>>()
            };
            nodes.iter().enumerate().flat_map(made).collect()
        };
        let known = makers(&self.nodes);
        let mut readers: Vec<Vec<usize>> = vec![Vec::new(); self.nodes.len()];
        let mut waits = vec![0usize; self.nodes.len()];
        for (at, node) in self.nodes.iter().enumerate() {
            let needed: BTreeSet<usize> =
                node.reads.iter().filter_map(|name| known.get(name).copied()).collect();
            waits[at] = needed.len();
            needed.into_iter().for_each(|maker| readers[maker].push(at));
        }
        let mut ready: BTreeSet<usize> = (0..waits.len()).filter(|&at| waits[at] == 0).collect();
        let mut order = Vec::with_capacity(waits.len());
        while let Some(at) = ready.pop_first() {
            order.push(at);
            for &reader in &readers[at] {
                waits[reader] -= 1;
                if waits[reader] == 0 {
                    ready.insert(reader);
                }
            }
        }
        if let Some(at) = waits.iter().position(|&left| left > 0) {
            let label = &self.nodes[at].label;
            return Err(invalid(&self.model, format!("node `{label}` waits for its own result")));
        }
        let mut nodes: Vec<Option<Node<'a>>> =
            std::mem::take(&mut self.nodes).into_iter().map(Some).collect();
        self.nodes = order.into_iter().filter_map(|at| nodes[at].take()).collect();
        self.makers = makers(&self.nodes);
        Ok(())
    }

    fn mark_fixed(&mut self) {
        let inputs: BTreeSet<&String> = self.inputs.iter().collect();
        let mut fixed: BTreeSet<String> = self.constants.keys().cloned().collect();
        for node in &mut self.nodes {
            let by_shape = matches!(node.operator.as_str(), "Shape" | "Size");
            let known = |name: &String| fixed.contains(name) || by_shape && inputs.contains(name);
            node.fixed = node.deterministic && node.reads.iter().all(known);
            if node.fixed {
                fixed.extend(node.makes.iter().cloned());
            }
        }
    }

    fn mark_live(&mut self) {
        let mut wanted: BTreeSet<&String> = self.outputs.iter().collect();
        let mut live = Vec::new();
        for (at, node) in self.nodes.iter().enumerate().rev() {
            if !node.fixed && node.makes.iter().any(|name| wanted.contains(name)) {
                wanted.extend(&node.reads);
                live.push(at);
            }
        }
        live.reverse();
        self.ranks = live.iter().enumerate().map(|(rank, &at)| (at, rank)).collect();
        self.live = live;
    }

    /// Who makes a tensor; `None` for inputs and constants.
    pub(super) fn maker(&self, tensor: &str) -> Option<usize> {
        self.makers.get(tensor).copied()
    }

    /// The position among the live nodes of the one that makes a tensor; `None` if none does.
    pub(super) fn rank_of(&self, tensor: &str) -> Option<usize> {
        self.ranks.get(&self.maker(tensor)?).copied()
    }

    /// The live node at a position.
    pub(super) fn live_node(&self, rank: usize) -> &Node<'a> {
        &self.nodes[self.live[rank]]
    }

    /// For every tensor that a live node makes, the positions of its maker and of its last live reader.
    pub(super) fn spans(&self) -> Spans {
        let mut spans = Spans::new();
        for rank in 0..self.live.len() {
            let node = self.live_node(rank);
            for name in &node.reads {
                if let Some(span) = spans.get_mut(name.as_str()) {
                    span.1 = rank;
                }
            }
            spans.extend(node.makes.iter().map(|name| (name.clone(), (rank, rank))));
        }
        spans
    }
}

fn node<'a>(field: &Field<'a>) -> Option<Node<'a>> {
    let ends = NodeEnds::decode(field.payload).ok()?;
    let named = |names: Vec<String>| names.into_iter().filter(|name| !name.is_empty()).collect::<Vec<_>>();
    let standard = matches!(ends.domain.as_str(), "" | "ai.onnx");
    let random = ["RandomNormal", "RandomUniform", "Multinomial", "Bernoulli"];
    let deterministic = standard && !random.iter().any(|word| ends.op_type.starts_with(word));
    let inner = ends.attribute.iter().any(|attribute| attribute.g.is_some() || !attribute.graphs.is_empty());
    let control = standard && matches!(ends.op_type.as_str(), "If" | "Loop" | "Scan" | "SequenceMap");
    let makes = named(ends.output);
    let label = match makes.first() {
        _ if !ends.name.is_empty() => ends.name,
        Some(made) => format!("(nameless, makes `{made}`)"),
        None => "(nameless)".to_owned(),
    };
    Some(Node {
        whole: field.whole,
        label,
        operator: ends.op_type,
        reads: named(ends.input),
        makes,
        fixed: false,
        deterministic,
        bodies: inner || control,
    })
}

fn refuse_bodies(model: &str, node: &Node<'_>) -> Result<(), BackendError> {
    if !node.bodies {
        return Ok(());
    }
    Err(BackendError::UnsupportedNode {
        model: model.to_owned(),
        node: node.label.clone(),
        operator: node.operator.clone(),
        reason: "graphs inside a node read tensors of the graph around it without listing them, so nobody sees what \
                 would cross a cut; legal to cut is a model without control flow"
            .to_owned(),
    })
}

pub(super) fn invalid(model: &str, reason: String) -> BackendError {
    BackendError::InvalidModel { model: model.to_owned(), reason }
}
