//! Models written as a few lines of text: the backend of simulations, tests and rehearsals.
//!
//! A script says how long each segment occupies its lane and what memory the model takes. On the simulated device a
//! segment is a span of virtual time, elsewhere it is a busy loop of that length, so a fleet can be rehearsed before
//! its real models exist. Outputs are a function of all inputs that passes through weights, scratch and the memory
//! between segments: whoever overlaps them wrongly gets wrong outputs ([`expected_outputs`] tells which are right).
//!
//! ```text
//! script 1                        # the version; `#` starts a comment
//! input x f32 1x4                 # name, element type, shape; `?` for an axis that the request fixes
//! input t i64 scalar
//! output y f32 1x4
//! weights 4KiB                    # default 0B
//! scratch 1KiB                    # of the segments below it, default 0B
//! segment 1.2ms..1.5ms            # duration drawn from the range, or one duration
//! segment 300us scratch 2KiB      # scratch of its own
//! end                             # a script that was cut off is refused
//! ```

mod backend;
mod parse;
mod values;

use aegis_types::ContentHash;

use crate::backend::{BackendLoader, ModelDescription, ModelMemory, ModelRequest, RuntimeBackend};
use crate::error::BackendError;
use crate::stream::Stream;

pub use backend::ScriptedBackend;
pub use values::SplitMix64;

/// How durations are drawn from their ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durations {
    /// Evenly, by a generator seeded with this number, the request's name and nothing else.
    Seeded(u64),
    /// Always the longest.
    Longest,
}

/// Loads scripts.
#[derive(Clone, Copy, Debug)]
pub struct ScriptedLoader {
    durations: Durations,
}

impl ScriptedLoader {
    /// The word for it in a fleet.
    pub const NAME: &'static str = "script";

    /// A loader whose models draw their durations so.
    pub const fn new(durations: Durations) -> Self {
        Self { durations }
    }
}

impl BackendLoader for ScriptedLoader {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn inspect(&self, request: &ModelRequest<'_>) -> Result<ModelDescription, BackendError> {
        parse::script(request)?.describe(request)
    }

    fn load(
        &self,
        request: &ModelRequest<'_>,
        _stream: &mut dyn Stream,
        memory: ModelMemory,
    ) -> Result<Box<dyn RuntimeBackend>, BackendError> {
        let script = parse::script(request)?;
        let description = script.describe(request)?;
        let generator = match self.durations {
            Durations::Seeded(seed) => {
                let name = ContentHash::of(request.name.as_bytes()).to_word();
                Some(SplitMix64::new(seed ^ name))
            }
            Durations::Longest => None,
        };
        Ok(Box::new(ScriptedBackend::load(script, description, generator, memory)?))
    }
}

/// What a scripted model answers, computed without any device: one vector of bytes for each output.
///
/// # Errors
/// As [`ScriptedLoader::inspect`](BackendLoader::inspect), and [`BackendError::BindingCount`] for the wrong number of
/// inputs.
pub fn expected_outputs(
    request: &ModelRequest<'_>,
    inputs: &[Vec<u8>],
) -> Result<Vec<Vec<u8>>, BackendError> {
    let script = parse::script(request)?;
    let description = script.describe(request)?;
    if inputs.len() != description.inputs.len() {
        return Err(BackendError::BindingCount {
            model: request.name.into(),
            what: "input",
            expected: description.inputs.len(),
            got: inputs.len(),
        });
    }
    let mut digest = values::weights_digest(&values::weights(&description.hash, script.weights));
    for input in inputs {
        digest = values::absorb(digest, &input[..input.len().min(values::TENSOR_BYTES)]);
    }
    for segment in &script.segments {
        digest = values::step(digest);
        let mut scratch = [0; values::SCRATCH_BYTES];
        let scratch = &mut scratch[..values::scratch_used(segment.scratch)];
        values::emit(digest, scratch);
        digest = values::absorb(digest, scratch);
    }
    let outputs = description.outputs.iter().zip(1u64..);
    Ok(outputs
        .map(|(spec, number)| {
            let mut bytes = vec![0; usize::try_from(spec.bytes.get()).unwrap_or(0)];
            let used = bytes.len().min(values::TENSOR_BYTES);
            values::emit(digest ^ number, &mut bytes[..used]);
            bytes
        })
        .collect())
}

#[cfg(test)]
mod tests;
