//! The immutable plan of one job: copies and segments with explicit data edges.

use serde::{Deserialize, Serialize};

use crate::{Bytes, ContentHash, Nanos, SegmentIndex};

/// The position of a node in its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u32);

/// A piece of work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Node {
    /// Moves a job's input to where the device reads it.
    CopyIn {
        /// Size of the tensor.
        bytes: Bytes,
    },
    /// Runs to completion once started.
    Segment {
        /// Which segment of the job.
        index: SegmentIndex,
        /// What runs, for people.
        name: String,
        /// Occupancy as the backend declares it; zero where it must be profiled.
        declared: Nanos,
    },
    /// Moves a job's output to where the host reads it.
    CopyOut {
        /// Size of the tensor.
        bytes: Bytes,
    },
}

/// A data dependency: `to` reads `bytes` that `from` wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// The writer.
    pub from: NodeId,
    /// The reader.
    pub to: NodeId,
    /// Size of what is handed over.
    pub bytes: Bytes,
}

/// Why nodes and edges are no graph of a job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// There is nothing to run.
    #[error("the graph has no segment; a job needs at least one")]
    NoSegment,
    /// An edge names a node that does not exist.
    #[error("edge {edge} names node {node}, but the graph has nodes 0 to {last}")]
    Dangling {
        /// Position of the edge.
        edge: usize,
        /// The node it names.
        node: u32,
        /// The last node there is.
        last: usize,
    },
    /// The edges form a cycle.
    #[error("the graph has a cycle through node {node}")]
    Cycle {
        /// A node on it.
        node: u32,
    },
    /// Segments are not numbered 0, 1, 2, ... in an order that the edges allow.
    #[error(
        "segment {found} stands where segment {expected} was due; segments are numbered in execution order"
    )]
    SegmentOrder {
        /// The number found.
        found: u16,
        /// The number due.
        expected: usize,
    },
    /// What an edge hands over is not what its copy moves.
    #[error("edge {edge} hands over {handed}, but its copy moves {moved}")]
    SizeMismatch {
        /// Position of the edge.
        edge: usize,
        /// Size on the edge.
        handed: Bytes,
        /// Size of the copy.
        moved: Bytes,
    },
}

/// An immutable, validated, content-hashed DAG of copies and segments. Built once; nothing changes one afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct ExecutionGraph {
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    order: Vec<NodeId>,
    hash: ContentHash,
}

#[derive(Clone, Serialize, Deserialize)]
struct Parts {
    nodes: Vec<Node>,
    edges: Vec<Edge>,
}

impl ExecutionGraph {
    /// Validates and freezes a graph.
    ///
    /// # Errors
    /// [`GraphError`] for a dangling edge, a cycle, a size mismatch or segments out of order. All are Permanent.
    pub fn build(nodes: Vec<Node>, edges: Vec<Edge>) -> Result<Self, GraphError> {
        check_edges(&nodes, &edges)?;
        let order = topological_order(nodes.len(), &edges)?;
        check_segments(&nodes, &order)?;
        let hash = content_hash(&nodes, &edges);
        Ok(Self { nodes, edges, order, hash })
    }

    /// The graph of a whole model as one segment between its copies.
    ///
    /// # Errors
    /// None in practice: the shape is legal by construction; the error type is that of [`ExecutionGraph::build`].
    pub fn whole_model(name: &str, inputs: &[Bytes], outputs: &[Bytes]) -> Result<Self, GraphError> {
        let segment = NodeId(0);
        let mut nodes =
            vec![Node::Segment { index: SegmentIndex::new(0), name: name.into(), declared: Nanos::ZERO }];
        let mut edges = Vec::new();
        for (copies_in, sizes) in [(true, inputs), (false, outputs)] {
            for &bytes in sizes {
                let copy = NodeId(u32::try_from(nodes.len()).unwrap_or(u32::MAX));
                nodes.push(if copies_in { Node::CopyIn { bytes } } else { Node::CopyOut { bytes } });
                let (from, to) = if copies_in { (copy, segment) } else { (segment, copy) };
                edges.push(Edge { from, to, bytes });
            }
        }
        Self::build(nodes, edges)
    }

    /// The nodes, by [`NodeId`].
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The data edges.
    pub fn edges(&self) -> &[Edge] {
        &self.edges
    }

    /// A topological order; ties go to the smaller node.
    pub fn order(&self) -> &[NodeId] {
        &self.order
    }

    /// The hash of nodes and edges.
    pub const fn hash(&self) -> ContentHash {
        self.hash
    }

    /// How many segments a job has; at least one.
    pub fn segments(&self) -> usize {
        self.nodes.iter().filter(|node| matches!(node, Node::Segment { .. })).count()
    }
}

impl TryFrom<Parts> for ExecutionGraph {
    type Error = GraphError;

    fn try_from(parts: Parts) -> Result<Self, GraphError> {
        Self::build(parts.nodes, parts.edges)
    }
}

impl From<ExecutionGraph> for Parts {
    fn from(graph: ExecutionGraph) -> Self {
        Self { nodes: graph.nodes, edges: graph.edges }
    }
}

