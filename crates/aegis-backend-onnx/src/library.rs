//! The vendor library: loaded once, and with it the vendor's environment, of which a process has one for ever.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aegis_cuda::BackendError;
use ort::AsPointer;
use ort::environment::Environment;
use ort::logging::LogLevel;

use crate::allocator::GrantAllocator;
use crate::cuda::allocator::{DeviceAllocations, DeviceAllocator};
use crate::cuda::driver::Driver;
use crate::cuda::pinned::{PinnedAllocator, PinnedBlocks};
use crate::raw::{self, MemoryInfo};
use crate::registered::Registered;

/// ONNX Runtime with its environment and our allocator. Clones share it; it is used from any thread.
#[derive(Clone)]
pub struct OnnxRuntime {
    shared: Arc<Shared>,
    optimized: bool,
}

/// The allocators of a GPU's memory, and of host memory for its copies.
type Adopted = (&'static Registered<DeviceAllocator>, &'static Registered<PinnedAllocator>);

struct Shared {
    environment: Environment,
    allocator: &'static Registered<GrantAllocator>,
    /// By number of the device; made when the first model is loaded there.
    devices: Mutex<BTreeMap<i32, Adopted>>,
    /// Where the vendor's CUDA libraries may lie.
    vendor: PathBuf,
    build: String,
}

/// Libraries that the CUDA provider needs, each before those that need it. One that was loaded by its path is found by
/// name from then on.
const VENDOR_LIBRARIES: [&str; 7] = [
    "libcudart.so.13",
    "libnvrtc.so.13",
    "libcublasLt.so.13",
    "libcublas.so.13",
    "libcurand.so.10",
    "libcufft.so.12",
    "libcudnn.so.9",
];

impl OnnxRuntime {
    /// Loads libonnxruntime from `path` and creates the environment.
    ///
    /// Models on a GPU need the library's CUDA provider in the same folder, and the vendor's CUDA libraries in the folder
    /// `cuda` beside that folder or where the system finds libraries.
    ///
    /// The environment is a global of the vendor's: a process can create one, once. Whoever composes the process
    /// loads the library and hands clones to everybody else; nothing of ours is global.
    ///
    /// # Errors
    /// [`BackendError::Library`] if the file cannot be loaded, is no ONNX Runtime, is older than the interface that
    /// this backend was written for, or if the process has loaded one before.
    pub fn load(path: &Path) -> Result<Self, BackendError> {
        let reason = |what: &str, reason: &dyn fmt::Display| {
            library_error(format!("`{}`: {what}: {reason}", path.display()))
        };
        if !path.is_file() {
            return Err(library_error(format!(
                "`{}` is no file; legal is the path of libonnxruntime",
                path.display()
            )));
        }
        let builder = ort::init_from(path).map_err(|error| reason("cannot be loaded", &error))?;
        // Warnings of the library go to nobody: its errors come back as results, and a lane's thread must not write
        // to a terminal. Nothing is sent anywhere.
        let environment = builder
            .with_name("aegis")
            .with_telemetry(false)
            .with_logger(Arc::new(|_: LogLevel, _: &str, _: &str, _: &str, _: &str| {}))
            .build()
            .map_err(|error| reason("cannot create its environment", &error))?;
        let info = MemoryInfo::host().map_err(|error| reason("cannot describe host memory", &error))?;
        // Leaked on purpose: the environment keeps the pointer until the process ends.
        let allocator: &'static _ = Box::leak(Box::new(Registered::new(info, GrantAllocator::default())));
        register(&environment, allocator.as_vendor())
            .map_err(|error| reason("refuses the allocator", &error))?;
        let vendor = path.parent().unwrap_or(Path::new("")).join("..").join("cuda");
        let shared = Shared {
            environment,
            allocator,
            devices: Mutex::default(),
            vendor,
            build: ort::info().to_owned(),
        };
        Ok(Self { shared: Arc::new(shared), optimized: true })
    }

