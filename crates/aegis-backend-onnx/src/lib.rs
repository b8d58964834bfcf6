//! The ONNX Runtime backend of AegisRT: models in the ONNX format, run on the lane's own thread.
//!
//! - [`OnnxRuntime`]: the vendor library, loaded at run time, once per process.
//! - [`OnnxLoader`]: inspects and loads models; the backend's side of [`aegis_cuda::BackendLoader`].
//! - [`Reference`]: the same library used plainly, to compare outputs with.
//! - `TractLoader`, with the feature `tract`: the same files run by a library in Rust, linked in.
//!
//! Temporaries, and what kernels prepare from weights, come out of the task's grant through an allocator of ours;
//! [`OnnxRuntime::foreign_allocations`] counts what cannot be charged to a task. The constants themselves are on the
//! library's own heap, because it builds them before a session has an allocator; a reservation of their stored size
//! stands for them in the grant. Outside the grant stay the library's graph of the model, small buffers that kernels
//! keep per thread, and what its optimiser adds to the stored size of constants: convolution weights are copied into
//! a padded layout, which for a small convolutional model can be several times what is stored.
//!
//! On the host a model is optimized by the library before it is loaded, and its nodes are put into an order that is the same each
//! time: the library's own differs from session to session, and with it the most scratch that is in use at once.
//!
//! On a GPU's lane the library's CUDA provider runs a model on the lane's own stream. Its device memory, constants
//! included, comes out of the grant ([`OnnxRuntime::device_allocations`]); outside of every grant stay the code of
//! kernels, and workspaces that the vendor's libraries under the provider take from the driver: a remark of the loaded
//! model says how much that was. A job is recorded into a graph where a trial at load time shows that replays do what
//! runs do; else a remark says what stands in the way.
//!
//! Deliberately absent: scheduling, threads (one intra-op thread, the caller's), files (the runtime opens them).

mod allocator;
mod backend;
mod charge;
mod cuda;
mod elements;
mod external;
mod inspect;
mod library;
mod loader;
mod opened;
mod ordered;
mod proto;
mod raw;
mod reference;
mod registered;
pub mod segment;
mod session;
mod shapes;
#[cfg(feature = "tract")]
mod tract;
mod wire;
mod words;

pub use backend::OnnxModel;
pub use cuda::allocator::DeviceAllocations;
pub use cuda::pinned::PinnedBlocks;
pub use library::OnnxRuntime;
pub use loader::OnnxLoader;
pub use reference::{Reference, Tensor};
#[cfg(feature = "tract")]
pub use tract::{TractLoader, TractModel, TractReference};
