//! The contract of a device: where work runs.

use std::sync::Arc;

use aegis_types::{Bytes, LaneId, PartitionId};
use serde::{Deserialize, Serialize};

use crate::error::DeviceError;
use crate::memory::{DeviceMemory, MemorySpace};
use crate::stream::Stream;

/// Which device it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// A CUDA GPU; units are streaming multiprocessors.
    Cuda,
    /// The CPU of this machine; units are cores.
    Host,
    /// Virtual time; units are shares.
    Sim,
}

/// What a device can do. What it cannot is an explicit error, and the analysis is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// It can be divided into partitions; otherwise there is exactly one.
    pub partitions: bool,
    /// Work is queued and runs later; otherwise `enqueue` returns when the work is done.
    pub asynchronous: bool,
    /// Segments can be captured and replayed as graphs.
    pub graphs: bool,
    /// Device memory is host memory: no copy is needed where a pointer can be shared.
    pub unified_memory: bool,
}

/// Properties and limits of a device: a plain value, passed as a parameter to planning, analysis and scheduling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceContext {
    /// Which device it is.
    pub kind: DeviceKind,
    /// The vendor's name for it.
    pub name: String,
    /// Driver, library and operating system versions, for reports.
    pub versions: Vec<String>,
    /// Units that can be divided among partitions: SMs, cores or shares.
    pub units: u32,
    /// Partition sizes are multiples of this.
    pub unit_granularity: u32,
    /// Smallest partition.
    pub unit_minimum: u32,
    /// Device memory that may be reserved.
    pub memory: Bytes,
    /// Streams that run independently: lanes and copy streams together must not exceed it.
    pub queue_limit: u32,
    /// Engines that copy beside computation; zero means that copies occupy the lane.
    pub copy_engines: u32,
    /// What it can do.
    pub capabilities: Capabilities,
}

/// The units asked for a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Units {
    /// So many; the device chooses which and may round up to its granularity.
    Count(u32),
    /// Exactly these, by the system's numbers (host cores).
    These(Vec<u32>),
}

/// A partition to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionRequest {
    /// Its name in the fleet.
    pub name: String,
    /// Its units.
    pub units: Units,
}

/// A partition that was made: a fixed share of the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// Its identity, the position of its request.
    pub id: PartitionId,
    /// Its name in the fleet.
    pub name: String,
    /// How many units it has, after rounding.
    pub units: u32,
    /// Which units, where the device can say.
    pub unit_numbers: Vec<u32>,
}

/// A device. Shared by reference between threads; what belongs to a thread is a [`Stream`].
///
/// # Contract
/// - [`partition`](Device::partition) is called once, before any lane is bound; without it there is one partition of
///   all units. [`twin`](Device::twin) comes after it.
/// - [`bind_lane`](Device::bind_lane) is called on the thread that will carry the lane, and pins or makes current
///   whatever the device needs there. The stream never leaves that thread.
/// - Everything that can block or allocate happens in `partition`, `twin`, `reserve` and `bind_lane`; nothing does
///   while serving.
/// - An error of severity Fatal is sticky: every later call fails with it.
pub trait Device: Send + Sync {
    /// Properties and limits.
    fn context(&self) -> &DeviceContext;

    /// Divides the device. All partitions are made in one call, because a remainder cannot be divided again.
    ///
    /// # Errors
    /// [`DeviceError::BadPartition`] naming the partition and what would be legal; nothing is divided then.
    fn partition(&self, requests: &[PartitionRequest]) -> Result<Vec<Partition>, DeviceError>;

    /// The partitions that were made.
    fn partitions(&self) -> Vec<Partition>;

    /// The number under which those lanes of a partition are bound that another thread carries than its other lanes. They
    /// run on the partition's units; each call is for one more thread. Where any thread may carry any lane, it is the
    /// partition's own number, and the device need not do anything: what is here by default.
    ///
    /// # Errors
    /// [`DeviceError::UnknownPartition`], or the driver's refusal; nothing is changed then.
    fn twin(&self, partition: PartitionId) -> Result<PartitionId, DeviceError> {
        Ok(partition)
    }

    /// Reserves one region of memory, zero-filled. Given back when the last reference goes.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`] with what is free; nothing is reserved then.
    fn reserve(&self, space: MemorySpace, bytes: Bytes) -> Result<Arc<dyn DeviceMemory>, DeviceError>;

    /// Binds the calling thread to a lane of a partition and returns the lane's stream.
    ///
    /// # Errors
    /// [`DeviceError::UnknownPartition`], [`DeviceError::LaneTaken`], [`DeviceError::TooManyStreams`], or the
    /// system's refusal to pin the thread.
    fn bind_lane(&self, partition: PartitionId, lane: LaneId) -> Result<Box<dyn Stream>, DeviceError>;

    /// Sets what is called when a flag was stored by the device itself, on a thread of its own; what was set before is
    /// forgotten. It is short and makes no call on the device. A device that never wakes anybody, because its flags are
    /// stored by the thread that carries the lane or are looked at, does nothing with it.
    fn set_waker(&self, waker: Arc<dyn Fn() + Send + Sync>) {
        drop(waker);
    }
}