    /// The same library, running models node by node as their files say. Slower; but then pieces of a model compute bit
    /// for bit what the whole does, because nothing is fused or folded across a cut.
    #[must_use = "the library itself goes on optimising"]
    pub fn unoptimized(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), optimized: false }
    }

    /// Whether sessions may change a model's graph.
    pub(crate) const fn is_optimized(&self) -> bool {
        self.optimized
    }

    /// The library's own description of its build, for reports.
    pub fn build_info(&self) -> &str {
        &self.shared.build
    }

    /// Tensor allocations that no task at work could be charged with; zero unless the vendor's threading changed.
    pub fn foreign_allocations(&self) -> u64 {
        self.shared.allocator.foreign()
    }

    /// Tensor allocations that exceeded a budget. They were served outside of it so that the library could return,
    /// and the call that made them failed with [`BackendError::Memory`].
    pub fn overflow_allocations(&self) -> u64 {
        self.shared.allocator.overflows()
    }

    /// Blocks that came back with a damaged header and were leaked; anything but zero is an error of the vendor's or
    /// of the memory's owner.
    pub fn corrupt_blocks(&self) -> u64 {
        self.shared.allocator.corrupt()
    }

    /// Blocks of host memory that models on GPUs asked for; their grants hold none.
    pub fn host_blocks_beside(&self) -> u64 {
        self.shared.allocator.beside()
    }

    /// What the provider was given of each GPU's memory, by number of the device.
    pub fn device_allocations(&self) -> BTreeMap<i32, DeviceAllocations> {
        self.devices().iter().map(|(&ordinal, pair)| (ordinal, pair.0.counts())).collect()
    }

    /// What the provider was given of host memory for each GPU's copies, by number of the device.
    pub fn pinned_blocks(&self) -> BTreeMap<i32, PinnedBlocks> {
        self.devices().iter().map(|(&ordinal, pair)| (ordinal, pair.1.counts())).collect()
    }

    /// Where the provider has memory of this GPU from; `None` before a model was loaded there.
    pub(crate) fn device_allocator(&self, ordinal: i32) -> Option<&'static DeviceAllocator> {
        self.devices().get(&ordinal).map(|pair| &**pair.0)
    }

    /// Where the provider has host memory from for the copies of this GPU; `None` before a model was loaded there.
    pub(crate) fn pinned(&self, ordinal: i32) -> Option<&'static PinnedAllocator> {
        self.devices().get(&ordinal).map(|pair| &**pair.1)
    }

    /// Blocks of host memory that the provider has for the copies of this GPU.
    pub(crate) fn pinned_live(&self, ordinal: i32) -> u64 {
        self.pinned(ordinal).map_or(0, |allocator| allocator.counts().live)
    }

    /// Makes sure that models on this GPU take its memory from their grants.
    pub(crate) fn adopt_device(&self, ordinal: i32, driver: Driver) -> Result<(), raw::Reason> {
        let mut devices = self.devices();
        if devices.contains_key(&ordinal) {
            return Ok(());
        }
        for library in VENDOR_LIBRARIES.map(|name| self.shared.vendor.join(name)) {
            if library.is_file() {
                ort::util::preload_dylib(&library)
                    .map_err(|error| format!("`{}` cannot be loaded: {error}", library.display()))?;
            }
        }
        // Leaked on purpose: the environment keeps the pointers until the process ends.
        let device = Registered::new(MemoryInfo::device(ordinal)?, DeviceAllocator::new(driver));
        let pinned = Registered::new(MemoryInfo::pinned(ordinal)?, PinnedAllocator::new(driver));
        let (device, pinned): Adopted = (Box::leak(Box::new(device)), Box::leak(Box::new(pinned)));
        register(&self.shared.environment, device.as_vendor())?;
        register(&self.shared.environment, pinned.as_vendor())?;
        devices.insert(ordinal, (device, pinned));
        Ok(())
    }

    fn devices(&self) -> MutexGuard<'_, BTreeMap<i32, Adopted>> {
        self.shared.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.shared.environment
    }
}

impl fmt::Debug for OnnxRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnnxRuntime").field("build", &self.shared.build).finish_non_exhaustive()
    }
}

/// Makes sessions that opt in take their memory from `allocator`, which lives as long as the process.
fn register(environment: &Environment, allocator: *mut ort::sys::OrtAllocator) -> Result<(), raw::Reason> {
    // SAFETY: wants a live environment, and an allocator that outlives it: callers pass leaked ones.
    raw::check(unsafe { (ort::api().RegisterAllocator)(environment.ptr().cast_mut(), allocator) })
}

pub(crate) fn library_error(reason: String) -> BackendError {
    BackendError::Library { backend: "onnx", reason }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use super::*;
    use crate::session::{self, ModelFile, Tensors};

    #[test]
    fn allocations_without_a_task_at_work_are_counted() {
        let Some(cache) = std::env::var_os("AEGIS_CACHE").map(PathBuf::from) else {
            println!("skip foreign allocations: AEGIS_CACHE is not set");
            return;
        };
        let runtime = OnnxRuntime::load(&cache.join("onnxruntime/libonnxruntime.so")).expect("loads");
        let artifact = std::fs::read(cache.join("models/dtln_1.onnx")).expect("cached");
        assert_eq!(runtime.foreign_allocations(), 0);
        let file = ModelFile::Brought(&artifact);
        let session = session::open(&runtime, file, &BTreeMap::new(), Tensors::Charged);
        assert!(session.is_ok() && runtime.foreign_allocations() > 0, "the count can be other than zero");
        drop(session);
        assert_eq!(runtime.corrupt_blocks(), 0);
        let counted = runtime.foreign_allocations();
        drop(session::open(&runtime, file, &BTreeMap::new(), Tensors::Plain).expect("opens"));
        assert_eq!(runtime.foreign_allocations(), counted, "a plain session has the library's own memory");
    }
}
