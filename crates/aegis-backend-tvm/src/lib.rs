//! The TVM backend of AegisRT: compiled modules, run on the lane's own thread or stream.
//!
//! - [`TvmRuntime`]: the vendor's libraries, loaded at run time, once per process, through their stable C interface.
//! - [`TvmLoader`]: inspects and loads models; the backend's side of [`aegis_cuda::BackendLoader`].
//! - [`TvmModel`]: a model on a lane of the host or of a GPU.
//!
//! All memory that a run asks for is the task's: parameters are arguments in its own memory, tensors and temporaries
//! of kernels come out of its scratch by a plan that is made when it is loaded, outputs are written where the caller
//! bound them. Outside of the grant stay the compiled code (on a GPU, too, where the driver keeps it) and the small
//! objects with which the vendor's machine keeps its books during a run, which it takes from and gives back to the
//! process's heap; a captured graph needs none of them.
//!
//! Deliberately absent: scheduling, threads (loops that TVM would share between threads run on the caller's), files
//! (the runtime opens them), the compiler (`cargo xtask models --tvm` calls it).

mod abi;
mod api;
mod artifact;
mod backend;
mod charge;
mod device;
mod hooks;
mod loader;
mod memory;
mod module;
mod nvrtc;
mod object;
mod plan;
mod runtime;
mod storage;
mod tensor;

pub use backend::TvmModel;
pub use loader::TvmLoader;
pub use runtime::{TvmOptions, TvmRuntime};
