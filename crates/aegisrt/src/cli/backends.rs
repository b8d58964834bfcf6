//! Which backends this program was built with, and the libraries that they stand on.
//!
//! A backend is a feature of the crate, so that a program offers what its machine has: this is the one place of the
//! command line that names them. The crate that reads ONNX files is there in every build; its feature says whether
//! ONNX Runtime is looked for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aegis_backend_onnx::{OnnxLoader, OnnxRuntime, Reference};
#[cfg(feature = "tract")]
use aegis_backend_onnx::{TractLoader, TractReference};
#[cfg(feature = "tensorrt")]
use aegis_backend_trt::{TensorRt, TensorRtLoader};
#[cfg(feature = "tvm")]
use aegis_backend_tvm::{TvmLoader, TvmOptions, TvmRuntime};
use aegis_cuda::DeviceKind;
use aegis_cuda::kernel::{self, KernelLoader};
use aegis_types::TaskId;

use super::Environment;
use super::answer::CliError;
use crate::config::{BackendKind, Fleet};
use crate::inventory::{Loaders, Model};

/// Runs a model plainly: inputs to outputs, each in the model's order.
pub type Plain = Box<dyn FnMut(&[Vec<u8>]) -> Result<Vec<Vec<u8>>, CliError>>;

/// The vendor libraries that this process has loaded. It loads each once.
#[derive(Clone, Debug, Default)]
pub struct Libraries {
    onnx: Option<OnnxRuntime>,
    #[cfg(feature = "tvm")]
    tvm: Option<TvmRuntime>,
    #[cfg(feature = "tensorrt")]
    tensorrt: Option<TensorRt>,
}

impl Libraries {
    /// ONNX Runtime, if a task of the fleet runs on it.
    pub const fn onnx(&self) -> Option<&OnnxRuntime> {
        self.onnx.as_ref()
    }

    /// The backends that the fleet's tasks name; vendor libraries are loaded only for those.
    ///
    /// # Errors
    /// A backend that this program was built without, at its line; a library that is not found or does not load.
    pub fn loaders(&mut self, fleet: &Fleet, environment: &Environment) -> Result<Loaders, CliError> {
        built_for(fleet)?;
        let named = |backend: BackendKind| fleet.tasks().iter().any(|task| task.backend == backend);
        let mut loaders = Loaders::default();
        if cfg!(feature = "onnx") && named(BackendKind::Onnx) {
            let runtime = match self.onnx.take() {
                Some(runtime) => runtime,
                None => OnnxRuntime::load(&find_onnx(environment, fleet.device())?)?,
            };
            loaders = loaders.with(Arc::new(OnnxLoader::new(runtime.clone())));
            self.onnx = Some(runtime);
        }
        #[cfg(feature = "tract")]
        if named(BackendKind::Tract) {
            loaders = loaders.with(Arc::new(TractLoader::new()));
        }
        #[cfg(feature = "tvm")]
        if named(BackendKind::Tvm) {
            let runtime = match self.tvm {
                Some(runtime) => runtime,
                None => TvmRuntime::load(&find_tvm(environment, fleet.device())?)?,
            };
            loaders = loaders.with(Arc::new(TvmLoader::new(runtime)));
            self.tvm = Some(runtime);
        }
        #[cfg(feature = "tensorrt")]
        if named(BackendKind::TensorRt) {
            let library = match self.tensorrt.take() {
                Some(library) => library,
                None => find_tensorrt(environment)?,
            };
            loaders =
                loaders.with(Arc::new(TensorRtLoader::new(library.clone(), fleet.device_config().ordinal)));
            self.tensorrt = Some(library);
        }
        if named(BackendKind::Kernel) {
            loaders = loaders.with(Arc::new(KernelLoader::new()));
        }
        Ok(loaders)
    }

    /// How a model is run plainly, by the backend that its fleet names; `None` where that has no plain run.
    ///
    /// # Errors
    /// What the backend refuses of the model.
    pub fn plain(&self, model: &Model) -> Result<Option<Plain>, CliError> {
        if let (BackendKind::Onnx, Some(library)) = (model.config.backend, &self.onnx) {
            let mut reference = Reference::open(library, &model.artifact, &model.config.shapes)?;
            return Ok(Some(Box::new(move |inputs| Ok(reference.run(inputs)?))));
        }
        #[cfg(feature = "tract")]
        if model.config.backend == BackendKind::Tract {
            let reference = TractReference::open(&model.request())?;
            return Ok(Some(Box::new(move |inputs| Ok(reference.run(inputs)?))));
        }
        if model.config.backend == BackendKind::Kernel {
            let model = model.clone();
            return Ok(Some(Box::new(move |inputs| Ok(kernel::reference(&model.request(), inputs)?))));
        }
        Ok(None)
    }
}

/// Whether this program was built with a backend.
const fn is_built(backend: BackendKind) -> bool {
    match backend {
        BackendKind::Onnx => cfg!(feature = "onnx"),
        BackendKind::Tract => cfg!(feature = "tract"),
        BackendKind::Tvm => cfg!(feature = "tvm"),
        BackendKind::TensorRt => cfg!(feature = "tensorrt"),
        // Neither stands on a library.
        BackendKind::Kernel | BackendKind::Script => true,
    }
}

