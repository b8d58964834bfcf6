//! The vendor's library: opened at run time, its version checked, its functions by name.
//!
//! The symbols of these libraries must be visible to each other and to the compiled modules, which name them without
//! linking to them: everything is opened with `RTLD_GLOBAL`, the interface first.

use std::ffi::{c_char, c_void};
use std::path::Path;

use aegis_cuda::BackendError;
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

use crate::abi::{Any, ByteArray, ManagedTensor, SafeCall};

/// What went wrong, as one line.
pub(crate) type Reason = String;

/// The interface, which everything else stands on.
const INTERFACE: &str = "libtvm_ffi.so";
/// The virtual machine, and the host as a device.
const MACHINE: &str = "libtvm_runtime.so";
/// The GPU as a device.
const GPU: &str = "libtvm_runtime_cuda.so";
/// What the GPU's part stands on.
const CUDA_RUNTIME: &str = "libcudart.so.13";

/// The interface whose layouts [`abi`](crate::abi) holds: 0.1, from this patch on.
const OLDEST_PATCH: u32 = 15;

/// The vendor's functions. Loaded once and never unloaded: its thread-local state outlives every use of it.
pub(crate) struct Api {
    pub(crate) type_key_to_index: unsafe extern "C" fn(*const ByteArray, *mut i32) -> i32,
    pub(crate) object_dec_ref: unsafe extern "C" fn(*mut c_void) -> i32,
    pub(crate) function_create: unsafe extern "C" fn(
        *mut c_void,
        SafeCall,
        Option<unsafe extern "C" fn(*mut c_void)>,
        *mut *mut c_void,
    ) -> i32,
    pub(crate) function_get_global: unsafe extern "C" fn(*const ByteArray, *mut *mut c_void) -> i32,
    pub(crate) function_set_global: unsafe extern "C" fn(*const ByteArray, *mut c_void, i32) -> i32,
    pub(crate) function_call: unsafe extern "C" fn(*mut c_void, *const Any, i32, *mut Any) -> i32,
    pub(crate) error_move_from_raised: unsafe extern "C" fn(*mut *mut c_void),
    pub(crate) error_set_raised: unsafe extern "C" fn(*const c_char, *const c_char),
    pub(crate) tensor_from_dlpack:
        unsafe extern "C" fn(*mut ManagedTensor, i32, i32, *mut *mut c_void) -> i32,
    pub(crate) bytes_from_byte_array: unsafe extern "C" fn(*const ByteArray, *mut Any) -> i32,
    pub(crate) env_set_stream: unsafe extern "C" fn(i32, i32, *mut c_void, *mut *mut c_void) -> i32,
    pub(crate) register_context_symbol: unsafe extern "C" fn(*const c_char, *mut c_void) -> i32,
    /// The interface's version.
    pub(crate) version: [u32; 3],
    /// The GPU's part, if it was asked for.
    pub(crate) cuda: Option<CudaApi>,
    _libraries: Vec<Library>,
}

/// The two calls of the CUDA runtime that are needed to learn which GPU a stream is on.
pub(crate) struct CudaApi {
    pub(crate) get_device: unsafe extern "C" fn(*mut i32) -> i32,
    pub(crate) device_attribute: unsafe extern "C" fn(*mut i32, i32, i32) -> i32,
}

