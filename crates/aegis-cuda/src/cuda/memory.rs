//! Reservations of device memory and of pinned host memory.

use std::any::Any;
use std::ffi::c_void;
use std::sync::Arc;

use aegis_types::{Bytes, Extent};
use cudarc::driver::sys;

use super::code::OUT_OF_MEMORY;
use super::driver::{Driver, Token};
use super::retire::Handle;
use crate::error::DeviceError;
use crate::lending::LentBook;
use crate::memory::{DeviceMemory, MemorySpace};
use crate::region::Charge;

/// A region of a GPU's memory, or of host memory that its copy engines reach.
///
/// [`write`](DeviceMemory::write) and [`read`](DeviceMemory::read) have no result: on a device that is lost they do
/// nothing, and the next call that has one tells the loss.
pub struct CudaMemory {
    driver: Arc<Driver>,
    space: MemorySpace,
    place: Place,
    /// The device has no memory of its own, and this is the host's.
    shared: bool,
    book: LentBook,
}

enum Place {
    Device {
        address: u64,
        /// Moves to the retire queue with the memory.
        charge: Option<Charge>,
    },
    Pinned {
        start: Token<c_void>,
        device: u64,
    },
}

impl CudaMemory {
    /// Allocates device memory, zero-filled; `charge` is its share of the capacity.
    pub(super) fn device(driver: &Arc<Driver>, bytes: Bytes, charge: Charge) -> Result<Self, DeviceError> {
        let len = length(bytes)?;
        let address = {
            let _primary = driver.on_primary()?;
            let mut address = 0;
            // SAFETY: `cuMemAlloc` wants a place for the address, more than zero bytes (`length`), and a current
            //  context: the primary one.
            let code = unsafe { (driver.api.memory_allocate)(&raw mut address, len) };
            driver.refuse_memory(code, "cuMemAlloc", MemorySpace::Device, bytes)?;
            address
        };
        let place = Place::Device { address, charge: Some(charge) };
        let memory = Self {
            driver: Arc::clone(driver),
            space: MemorySpace::Device,
            place,
            shared: false,
            book: LentBook::new(bytes),
        };
        driver.on_load_stream(|stream| {
            // SAFETY: `cuMemsetD8Async` wants a live range: the allocation of `len` bytes made above.
            let code = unsafe { (driver.api.fill)(address, 0, len, stream) };
            driver.check(code, "cuMemsetD8Async")
        })?;
        Ok(memory)
    }

    /// Allocates pinned host memory, zero-filled.
    pub(super) fn staging(driver: &Arc<Driver>, bytes: Bytes) -> Result<Self, DeviceError> {
        let _primary = driver.on_primary()?;
        let shared = driver.attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_INTEGRATED)? != 0;
        let (start, device) = allocate_pinned(driver, length(bytes)?)?;
        let place = Place::Pinned { start, device };
        Ok(Self {
            driver: Arc::clone(driver),
            space: MemorySpace::Staging,
            place,
            shared,
            book: LentBook::new(bytes),
        })
    }

    /// The address of an extent for the device, valid while the region lives; `None` if the extent lies outside.
    pub fn device_address(&self, extent: Extent) -> Option<u64> {
        let base = match &self.place {
            Place::Device { address, .. } => *address,
            Place::Pinned { device, .. } => *device,
        };
        self.book.contains(extent).then(|| base.wrapping_add(extent.offset.get()))
    }

    /// Whether it is memory of this driver's device.
    pub(super) fn belongs_to(&self, driver: &Arc<Driver>) -> bool {
        Arc::ptr_eq(&self.driver, driver)
    }

    fn range(&self, offset: Bytes, len: usize) -> u64 {
        let extent = Extent { offset, len: Bytes::new(len as u64) };
        assert!(
            self.book.contains(extent),
            "{len} bytes at {offset} lie outside a region of {}",
            self.book.size()
        );
        offset.get()
    }
}

impl DeviceMemory for CudaMemory {
    fn space(&self) -> MemorySpace {
        self.space
    }

    fn size(&self) -> Bytes {
        self.book.size()
    }

    fn is_shared(&self) -> bool {
        self.shared
    }

    fn lend(&self, extent: Extent) -> Result<(), DeviceError> {
        self.book.lend(extent)
    }

    fn take_back(&self, extent: Extent) {
        self.book.take_back(extent);
    }

