//! Reads a script and says, line by line, what is wrong with it.

use std::collections::BTreeMap;

use aegis_types::{Bytes, ContentHash, Nanos};

use crate::backend::{MemoryNeeds, ModelDescription, ModelRequest, TensorSpec};
use crate::error::BackendError;
use crate::text_model::{Fault, SEGMENTS_MAX, Tensors, chain, quantity, read_lines};

/// Bytes that are handed from one segment to the next.
pub(super) const HANDED: Bytes = Bytes::new(8);

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
    let mut reader = Reader {
        tensors: Tensors::new(request),
        weights: Bytes::ZERO,
        segments: Vec::new(),
        scratch: Bytes::ZERO,
    };
    read_lines(request, "script 1", |line| reader.line(line))?;
    let Reader { tensors, weights, segments, .. } = reader;
    let (inputs, outputs) = tensors.finish()?;
    Ok(Script { inputs, outputs, weights, segments })
}

impl Script {
    /// What the runtime knows of the model.
    pub(super) fn describe(&self, request: &ModelRequest<'_>) -> Result<ModelDescription, BackendError> {
        let declared = self.segments.iter().map(|segment| segment.longest);
        let graph = chain(declared, HANDED, &self.inputs, &self.outputs).map_err(|error| {
            BackendError::InvalidModel { model: request.name.into(), reason: error.to_string() }
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
}

struct Reader<'a> {
    tensors: Tensors<'a>,
    weights: Bytes,
    segments: Vec<Segment>,
    scratch: Bytes,
}

impl Reader<'_> {
    fn line(&mut self, line: &str) -> Result<(), Fault> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["input", name, element, shape] => self.tensors.input(name, element, shape),
            ["output", name, element, shape] => self.tensors.output(name, element, shape),
            ["weights", size] => quantity(size).map(|size| self.weights = size),
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
        if self.segments.len() == SEGMENTS_MAX {
            return Err(Fault::Line(format!("one segment too many; legal: at most {SEGMENTS_MAX}")));
        }
        self.segments.push(Segment { shortest, longest, scratch });
        Ok(())
    }
}
