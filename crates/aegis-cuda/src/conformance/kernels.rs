//! The work that the suite enqueues on CUDA devices.

use aegis_types::{Bytes, Nanos};

use super::asynchronous::Probe;
use crate::cuda::{Argument, Function, LaunchShape, Module};
use crate::error::{BackendError, DeviceError};
use crate::interop::{with_cuda_stream, with_device_pointer};
use crate::kernel::{Entry, PTX};
use crate::memory::DeviceSlice;
use crate::stream::Stream;

/// An address that no allocation has.
const ILLEGAL: u64 = 0x10;
const ELSEWHERE: DeviceError = DeviceError::Unsupported { what: "a kernel" };

/// Kernels of the built-in workload, loaded in the partition of one stream.
pub struct KernelProbe {
    hold: Function,
    whereabouts: Function,
    stray: Function,
}

impl KernelProbe {
    /// Loads them in the partition of `stream`.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] for a stream of another device, or what the driver refuses.
    pub fn load(stream: &mut dyn Stream) -> Result<Self, BackendError> {
        let loaded = with_cuda_stream(stream, |cuda| {
            let module = Module::load(cuda, PTX)?;
            let function = |entry: Entry| module.function(entry.symbol());
            Ok(Self {
                hold: function(Entry::Hold)?,
                whereabouts: function(Entry::Where)?,
                stray: function(Entry::Stray)?,
            })
        });
        loaded.unwrap_or(Err(ELSEWHERE)).map_err(BackendError::from)
    }

    /// Enqueues a kernel that writes to an illegal address, which loses the device. `counter` is four bytes of zeroes.
    ///
    /// # Errors
    /// Those of the launch; the fault shows in later calls.
    pub fn stray(&mut self, stream: &mut dyn Stream, counter: &DeviceSlice) -> Result<(), BackendError> {
        let arguments = [Argument::U64(address(counter)?), Argument::U32(1), Argument::U64(ILLEGAL)];
        launch(stream, &self.stray, 1, &arguments)
    }
}

impl Probe for KernelProbe {
    fn hold(&mut self, stream: &mut dyn Stream, span: Nanos) -> Result<(), BackendError> {
        launch(stream, &self.hold, 1, &[Argument::U64(span.get())])
    }

    fn whereabouts(&mut self, stream: &mut dyn Stream, into: &DeviceSlice) -> Result<(), BackendError> {
        let blocks = u32::try_from(into.len().get() / 4).unwrap_or(u32::MAX);
        launch(stream, &self.whereabouts, blocks, &[Argument::U64(address(into)?)])
    }
}

fn address(slice: &DeviceSlice) -> Result<u64, DeviceError> {
    with_device_pointer(&**slice.region(), slice.extent(), |address| address).ok_or(ELSEWHERE)
}

/// One thread a block.
fn launch(
    stream: &mut dyn Stream,
    function: &Function,
    blocks: u32,
    arguments: &[Argument],
) -> Result<(), BackendError> {
    let shape = LaunchShape { grid: [blocks, 1, 1], block: [1, 1, 1], shared: Bytes::ZERO };
    let launched = with_cuda_stream(stream, |cuda| {
        // SAFETY: `launch` wants the kernel's own arguments (each caller above passes what `Entry` says) and addresses
        //  that are good until a later signal: slices that the checks hold until they have synchronised. The one that
        //  is not good is there to be caught by the device.
        unsafe { cuda.launch(function, shape, arguments) }
    });
    Ok(launched.unwrap_or(Err(ELSEWHERE))?)
}
