//! The kernels on a CUDA device.

use aegis_types::Extent;

use super::entry::{Entry, PTX};
use super::processor::{self, Launch, Processor};
use crate::cuda::{Argument, Function, LaunchShape, Module};
use crate::error::{BackendError, DeviceError};
use crate::interop::{with_cuda_stream, with_device_pointer};
use crate::memory::DeviceMemory;
use crate::stream::Stream;

/// What is said of a stream that carries no CUDA lane.
const ELSEWHERE: DeviceError = DeviceError::Unsupported { what: "a model of kernels" };

/// Arguments of the kernel with the most.
const ARGUMENTS: usize = 5;

/// The kernels, loaded in a lane's partition.
struct Gpu {
    /// In the order of [`Entry::ALL`].
    functions: Vec<Function>,
}

/// Loads the kernels inside the partition of the stream's lane.
pub(super) fn load(stream: &mut dyn Stream) -> Result<Box<dyn Processor>, BackendError> {
    let loaded = with_cuda_stream(stream, |cuda| {
        let module = Module::load(cuda, PTX)?;
        Entry::ALL.iter().map(|entry| module.function(entry.symbol())).collect::<Result<Vec<_>, _>>()
    });
    let functions = loaded.unwrap_or(Err(ELSEWHERE))?;
    Ok(Box::new(Gpu { functions }))
}

impl Processor for Gpu {
    unsafe fn launch(&mut self, stream: &mut dyn Stream, launch: Launch<'_>) -> Result<(), DeviceError> {
        let shape = LaunchShape {
            grid: [launch.grid.blocks, 1, 1],
            block: [launch.grid.threads, 1, 1],
            shared: launch.shared,
        };
        let mut arguments = [Argument::U32(0); ARGUMENTS];
        let given = &mut arguments[..launch.arguments.len()];
        for (argument, from) in given.iter_mut().zip(launch.arguments) {
            *argument = match *from {
                processor::Argument::U32(number) => Argument::U32(number),
                processor::Argument::U64(number) => Argument::U64(number),
            };
        }
        let function = &self.functions[launch.entry as usize];
        let launched = with_cuda_stream(stream, |cuda| {
            // SAFETY: `launch` wants the kernel's own arguments, and addresses that are good for what it does with
            //  them until a later signal or for as long as a graph is replayed: what this function wants of its caller.
            unsafe { cuda.launch(function, shape, given) }
        });
        launched.unwrap_or(Err(ELSEWHERE))
    }

    fn address(&self, region: &dyn DeviceMemory, extent: Extent) -> Option<u64> {
        with_device_pointer(region, extent, |address| address)
    }
}
