//! The vendor's library for whoever composes the process: loaded once, checked, and handed on.

use std::ffi::{CStr, CString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::ptr;

use aegis_cuda::{BackendError, ElementType};

use crate::abi::{self, Any, Device};
use crate::api::{Api, Reason, library_error};
use crate::hooks::Hooks;
use crate::nvrtc::Compiler;
use crate::object::{Argument, global};
use crate::storage::Storage;
use crate::tensor::data_type;

/// What is loaded.
#[derive(Clone, Debug, Default)]
pub struct TvmOptions {
    /// Where `libtvm_ffi.so` and `libtvm_runtime.so` lie; for a GPU also `libtvm_runtime_cuda.so` and
    /// `libcudart.so.13`.
    pub folder: PathBuf,
    /// Whether models run on a GPU.
    pub cuda: bool,
    /// The compiler of GPU kernels (`libnvrtc.so`), for modules that carry their kernels as source.
    pub nvrtc: Option<PathBuf>,
}

/// TVM's runtime. Clones share it; it is used from any thread.
#[derive(Clone, Copy)]
pub struct TvmRuntime {
    hooks: &'static Hooks,
}

impl TvmRuntime {
    /// Loads the vendor's libraries, checks their version, replaces their allocation of memory by ours and proves that
    /// what is handed to them is taken for what it is.
    ///
    /// The vendor's table of functions is a global: a process loads TVM once, and whoever composes the process hands
    /// copies to everybody else. It is never unloaded.
    ///
    /// # Errors
    /// [`BackendError::Library`] if a file is missing or cannot be loaded, if its version is not the one that this
    /// backend was written for, if the proof fails, or if the process has loaded TVM before.
    pub fn load(options: &TvmOptions) -> Result<Self, BackendError> {
        let api: &'static Api = Box::leak(Box::new(Api::open(&options.folder, options.cuda)?));
        let about = |reason: Reason| about(&options.folder, &reason);
        let hooks = Hooks::install(api).map_err(about)?;
        prove_layout(api, hooks.storage_kind).map_err(about)?;
        if let Some(path) = &options.nvrtc {
            Compiler::open(path)?.register(api).map_err(about)?;
        }
        Ok(Self { hooks })
    }

    /// The version of the vendor's interface.
    pub fn version(&self) -> String {
        let [major, minor, patch] = self.hooks.api.version;
        format!("{major}.{minor}.{patch}")
    }

    /// Storage that was asked for while no model of this backend was at work on the thread; the vendor made it itself.
    /// Anything but zero means that something else in this process runs TVM.
    pub fn uncharged_allocations(&self) -> u64 {
        self.hooks.uncharged()
    }

    pub(crate) const fn hooks(&self) -> &'static Hooks {
        self.hooks
    }
}

impl fmt::Debug for TvmRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TvmRuntime").field("version", &self.version()).finish_non_exhaustive()
    }
}

fn about(folder: &Path, reason: &str) -> BackendError {
    library_error(format!("TVM in `{}`: {reason}", folder.display()))
}

/// Bytes of the storage that the proof is made with, and where a tensor of half of it starts.
const PROOF: u64 = 256;
/// Elements of that tensor.
const HALF: u64 = 32;

/// Makes a storage object and has the vendor cut tensors out of it. If its layout were another one, the tensor would
/// not lie where it should, or one that is too large would not be refused, or the object would not come back.
fn prove_layout(api: &'static Api, storage_kind: i32) -> Result<(), Reason> {
    let wrong = |what: &str| Err(format!("its storage objects are not those of TVM 0.27: {what}"));
    let memory = [0_u64; 32];
    let address = memory.as_ptr().expose_provenance() as u64;
    let cut = global(api, "vm.builtin.alloc_tensor")?;
    let shape = global(api, "ffi.Shape")?.call(&[Argument::int(HALF.cast_signed())])?.object("shape")?;
    let mut storage = Storage::idle(storage_kind, ptr::null());
    storage.put(address, PROOF, Device { kind: abi::CPU, id: 0 }, 0);
    let storage = Box::into_raw(storage);
    let float = Argument::data_type(data_type(ElementType::F32));
    let tensor_at = |offset: i64| {
        let arguments =
            [Any::pointer(storage_kind, storage.cast()), Any::int(offset), shape.as_any(), float.as_any()];
        // SAFETY: wants live arguments: the storage lives until the end of this function, the shape, too.
        unsafe { cut.call_raw(&arguments) }
    };
    let fits = tensor_at(128)?.object("tensor")?;
    let lies = fits.tensors().and_then(|tensors| tensors.first().map(|tensor| tensor.address));
    let too_large = tensor_at(160).is_err();
    drop(fits);
    // The first reference is the caller's own, as if it were the vendor's result.
    // SAFETY: wants a live object, of which one reference is given back: the one that `put` made.
    let _released = unsafe { (api.object_dec_ref)(storage.cast()) };
    // SAFETY: wants a live object: nobody but this function frees it.
    if !unsafe { (*storage).is_idle() } {
        // Leaked, because the vendor still refers to it.
        return wrong("one was not given back");
    }
    // SAFETY: wants the pointer that the box gave, which nobody refers to any more.
    drop(unsafe { Box::from_raw(storage) });
    match (lies, too_large) {
        (Some(lies), true) if lies == address + 128 => Ok(()),
        (Some(_), true) => wrong("a tensor lies elsewhere"),
        (None, _) => wrong("no tensor came out"),
        (_, false) => wrong("a tensor that is too large was not refused"),
    }
}

/// A name as the vendor wants it.
///
/// # Errors
/// If it contains a zero byte.
pub(crate) fn c_name(name: &str) -> Result<CString, Reason> {
    CString::new(name).map_err(|_| format!("the name {name:?} contains a zero byte"))
}

/// A text of the vendor's that is known when this crate is compiled.
pub(crate) const fn fixed(text: &'static CStr) -> Argument<'static> {
    Argument::text(text)
}
