//! The device of an experiment: found once, opened anew for every fleet.

use std::sync::Arc;

use aegis_cuda::cuda::{CudaDevice, CudaOptions, QueueLimit};
use aegis_cuda::discovery::{GpuReport, Sources, discover};
use aegis_cuda::{Device, DeviceError};
use aegis_types::{Bytes, LaneId};

use super::error::ExperimentError;

/// The variable that says how many hardware queues the driver gives a process.
pub const QUEUES_VARIABLE: &str = "CUDA_DEVICE_MAX_CONNECTIONS";

/// A last-level cache where nobody knows how large it is: larger than most.
const CACHE: Bytes = Bytes::new(64 << 20);

/// The device that is measured.
#[derive(Clone, Debug)]
pub struct Gpu {
    /// Its number.
    pub ordinal: u32,
    /// Hardware queues of this process.
    pub queues: u32,
    /// Its name.
    pub name: String,
    /// Versions of driver and libraries.
    pub versions: Vec<String>,
    /// Streaming multiprocessors.
    pub sms: u32,
    /// Memory that may be reserved.
    pub memory: Bytes,
    /// The last-level cache.
    pub cache: Bytes,
    /// The lane whose stream has the highest priority; none in all experiments but the one about priorities.
    pub urgent: Option<LaneId>,
}

/// A device that is open.
pub struct Opened {
    device: Arc<CudaDevice>,
}

impl Opened {
    /// The device.
    pub fn device(&self) -> Arc<dyn Device> {
        Arc::<CudaDevice>::clone(&self.device)
    }

    /// Gives everything back. Memory and streams of it are gone by then.
    ///
    /// # Errors
    /// What the device refuses, or that something of it is still in use.
    pub fn close(self) -> Result<(), ExperimentError> {
        match Arc::try_unwrap(self.device) {
            Ok(device) => Ok(device.close()?),
            Err(shared) => Err(ExperimentError::Illegal {
                what: format!("the device is closed while {} others use it", Arc::strong_count(&shared) - 1),
                legal: "closing when the fleet is gone".into(),
            }),
        }
    }
}

impl Gpu {
    /// Looks at the device of that number.
    ///
    /// # Errors
    /// [`ExperimentError::Skipped`] with what is missing.
    pub fn find(ordinal: u32, queues: u32) -> Result<Self, ExperimentError> {
        let opened =
            open(ordinal, QueueLimit::FromEnvironmentValue(queues), None).map_err(|error| match error {
                ExperimentError::Device(missing @ DeviceError::Unavailable { .. }) => {
                    ExperimentError::Skipped(missing.to_string())
                }
                other => other,
            })?;
        let context = opened.device.context().clone();
        opened.close()?;
        let cache =
            report(&discover(Some(queues)).devices, ordinal).and_then(|gpu| gpu.memory.l2.known().copied());
        Ok(Self {
            ordinal,
            queues,
            name: context.name,
            versions: context.versions,
            sms: context.units,
            memory: context.memory,
            cache: cache.unwrap_or(CACHE),
            urgent: None,
        })
    }

    /// Opens it.
    ///
    /// # Errors
    /// What the device refuses.
    pub fn open(&self) -> Result<Opened, ExperimentError> {
        open(self.ordinal, QueueLimit::FromEnvironmentValue(self.queues), self.urgent)
    }

    /// The same device, as if the process had been given so many hardware queues.
    #[must_use]
    pub fn with_queues(&self, queues: u32) -> Self {
        Self { queues, ..self.clone() }
    }

    /// The same device, on which the stream of one lane has the highest priority.
    #[must_use]
    pub fn with_urgent(&self, lane: LaneId) -> Self {
        Self { urgent: Some(lane), ..self.clone() }
    }
}

/// How much of the device's memory nobody uses, told without touching the device.
pub struct MemoryWatch {
    sources: Sources,
    ordinal: u32,
    queues: u32,
}

impl MemoryWatch {
    /// A watch over that device.
    pub fn of(gpu: &Gpu) -> Self {
        Self { sources: Sources::watching(), ordinal: gpu.ordinal, queues: gpu.queues }
    }

    /// Bytes that are free; `None` where no source tells.
    pub fn free(&self) -> Option<Bytes> {
        let found = self.sources.discover(self.queues);
        report(&found.devices, self.ordinal)?.memory.free.known().copied()
    }
}

fn report(devices: &[GpuReport], ordinal: u32) -> Option<&GpuReport> {
    devices.iter().find(|gpu| gpu.ordinal == ordinal)
}

fn open(ordinal: u32, queues: QueueLimit, urgent: Option<LaneId>) -> Result<Opened, ExperimentError> {
    let device = CudaDevice::open(CudaOptions { ordinal, queues, urgent, ..CudaOptions::default() })?;
    Ok(Opened { device: Arc::new(device) })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A device that is not there, for plans that are only checked.
    pub(in super::super) fn imagined() -> Gpu {
        Gpu {
            ordinal: 0,
            queues: 32,
            name: "imagined".into(),
            versions: Vec::new(),
            sms: 132,
            memory: Bytes::new(80 << 30),
            cache: Bytes::new(50 << 20),
            urgent: None,
        }
    }

    #[test]
    fn a_device_that_is_not_there_is_no_failure() {
        match Gpu::find(4_000, 8) {
            Err(ExperimentError::Skipped(reason)) => assert!(!reason.is_empty()),
            other => panic!("no machine has 4,000 devices: {other:?}"),
        }
    }
}
