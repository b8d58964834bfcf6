//! Regions of ordinary memory, which is where host segments compute.

use std::any::Any;

use aegis_types::{Bytes, Extent};

use crate::error::DeviceError;
use crate::memory::{DeviceMemory, MemorySpace};
use crate::region::Region;

/// A region of the host device.
#[derive(Debug)]
pub struct HostMemory {
    region: Region,
}

impl HostMemory {
    pub(crate) const fn new(region: Region) -> Self {
        Self { region }
    }

    /// The address of an extent, valid while the region lives; `None` if the extent lies outside.
    pub fn pointer(&self, extent: Extent) -> Option<*mut u8> {
        self.region.pointer(extent)
    }
}

impl DeviceMemory for HostMemory {
    fn space(&self) -> MemorySpace {
        self.region.space()
    }

    fn size(&self) -> Bytes {
        self.region.size()
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
