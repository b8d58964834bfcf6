//! Reads a model of kernels and says, line by line, what is wrong with it.

use std::collections::BTreeMap;

use aegis_types::{Bytes, ContentHash, Nanos};

use super::reference::STATE;
use super::steps::{LAUNCHES_MAX, QUAD, Reach, Step, Work, names};
use crate::backend::{MemoryNeeds, ModelDescription, ModelRequest, TensorSpec};
use crate::error::BackendError;
use crate::text_model::{Fault, SEGMENTS_MAX, Tensors, chain, quantity, read_lines};

/// Weights or scratch that a model may ask for: more than any device has, and no sum of them overflows.
const MEMORY_MAX: Bytes = Bytes::new(1 << 40);
/// Alignment of everything that a model takes.
pub(super) const ALIGNMENT: Bytes = Bytes::new(256);

/// A model that was read.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) inputs: Vec<TensorSpec>,
    pub(super) outputs: Vec<TensorSpec>,
    pub(super) weights: Bytes,
    pub(super) segments: Vec<Segment>,
}

/// A line `segment` with the steps below it.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) scratch: Bytes,
    pub(super) steps: Vec<Step>,
}

/// Reads the request's artifact; shapes are fixed as the request says.
pub(super) fn model(request: &ModelRequest<'_>) -> Result<Model, BackendError> {
    let reach = Reach { weights: Bytes::ZERO, scratch: Bytes::ZERO, cursor: Bytes::ZERO };
    let mut reader = Reader {
        tensors: Tensors::new(request),
        weights: None,
        scratch: Bytes::ZERO,
        reach,
        segments: Vec::new(),
    };
    read_lines(request, "kernel 1", |line| reader.line(line))?;
    let Reader { tensors, weights, segments, .. } = reader;
    let (inputs, outputs) = tensors.finish()?;
    Ok(Model { inputs, outputs, weights: weights.unwrap_or(Bytes::ZERO), segments })
}

impl Model {
    /// The steps of all segments, in order.
    pub(super) fn steps(&self) -> impl Iterator<Item = &Step> {
        self.segments.iter().flat_map(|segment| &segment.steps)
    }

    /// How many steps count their executions.
    pub(super) fn counters(&self) -> usize {
        self.steps().filter(|step| step.is_counted()).count()
    }

    /// Sizes of the copies, each once, rising: a constant of each size is where they copy from.
    pub(super) fn copies(&self) -> Vec<Bytes> {
        let size = |step: &Step| if let Work::Copy { bytes } = step.work { Some(bytes) } else { None };
        let mut sizes: Vec<Bytes> = self.steps().filter_map(size).collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }

    /// The state of the data path and the counters behind it, in whole steps of the alignment.
    pub(super) fn control(&self) -> Bytes {
        let counters = (4 * self.counters() as u64).next_multiple_of(ALIGNMENT.get());
        Bytes::new(STATE.get() + counters)
    }

    /// What it takes for as long as it is loaded. No sum of the parser's sizes overflows.
    fn persistent(&self) -> Bytes {
        let pieces = [self.control(), self.weights].into_iter().chain(self.copies());
        Bytes::new(pieces.map(Bytes::get).fold(0, u64::saturating_add))
    }

    /// What the runtime knows of the model.
    pub(super) fn describe(&self, request: &ModelRequest<'_>) -> Result<ModelDescription, BackendError> {
        // How long a segment takes is for a profile to say: its work is fixed, not its time.
        let declared = self.segments.iter().map(|_| Nanos::ZERO);
        let graph = chain(declared, STATE, &self.inputs, &self.outputs).map_err(|error| {
            BackendError::InvalidModel { model: request.name.into(), reason: error.to_string() }
        })?;
        let mut operators: BTreeMap<String, u32> = BTreeMap::new();
        for step in self.steps() {
            let count = operators.entry(step.name.to_owned()).or_default();
            *count = count.saturating_add(step.repeat);
        }
        Ok(ModelDescription {
            name: request.name.into(),
            hash: ContentHash::of(request.artifact),
            graph,
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            memory: MemoryNeeds {
                weights: self.persistent(),
                scratch: Some(self.segments.iter().map(|segment| segment.scratch).collect()),
            },
            operators,
        })
    }
}

struct Reader<'a> {
    tensors: Tensors<'a>,
    weights: Option<Bytes>,
    /// Scratch of the segments below.
    scratch: Bytes,
    reach: Reach,
    segments: Vec<Segment>,
}

impl Reader<'_> {
    fn line(&mut self, line: &str) -> Result<(), Fault> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["input", name, element, shape] => self.tensors.input(name, element, shape),
            ["output", name, element, shape] => self.tensors.output(name, element, shape),
            ["weights", size] => self.weights(memory(size)?),
            ["scratch", size] => memory(size).map(|size| self.scratch = size),
            ["segment"] => self.segment(self.scratch),
            ["segment", "scratch", size] => self.segment(memory(size)?),
            _ => match self.reach.step(&words) {
                Some(step) => self.step(step?),
                None => {
                    let steps: Vec<&str> = names().collect();
                    Err(Fault::Line(format!(
                        "legal: `input NAME TYPE SHAPE`, `output NAME TYPE SHAPE`, `weights SIZE`, \
                         `scratch SIZE`, `segment`, `segment scratch SIZE`, `end`, and the steps {}",
                        steps.join(", ")
                    )))
                }
            },
        }
    }

    fn weights(&mut self, bytes: Bytes) -> Result<(), Fault> {
        if self.weights.is_some() {
            return Err(Fault::Line("weights are stated already; legal: once".into()));
        }
        self.weights = Some(bytes);
        self.reach.weights = bytes;
        Ok(())
    }

    fn segment(&mut self, scratch: Bytes) -> Result<(), Fault> {
        if self.segments.len() == SEGMENTS_MAX {
            return Err(Fault::Line(format!("one segment too many; legal: at most {SEGMENTS_MAX}")));
        }
        self.reach.scratch = scratch;
        self.segments.push(Segment { scratch, steps: Vec::new() });
        Ok(())
    }

    fn step(&mut self, step: Step) -> Result<(), Fault> {
        let Some(segment) = self.segments.last_mut() else {
            return Err(Fault::Line("a step before any segment; legal: below a line `segment`".into()));
        };
        let launches: u64 = segment.steps.iter().chain([&step]).map(Step::launches).sum();
        if launches > LAUNCHES_MAX {
            let most = format!("legal: at most {LAUNCHES_MAX} a segment");
            return Err(Fault::Line(format!("this makes {launches} launches; {most}")));
        }
        segment.steps.push(step);
        Ok(())
    }
}

fn memory(text: &str) -> Result<Bytes, Fault> {
    let bytes: Bytes = quantity(text)?;
    if bytes > MEMORY_MAX || !bytes.get().is_multiple_of(QUAD.get()) {
        return Err(Fault::Line(format!("{bytes}: legal: multiples of {QUAD} up to {MEMORY_MAX}")));
    }
    Ok(bytes)
}
