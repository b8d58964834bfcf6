//! Small copies as a kernel.
//!
//! A copy operation is work for a copy engine: the launch of a graph with copies at both ends hands work from one engine
//! to another twice, and holds the launching thread for each. The same copies as a kernel stay on the partition's SMs,
//! which reach staging memory themselves. Large copies are worth an engine, and are no business of the SMs.

use std::ffi::CStr;

use aegis_types::Bytes;

use super::module::{Argument, Function, LaunchShape, Module};
use super::stream::CudaStream;
use crate::error::DeviceError;
use crate::memory::{DeviceSlice, MemorySpace};
use crate::stream::Stream;

/// The kernel as PTX for compute capability 8.0 and later, ISA 7.8: drivers from CUDA 11.8 on load it.
const PTX: &CStr = match CStr::from_bytes_with_nul(concat!(include_str!("copy.ptx"), "\0").as_bytes()) {
    Ok(text) => text,
    Err(_) => panic!("the PTX has a zero byte inside"),
};

/// Threads of a block: the kernel is compiled for no more.
const THREADS: u32 = 256;
/// Blocks of this size that an SM runs at a time; more would only queue behind them.
const BLOCKS_OF_UNIT: u32 = 8;
/// Bytes that a thread copies at a time where both ends are aligned to as many.
const QUAD: u64 = 16;

/// The kernel that copies, loaded in one partition.
#[derive(Clone)]
pub(super) struct Copier {
    function: Function,
    units: u32,
    most: u64,
}

impl Copier {
    /// Loads it in the partition of `stream`, for copies of `most` bytes at most, and runs it once: a driver that loads
    /// kernels at their first launch would let that launch wait for all other work. Load time only.
    pub(super) fn load(stream: &mut CudaStream, most: Bytes) -> Result<Self, DeviceError> {
        let function = Module::load(stream, PTX)?.function(c"aegis_copy")?;
        let copier = Self { function, units: stream.units(), most: most.get() };
        let (shape, arguments) = (copier.shape(0, 0, 0), Self::arguments(0, 0, 0));
        // SAFETY: `launch` wants the kernel's own arguments, and addresses that are good for what the kernel does with
        //  them: nothing, for a length of zero.
        unsafe { stream.launch(&copier.function, shape, &arguments) }?;
        stream.synchronize()?;
        Ok(copier)
    }

    /// Whether it makes this copy. The driver copies inside staging memory on the host, without the GPU.
    pub(super) fn serves(&self, from: &DeviceSlice, to: &DeviceSlice) -> bool {
        let on_the_host = |slice: &DeviceSlice| slice.region().space() == MemorySpace::Staging;
        from.len().get() <= self.most && !(on_the_host(from) && on_the_host(to))
    }

    /// The kernel.
    pub(super) const fn function(&self) -> &Function {
        &self.function
    }

    /// How it is launched for so many bytes between two addresses.
    pub(super) fn shape(&self, from: u64, to: u64, len: u64) -> LaunchShape {
        let blocks = blocks(self.units, from, to, len);
        LaunchShape { grid: [blocks, 1, 1], block: [THREADS, 1, 1], shared: Bytes::ZERO }
    }

    /// What it is launched with.
    pub(super) const fn arguments(from: u64, to: u64, len: u64) -> [Argument; 3] {
        [Argument::U64(from), Argument::U64(to), Argument::U64(len)]
    }
}

/// One thread for each piece, as long as the partition runs all of them at once.
fn blocks(units: u32, from: u64, to: u64, len: u64) -> u32 {
    let aligned = (from | to).is_multiple_of(QUAD);
    let pieces = if aligned { len.div_ceil(QUAD) } else { len };
    let wanted = u32::try_from(pieces.div_ceil(u64::from(THREADS))).unwrap_or(u32::MAX);
    wanted.clamp(1, units.saturating_mul(BLOCKS_OF_UNIT).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_a_thread_for_each_piece_up_to_what_the_partition_runs() {
        for (units, from, to, len, expected) in [
            (8, 0, 0, 0, 1),
            (8, 32, 64, 4096, 1),
            (8, 32, 64, 4097, 2),
            (8, 33, 64, 4096, 16),
            (8, 32, 72, 4096, 16),
            (8, 0, 0, 1 << 18, 64),
            (2, 0, 0, 1 << 18, 16),
            (0, 0, 0, 1 << 18, 1),
            (132, 1, 0, u64::MAX, 1056),
        ] {
            assert_eq!(blocks(units, from, to, len), expected, "{units} SMs, {len} bytes");
        }
    }

    #[test]
    fn the_kernel_is_what_the_host_calls() {
        let text = PTX.to_str().expect("text");
        assert!(text.contains(".entry aegis_copy("));
        for parameter in 0..Copier::arguments(0, 0, 0).len() {
            assert!(text.contains(&format!(".param .u64 aegis_copy_param_{parameter}")), "{parameter}");
        }
        assert!(!text.contains("aegis_copy_param_3"), "more parameters than arguments");
        assert!(text.contains(&format!(".maxntid {THREADS}, 1, 1")));
    }
}
