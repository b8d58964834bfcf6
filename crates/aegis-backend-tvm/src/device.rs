//! Where a model computes: the host's processor or a GPU, as this crate tells them apart.

use aegis_cuda::{BackendError, DeviceMemory, Stream, interop};
use aegis_types::{Bytes, Extent};

use crate::abi;
use crate::api::{Api, CudaApi, library_error};

/// Generated kernels load vectors of up to 64 bytes from wherever a tensor starts.
const HOST_ALIGNMENT: Bytes = Bytes::new(64);
/// What the driver's own allocations are aligned to at least.
const GPU_ALIGNMENT: Bytes = Bytes::new(256);
/// The CUDA runtime's numbers of a device's compute capability.
const CAPABILITY_MAJOR: i32 = 75;
/// As above.
const CAPABILITY_MINOR: i32 = 76;

/// Where a model computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Processor {
    /// The host's processor.
    Host,
    /// A GPU: its number, and its compute capability.
    Gpu {
        /// As the CUDA runtime numbers it.
        id: i32,
        /// Major and minor.
        capability: (u32, u32),
    },
}

impl Processor {
    /// The processor whose memory `region` is, and that carries `stream`.
    ///
    /// # Errors
    /// [`BackendError::Library`] if the memory belongs to neither, or to a GPU while TVM was loaded without its part
    /// for GPUs; the device's own.
    pub(crate) fn of(
        api: &'static Api,
        region: &dyn DeviceMemory,
        stream: &mut dyn Stream,
    ) -> Result<Self, BackendError> {
        let nothing = Extent { offset: Bytes::ZERO, len: Bytes::ZERO };
        if interop::with_host_pointer(region, nothing, |_| ()).is_some() {
            return Ok(Self::Host);
        }
        let on_gpu = interop::with_raw_stream(stream, |_| api.cuda.as_ref().map(Self::current)).flatten();
        on_gpu.unwrap_or_else(|| {
            let legal = match api.cuda {
                Some(_) => "legal is memory of a host device or of a GPU",
                None => "legal is memory of a host device, because TVM was loaded without its part for GPUs",
            };
            Err(library_error(format!(
                "the model's memory belongs to a device that TVM cannot reach: {legal}"
            )))
        })
    }

    /// The GPU of the context that is current on this thread.
    fn current(cuda: &CudaApi) -> Result<Self, BackendError> {
        let failed = |code: i32| library_error(format!("the CUDA runtime fails with code {code}"));
        let mut id = 0;
        // SAFETY: wants a place for the number.
        let code = unsafe { (cuda.get_device)(&raw mut id) };
        if code != 0 {
            return Err(failed(code));
        }
        let attribute = |which| {
            let mut value = 0;
            // SAFETY: wants a place for the value, and a device that exists: the current one.
            let code = unsafe { (cuda.device_attribute)(&raw mut value, which, id) };
            if code == 0 { Ok(u32::try_from(value).unwrap_or(0)) } else { Err(failed(code)) }
        };
        Ok(Self::Gpu { id, capability: (attribute(CAPABILITY_MAJOR)?, attribute(CAPABILITY_MINOR)?) })
    }

    /// How the vendor names it.
    pub(crate) const fn device(&self) -> abi::Device {
        match *self {
            Self::Host => abi::Device { kind: abi::CPU, id: 0 },
            Self::Gpu { id, .. } => abi::Device { kind: abi::CUDA, id },
        }
    }

    /// How every piece of memory is aligned.
    pub(crate) const fn alignment(&self) -> Bytes {
        match self {
            Self::Host => HOST_ALIGNMENT,
            Self::Gpu { .. } => GPU_ALIGNMENT,
        }
    }

    /// Where an extent lies for kernels; `None` outside of the region or in memory that they cannot reach.
    pub(crate) fn address(&self, region: &dyn DeviceMemory, extent: Extent) -> Option<u64> {
        match self {
            Self::Host => {
                interop::with_host_pointer(region, extent, |start| start.expose_provenance() as u64)
            }
            Self::Gpu { .. } => interop::with_device_pointer(region, extent, |address| address),
        }
    }
}
