//! The device: what it is, its partitions, its memory and its lanes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use aegis_types::{Bytes, LaneId, PartitionId};
use cudarc::driver::sys::CUdevice_attribute as Attribute;

use super::apportion::{Split, apportion};
use super::context::{self, PartitionContext, UNITS};
use super::copy::Copier;
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
    /// Largest copy to, from or inside device memory that a kernel in the lane's partition makes; zero leaves all of
    /// them to the copy engines.
    ///
    /// Engines are slow to begin with. Against copies as kernels, a graph with 4 to 64 KiB copied by engines at both
    /// ends holds the thread that launches it for 5 to 9 µs instead of 2 to 4 (99th percentile: 9 to 26 µs instead of 4
    /// to 9), and its results are there 5 to 15 µs later, on an H100.
    pub copy_by_kernel: Bytes,
    /// Streams at once.
    pub queues: QueueLimit,
    /// Whether each completion also wakes a waiting thread ([`CudaDevice::set_waker`]), at the price of a host
    /// function for each signal.
    pub blocking: bool,
    /// So many lanes, from the first on, whose streams get the highest priority that the device has; the others have the
    /// lowest. For measurements only: a kernel that is resident gives way to none, whatever the priority, so that no
    /// budget rests on it.
    pub urgent: u16,
}

impl Default for CudaOptions {
    /// The first GPU, all of its free memory, copies by a kernel up to 256 KiB and in pieces of 1 MiB beyond, the
    /// driver's default of queues, polled flags.
    fn default() -> Self {
        let (copy_chunk, copy_by_kernel) = (Bytes::new(1 << 20), Bytes::new(256 << 10));
        let queues = QueueLimit::FromEnvironmentValue(8);
        Self { ordinal: 0, memory: None, copy_chunk, copy_by_kernel, queues, blocking: false, urgent: 0 }
    }
}

/// A GPU. The lanes of a partition are carried by one thread, and those of each of its [twins](Device::twin) by one.
pub struct CudaDevice {
    driver: Arc<Driver>,
    context: DeviceContext,
    /// How it splits; none where the driver has no green contexts.
    split: Option<Split>,
    division: Arc<Division>,
    /// The thread that was last given a lane of each partition.
    carriers: Mutex<BTreeMap<PartitionId, ThreadId>>,
    /// The kernel that copies, of each partition that had a lane.
    copiers: Mutex<BTreeMap<PartitionId, Copier>>,
    capacity: Capacity,
    copy_by_kernel: Bytes,
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
                copiers: Mutex::new(BTreeMap::new()),
                copy_by_kernel: options.copy_by_kernel,
                options: StreamOptions {
                    copy_chunk: options.copy_chunk.get(),
                    blocking: options.blocking,
                    wide,
                    urgent: options.urgent,
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
        self.copiers().clear();
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

    /// The kernel that copies in the partition of `stream`, loaded by the partition's first lane.
    fn copier(&self, stream: &mut CudaStream) -> Result<Copier, DeviceError> {
        let known = self.copiers().get(&stream.partition()).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        // No lock is held over the load, which may block.
        let loaded = Copier::load(stream, self.copy_by_kernel)?;
        self.copiers().insert(stream.partition(), loaded.clone());
        Ok(loaded)
    }

    fn copiers(&self) -> MutexGuard<'_, BTreeMap<PartitionId, Copier>> {
        self.copiers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn carriers(&self) -> MutexGuard<'_, BTreeMap<PartitionId, ThreadId>> {
        self.carriers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Device for CudaDevice {
    fn set_waker(&self, waker: Arc<dyn Fn() + Send + Sync>) {
        self.driver.waker.set(waker);
    }

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

    /// Makes a further green context on the partition's SMs. It lives until the device is closed.
    fn twin(&self, partition: PartitionId) -> Result<PartitionId, DeviceError> {
        self.driver.alive()?;
        self.division.twin_with(partition, || {
            let first = self.partition_context(partition)?;
            let made = context::twin(&self.driver, first)?;
            self.driver.contexts().push(made);
            Ok(())
        })
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
        let mut stream = CudaStream::open(&self.driver, context, seat, self.options)?;
        if !self.copy_by_kernel.is_zero() {
            let copier = self.copier(&mut stream)?;
            stream.copy_with(copier);
        }
        Ok(Box::new(stream))
    }
}

impl std::fmt::Debug for CudaDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CudaDevice").field("device", &self.driver.name()).finish_non_exhaustive()
    }
}
