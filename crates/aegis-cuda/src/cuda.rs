//! The CUDA device: partitions are green contexts, lanes are streams, completion is a number that the stream writes.
//!
//! Three storeys: the driver's table of functions, found at run time (`api`); results as typed errors (`code`,
//! `driver`); and owned objects, which are the rest. The binary that contains this starts without a GPU:
//! [`CudaDevice::open`] says what is missing.
//!
//! # Rules that hold everywhere here
//! - Every kernel runs in some partition. What has to be done outside (filling a fresh reservation with zeroes, writing
//!   and reading at load time) goes through one stream of the primary context, which serves nothing else.
//! - A call makes its context current only if it is not, and asks the driver which one is: vendor libraries change it
//!   behind our back, so a remembered answer would be wrong.
//! - A small copy is a kernel (`copy`), a large one is pieces for the copy engines. Either way it is work of the lane's
//!   stream, in its place.
//! - `Drop` neither blocks nor panics: handles go to the device's retire queue, which is emptied where blocking is
//!   allowed (`partition`, `reserve`, `bind_lane`, `capture`, `Module::load`) and by [`CudaDevice::close`]. A device
//!   that is never closed leaves its handles to the end of the process.
//! - An error that leaves the context unusable loses the device: every later call fails with the first reason.

mod api;
pub mod apportion;
mod chain;
mod code;
mod context;
mod copy;
mod device;
mod driver;
mod event;
mod flag;
mod graph;
mod memory;
mod module;
mod retire;
mod stream;
mod timing;
mod waker;

pub use device::{CudaDevice, CudaOptions, QueueLimit};
pub use event::Event;
pub use graph::CudaGraph;
pub use memory::CudaMemory;
pub use module::{Argument, Function, LaunchShape, Module};
pub use stream::CudaStream;
pub use timing::DeviceClock;
