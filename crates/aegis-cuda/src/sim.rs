//! The simulated device: virtual time, scripted occupancy, contention and faults, the same on every machine.
//!
//! Whoever drives a simulation owns the [`SimClock`]. A segment is a span of virtual time
//! ([`SimStream::occupy`]); its data effects happen at once, its completion flag becomes visible when the clock reaches
//! its end. [`SimDevice::next_completion`] says how far the clock may jump without missing anything.
//!
//! # Model of contention
//! A segment that starts while `n` other lanes are occupied is stretched by `slowdown[n]` parts per million, whatever
//! partitions they are in, because caches and memory ignore partitions. The factor is fixed at the start: a later
//! neighbour changes nothing, so equal calls give equal times. Copies take no virtual time.

mod clock;
mod fault;
mod memory;
mod stream;
mod timeline;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aegis_types::{Bytes, LaneId, PartitionId, Time};

use crate::device::{Capabilities, Device, DeviceContext, DeviceKind, Partition, PartitionRequest};
use crate::division::{Division, Grain};
use crate::error::DeviceError;
use crate::memory::{DeviceMemory, MemorySpace};
use crate::region::Capacity;
use crate::stream::Stream;

use timeline::Timeline;

pub use clock::SimClock;
pub use fault::{Fault, FaultKind, FaultTrigger, LaunchFault};
pub use memory::SimMemory;
pub use stream::SimStream;
pub use timeline::ScratchCollision;

/// Time without contention, in parts per million.
pub const UNSLOWED: u64 = 1_000_000;

/// What the simulated device is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimOptions {
    /// Shares that can be divided among partitions.
    pub units: u32,
    /// Partition sizes are multiples of this, and no partition is smaller.
    pub granularity: u32,
    /// Memory that may be reserved, of both spaces together.
    pub memory: Bytes,
    /// Lanes that can be bound at once.
    pub lanes: u32,
    /// By number of other lanes occupied at a segment's start: its duration in parts per million, at least
    /// [`UNSLOWED`]. The last entry holds for more; empty means no contention.
    pub slowdown: Vec<u64>,
}

impl Default for SimOptions {
    /// Sixteen shares in steps of two, eight lanes, 8 GiB, no contention.
    fn default() -> Self {
        Self { units: 16, granularity: 2, memory: Bytes::new(8 << 30), lanes: 8, slowdown: Vec::new() }
    }
}

/// A device in virtual time.
#[derive(Debug)]
pub struct SimDevice {
    context: DeviceContext,
    clock: SimClock,
    division: Arc<Division>,
    capacity: Capacity,
    timeline: Arc<Mutex<Timeline>>,
    /// Its segments work on staging memory where it lies.
    shared: bool,
}

impl SimDevice {
    /// A device on `clock`.
    ///
    /// # Errors
    /// [`DeviceError::Unavailable`] that names the option which is out of range.
    pub fn new(options: SimOptions, clock: SimClock) -> Result<Self, DeviceError> {
        check(&options).map_err(|reason| DeviceError::Unavailable { device: "sim".into(), reason })?;
        let grain = Grain {
            units: (0..options.units).collect(),
            granularity: options.granularity,
            minimum: options.granularity,
            lanes: options.lanes,
            lane_per_unit: false,
        };
        Ok(Self {
            context: describe(&options),
            division: Arc::new(Division::whole(grain)),
            capacity: Capacity::new(options.memory),
            timeline: Arc::new(Mutex::new(Timeline::new(clock.clone(), options.slowdown))),
            clock,
            shared: false,
        })
    }

    /// The same device, which shares its host's memory: staging that is reserved from now on needs no copies.
    #[must_use]
    pub fn sharing_memory(self) -> Self {
        Self { shared: true, ..self }
    }

    /// The clock that its flags obey.
    pub const fn clock(&self) -> &SimClock {
        &self.clock
    }

    /// The next instant after now at which a completion flag changes; `None` if nothing is in flight.
    pub fn next_completion(&self) -> Option<Time> {
        lock(&self.timeline).next_completion()
    }

    /// Plans a fault. Faults for one launch are taken in the order in which they were planned, one per launch.
    pub fn inject(&self, fault: Fault) {
        lock(&self.timeline).inject(fault);
    }

    /// Loses the context at once: flags in flight never become visible and every later call fails.
    pub fn lose(&self, reason: &str) {
        lock(&self.timeline).lose(reason);
    }

    /// Segments of two lanes that used the same bytes of scratch at the same time; the first 64 are kept. A correct
    /// runtime leaves it empty.
    pub fn scratch_collisions(&self) -> Vec<ScratchCollision> {
        lock(&self.timeline).collisions().to_vec()
    }

    fn alive(&self) -> Result<(), DeviceError> {
        lock(&self.timeline).alive()
    }
}

impl Device for SimDevice {
    fn context(&self) -> &DeviceContext {
        &self.context
    }

    fn partition(&self, requests: &[PartitionRequest]) -> Result<Vec<Partition>, DeviceError> {
        self.alive()?;
        self.division.divide(requests)
    }

    fn partitions(&self) -> Vec<Partition> {
        self.division.partitions()
    }

    fn reserve(&self, space: MemorySpace, bytes: Bytes) -> Result<Arc<dyn DeviceMemory>, DeviceError> {
        self.alive()?;
        let shared = self.shared && space == MemorySpace::Staging;
        Ok(Arc::new(SimMemory::new(self.capacity.reserve(space, bytes)?, shared)))
    }

    fn bind_lane(&self, partition: PartitionId, lane: LaneId) -> Result<Box<dyn Stream>, DeviceError> {
        self.alive()?;
        let (seat, _) = self.division.take_lane(partition, lane)?;
        Ok(Box::new(SimStream::open(seat, &self.timeline)))
    }
}

fn check(options: &SimOptions) -> Result<(), String> {
    let SimOptions { units, granularity, lanes, slowdown, .. } = options;
    if *granularity == 0 || granularity > units {
        return Err(format!("granularity is {granularity}; legal: 1 to {units} units"));
    }
    if *lanes == 0 {
        return Err("lanes is 0; legal: 1 or more".into());
    }
    match slowdown.iter().find(|&&ppm| ppm < UNSLOWED) {
        Some(ppm) => Err(format!("a slowdown is {ppm} ppm; legal: {UNSLOWED} or more")),
        None => Ok(()),
    }
}

fn describe(options: &SimOptions) -> DeviceContext {
    DeviceContext {
        kind: DeviceKind::Sim,
        name: "simulated device".into(),
        versions: Vec::new(),
        units: options.units,
        unit_granularity: options.granularity,
        unit_minimum: options.granularity,
        memory: options.memory,
        queue_limit: options.lanes,
        copy_engines: 0,
        capabilities: Capabilities {
            partitions: true,
            asynchronous: true,
            graphs: false,
            unified_memory: true,
        },
    }
}

/// Poisoning is ignored: the timeline changes by whole steps.
fn lock(timeline: &Mutex<Timeline>) -> MutexGuard<'_, Timeline> {
    timeline.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
