//! The device and backend contracts of AegisRT, and its devices.
//!
//! This is the lowest crate that can name a stream and a piece of device memory, so the two contracts that everything
//! above is written against stand here, beside one conformance suite that every device and backend passes:
//!
//! - [`Device`]: where work runs. Partitions, lanes, streams, memory, completion flags.
//! - [`RuntimeBackend`]: what runs. A model loaded on a lane, with its I/O lent by the caller.
//!
//! Three devices are here: [`cuda`] (a GPU, loaded at run time), [`host`] (real time on CPU cores) and [`sim`] (virtual
//! time, faults); and two backends: [`script`], whose models are a few lines of text, and [`kernel`], whose models are
//! kernels of known behaviour.
//! Deliberately absent: scheduling, budgets, placement of memory, threads. A lane's thread is the caller's; the
//! device only binds it.

pub mod backend;
pub mod clock;
pub mod conformance;
pub mod cuda;
pub mod device;
pub mod discovery;
mod division;
pub mod error;
mod grant;
pub mod host;
pub mod interop;
pub mod kernel;
mod lending;
pub mod memory;
pub mod realtime;
mod region;
pub mod script;
pub mod sim;
pub mod stream;
mod text_model;

pub use backend::{
    BackendLoader, Beside, BindingId, Bindings, ElementType, MemoryNeeds, ModelDescription, ModelMemory,
    ModelRequest, RuntimeBackend, TensorSpec,
};
pub use clock::HostClock;
pub use cuda::{CudaDevice, CudaMemory, CudaOptions, CudaStream, QueueLimit};
pub use device::{Capabilities, Device, DeviceContext, DeviceKind, Partition, PartitionRequest, Units};
pub use error::{BackendError, DeviceError};
pub use grant::SharedGrant;
pub use host::{HostDevice, HostMemory, HostOptions, HostStream};
pub use kernel::{KernelBackend, KernelLoader};
pub use memory::{DeviceMemory, DeviceSlice, MemorySpace};
pub use script::{ScriptedBackend, ScriptedLoader};
pub use sim::{SimClock, SimDevice, SimMemory, SimOptions, SimStream};
pub use stream::{CompletionFlag, Graph, Stream};
