//! Raw handles, lent to a closure. Only backends may name this module.

use aegis_types::Extent;

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
