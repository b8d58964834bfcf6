//! The built-in workload: models made of kernels of known behaviour, for GPUs without any vendor backend.
//!
//! A model says which kernels its segments launch. Work is fixed, time is not: under contention a step takes longer, as
//! a network's kernels do. Beside the steps runs a small data path: inputs and weights go into a state, the state
//! through scratch and from segment to segment, outputs come out of it, and [`reference()`] computes the same on the
//! host, bit for bit. Whoever overlaps memory wrongly gets wrong outputs.
//!
//! ```text
//! kernel 1                          # the version; `#` starts a comment
//! input x f32 1x1024                # name, element type, shape; `?` for an axis that the request fixes
//! output y f32 1024
//! weights 4MiB                      # default 0B; generated from the model's hash
//! scratch 8MiB                      # of the segments below it, default 0B
//! segment                           # its steps stand below it, in order
//! compute blocks=64 threads=256 rounds=4000 repeat=3
//! read bytes=1MiB blocks=64         # weights, each read behind the one before
//! segment scratch 2MiB              # scratch of its own
//! stream bytes=2MiB blocks=132      # reads and writes scratch; `cache` is the same for regions that fit a cache
//! fill blocks=264 threads=1024 shared=48KiB rounds=500
//! hold 120us                        # waits for the clock
//! copy 1MiB on-device               # the device's own copy, into scratch
//! storm 50                          # empty launches
//! overrun 5s at=1000                # waits at its 1000th execution since loading, and at no other
//! fault stray at=500                # writes to an illegal address at its 500th execution
//! end                               # a text that was cut off is refused
//! ```
//!
//! Steps are launched `repeat` times; `blocks` is 1, `threads` 256, `rounds` and `repeat` 1 where they are not given.

mod backend;
mod entry;
mod fleet;
mod gpu;
mod parse;
mod processor;
mod reference;
mod steps;

use aegis_types::{Bytes, ContentHash};

use crate::backend::{BackendLoader, ModelDescription, ModelMemory, ModelRequest, RuntimeBackend};
use crate::conformance::{self, BackendCase, Report, Violation};
use crate::device::Device;
use crate::error::BackendError;
use crate::stream::Stream;

use processor::Processor;

pub use backend::KernelBackend;
pub use entry::{Entry, PTX, Parameter};
pub use fleet::{Pace, Shape, WIDTHS, enemies, network, pace_probe};

/// Loads kernels on the lane of a stream.
type Load = fn(&mut dyn Stream) -> Result<Box<dyn Processor>, BackendError>;

/// Loads models of kernels.
#[derive(Clone, Copy, Debug)]
pub struct KernelLoader {
    load: Load,
}

impl KernelLoader {
    /// The word for it in a fleet.
    pub const NAME: &'static str = "kernel";

    /// A loader for lanes of CUDA devices. Reading and describing models needs no device.
    pub fn new() -> Self {
        Self { load: gpu::load }
    }
}

impl Default for KernelLoader {
    fn default() -> Self {
        Self::new()
    }
}

impl BackendLoader for KernelLoader {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn inspect(&self, request: &ModelRequest<'_>) -> Result<ModelDescription, BackendError> {
        parse::model(request)?.describe(request)
    }

    fn load(
        &self,
        request: &ModelRequest<'_>,
        stream: &mut dyn Stream,
        memory: ModelMemory,
    ) -> Result<Box<dyn RuntimeBackend>, BackendError> {
        let model = parse::model(request)?;
        let description = model.describe(request)?;
        let processor = (self.load)(stream)?;
        Ok(Box::new(KernelBackend::load(model, description, processor, stream, memory)?))
    }
}

/// What a model of kernels answers, computed without any device: one vector of bytes for each output.
///
/// # Errors
/// As [`KernelLoader::inspect`](BackendLoader::inspect), [`BackendError::BindingCount`] for the wrong number of inputs,
/// [`BackendError::Binding`] for one of another size.
pub fn reference(request: &ModelRequest<'_>, inputs: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, BackendError> {
    let model = parse::model(request)?;
    reference::outputs(request.name, &model, &ContentHash::of(request.artifact), inputs)
}

/// The model that [`conformance`] loads: every step that leaves the device whole, odd sizes, three segments.
const CONFORMANCE_MODEL: &str = "kernel 1\n\
    input x f32 5x7\ninput t u8 3\noutput y f32 1000\noutput z u8 7\nweights 192KiB\nscratch 64KiB\n\
    segment\ncompute blocks=4 rounds=50 repeat=2\nread bytes=64KiB blocks=3\nread bytes=64KiB blocks=2 rounds=2\n\
    segment\nstream bytes=32KiB blocks=3 threads=96 rounds=3\ncache bytes=4KiB rounds=4\nstorm 5\n\
    copy 8KiB on-device\nstream bytes=1KiB threads=7 repeat=3\n\
    segment scratch 80B\nfill blocks=4 threads=128 shared=1KiB rounds=20\nhold 2us\noverrun 1us at=3\nend\n";

/// Runs the suite of [`conformance::backend`] with this backend on an undivided CUDA device.
///
/// # Errors
/// The first [`Violation`].
pub fn conformance(device: &dyn Device) -> Result<Report, Violation> {
    conforms(device, &KernelLoader::new())
}

fn conforms(device: &dyn Device, loader: &KernelLoader) -> Result<Report, Violation> {
    let shapes = std::collections::BTreeMap::new();
    let artifact = CONFORMANCE_MODEL.as_bytes();
    let request = ModelRequest { name: "kernels", artifact, shapes: &shapes, allow_control_flow: false };
    let bytes = |job: u8, length: u8| (0..length).map(|at| at.wrapping_mul(31) ^ job).collect();
    let jobs: Vec<Vec<Vec<u8>>> = (0..3).map(|job| vec![bytes(job, 140), bytes(!job, 3)]).collect();
    let judge = |inputs: &[Vec<u8>], outputs: &[Vec<u8>]| {
        let expected = reference(&request, inputs).map_err(|error| error.to_string())?;
        let wrong = expected.iter().zip(outputs).position(|(expected, output)| expected != output);
        match wrong {
            None if expected.len() == outputs.len() => Ok(()),
            found => Err(format!("of {} outputs, {found:?} is not the reference's", outputs.len())),
        }
    };
    let memory = Bytes::new(288 << 10);
    conformance::backend(&BackendCase { device, loader, request, jobs: &jobs, judge: &judge, memory })
}

#[cfg(test)]
mod emulator;
#[cfg(test)]
mod tests;
