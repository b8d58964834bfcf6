//! The order in which the library runs a model's nodes, made the same in every session.
//!
//! The library optimizes a graph by rules that walk tables keyed by addresses. Nodes that do not depend on each other come out one way
//! round in one session and the other way round in the next: so it is with dense networks on its blocked kernels. What they
//! compute is the same to the bit; the most memory that is in use at once is not, and what was measured in one session would not be
//! enough for another. So a model is optimized by a session of its own, charged to nobody, written down, brought into an order that
//! follows from what was written, and then loaded as it stands.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;

use rustix::fs::{MemfdFlags, memfd_create};

use crate::library::OnnxRuntime;
use crate::session;
use crate::shapes::NamedAxes;
use crate::wire::{Field, fields, put};

/// Fields of `onnx.proto` that are read here.
mod tag {
    pub(super) const MODEL_GRAPH: u32 = 7;
    pub(super) const GRAPH_NODE: u32 = 1;
    pub(super) const GRAPH_INITIALIZER: u32 = 5;
    pub(super) const GRAPH_OUTPUT: u32 = 12;
    pub(super) const GRAPH_VALUE_INFO: u32 = 13;
    pub(super) const NODE_INPUT: u32 = 1;
    pub(super) const NODE_OUTPUT: u32 = 2;
    pub(super) const NODE_ATTRIBUTE: u32 = 5;
    pub(super) const ATTRIBUTE_GRAPH: u32 = 6;
    pub(super) const ATTRIBUTE_GRAPHS: u32 = 11;
    pub(super) const TENSOR_NAME: u32 = 8;
    pub(super) const VALUE_NAME: u32 = 1;
}

/// The model as the library optimizes it, in an order of its own making: the same bytes each time. `None` if the library
/// cannot write it (a model beyond 2 GB, a graph that it refuses) or the system has no memory for it.
pub(crate) fn optimized(runtime: &OnnxRuntime, artifact: &[u8], named: &NamedAxes) -> Option<Vec<u8>> {
    let written = memfd_create("model", MemfdFlags::CLOEXEC).ok()?;
    let path = format!("/proc/self/fd/{}", written.as_raw_fd());
    session::write_optimized(runtime, artifact, named, path.as_ref()).ok()?;
    let mut bytes = Vec::new();
    // The library wrote through a descriptor of its own; this one still stands at the beginning.
    File::from(written).read_to_end(&mut bytes).ok()?;
    ordered(&bytes)
}

/// The same model with the nodes of every graph in an order that depends on what they read and make and on nothing else.
/// `None` if it is no model file.
fn ordered(model: &[u8]) -> Option<Vec<u8>> {
    rewritten(model, tag::MODEL_GRAPH, ordered_graph)
}

/// A message with every field of that number replaced.
fn rewritten(message: &[u8], number: u32, by: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let mut copy = Vec::with_capacity(message.len());
    for field in fields(message)? {
        if field.number == number {
            put(&mut copy, number, &by(field.payload)?);
        } else {
            copy.extend_from_slice(field.whole);
        }
    }
    Some(copy)
}