    unsafe fn write(&self, offset: Bytes, from: &[u8]) {
        let offset = self.range(offset, from.len());
        match &self.place {
            Place::Device { address, .. } => {
                let driver = &self.driver;
                let _lost = driver.on_load_stream(|stream| {
                    let source = from.as_ptr().cast();
                    // SAFETY: `cuMemcpyHtoDAsync` wants both ranges live until the copy is done, which
                    //  `on_load_stream` waits for. Device: `range` checked it, and the caller holds it with no work in
                    //  flight on it; host: a slice.
                    let code = unsafe { (driver.api.copy_in)(address + offset, source, from.len(), stream) };
                    driver.check(code, "cuMemcpyHtoDAsync")
                });
            }
            Place::Pinned { start, .. } => {
                let to = start.0.cast::<u8>().wrapping_add(index(offset));
                // SAFETY: `copy` wants both ranges valid.
                //  to: `range` checked that it lies in the allocation, and the caller holds it with no work in flight;
                //  from: a slice.
                unsafe { std::ptr::copy(from.as_ptr(), to, from.len()) }
            }
        }
    }

    unsafe fn read(&self, offset: Bytes, to: &mut [u8]) {
        let offset = self.range(offset, to.len());
        match &self.place {
            Place::Device { address, .. } => {
                let driver = &self.driver;
                let _lost = driver.on_load_stream(|stream| {
                    let target = to.as_mut_ptr().cast();
                    // SAFETY: as in `write`; the host's range is an exclusive slice.
                    let code = unsafe { (driver.api.copy_out)(target, address + offset, to.len(), stream) };
                    driver.check(code, "cuMemcpyDtoHAsync")
                });
            }
            Place::Pinned { start, .. } => {
                let from = start.0.cast::<u8>().wrapping_add(index(offset));
                // SAFETY: as in `write`; the bytes are initialised: zeroed when the region was made.
                unsafe { std::ptr::copy(from, to.as_mut_ptr(), to.len()) }
            }
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for CudaMemory {
    fn drop(&mut self) {
        let handle = match &mut self.place {
            Place::Device { address, charge } => {
                let Some(charge) = charge.take() else { return };
                Handle::Device(*address, charge)
            }
            Place::Pinned { start, .. } => Handle::Pinned(*start),
        };
        self.driver.retire(None, handle);
    }
}

impl std::fmt::Debug for CudaMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {:?} memory on {}", self.book.size(), self.space, self.driver.name())
    }
}

/// Allocates zeroed pinned host memory in the current context, and gives its address for the device too.
pub(super) fn allocate_pinned(driver: &Driver, len: usize) -> Result<(Token<c_void>, u64), DeviceError> {
    let flags = sys::CU_MEMHOSTALLOC_PORTABLE | sys::CU_MEMHOSTALLOC_DEVICEMAP;
    let mut start = std::ptr::null_mut();
    // SAFETY: `cuMemHostAlloc` wants a place for the address, more than zero bytes (the callers see to it), and a
    //  current context (so do they).
    let code = unsafe { (driver.api.pinned_allocate)(&raw mut start, len, flags) };
    driver.refuse_memory(code, "cuMemHostAlloc", MemorySpace::Staging, Bytes::new(len as u64))?;
    // SAFETY: `write_bytes` wants `len` writable bytes: just allocated, nobody else knows them.
    unsafe { start.cast::<u8>().write_bytes(0, len) };
    let mut device = 0;
    // SAFETY: `cuMemHostGetDevicePointer` wants a place for the address and memory allocated with the mapping flag.
    let code = unsafe { (driver.api.pinned_device_address)(&raw mut device, start, 0) };
    if let Err(error) = driver.check(code, "cuMemHostGetDevicePointer") {
        driver.retire(None, Handle::Pinned(Token(start)));
        return Err(error);
    }
    Ok((Token(start), device))
}

impl Driver {
    /// As [`Driver::check`], but a lack of memory is told in numbers.
    fn refuse_memory(
        &self,
        code: u32,
        call: &'static str,
        space: MemorySpace,
        asked: Bytes,
    ) -> Result<(), DeviceError> {
        if code != OUT_OF_MEMORY {
            return self.check(code, call);
        }
        let (space, (free, total)) = match space {
            MemorySpace::Device => ("device", self.memory()?),
            MemorySpace::Staging => ("staging", host_memory()),
        };
        Err(DeviceError::OutOfMemory { space, asked, free: Bytes::new(free), capacity: Bytes::new(total) })
    }
}

/// Free and total host memory, in bytes. How much of it may be pinned is the system's secret.
fn host_memory() -> (u64, u64) {
    let info = rustix::system::sysinfo();
    let unit = u64::from(info.mem_unit);
    (info.freeram.saturating_mul(unit), info.totalram.saturating_mul(unit))
}

/// Length of an allocation: an empty region has an address, too.
fn length(bytes: Bytes) -> Result<usize, DeviceError> {
    let reason = || DeviceError::System { what: "reserving memory", reason: format!("no {bytes}") };
    usize::try_from(bytes.get()).map(|len| len.max(1)).map_err(|_| reason())
}

/// An offset that was checked against a region that exists fits.
fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}