/// Complains about the first task whose backend this program was built without.
fn built_for(fleet: &Fleet) -> Result<(), CliError> {
    let Some(position) = fleet.tasks().iter().position(|task| !is_built(task.backend)) else { return Ok(()) };
    let missing = fleet.tasks()[position].backend.name();
    let built = BackendKind::all_of(fleet.device()).iter().filter(|backend| is_built(**backend));
    let mut legal: Vec<String> = built.map(|backend| format!("\"{}\"", backend.name())).collect();
    legal.push(format!("a program that was built with `--features {missing}`"));
    // A checked fleet has far fewer tasks than u16 numbers.
    let id = TaskId::new(position as u16);
    let problem = "this program was built without this backend";
    Err(fleet.complain(id, "backend", problem, legal.join(", or ")).into())
}

/// What ONNX Runtime needs beside it for a GPU.
const CUDA_PROVIDER: &str = "libonnxruntime_providers_cuda.so";

/// The library for a device of that kind: the one with the CUDA provider beside it serves hosts as well.
pub(super) fn find_onnx(environment: &Environment, device: DeviceKind) -> Result<PathBuf, CliError> {
    if let Some(path) = &environment.onnxruntime {
        return Ok(path.clone());
    }
    let [plain, cuda] =
        ["onnxruntime", "onnxruntime-cuda"].map(|folder| PathBuf::from(folder).join("libonnxruntime.so"));
    if device != DeviceKind::Cuda {
        return cached(environment, &plain).ok_or_else(|| not_found(environment, &plain));
    }
    // A bundle has one library for hosts and GPUs.
    let bundled = || cached(environment, &plain).filter(|path| path.with_file_name(CUDA_PROVIDER).exists());
    cached(environment, &cuda).or_else(bundled).ok_or_else(|| not_found(environment, &cuda))
}

fn not_found(environment: &Environment, within: &Path) -> CliError {
    missing("ONNX Runtime", "AEGIS_ONNXRUNTIME to the path of libonnxruntime.so", environment, within)
}

/// Where TVM's libraries lie, and what compiles kernels that a module carries as source, if it is there.
#[cfg(feature = "tvm")]
fn find_tvm(environment: &Environment, device: DeviceKind) -> Result<TvmOptions, CliError> {
    let within = PathBuf::from("tvm").join("lib");
    let folder = match &environment.tvm {
        Some(folder) => folder.clone(),
        None => cached(environment, &within).ok_or_else(|| {
            missing("TVM", "AEGIS_TVM to the folder of libtvm_runtime.so", environment, &within)
        })?,
    };
    let nvrtc = cached(environment, &PathBuf::from("nvrtc").join("libnvrtc.so.11.2"));
    Ok(TvmOptions { folder, cuda: device == DeviceKind::Cuda, nvrtc })
}

/// TensorRT from where the environment says, or where the system's linker finds it.
#[cfg(feature = "tensorrt")]
fn find_tensorrt(environment: &Environment) -> Result<TensorRt, CliError> {
    match &environment.tensorrt {
        Some(path) => Ok(TensorRt::load(path)?),
        None => Ok(TensorRt::find()?),
    }
}

/// What lies in the cache under that path; `None` where there is no cache or no such thing in it.
fn cached(environment: &Environment, within: &Path) -> Option<PathBuf> {
    let path = environment.cache.as_ref().map(|cache| cache.join(within));
    path.filter(|path| path.exists())
}

fn missing(what: &str, set: &str, environment: &Environment, within: &Path) -> CliError {
    let cache = match &environment.cache {
        Some(cache) => format!("{} is not there", cache.join(within).display()),
        None => "AEGIS_CACHE is not set".to_owned(),
    };
    CliError::Input(format!(
        "{what} was not found: {cache}; set {set}, or AEGIS_CACHE to a folder that holds {}",
        within.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_for_a_gpu_is_found_in_a_cache_and_in_a_bundle() {
        let cache = std::env::temp_dir().join(format!("aegis-onnx-{}", std::process::id()));
        let environment = Environment { cache: Some(cache.clone()), ..Environment::default() };
        let put = |file: &str| {
            let file = cache.join(file);
            std::fs::create_dir_all(file.parent().expect("a folder")).expect("created");
            std::fs::write(&file, "").expect("written");
            file
        };
        let found = |device| find_onnx(&environment, device).map_err(|error| error.to_string());
        let plain = put("onnxruntime/libonnxruntime.so");
        assert_eq!(found(DeviceKind::Host), Ok(plain.clone()));
        let error = found(DeviceKind::Cuda).expect_err("no provider");
        assert!(error.contains("onnxruntime-cuda/libonnxruntime.so is not there"), "{error}");
        put("onnxruntime/libonnxruntime_providers_cuda.so");
        assert_eq!(found(DeviceKind::Cuda), Ok(plain.clone()));
        let cuda = put("onnxruntime-cuda/libonnxruntime.so");
        assert_eq!((found(DeviceKind::Cuda), found(DeviceKind::Host)), (Ok(cuda), Ok(plain)));
        std::fs::remove_dir_all(&cache).expect("removed");
    }
}
