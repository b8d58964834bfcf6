//! Regions of device memory and the slices lent from them.
//!
//! The planner hands out offsets; this is where they become memory. A region lends each byte at most once at a time,
//! so safe code cannot alias; scratch, which tasks of a lane share by turns, is reached through [`crate::interop`].

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use aegis_types::{Bytes, Extent};

use crate::error::DeviceError;

/// Which memory of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemorySpace {
    /// Where segments compute.
    Device,
    /// Host memory that the device's copy engines read and write directly.
    Staging,
}

/// A region of device memory. One thread may use a slice of it while another uses a disjoint slice.
pub trait DeviceMemory: Send + Sync {
    /// Which memory it is.
    fn space(&self) -> MemorySpace;

    /// Its size.
    fn size(&self) -> Bytes;

    /// Whether segments may work on it where the host fills it: staging memory of a device that shares the host's memory.
    /// Nothing is copied then between host and device.
    fn is_shared(&self) -> bool {
        false
    }

    /// Marks an extent as lent.
    ///
    /// # Errors
    /// [`DeviceError::BadSlice`] if it lies outside the region or shares bytes with a lent one.
    fn lend(&self, extent: Extent) -> Result<(), DeviceError>;

    /// Marks a lent extent as free again.
    fn take_back(&self, extent: Extent);

    /// Copies host bytes into the region, synchronously. Load time on devices that are not unified.
    ///
    /// # Safety
    /// The caller holds the lent extent that covers `offset .. offset + from.len()`, and no work on it is in flight.
    unsafe fn write(&self, offset: Bytes, from: &[u8]);

    /// Copies bytes of the region to the host, synchronously.
    ///
    /// # Safety
    /// As [`DeviceMemory::write`].
    unsafe fn read(&self, offset: Bytes, to: &mut [u8]);

    /// The device's own type, for [`interop`](crate::interop).
    fn as_any(&self) -> &dyn Any;
}

/// A piece of a region, lent to one owner. `Send` but not `Sync`: used by one thread at a time.
pub struct DeviceSlice {
    region: Arc<dyn DeviceMemory>,
    extent: Extent,
    not_sync: PhantomData<Cell<()>>,
}

impl DeviceSlice {
    /// Borrows `extent` of `region` until the slice is dropped.
    ///
    /// # Errors
    /// [`DeviceError::BadSlice`] if it lies outside the region or shares bytes with a lent slice.
    pub fn lend(region: &Arc<dyn DeviceMemory>, extent: Extent) -> Result<Self, DeviceError> {
        region.lend(extent)?;
        Ok(Self { region: Arc::clone(region), extent, not_sync: PhantomData })
    }

    /// Where in the region it lies.
    pub const fn extent(&self) -> Extent {
        self.extent
    }

    /// Its length.
    pub const fn len(&self) -> Bytes {
        self.extent.len
    }

    /// Whether it has no bytes.
    pub const fn is_empty(&self) -> bool {
        self.extent.len.is_zero()
    }

    /// The region it was lent from.
    pub fn region(&self) -> &Arc<dyn DeviceMemory> {
        &self.region
    }

    /// The refusal that names this slice and says what is wrong with it.
    pub fn unfit(&self, reason: &'static str) -> DeviceError {
        let Extent { offset, len } = self.extent;
        DeviceError::BadSlice { offset, len, region: self.region.size(), reason }
    }

    /// Copies host bytes in, from the slice's start. No work on the slice may be in flight.
    ///
    /// # Panics
    /// If `from` is longer than the slice.
    pub fn write(&self, from: &[u8]) {
        assert!(from.len() as u64 <= self.extent.len.get(), "{} bytes written into {self:?}", from.len());
        // SAFETY: `write` wants the lent extent to cover the range, and no work in flight on it.
        //  covers: `self` is the lent extent and the length was checked above;
        //  in flight: the slice is not `Sync`, and the lane's thread, which enqueues, is the one that writes.
        unsafe { self.region.write(self.extent.offset, from) }
    }

    /// Copies bytes out, from the slice's start. No work on the slice may be in flight.
    ///
    /// # Panics
    /// If `to` is longer than the slice.
    pub fn read(&self, to: &mut [u8]) {
        assert!(to.len() as u64 <= self.extent.len.get(), "{} bytes read from {self:?}", to.len());
        // SAFETY: as in `write`: covered by the lent extent, on the thread that enqueues.
        unsafe { self.region.read(self.extent.offset, to) }
    }
}

impl Drop for DeviceSlice {
    fn drop(&mut self) {
        self.region.take_back(self.extent);
    }
}

impl fmt::Debug for DeviceSlice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "slice of {} at {} in {:?} memory",
            self.extent.len,
            self.extent.offset,
            self.region.space()
        )
    }
}