fn check_edges(nodes: &[Node], edges: &[Edge]) -> Result<(), GraphError> {
    for (position, edge) in edges.iter().enumerate() {
        for id in [edge.from, edge.to] {
            let node = nodes.get(id.0 as usize).ok_or(GraphError::Dangling {
                edge: position,
                node: id.0,
                last: nodes.len().saturating_sub(1),
            })?;
            if let Node::CopyIn { bytes } | Node::CopyOut { bytes } = node
                && *bytes != edge.bytes
            {
                return Err(GraphError::SizeMismatch { edge: position, handed: edge.bytes, moved: *bytes });
            }
        }
    }
    Ok(())
}

/// Kahn's algorithm, smallest ready node first.
fn topological_order(nodes: usize, edges: &[Edge]) -> Result<Vec<NodeId>, GraphError> {
    let mut waits = vec![0usize; nodes];
    for edge in edges {
        waits[edge.to.0 as usize] += 1;
    }
    let mut ready: std::collections::BTreeSet<usize> = (0..nodes).filter(|&n| waits[n] == 0).collect();
    let mut order = Vec::with_capacity(nodes);
    while let Some(node) = ready.pop_first() {
        let id = NodeId(u32::try_from(node).unwrap_or(u32::MAX));
        order.push(id);
        for edge in edges.iter().filter(|edge| edge.from == id) {
            let to = edge.to.0 as usize;
            waits[to] -= 1;
            if waits[to] == 0 {
                ready.insert(to);
            }
        }
    }
    match waits.iter().position(|&left| left > 0) {
        Some(node) => Err(GraphError::Cycle { node: u32::try_from(node).unwrap_or(u32::MAX) }),
        None => Ok(order),
    }
}

fn check_segments(nodes: &[Node], order: &[NodeId]) -> Result<(), GraphError> {
    let mut expected = 0usize;
    for id in order {
        if let Node::Segment { index, .. } = &nodes[id.0 as usize] {
            if index.index() != expected {
                return Err(GraphError::SegmentOrder { found: index.get(), expected });
            }
            expected += 1;
        }
    }
    if expected == 0 { Err(GraphError::NoSegment) } else { Ok(()) }
}

/// Hashes a length-prefixed encoding, so that no two graphs share their bytes.
fn content_hash(nodes: &[Node], edges: &[Edge]) -> ContentHash {
    let mut bytes = Vec::new();
    let mut put = |word: u64| bytes.extend_from_slice(&word.to_le_bytes());
    put(nodes.len() as u64);
    for node in nodes {
        match node {
            Node::CopyIn { bytes } => [0, bytes.get()].into_iter().for_each(&mut put),
            Node::CopyOut { bytes } => [1, bytes.get()].into_iter().for_each(&mut put),
            Node::Segment { index, name, declared } => {
                [2, index.get().into(), name.len() as u64, declared.get()].into_iter().for_each(&mut put);
                name.bytes().for_each(|byte| put(byte.into()));
            }
        }
    }
    for edge in edges {
        [edge.from.0.into(), edge.to.0.into(), edge.bytes.get()].into_iter().for_each(&mut put);
    }
    ContentHash::of(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(index: u16) -> Node {
        Node::Segment { index: SegmentIndex::new(index), name: format!("s{index}"), declared: Nanos::ZERO }
    }

    fn edge(from: u32, to: u32) -> Edge {
        Edge { from: NodeId(from), to: NodeId(to), bytes: Bytes::new(4) }
    }

    #[test]
    fn a_whole_model_is_one_segment() {
        let graph = ExecutionGraph::whole_model("m", &[Bytes::new(8)], &[Bytes::new(4)]).expect("legal");
        assert_eq!((graph.segments(), graph.nodes().len(), graph.order()[0]), (1, 3, NodeId(1)));
    }

    #[test]
    fn bad_graphs_are_refused() {
        let build = |nodes: &[Node], edges: &[Edge]| ExecutionGraph::build(nodes.to_vec(), edges.to_vec());
        assert_eq!(build(&[], &[]), Err(GraphError::NoSegment));
        assert_eq!(
            build(&[segment(0)], &[edge(0, 7)]),
            Err(GraphError::Dangling { edge: 0, node: 7, last: 0 })
        );
        assert_eq!(
            build(&[segment(0), segment(1)], &[edge(0, 1), edge(1, 0)]),
            Err(GraphError::Cycle { node: 0 })
        );
        assert_eq!(build(&[segment(0)], &[edge(0, 0)]), Err(GraphError::Cycle { node: 0 }));
        assert_eq!(
            build(&[segment(1), segment(0)], &[edge(0, 1)]),
            Err(GraphError::SegmentOrder { found: 1, expected: 0 })
        );
        let copy = Node::CopyIn { bytes: Bytes::new(9) };
        assert!(matches!(
            build(&[segment(0), copy], &[edge(1, 0)]),
            Err(GraphError::SizeMismatch { edge: 0, .. })
        ));
    }

    #[test]
    fn the_hash_tells_graphs_apart() {
        let a = ExecutionGraph::build(vec![segment(0), segment(1)], vec![edge(0, 1)]).expect("legal");
        let b = ExecutionGraph::build(vec![segment(0), segment(1)], vec![]).expect("legal");
        assert_ne!(a.hash(), b.hash());
        assert_eq!(
            a.hash(),
            ExecutionGraph::build(a.nodes().to_vec(), a.edges().to_vec()).expect("legal").hash()
        );
    }
}
