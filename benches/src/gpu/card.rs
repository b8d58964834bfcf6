//! The device of an experiment: found once, opened anew for every fleet.

use std::path::Path;
use std::sync::Arc;

use aegis_backend_onnx::{OnnxLoader, OnnxRuntime};
use aegis_cuda::cuda::{CudaDevice, CudaOptions, QueueLimit};
use aegis_cuda::discovery::{GpuReport, Sources, discover};
use aegis_cuda::kernel::KernelLoader;
use aegis_cuda::{Device, DeviceError};
use aegis_types::Bytes;
use aegisrt::config::LaunchMode;
use aegisrt::inventory::Loaders;

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
    /// How many lanes, from the first on, have streams of the highest priority; none but where priorities are tried.
    pub urgent: u16,
    /// Who launches in every fleet.
    pub launch: LaunchMode,
    /// What runs networks; none where no experiment needs it.
    pub runtime: Option<OnnxRuntime>,
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
            open(ordinal, QueueLimit::FromEnvironmentValue(queues), 0).map_err(|error| match error {
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
            urgent: 0,
            launch: LaunchMode::default(),
            runtime: None,
        })
    }

    /// Opens it.
    ///
    /// # Errors
    /// What the device refuses.
    pub fn open(&self) -> Result<Opened, ExperimentError> {
        open(self.ordinal, QueueLimit::FromEnvironmentValue(self.queues), self.urgent)
    }

    /// The same device with ONNX Runtime from that file.
    ///
    /// # Errors
    /// What the library refuses, or that there is none.
    pub fn with_networks(self, library: Option<&Path>) -> Result<Self, ExperimentError> {
        let path = library.ok_or_else(|| ExperimentError::Illegal {
            what: "networks run on ONNX Runtime, and nothing says where it is".into(),
            legal: "--onnx with the path of libonnxruntime.so, the CUDA provider beside it".into(),
        })?;
        Ok(Self { runtime: Some(OnnxRuntime::load(path)?), ..self })
    }

    /// What models run on here.
    pub fn loaders(&self) -> Loaders {
        let loaders = Loaders::default().with(Arc::new(KernelLoader::new()));
        match &self.runtime {
            Some(runtime) => loaders.with(Arc::new(OnnxLoader::new(runtime.clone()))),
            None => loaders,
        }
    }

    /// The same device, as if the process had been given so many hardware queues.
    #[must_use]
    pub fn with_queues(&self, queues: u32) -> Self {
        Self { queues, ..self.clone() }
    }

    /// The same device, on which the streams of the first `lanes` lanes have the highest priority.
    #[must_use]
    pub fn with_urgent(&self, lanes: u16) -> Self {
        Self { urgent: lanes, ..self.clone() }
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

fn open(ordinal: u32, queues: QueueLimit, urgent: u16) -> Result<Opened, ExperimentError> {
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
            urgent: 0,
            launch: LaunchMode::default(),
            runtime: None,
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
