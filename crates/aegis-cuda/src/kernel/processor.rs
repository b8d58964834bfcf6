//! What a model of kernels runs on.

use aegis_types::{Bytes, Extent};

use super::entry::Entry;
use super::steps::Grid;
use crate::error::DeviceError;
use crate::memory::DeviceMemory;
use crate::stream::Stream;

/// An argument of a kernel; addresses are numbers of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Argument {
    U32(u32),
    U64(u64),
}

/// One launch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Launch<'a> {
    pub(super) entry: Entry,
    pub(super) grid: Grid,
    pub(super) shared: Bytes,
    pub(super) arguments: &'a [Argument],
}

/// The kernels, loaded on a lane. The device is one; tests have another that runs them on the host.
pub(super) trait Processor {
    /// Enqueues a kernel on the lane that the kernels were loaded on.
    ///
    /// # Safety
    /// The arguments fit the kernel's parameters, and every address among them starts as many bytes as the kernel
    /// reads or writes there, in memory that stays the caller's until the stream has passed the launch.
    unsafe fn launch(&mut self, stream: &mut dyn Stream, launch: Launch<'_>) -> Result<(), DeviceError>;

    /// Where an extent of a region lies for kernels; `None` if they cannot reach it.
    fn address(&self, region: &dyn DeviceMemory, extent: Extent) -> Option<u64>;
}
