//! When the tensors inside a model are alive: what a plan that places each of them by itself starts from.
//!
//! The library accepts no such plan and asks an allocator for every tensor instead, so that a segment's temporaries are
//! one block to the runtime. What a joint plan of all tensors would need shows what that costs.
//!
//! Time is counted in live nodes, in an order in which they can run. A tensor lives from the node that makes it to the
//! last one that reads it. Not counted are inputs, outputs and constants, which have memory of their own, and what nodes
//! make of constants alone, because the library folds it. A node that only renames axes makes no tensor of its own: its
//! result is the bytes that it read. That other nodes could write over what they read is not assumed.

use std::collections::{BTreeMap, BTreeSet};

use aegis_cuda::{BackendError, ModelRequest};
use aegis_types::Bytes;

use super::anatomy::Anatomy;
use super::tensors;
use crate::inspect;
use crate::library::OnnxRuntime;

/// Tensors that are looked at in one run of the whole model: all of them are kept until it ends.
const LOOKED_AT: usize = 64;

/// Operators whose first result is their first input with other axes.
const RENAMES: [&str; 5] = ["Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"];

/// A tensor inside a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// Its name in the model file; of a chain of renamed axes, the first one's.
    pub tensor: String,
    /// Its size.
    pub bytes: Bytes,
    /// The position of the live node that makes it.
    pub from: u64,
    /// The position behind the last live node that reads it: always after `from`.
    pub to: u64,
}

/// The lifetimes of a model's inner tensors, by position of their makers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Live nodes: those whose results depend on an input and reach an output.
    pub nodes: usize,
    /// The tensors.
    pub tensors: Vec<Lifetime>,
    /// Names of tensors whose size is not known before a job runs: it depends on data, or the type has no fixed size.
    pub open: Vec<String>,
}

impl Lifetimes {
    /// Takes a model apart. The library runs the whole a few times, outside of any budget, to learn the shapes.
    ///
    /// # Errors
    /// As [`aegis_cuda::BackendLoader::inspect`]; [`BackendError::UnsupportedNode`] for control flow.
    pub fn of(runtime: &OnnxRuntime, request: &ModelRequest<'_>) -> Result<Self, BackendError> {
        let anatomy = Anatomy::read(request.name, request.artifact)?;
        let inspected = inspect::inspect(request)?;
        let spans = merged(&anatomy);
        let names: Vec<String> = spans.keys().cloned().collect();
        let mut sizes: BTreeMap<String, Bytes> = BTreeMap::new();
        for some in names.chunks(LOOKED_AT) {
            let specs = tensors::learn(runtime, request, &inspected, some, Some(tensors::ones))?;
            sizes.extend(specs.into_iter().map(|(name, spec)| (name, spec.bytes)));
        }
        let (mut tensors, mut open) = (Vec::new(), Vec::new());
        for (tensor, (from, to)) in spans {
            match sizes.get(&tensor) {
                // A model has far fewer nodes than u64 numbers.
                Some(&bytes) => {
                    tensors.push(Lifetime { tensor, bytes, from: from as u64, to: to as u64 + 1 })
                }
                None => open.push(tensor),
            }
        }
        tensors.sort_by(|a, b| (a.from, &a.tensor).cmp(&(b.from, &b.tensor)));
        Ok(Self { nodes: anatomy.live.len(), tensors, open })
    }

    /// Bytes of all tensors together: what they would take if none shared.
    pub fn total(&self) -> Bytes {
        Bytes::new(self.tensors.iter().fold(0u64, |sum, tensor| sum.saturating_add(tensor.bytes.get())))
    }
}

/// For every tensor with memory of its own, the positions of its maker and of its last reader under any of its names.
/// Tensors that share their bytes with an input or an output are left out: they lie in its memory.
fn merged(anatomy: &Anatomy<'_>) -> BTreeMap<String, (usize, usize)> {
    let spans = anatomy.spans();
    let mut roots: BTreeMap<&str, &str> = BTreeMap::new();
    for rank in 0..anatomy.live.len() {
        let node = anatomy.live_node(rank);
        let renames = RENAMES.contains(&node.operator.as_str());
        if let (true, Some(read), Some(made)) = (renames, node.reads.first(), node.makes.first()) {
            let root = roots.get(read.as_str()).copied().unwrap_or(read);
            roots.insert(made, root);
        }
    }
    let mut bound: BTreeSet<&str> = anatomy.inputs.iter().map(String::as_str).collect();
    bound.extend(anatomy.outputs.iter().map(|name| roots.get(name.as_str()).copied().unwrap_or(name)));
    let mut merged: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for (name, &(from, to)) in &spans {
        let root = roots.get(name.as_str()).copied().unwrap_or(name);
        // A renamed constant is no live tensor's name.
        let made = spans.get(root).map_or(from, |span| span.0);
        if !bound.contains(root) {
            let span = merged.entry(root.to_owned()).or_insert((made, to));
            *span = (span.0.min(made), span.1.max(to));
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::wire;

    /// An operator: its type, what it reads, what it makes.
    type Op<'a> = (&'a str, &'a [&'a str], &'a str);

    #[derive(Clone, PartialEq, Message)]
    struct Node {
        #[prost(string, repeated, tag = "1")]
        input: Vec<String>,
        #[prost(string, repeated, tag = "2")]
        output: Vec<String>,
        #[prost(string, tag = "4")]
        op_type: String,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Named {
        #[prost(string, tag = "1")]
        name: String,
    }

    fn model(ops: &[Op<'_>], output: &str) -> Vec<u8> {
        let mut graph = Vec::new();
        for (op_type, reads, makes) in ops {
            let node = Node {
                input: reads.iter().map(ToString::to_string).collect(),
                output: vec![(*makes).to_owned()],
                op_type: (*op_type).to_owned(),
            };
            wire::put(&mut graph, 1, &node.encode_to_vec());
        }
        for (number, name) in [(11, "x"), (12, output)] {
            wire::put(&mut graph, number, &Named { name: name.to_owned() }.encode_to_vec());
        }
        let mut model = Vec::new();
        wire::put(&mut model, 7, &graph);
        model
    }

    fn check(ops: &[Op<'_>], expected: &[(&str, (usize, usize))]) {
        let artifact = model(ops, "y");
        let anatomy = Anatomy::read("m", &artifact).expect("a graph");
        let found = merged(&anatomy);
        let found: Vec<(&str, (usize, usize))> =
            found.iter().map(|(name, span)| (name.as_str(), *span)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_tensor_lives_from_its_maker_to_its_last_reader() {
        let ops: [Op<'_>; 4] =
            [("Relu", &["x"], "a"), ("Relu", &["a"], "b"), ("Add", &["a", "b"], "c"), ("Relu", &["c"], "y")];
        check(&ops, &[("a", (0, 2)), ("b", (1, 2)), ("c", (2, 3))]);
    }

    #[test]
    fn renamed_axes_keep_their_bytes_alive_and_take_none() {
        let ops: [Op<'_>; 4] = [
            ("Relu", &["x"], "a"),
            ("Reshape", &["a"], "b"),
            ("Squeeze", &["b"], "c"),
            ("Relu", &["c"], "y"),
        ];
        check(&ops, &[("a", (0, 3))]);
    }

    #[test]
    fn what_lies_in_an_input_or_an_output_takes_nothing() {
        let ops: [Op<'_>; 4] = [
            ("Reshape", &["x"], "a"),
            ("Relu", &["a"], "b"),
            ("Relu", &["b"], "c"),
            ("Unsqueeze", &["c"], "y"),
        ];
        check(&ops, &[("b", (1, 2))]);
    }
}
