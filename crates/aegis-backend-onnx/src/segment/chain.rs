//! A model in pieces, run plainly one after the other: what the segments of the backend are compared with.

use std::collections::BTreeMap;

use aegis_cuda::{BackendError, ModelRequest};

use super::split::{Split, Wire};
use crate::inspect;
use crate::library::OnnxRuntime;
use crate::reference::{Reference, Tensor};

/// Plain models and how they are wired.
pub(crate) struct Chain {
    pieces: Vec<(Reference, Vec<Wire>, Vec<Wire>)>,
    outputs: usize,
}

impl Chain {
    /// Opens every piece.
    ///
    /// # Errors
    /// What the library refuses.
    pub(crate) fn open(
        runtime: &OnnxRuntime,
        request: &ModelRequest<'_>,
        split: Split,
    ) -> Result<Self, BackendError> {
        let shapes = BTreeMap::new();
        let outputs = split.outputs.len();
        let open = |part: super::split::Part| {
            let piece = ModelRequest { artifact: &part.artifact, shapes: &shapes, ..*request };
            let plain = Reference::from_inspected(runtime, &piece, &inspect::inspect(&piece)?)?;
            Ok((plain, part.inputs, part.outputs))
        };
        Ok(Self { pieces: split.parts.into_iter().map(open).collect::<Result<_, BackendError>>()?, outputs })
    }

    /// Runs all pieces on the model's inputs and returns its outputs in order.
    ///
    /// # Errors
    /// As [`Reference::run`].
    pub(crate) fn run(&mut self, inputs: &[Vec<u8>]) -> Result<Vec<Tensor>, BackendError> {
        let mut made: BTreeMap<Wire, Tensor> = BTreeMap::new();
        for (plain, reads, writes) in &mut self.pieces {
            let read = |wire: &Wire| match *wire {
                Wire::Input(at) => inputs[at].clone(),
                Wire::Output(_) | Wire::Crossing(_) => {
                    made.get(wire).map_or_else(Vec::new, |tensor| tensor.bytes.clone())
                }
            };
            let read: Vec<Vec<u8>> = reads.iter().map(read).collect();
            let tensors = plain.run_shaped(&read)?;
            made.extend(writes.iter().copied().zip(tensors));
        }
        Ok((0..self.outputs).filter_map(|at| made.remove(&Wire::Output(at))).collect())
    }
}
