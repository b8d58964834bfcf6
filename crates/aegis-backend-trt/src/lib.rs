//! The TensorRT backend of AegisRT: serialized plans, run on the lane's own stream.
//!
//! - [`TensorRt`]: the vendor's library, opened at run time after a look at its version.
//! - [`TensorRtLoader`]: inspects and loads plans; the backend's side of [`aegis_cuda::BackendLoader`].
//! - [`TensorRtModel`]: a plan on a lane.
//!
//! A plan is made by the vendor's own builder (`trtexec --saveEngine`) for one GPU and one version. What it needs comes
//! from the task's grant: weights and everything else that the library takes while it loads through an allocator of
//! ours, scratch as memory that the caller manages. While a plan is served the library gets nothing.
//!
//! The library speaks C++: a shim, compiled by the build script against the vendor's headers, turns that into plain
//! functions, and `bindings.rs` is their Rust side. No header is part of this project and nothing is linked with the
//! library; without headers at build time this crate says so when it is asked to load the library. The shim needs the
//! C++ standard library, as the vendor's library does.
//!
//! Deliberately absent: building plans, plugins, code for the host inside a plan (the library is told to refuse it),
//! streams beside the lane's, tensors on the host, scheduling, threads, files.

#[expect(
    non_camel_case_types,
    clippy::identity_op,
    dead_code,
    reason = "generated; the header that it is generated from explains every name"
)]
mod bindings;
mod journal;
mod library;
mod loader;
mod machine;
mod model;
mod plan;
mod shapes;
mod supply;
mod vendor;
mod version;

pub use library::TensorRt;
pub use loader::TensorRtLoader;
pub use model::TensorRtModel;
pub use version::Version;

/// The word for this backend in a fleet.
pub const NAME: &str = "tensorrt";

#[cfg(test)]
mod tests;