impl Api {
    /// Opens the libraries that lie in `folder`.
    ///
    /// # Errors
    /// [`BackendError::Library`] naming the file and what is wrong with it.
    pub(crate) fn open(folder: &Path, with_gpu: bool) -> Result<Self, BackendError> {
        let path = folder.join(INTERFACE);
        check_file(&path)?;
        refuse_second()?;
        let interface = open(&path)?;
        let version = version_of(&interface)?;
        check_version(version, folder)?;
        let machine = open(&folder.join(MACHINE))?;
        let mut libraries = vec![machine];
        let cuda = if with_gpu {
            let runtime = open(&folder.join(CUDA_RUNTIME))?;
            libraries.push(open(&folder.join(GPU))?);
            let api = CudaApi {
                get_device: function(&runtime, "cudaGetDevice")?,
                device_attribute: function(&runtime, "cudaDeviceGetAttribute")?,
            };
            libraries.push(runtime);
            Some(api)
        } else {
            None
        };
        let api = Self {
            type_key_to_index: function(&interface, "TVMFFITypeKeyToIndex")?,
            object_dec_ref: function(&interface, "TVMFFIObjectDecRef")?,
            function_create: function(&interface, "TVMFFIFunctionCreate")?,
            function_get_global: function(&interface, "TVMFFIFunctionGetGlobal")?,
            function_set_global: function(&interface, "TVMFFIFunctionSetGlobal")?,
            function_call: function(&interface, "TVMFFIFunctionCall")?,
            error_move_from_raised: function(&interface, "TVMFFIErrorMoveFromRaised")?,
            error_set_raised: function(&interface, "TVMFFIErrorSetRaisedFromCStr")?,
            tensor_from_dlpack: function(&interface, "TVMFFITensorFromDLPackVersioned")?,
            bytes_from_byte_array: function(&interface, "TVMFFIBytesFromByteArray")?,
            env_set_stream: function(&interface, "TVMFFIEnvSetStream")?,
            register_context_symbol: function(&interface, "TVMFFIEnvModRegisterContextSymbol")?,
            version,
            cuda,
            _libraries: {
                libraries.push(interface);
                libraries
            },
        };
        Ok(api)
    }
}

/// Refuses to open a second TVM: its initialisers would find the names of their functions taken and end the process.
fn refuse_second() -> Result<(), BackendError> {
    // SAFETY: nothing is opened: the flag asks for a library that is there already.
    match unsafe { Library::open(Some(INTERFACE), RTLD_NOW | libc::RTLD_NOLOAD) } {
        Ok(_present) => Err(library_error(
            "this process has loaded TVM before; legal is one loader, whose copies are handed on".to_owned(),
        )),
        Err(_absent) => Ok(()),
    }
}

fn version_of(interface: &Library) -> Result<[u32; 3], BackendError> {
    let get: unsafe extern "C" fn(*mut [u32; 3]) = function(interface, "TVMFFIGetVersion")?;
    let mut version = [0; 3];
    // SAFETY: `TVMFFIGetVersion` writes three words, in every version of the interface.
    unsafe { get(&raw mut version) };
    Ok(version)
}

/// Refuses a library whose layouts are not those that this crate was written for, before anything else is called.
fn check_version([major, minor, patch]: [u32; 3], folder: &Path) -> Result<(), BackendError> {
    if (major, minor) == (0, 1) && patch >= OLDEST_PATCH {
        return Ok(());
    }
    Err(library_error(format!(
        "`{}` has version {major}.{minor}.{patch} of TVM's interface; legal is 0.1 from 0.1.{OLDEST_PATCH} on, which \
         TVM 0.27 comes with",
        folder.join(INTERFACE).display()
    )))
}

/// Opens one library, with its symbols for everybody.
pub(crate) fn open(path: &Path) -> Result<Library, BackendError> {
    check_file(path)?;
    // SAFETY: opening runs the library's initialisers: it is the vendor's own, which the caller chose to trust.
    unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) }
        .map_err(|error| library_error(format!("`{}`: {error}", path.display())))
}

fn check_file(path: &Path) -> Result<(), BackendError> {
    if path.is_file() {
        Ok(())
    } else {
        Err(library_error(format!("`{}`: there is no such file", path.display())))
    }
}

/// A function of a library by name. `F` is its type.
pub(crate) fn function<F: Copy>(library: &Library, name: &str) -> Result<F, BackendError> {
    // SAFETY: the type must be the function's own: callers in this crate write down what the vendor's header declares,
    //  for the version that was checked before.
    let symbol = unsafe { library.get::<F>(name) };
    symbol.map(|symbol| *symbol).map_err(|error| library_error(format!("`{name}` is missing: {error}")))
}

pub(crate) fn library_error(reason: String) -> BackendError {
    BackendError::Library { backend: "tvm", reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_of_other_layouts_are_refused_by_number() {
        for (version, legal) in [
            ([0, 1, 14], false),
            ([0, 1, 15], true),
            ([0, 1, 16], true),
            ([0, 2, 15], false),
            ([1, 1, 15], false),
        ] {
            let checked = check_version(version, Path::new("folder"));
            assert_eq!(checked.is_ok(), legal, "{version:?}");
            let [_, minor, patch] = version;
            let named = |error: BackendError| error.to_string().contains(&format!("{minor}.{patch} of TVM"));
            assert!(checked.is_ok() || checked.is_err_and(named));
        }
    }
}
