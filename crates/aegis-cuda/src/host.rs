//! The host device: segments run on the cores of this machine, in real time, on the thread that carries their lane.
//!
//! A unit is a core that the process may use; a partition is a set of cores. Binding a lane pins the calling thread to
//! its partition's cores. Work is done when the call that asked for it returns, so a stream is little more than its
//! completion flag.

mod memory;
mod stream;

use std::sync::Arc;

use aegis_types::{Bytes, LaneId, PartitionId};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::device::{Capabilities, Device, DeviceContext, DeviceKind, Partition, PartitionRequest};
use crate::division::{Division, Grain};
use crate::error::DeviceError;
use crate::memory::{DeviceMemory, MemorySpace};
use crate::region::Capacity;
use crate::stream::Stream;

pub use memory::HostMemory;
pub use stream::HostStream;

/// What the host device may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostOptions {
    /// Memory that may be reserved, of both spaces together.
    pub memory: Bytes,
}

/// The CPU of this machine.
#[derive(Debug)]
pub struct HostDevice {
    context: DeviceContext,
    division: Arc<Division>,
    capacity: Capacity,
}

impl HostDevice {
    /// Discovers the cores that the calling thread may use. Call it before any thread is pinned: a pinned thread sees
    /// its own partition only.
    ///
    /// # Errors
    /// [`DeviceError::Unavailable`] if the system does not say which cores may be used.
    pub fn new(options: HostOptions) -> Result<Self, DeviceError> {
        let unavailable = |reason: String| DeviceError::Unavailable { device: "host".into(), reason };
        let allowed = sched_getaffinity(None)
            .map_err(|error| unavailable(format!("the usable cores are unknown: {error}")))?;
        let numbered = (0u32..).zip(0..CpuSet::MAX_CPU);
        let cores: Vec<u32> =
            numbered.filter(|&(_, index)| allowed.is_set(index)).map(|(core, _)| core).collect();
        if cores.is_empty() {
            return Err(unavailable("this thread may use no core".into()));
        }
        let units = u32::try_from(cores.len()).unwrap_or(u32::MAX);
        let grain = Grain { units: cores, granularity: 1, minimum: 1, lanes: units, lane_per_unit: true };
        Ok(Self {
            context: describe(units, options.memory),
            division: Arc::new(Division::whole(grain)),
            capacity: Capacity::new(options.memory),
        })
    }
}

impl Device for HostDevice {
    fn context(&self) -> &DeviceContext {
        &self.context
    }

    fn partition(&self, requests: &[PartitionRequest]) -> Result<Vec<Partition>, DeviceError> {
        self.division.divide(requests)
    }

    fn partitions(&self) -> Vec<Partition> {
        self.division.partitions()
    }

    fn reserve(&self, space: MemorySpace, bytes: Bytes) -> Result<Arc<dyn DeviceMemory>, DeviceError> {
        Ok(Arc::new(HostMemory::new(self.capacity.reserve(space, bytes)?)))
    }

    /// Pins the calling thread for good: it stays on the partition's cores after the stream is dropped.
    fn bind_lane(&self, partition: PartitionId, lane: LaneId) -> Result<Box<dyn Stream>, DeviceError> {
        let (seat, found) = self.division.take_lane(partition, lane)?;
        pin(&found.unit_numbers)?;
        Ok(Box::new(HostStream::new(seat)))
    }
}

fn pin(cores: &[u32]) -> Result<(), DeviceError> {
    let mut set = CpuSet::new();
    for &core in cores {
        set.set(core as usize);
    }
    sched_setaffinity(None, &set)
        .map_err(|error| DeviceError::System { what: "pinning the lane's thread", reason: error.to_string() })
}

fn describe(units: u32, memory: Bytes) -> DeviceContext {
    let system = rustix::system::uname();
    let kernel = format!("{} {}", system.sysname().to_string_lossy(), system.release().to_string_lossy());
    DeviceContext {
        kind: DeviceKind::Host,
        name: processor_name().unwrap_or_else(|| system.machine().to_string_lossy().into_owned()),
        versions: vec![kernel],
        units,
        unit_granularity: 1,
        unit_minimum: 1,
        memory,
        queue_limit: units,
        copy_engines: 0,
        capabilities: Capabilities {
            partitions: true,
            asynchronous: false,
            graphs: false,
            unified_memory: true,
        },
    }
}

/// The processor's name as the kernel tells it; boards without one fall back to the architecture's name.
fn processor_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let named = text.lines().filter_map(|line| line.split_once(':'));
    let name = named
        .filter(|(key, _)| matches!(key.trim(), "model name" | "Model" | "Hardware"))
        .map(|(_, value)| value.trim())
        .find(|value| !value.is_empty())?;
    Some(name.to_owned())
}

#[cfg(test)]
mod tests;