fn ordered_graph(graph: &[u8]) -> Option<Vec<u8>> {
    let all = fields(graph)?;
    let of = |number: u32| all.iter().filter(move |field| field.number == number);
    let nodes: Vec<Node> =
        of(tag::GRAPH_NODE).map(|field| Node::read(field.payload)).collect::<Option<_>>()?;
    let mut copy = Vec::with_capacity(graph.len());
    for at in order(&nodes)? {
        put(&mut copy, tag::GRAPH_NODE, &nodes[at].message);
    }
    for (number, name) in
        [(tag::GRAPH_INITIALIZER, tag::TENSOR_NAME), (tag::GRAPH_VALUE_INFO, tag::VALUE_NAME)]
    {
        let mut named: Vec<(&[u8], &Field<'_>)> =
            of(number).map(|field| Some((first(field.payload, name)?, field))).collect::<Option<_>>()?;
        named.sort_by_key(|(name, _)| *name);
        named.iter().for_each(|(_, field)| copy.extend_from_slice(field.whole));
    }
    let sorted = [tag::GRAPH_NODE, tag::GRAPH_INITIALIZER, tag::GRAPH_VALUE_INFO];
    let rest = all.iter().filter(|field| !sorted.contains(&field.number));
    rest.for_each(|field| copy.extend_from_slice(field.whole));
    Some(copy)
}

/// The first field of that number; empty if there is none.
fn first(message: &[u8], number: u32) -> Option<&[u8]> {
    let found = fields(message)?.into_iter().find(|field| field.number == number);
    Some(found.map_or(&[], |field| field.payload))
}

/// An operator call. Names are bytes: they are compared and nothing else.
struct Node {
    /// With the graphs inside of it in order.
    message: Vec<u8>,
    /// What it reads, also inside of its graphs, which see the tensors around them.
    reads: BTreeSet<Vec<u8>>,
    makes: Vec<Vec<u8>>,
}

impl Node {
    fn read(node: &[u8]) -> Option<Self> {
        let mut reads = BTreeSet::new();
        read_names(node, &mut reads)?;
        let made = fields(node)?.into_iter().filter(|field| field.number == tag::NODE_OUTPUT);
        let makes = made.map(|field| field.payload.to_vec()).collect();
        let message = rewritten(node, tag::NODE_ATTRIBUTE, |attribute| {
            let one = rewritten(attribute, tag::ATTRIBUTE_GRAPH, ordered_graph)?;
            rewritten(&one, tag::ATTRIBUTE_GRAPHS, ordered_graph)
        });
        Some(Self { message: message?, reads, makes })
    }
}

/// Adds the names that a node reads. A name that only a graph inside knows does no harm: nobody around it makes it.
fn read_names(node: &[u8], names: &mut BTreeSet<Vec<u8>>) -> Option<()> {
    for field in fields(node)? {
        match field.number {
            tag::NODE_INPUT => {
                names.insert(field.payload.to_vec());
            }
            tag::NODE_ATTRIBUTE => {
                let graphs = [tag::ATTRIBUTE_GRAPH, tag::ATTRIBUTE_GRAPHS];
                for graph in fields(field.payload)?.iter().filter(|inner| graphs.contains(&inner.number)) {
                    for inner in fields(graph.payload)? {
                        match inner.number {
                            tag::GRAPH_NODE => read_names(inner.payload, names)?,
                            tag::GRAPH_OUTPUT => {
                                names.insert(first(inner.payload, tag::VALUE_NAME)?.to_vec());
                            }
                            _ => {}
                        }
                    }
                }
            }
            _ => {}
        }
    }
    Some(())
}

/// Positions of the nodes, each behind those whose tensors it reads; among those that may come next, the one that makes the
/// first name. `None` if they read each other in a circle.
fn order(nodes: &[Node]) -> Option<Vec<usize>> {
    let mut makers = BTreeMap::new();
    for (at, node) in nodes.iter().enumerate() {
        // An optional output that is not wanted has no name.
        makers.extend(node.makes.iter().filter(|name| !name.is_empty()).map(|name| (name, at)));
    }
    let needs = |node: &Node| node.reads.iter().filter_map(|name| makers.get(name).copied()).collect();
    let mut needed: Vec<BTreeSet<usize>> = nodes.iter().map(needs).collect();
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (at, needed) in needed.iter().enumerate() {
        needed.iter().for_each(|&maker| readers[maker].push(at));
    }
    let mut ready: BTreeSet<(&[Vec<u8>], usize)> = BTreeSet::new();
    ready.extend((0..nodes.len()).filter(|&at| needed[at].is_empty()).map(|at| (&*nodes[at].makes, at)));
    let mut order = Vec::with_capacity(nodes.len());
    while let Some((_, at)) = ready.pop_first() {
        order.push(at);
        for &reader in &readers[at] {
            needed[reader].remove(&at);
            if needed[reader].is_empty() {
                ready.insert((&nodes[reader].makes, reader));
            }
        }
    }
    (order.len() == nodes.len()).then_some(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node that reads and makes tensors of these numbers, with a graph inside of it if `inner` reads something.
    fn node(reads: &[usize], makes: usize, inner: Option<usize>) -> Vec<u8> {
        let mut node = Vec::new();
        reads.iter().for_each(|read| put(&mut node, tag::NODE_INPUT, format!("t{read:02}").as_bytes()));
        put(&mut node, tag::NODE_OUTPUT, format!("t{makes:02}").as_bytes());
        if let Some(read) = inner {
            let (mut value, mut graph, mut attribute) = (Vec::new(), Vec::new(), Vec::new());
            put(&mut value, tag::VALUE_NAME, format!("t{read:02}").as_bytes());
            put(&mut graph, tag::GRAPH_OUTPUT, &value);
            put(&mut attribute, tag::ATTRIBUTE_GRAPH, &graph);
            put(&mut node, tag::NODE_ATTRIBUTE, &attribute);
        }
        node
    }

    /// Tensor 20 is the input; each node reads one or two that are made before, now and then only inside of a graph.
    fn nodes(seed: usize) -> Vec<Vec<u8>> {
        let pick = |at: usize, salt: usize, limit: usize| {
            (seed * 31 + at * 17 + salt * 7) * 2_654_435_761 / 1_024 % limit
        };
        let earlier = |at: usize, salt| if at == 0 { 20 } else { pick(at, salt, at) };
        let one = |at: usize| {
            let inner = pick(at, 3, 4) == 0;
            let second = earlier(at, 2);
            let reads = if inner { vec![earlier(at, 1)] } else { vec![earlier(at, 1), second] };
            node(&reads, at, inner.then_some(second))
        };
        (0..12).map(one).collect()
    }

    fn model(nodes: &[Vec<u8>]) -> Vec<u8> {
        let (mut graph, mut model) = (Vec::new(), Vec::new());
        nodes.iter().for_each(|node| put(&mut graph, tag::GRAPH_NODE, node));
        put(&mut model, tag::MODEL_GRAPH, &graph);
        model
    }

    fn nodes_of(model: &[u8]) -> Vec<Node> {
        let graph = first(model, tag::MODEL_GRAPH).expect("a graph");
        let nodes = fields(graph).expect("whole").into_iter().filter(|field| field.number == tag::GRAPH_NODE);
        nodes.map(|field| Node::read(field.payload).expect("a node")).collect()
    }

    #[test]
    fn any_order_becomes_one_order_that_makes_before_it_reads() {
        for seed in 0..200 {
            let mut nodes = nodes(seed);
            let wanted = ordered(&model(&nodes)).expect("a model");
            for turn in 1..nodes.len() {
                nodes.rotate_left(turn);
                nodes.swap(0, turn);
                assert_eq!(ordered(&model(&nodes)).as_ref(), Some(&wanted), "seed {seed}, turn {turn}");
            }
            let mut made: BTreeSet<Vec<u8>> = BTreeSet::from([b"t20".to_vec()]);
            for node in nodes_of(&wanted) {
                assert!(node.reads.is_subset(&made), "seed {seed}: {:?} behind {made:?}", node.reads);
                made.extend(node.makes);
            }
            assert_eq!(made.len(), 13, "every node is there");
        }
    }

    #[test]
    fn nodes_in_a_circle_have_no_order_and_a_cut_file_is_no_model() {
        assert_eq!(ordered(&model(&[node(&[1], 0, None), node(&[0], 1, None)])), None);
        assert_eq!(ordered(&model(&[node(&[20], 0, Some(1)), node(&[0], 1, None)])), None);
        let whole = model(&nodes(0));
        assert_eq!(ordered(&whole[..whole.len() - 1]), None);
    }
}
