//! The device: what it is, its partitions, its memory and its lanes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use aegis_types::{Bytes, LaneId, PartitionId};
use cudarc::driver::sys::CUdevice_attribute as Attribute;

use super::apportion::{Split, apportion};
use super::context::{self, PartitionContext, UNITS};
use super::driver::Driver;
use super::memory::CudaMemory;
use super::retire::Scope;
use super::stream::{CudaStream, StreamOptions};
use crate::device::{Capabilities, Device, DeviceContext, DeviceKind, Partition, PartitionRequest};
use crate::division::Division;
use crate::error::DeviceError;
use crate::memory::{DeviceMemory, MemorySpace};
use crate::region::Capacity;
use crate::stream::Stream;

/// How many streams the device may have at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueLimit {
    /// As many as the driver was given hardware queues: the value of `CUDA_DEVICE_MAX_CONNECTIONS` when the process
    /// started, or the driver's default of 8.
    FromEnvironmentValue(u32),
    /// Any number. Streams beyond the queues alias, and a launch then waits behind a whole foreign segment: for
    /// measurements of that only.
    Unchecked,
}

/// What of a GPU is used, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CudaOptions {
    /// Its number among those that the driver shows.
    pub ordinal: u32,
    /// Device memory that may be reserved; what is free when the device is opened, if that is less or nothing is said.
    pub memory: Option<Bytes>,
    /// Largest copy that is enqueued as one operation: a copy waits for one such piece of each other lane at most.
    pub copy_chunk: Bytes,
    /// Streams at once.
    pub queues: QueueLimit,
    /// Whether each completion also wakes a waiting thread ([`CudaDevice::set_waker`]), at the price of a host
    /// function for each signal.
    pub blocking: bool,
}

impl Default for CudaOptions {
    /// The first GPU, all of its free memory, copies in pieces of 1 MiB, the driver's default of queues, polled flags.
    fn default() -> Self {
        let (copy_chunk, queues) = (Bytes::new(1 << 20), QueueLimit::FromEnvironmentValue(8));
        Self { ordinal: 0, memory: None, copy_chunk, queues, blocking: false }
    }
}

/// A GPU. Its partitions' lanes are carried by one thread for each partition.
pub struct CudaDevice {
    driver: Arc<Driver>,
    context: DeviceContext,
    /// How it splits; none where the driver has no green contexts.
    split: Option<Split>,
    division: Arc<Division>,
    /// The thread that was last given a lane of each partition.
    carriers: Mutex<BTreeMap<PartitionId, ThreadId>>,
    capacity: Capacity,
    options: StreamOptions,
}

impl CudaDevice {
    /// Opens a GPU: loads the driver and retains the primary context.
    ///
    /// # Errors
    /// [`DeviceError::Unavailable`] that says what is missing: the library, the GPU, a function, a legal option.
    pub fn open(options: CudaOptions) -> Result<Self, DeviceError> {
        let unavailable = |reason: &str| DeviceError::Unavailable {
            device: format!("cuda:{}", options.ordinal),
            reason: reason.into(),
        };
        if options.copy_chunk.is_zero() {
            return Err(unavailable("copies in pieces of 0 bytes; legal: 1 byte or more"));
        }
        let lanes = match options.queues {
            QueueLimit::FromEnvironmentValue(0) => {
                return Err(unavailable("0 hardware queues; legal: 1 to 32"));
            }
            QueueLimit::FromEnvironmentValue(queues) => queues,
            QueueLimit::Unchecked => u32::MAX,
        };
        let driver = Driver::open(options.ordinal)?;
        match Self::describe(&driver, options, lanes) {
            Ok((context, split, wide)) => Ok(Self {
                division: Arc::new(Division::undivided(context.units, lanes)),
                capacity: Capacity::new(context.memory),
                carriers: Mutex::new(BTreeMap::new()),
                options: StreamOptions {
                    copy_chunk: options.copy_chunk.get(),
                    blocking: options.blocking,
                    wide,
                },
                context,
                split,
                driver: Arc::new(driver),
            }),
            Err(error) => {
                driver.close()?;
                Err(error)
            }
        }
    }

    /// Sets what is called after each signal of a device opened as `blocking`, on a thread of the driver's: it must be
    /// short and make no call on the device.
    pub fn set_waker(&self, waker: Arc<dyn Fn() + Send + Sync>) {
        self.driver.waker.set(waker);
    }

    /// Waits for the streams that were given up, gives every handle back and leaves the device. The threads that
    /// carried lanes have dropped their streams.
    ///
    /// # Errors
    /// [`DeviceError::Refused`] if memory, modules or other handles are still alive (nothing more is given back then),
    /// or what the driver refuses; a lost device cannot be closed.
    pub fn close(self) -> Result<(), DeviceError> {
        // A retired stream owns its flag's page, which retires when the stream is given back: hence two rounds.
        self.driver.empty_queue(Scope::All)?;
        self.driver.empty_queue(Scope::All)?;
        let alive = Arc::strong_count(&self.driver) - 1;
        match Arc::into_inner(self.driver) {
            Some(driver) => driver.close(),
            None => Err(DeviceError::Refused {
                call: "closing the device",
                reason: format!("{alive} handles of it are alive"),
            }),
        }
    }

