//! The systems that a bundle promises to run on: what of theirs it may need, and nothing newer.

use super::elf::Glibc;

/// A system, by the oldest libraries that it comes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Platform {
    /// Its name, for messages.
    pub name: &'static str,
    /// Its C library.
    pub glibc: Glibc,
    /// What it needs for a GPU, in words; the same words go into the manifest.
    pub cuda: &'static str,
}

/// Debian 12: the oldest machine that an ordinary bundle promises to run on.
pub const DEBIAN_12: Platform = Platform {
    name: "Debian 12",
    glibc: Glibc { major: 2, minor: 36 },
    cuda: "driver of CUDA 11.7 or newer; of 12.4 or newer for partitions of a GPU",
};

/// JetPack 6, whose system is that of Ubuntu 22.04. Its driver is of CUDA 12.2 in release 6.0 and of CUDA 12.6 from
/// release 6.1 on; JetPack 5 has glibc 2.31, which no program of ours can do with.
pub const JETPACK_6: Platform = Platform {
    name: "JetPack 6",
    glibc: Glibc { major: 2, minor: 35 },
    cuda: "JetPack 6.0 (CUDA 12.2) or newer; JetPack 6.1 (CUDA 12.6) or newer for partitions of a GPU",
};
