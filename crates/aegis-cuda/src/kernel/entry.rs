//! The kernels by name, and how each is called.

use std::ffi::CStr;

/// The kernels as PTX for compute capability 8.0 and later, ISA 7.8: drivers from CUDA 11.8 on load it.
pub const PTX: &CStr = match CStr::from_bytes_with_nul(concat!(include_str!("kernels.ptx"), "\0").as_bytes())
{
    Ok(text) => text,
    Err(_) => panic!("the PTX has a zero byte inside"),
};

/// The type of a kernel's parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameter {
    /// A number of 32 bits.
    U32,
    /// A number of 64 bits.
    U64,
    /// An address in device memory.
    Address,
}

/// A kernel of the workload. Grids and blocks have one dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entry {
    /// Arithmetic: (rounds, address never written).
    Compute,
    /// Arithmetic with shared memory: (rounds, words of dynamic shared memory, address never written).
    Fill,
    /// Complements a region: (address, quads of 16 bytes, rounds, key).
    Stream,
    /// Reads a region: (address, quads of 16 bytes, rounds, key, address never written if the key is not zero).
    Read,
    /// Spins for so many nanoseconds: (length).
    Hold,
    /// Does nothing.
    Nothing,
    /// Spins at one execution: (address of the counter, execution, nanoseconds). One thread.
    Overrun,
    /// Writes out of bounds at one execution: (address of the counter, execution, illegal address). One thread.
    Stray,
    /// Fills a region from a seed: (address, words, seed).
    Generate,
    /// Takes a region into the state: (state, address, bytes, salt, begin anew). One block.
    Fold,
    /// Writes the state to a region's samples: (state, address, words). One block.
    Spread,
    /// Writes an output: (state, address, bytes, salt).
    Emit,
    /// Records the multiprocessor of each block: (address of one word a block).
    Where,
}

/// How many kernels there are.
const COUNT: usize = 13;

impl Entry {
    /// Every kernel, in the order of [`Ord`].
    pub const ALL: [Self; COUNT] = [
        Self::Compute,
        Self::Fill,
        Self::Stream,
        Self::Read,
        Self::Hold,
        Self::Nothing,
        Self::Overrun,
        Self::Stray,
        Self::Generate,
        Self::Fold,
        Self::Spread,
        Self::Emit,
        Self::Where,
    ];

    /// Its name in [`PTX`].
    pub const fn symbol(self) -> &'static CStr {
        match self {
            Self::Compute => c"aegis_compute",
            Self::Fill => c"aegis_fill",
            Self::Stream => c"aegis_stream",
            Self::Read => c"aegis_read",
            Self::Hold => c"aegis_hold",
            Self::Nothing => c"aegis_nothing",
            Self::Overrun => c"aegis_overrun",
            Self::Stray => c"aegis_stray",
            Self::Generate => c"aegis_generate",
            Self::Fold => c"aegis_fold",
            Self::Spread => c"aegis_spread",
            Self::Emit => c"aegis_emit",
            Self::Where => c"aegis_where",
        }
    }

    /// What it is called with.
    pub const fn parameters(self) -> &'static [Parameter] {
        use Parameter::{Address, U32, U64};
        match self {
            Self::Compute => &[U32, Address],
            Self::Fill => &[U32, U32, Address],
            Self::Stream => &[Address, U64, U32, U32],
            Self::Read => &[Address, U64, U32, U32, Address],
            Self::Hold => &[U64],
            Self::Nothing => &[],
            Self::Overrun => &[Address, U32, U64],
            Self::Stray => &[Address, U32, Address],
            Self::Generate => &[Address, U64, U32],
            Self::Fold => &[Address, Address, U64, U32, U32],
            Self::Spread => &[Address, Address, U64],
            Self::Emit => &[Address, Address, U64, U32],
            Self::Where => &[Address],
        }
    }
}
