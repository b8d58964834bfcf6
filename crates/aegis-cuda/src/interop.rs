//! Raw handles, lent to a closure. Only backends may name this module.

use std::ffi::c_void;

use aegis_types::Extent;

use crate::cuda::{CudaMemory, CudaStream};
use crate::host::HostMemory;
use crate::memory::DeviceMemory;
use crate::sim::SimStream;
use crate::stream::Stream;

/// Lends the address of an extent of host memory; `None` if the region is no host memory or the extent lies outside.
///
/// The pointer is valid while the region lives. Who dereferences it answers for aliasing: an extent of scratch is
/// used by the one segment in flight on its lane.
pub fn with_host_pointer<R>(
    region: &dyn DeviceMemory,
    extent: Extent,
    f: impl FnOnce(*mut u8) -> R,
) -> Option<R> {
    let memory = region.as_any().downcast_ref::<HostMemory>()?;
    memory.pointer(extent).map(f)
}

/// Lends the simulator's stream; `None` on another device.
pub fn with_sim_stream<R>(stream: &mut dyn Stream, f: impl FnOnce(&mut SimStream) -> R) -> Option<R> {
    stream.as_any_mut().downcast_mut::<SimStream>().map(f)
}

/// Lends the stream of a CUDA lane; `None` on another device.
pub fn with_cuda_stream<R>(stream: &mut dyn Stream, f: impl FnOnce(&mut CudaStream) -> R) -> Option<R> {
    stream.as_any_mut().downcast_mut::<CudaStream>().map(f)
}

/// Lends the address that an extent has on a GPU; `None` if the region is not a GPU's or the extent lies outside.
///
/// The address is valid while the region lives, for staging memory, too. Who gives it to a kernel answers for aliasing:
/// an extent of scratch is used by the one segment in flight on its lane.
pub fn with_device_pointer<R>(
    region: &dyn DeviceMemory,
    extent: Extent,
    f: impl FnOnce(u64) -> R,
) -> Option<R> {
    let memory = region.as_any().downcast_ref::<CudaMemory>()?;
    memory.device_address(extent).map(f)
}

/// Lends the driver's handle of a CUDA lane's stream to a vendor library, with the partition's context current on this
/// thread; `None` on another device, or if the device is lost.
///
/// The handle is valid while the stream lives. What is enqueued on it comes before the next signal.
pub fn with_raw_stream<R>(stream: &mut dyn Stream, f: impl FnOnce(*mut c_void) -> R) -> Option<R> {
    stream.as_any_mut().downcast_mut::<CudaStream>()?.raw().ok().map(f)
}
