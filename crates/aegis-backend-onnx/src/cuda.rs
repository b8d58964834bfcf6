//! Models on a CUDA lane: ONNX Runtime's CUDA provider on the lane's own stream, on memory of the task's grant.
//!
//! - [`driver`]: the few functions of the CUDA driver that are needed beside the provider.
//! - [`allocator`]: where the provider's device memory comes from, and whom it is charged to.
//! - [`pinned`]: where its host memory comes from that the device copies from and to.
//! - [`provider`]: options of a session on the GPU, and which nodes the library left on the host.
//! - [`model`]: a loaded model; a job is one call that only enqueues.
//! - [`capture`]: finds out at load time whether that call can be recorded into a graph and replayed.

pub(crate) mod allocator;
mod capture;
pub(crate) mod driver;
mod model;
pub(crate) mod pinned;
pub(crate) mod provider;

pub(crate) use model::CudaModel;