    /// Asks for everything that is known of the device before it is used.
    fn describe(
        driver: &Driver,
        options: CudaOptions,
        queue_limit: u32,
    ) -> Result<(DeviceContext, Option<Split>, bool), DeviceError> {
        let split = context::probe(driver)?;
        let units = driver.attribute(UNITS)?;
        let whole = split.unwrap_or(Split::whole(units));
        let (free, _) = driver.memory()?;
        let memory = options.memory.map_or(free, |limit| limit.get().min(free));
        let (major, minor) = driver.version()?;
        // Drivers that do not know the attribute refuse it; writes of four bytes serve there.
        let wide = match driver.attribute(Attribute::CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS) {
            Err(DeviceError::Refused { .. }) => false,
            other => other? != 0,
        };
        let context = DeviceContext {
            kind: DeviceKind::Cuda,
            name: driver.device_name()?,
            versions: vec![format!("CUDA driver API {major}.{minor}")],
            units: whole.total,
            unit_granularity: whole.group,
            unit_minimum: whole.group,
            memory: Bytes::new(memory),
            queue_limit,
            copy_engines: driver.attribute(Attribute::CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT)?,
            capabilities: Capabilities {
                partitions: split.is_some(),
                asynchronous: true,
                graphs: true,
                // Reservations are device memory on every GPU; also one that shares the host's memory copies.
                unified_memory: false,
            },
        };
        Ok((context, split, wide))
    }

    /// The context of a partition, made if the device was never divided.
    fn partition_context(&self, partition: PartitionId) -> Result<PartitionContext, DeviceError> {
        let mut contexts = self.driver.contexts();
        if contexts.is_empty() {
            contexts.push(context::undivided(&self.driver, self.split.as_ref())?);
        }
        let made = contexts.len();
        contexts.get(partition.index()).copied().ok_or(DeviceError::UnknownPartition { partition, made })
    }

    /// A green context may be current to one thread at a time, so the lanes of a partition share one thread.
    fn claim_carrier(&self, partition: PartitionId) -> Result<(), DeviceError> {
        let own = thread::current().id();
        let mut carriers = self.carriers();
        if self.division.lanes_of(partition) > 1
            && carriers.get(&partition).is_some_and(|&carrier| carrier != own)
        {
            return Err(DeviceError::Unsupported {
                what: "carrying the lanes of one partition on two threads",
            });
        }
        carriers.insert(partition, own);
        Ok(())
    }

    fn carriers(&self) -> MutexGuard<'_, BTreeMap<PartitionId, ThreadId>> {
        self.carriers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Device for CudaDevice {
    fn context(&self) -> &DeviceContext {
        &self.context
    }

    fn partition(&self, requests: &[PartitionRequest]) -> Result<Vec<Partition>, DeviceError> {
        self.driver.alive()?;
        self.driver.empty_queue(Scope::Shared)?;
        self.division.divide_with(|| {
            let split = self.split.unwrap_or(Split::whole(self.context.units));
            let shares = apportion(&split, requests)?;
            let mut contexts = self.driver.contexts();
            // Green contexts of an earlier use cannot be divided again.
            if !contexts.is_empty() {
                return Err(DeviceError::Unsupported { what: "a division after a lane was bound" });
            }
            *contexts = context::divide(&self.driver, &split, &shares)?;
            let partitions = contexts.iter().zip(requests).zip(0..);
            Ok(partitions
                .map(|((made, request), id)| Partition {
                    id: PartitionId::new(id),
                    name: request.name.clone(),
                    units: made.units(),
                    unit_numbers: Vec::new(),
                })
                .collect())
        })
    }

    fn partitions(&self) -> Vec<Partition> {
        self.division.partitions()
    }

    fn reserve(&self, space: MemorySpace, bytes: Bytes) -> Result<Arc<dyn DeviceMemory>, DeviceError> {
        self.driver.alive()?;
        self.driver.empty_queue(Scope::Shared)?;
        Ok(match space {
            MemorySpace::Device => {
                let charge = self.capacity.charge(space, bytes)?;
                Arc::new(CudaMemory::device(&self.driver, bytes, charge)?)
            }
            MemorySpace::Staging => Arc::new(CudaMemory::staging(&self.driver, bytes)?),
        })
    }

    /// Makes the partition's context current on the calling thread, which has to carry every lane of the partition.
    fn bind_lane(&self, partition: PartitionId, lane: LaneId) -> Result<Box<dyn Stream>, DeviceError> {
        self.driver.alive()?;
        let (seat, _) = self.division.take_lane(partition, lane)?;
        self.claim_carrier(partition)?;
        let context = self.partition_context(partition)?;
        self.driver.empty_queue(Scope::Partition(partition))?;
        Ok(Box::new(CudaStream::open(&self.driver, context, seat, self.options)?))
    }
}

impl std::fmt::Debug for CudaDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CudaDevice").field("device", &self.driver.name()).finish_non_exhaustive()
    }
}
