//! Regions of the simulated device: plain bytes, so that what overlaps gives wrong results.

use std::any::Any;

use aegis_types::{Bytes, Extent};

use crate::error::DeviceError;
use crate::memory::{DeviceMemory, MemorySpace};
use crate::region::Region;

/// A region of the simulated device.
#[derive(Debug)]
pub struct SimMemory {
    region: Region,
    shared: bool,
}

impl SimMemory {
    /// `shared` says whether segments work on the host's memory where it lies.
    pub(crate) const fn new(region: Region, shared: bool) -> Self {
        Self { region, shared }
    }

    pub(crate) fn pointer(&self, extent: Extent) -> Option<*mut u8> {
        self.region.pointer(extent)
    }
}

impl DeviceMemory for SimMemory {
    fn space(&self) -> MemorySpace {
        self.region.space()
    }

    fn size(&self) -> Bytes {
        self.region.size()
    }

    fn is_shared(&self) -> bool {
        self.shared
    }

    fn lend(&self, extent: Extent) -> Result<(), DeviceError> {
        self.region.lend(extent)
    }

    fn take_back(&self, extent: Extent) {
        self.region.take_back(extent);
    }

    unsafe fn write(&self, offset: Bytes, from: &[u8]) {
        // SAFETY: the caller keeps this function's contract, which is the same.
        unsafe { self.region.write(offset, from) }
    }

    unsafe fn read(&self, offset: Bytes, to: &mut [u8]) {
        // SAFETY: the caller keeps this function's contract, which is the same.
        unsafe { self.region.read(offset, to) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
