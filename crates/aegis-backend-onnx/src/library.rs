//! The vendor library: loaded once, and with it the vendor's environment, of which a process has one for ever.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use aegis_cuda::BackendError;
use ort::AsPointer;
use ort::environment::Environment;
use ort::logging::LogLevel;

use crate::allocator::GrantAllocator;
use crate::raw::{self, MemoryInfo};

/// ONNX Runtime with its environment and our allocator. Clones share it; it is used from any thread.
#[derive(Clone)]
pub struct OnnxRuntime {
    shared: Arc<Shared>,
}

struct Shared {
    environment: Environment,
    allocator: &'static GrantAllocator,
    build: String,
}

impl OnnxRuntime {
    /// Loads libonnxruntime from `path` and creates the environment.
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
        let allocator: &'static GrantAllocator = Box::leak(Box::new(GrantAllocator::new(info)));
        register(&environment, allocator).map_err(|error| reason("refuses the allocator", &error))?;
        let shared = Shared { environment, allocator, build: ort::info().to_owned() };
        Ok(Self { shared: Arc::new(shared) })
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

    pub(crate) fn environment(&self) -> &Environment {
        &self.shared.environment
    }
}

impl fmt::Debug for OnnxRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnnxRuntime").field("build", &self.shared.build).finish_non_exhaustive()
    }
}

fn register(environment: &Environment, allocator: &'static GrantAllocator) -> Result<(), raw::Reason> {
    // SAFETY: wants a live environment, and an allocator that outlives it: ours lives as long as the process.
    raw::check(unsafe { (ort::api().RegisterAllocator)(environment.ptr().cast_mut(), allocator.as_vendor()) })
}

pub(crate) fn library_error(reason: String) -> BackendError {
    BackendError::Library { backend: "onnx", reason }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use super::*;
    use crate::session::{self, Tensors};

    #[test]
    fn allocations_without_a_task_at_work_are_counted() {
        let Some(cache) = std::env::var_os("AEGIS_CACHE").map(PathBuf::from) else {
            println!("skip foreign allocations: AEGIS_CACHE is not set");
            return;
        };
        let runtime = OnnxRuntime::load(&cache.join("onnxruntime/libonnxruntime.so")).expect("loads");
        let artifact = std::fs::read(cache.join("models/dtln_1.onnx")).expect("cached");
        assert_eq!(runtime.foreign_allocations(), 0);
        let session = session::open(&runtime, &artifact, &BTreeMap::new(), Tensors::Charged);
        assert!(session.is_ok() && runtime.foreign_allocations() > 0, "the count can be other than zero");
        drop(session);
        assert_eq!(runtime.corrupt_blocks(), 0);
        let counted = runtime.foreign_allocations();
        drop(session::open(&runtime, &artifact, &BTreeMap::new(), Tensors::Plain).expect("opens"));
        assert_eq!(runtime.foreign_allocations(), counted, "a plain session has the library's own memory");
    }
}
