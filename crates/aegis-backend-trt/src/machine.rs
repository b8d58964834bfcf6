//! What the backend wants of the device below it: addresses, a stream, and a place to look into a plan.

use std::ffi::c_void;
use std::sync::Arc;

use aegis_cuda::{BackendError, CudaDevice, CudaOptions, Device, DeviceError, DeviceMemory, Stream, interop};
use aegis_types::{Bytes, Extent};

/// Does something on a device that is open for the time being.
pub(crate) type Visit<'a> = &'a mut dyn FnMut(&Arc<dyn Device>) -> Result<(), BackendError>;

/// The device below, as far as the vendor library meets it.
pub(crate) trait Machine: Send + Sync {
    /// Where the library finds an extent; `None` if it cannot.
    fn address(&self, region: &dyn DeviceMemory, extent: Extent) -> Option<u64>;

    /// Lends the stream in the library's form; `None` if it has none.
    fn with_stream(&self, stream: &mut dyn Stream, f: &mut dyn FnMut(*mut c_void)) -> Option<()>;

    /// Opens the device, visits it and leaves it. What the visit took is given back before.
    fn visit(&self, visit: Visit<'_>) -> Result<(), BackendError>;
}

/// A CUDA device by its number.
pub(crate) struct Gpu {
    pub(crate) ordinal: u32,
}

impl Machine for Gpu {
    fn address(&self, region: &dyn DeviceMemory, extent: Extent) -> Option<u64> {
        interop::with_device_pointer(region, extent, |address| address)
    }

    fn with_stream(&self, stream: &mut dyn Stream, f: &mut dyn FnMut(*mut c_void)) -> Option<()> {
        interop::with_raw_stream(stream, f)
    }

    /// Opening looks for the driver and the GPU, so that no call goes to the library on a machine without them.
    fn visit(&self, visit: Visit<'_>) -> Result<(), BackendError> {
        let options =
            CudaOptions { ordinal: self.ordinal, copy_by_kernel: Bytes::ZERO, ..CudaOptions::default() };
        let device = Arc::new(CudaDevice::open(options)?);
        let shared: Arc<dyn Device> = Arc::clone(&device) as _;
        let visited = visit(&shared);
        drop(shared);
        let closed = match Arc::into_inner(device) {
            Some(device) => device.close(),
            None => Err(DeviceError::Refused {
                call: "closing the device",
                reason: "something still holds it after a plan was looked into".into(),
            }),
        };
        visited?;
        Ok(closed?)
    }
}
