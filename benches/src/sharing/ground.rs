//! Where the models run: processor cores, or a GPU; and what the system says of its memory.

use std::sync::Arc;

use aegis_context::Lane;
use aegis_cuda::{Device, DeviceMemory, HostDevice, HostOptions, MemorySpace, PartitionRequest, Units};
use aegis_types::{Bytes, LaneId, PartitionId};

use super::alone::Needs;
use super::error::SharingError;
use crate::gpu::card::{Gpu, MemoryWatch, Opened};

/// Memory that may be reserved on the host at most: address space, of which the system gives pages as they are used.
const HOST_CAPACITY: Bytes = Bytes::new(4 << 30);

/// What a task may take while nobody knows what it needs: more than any model here takes.
const HOST_ROOM: Needs =
    Needs { persistent: Bytes::new(64 << 20), exchange: Bytes::new(64 << 20), scratch: Bytes::new(64 << 20) };
/// As [`HOST_ROOM`]: what a fleet would give a task of this size. Within it a model does without the algorithms that want
/// more, as one does that is served.
const GPU_ROOM: Needs = Needs {
    persistent: Bytes::new(512 << 20),
    exchange: Bytes::new(64 << 20),
    scratch: Bytes::new(256 << 20),
};

/// Where models run.
pub(super) enum Ground {
    /// Cores of the host. Lanes of one handle are bound to cores of their own, and there may be more lanes here than the
    /// machine has cores, so that every lane has a handle: what is asked is not when a job ends.
    Host,
    /// One partition of all of a GPU.
    Gpu(Box<Card>),
}

/// A GPU that is open.
pub(super) struct Card {
    gpu: Gpu,
    opened: Opened,
}

impl Card {
    /// Its number.
    pub(super) const fn ordinal(&self) -> u32 {
        self.gpu.ordinal
    }
}

impl Ground {
    /// All of a GPU.
    pub(super) fn on(gpu: Gpu) -> Result<Self, SharingError> {
        let opened = gpu.open()?;
        let whole = PartitionRequest { name: "all".into(), units: Units::Count(gpu.sms) };
        opened.device().partition(&[whole])?;
        Ok(Self::Gpu(Box::new(Card { gpu, opened })))
    }

    fn device(&self) -> Result<Arc<dyn Device>, SharingError> {
        match self {
            Self::Host => Ok(Arc::new(HostDevice::new(HostOptions { memory: HOST_CAPACITY })?)),
            Self::Gpu(card) => Ok(card.opened.device()),
        }
    }

    /// Binds the calling thread to a lane.
    pub(super) fn lane(&self, number: u16) -> Result<Lane, SharingError> {
        let lane = match self {
            Self::Host => LaneId::new(0),
            Self::Gpu(_) => LaneId::new(number),
        };
        Ok(Lane::bind(self.device()?.as_ref(), PartitionId::new(0), lane)?)
    }

    /// Memory that models compute on.
    pub(super) fn reserve(&self, bytes: Bytes) -> Result<Arc<dyn DeviceMemory>, SharingError> {
        Ok(self.device()?.reserve(MemorySpace::Device, bytes)?)
    }

    /// Memory of the host for a model's inputs and outputs; none where models compute on the host's.
    pub(super) fn stage(&self, bytes: Bytes) -> Result<Option<Arc<dyn DeviceMemory>>, SharingError> {
        match self {
            Self::Host => Ok(None),
            Self::Gpu(_) if bytes.is_zero() => Ok(None),
            Self::Gpu(_) => Ok(Some(self.device()?.reserve(MemorySpace::Staging, bytes)?)),
        }
    }

    /// Memory that may be reserved at most.
    pub(super) fn capacity(&self) -> Bytes {
        match self {
            Self::Host => HOST_CAPACITY,
            Self::Gpu(card) => card.gpu.memory,
        }
    }

    /// What a task may take while nobody knows what it needs.
    pub(super) const fn room(&self) -> Needs {
        match self {
            Self::Host => HOST_ROOM,
            Self::Gpu(_) => GPU_ROOM,
        }
    }

    pub(super) const fn is_gpu(&self) -> bool {
        matches!(self, Self::Gpu(_))
    }

    /// Memory in use, as the system counts it: of this process and backed by no file; on a GPU, by anybody.
    pub(super) fn used(&self) -> Result<Bytes, SharingError> {
        match self {
            Self::Host => resident(),
            Self::Gpu(card) => {
                // What was dropped is given back at the next reservation.
                drop(self.reserve(Bytes::new(1))?);
                let free = MemoryWatch::of(&card.gpu).free().ok_or(SharingError::Unwatched)?;
                Ok(Bytes::new(card.gpu.memory.get().saturating_sub(free.get())))
            }
        }
    }
}

/// Resident memory of this process that no file backs.
fn resident() -> Result<Bytes, SharingError> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(|_| SharingError::Resident)?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.map(|kib| Bytes::new(kib * 1024)).ok_or(SharingError::Resident)
}
