//! The compiler of GPU kernels, for modules that carry their kernels as source text.
//!
//! TVM asks a function of its table for machine code when such a module is loaded. The vendor's own is written in
//! Python; this one calls NVRTC, a library that needs no GPU. It compiles for the GPU that the model is loaded for,
//! which the thread remembers meanwhile. The two headers that every kernel of TVM's includes are brought along, so that
//! no toolkit is needed; kernels on half-precision numbers include more, and are to be compiled beforehand.

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_void};
use std::path::{Path, PathBuf};
use std::ptr;

use aegis_cuda::BackendError;
use libloading::os::unix::Library;

use crate::abi::{Any, ByteArray, StringObject, kind};
use crate::api::{self, Api, Reason};
use crate::device::Processor;
use crate::object::{make_function, one_line, raise, set_global, text};

/// What TVM asks for.
const CALLBACK: &str = "tvm_callback_cuda_compile";

thread_local! {
    /// Compute capability that the calling thread loads a model for.
    static CAPABILITY: Cell<Option<(u32, u32)>> = const { Cell::new(None) };
}

/// Loads something on the calling thread whose kernels are for `processor`.
pub(crate) fn for_capability<R>(processor: Processor, load: impl FnOnce() -> R) -> R {
    let capability = match processor {
        Processor::Host => None,
        Processor::Gpu { capability, .. } => Some(capability),
    };
    let before = CAPABILITY.replace(capability);
    let loaded = load();
    CAPABILITY.set(before);
    loaded
}

/// What a program may include, and under which name.
const HEADERS: [(&CStr, &str); 2] = [
    (c"cuda/std/cstdint", include_str!("nvrtc/cstdint.h")),
    (c"cuda/std/type_traits", include_str!("nvrtc/type_traits.h")),
];

type Program = *mut c_void;

/// NVRTC.
pub(crate) struct Compiler {
    create: unsafe extern "C" fn(
        *mut Program,
        *const c_char,
        *const c_char,
        i32,
        *const *const c_char,
        *const *const c_char,
    ) -> i32,
    compile: unsafe extern "C" fn(Program, i32, *const *const c_char) -> i32,
    cubin_size: unsafe extern "C" fn(Program, *mut usize) -> i32,
    cubin: unsafe extern "C" fn(Program, *mut c_char) -> i32,
    log_size: unsafe extern "C" fn(Program, *mut usize) -> i32,
    log: unsafe extern "C" fn(Program, *mut c_char) -> i32,
    destroy: unsafe extern "C" fn(*mut Program) -> i32,
    _libraries: (Library, Option<Library>),
}

/// The compiler and whom it tells about failures. It lives for ever, like the table that refers to it.
struct Registered {
    api: &'static Api,
    compiler: Compiler,
}

impl Compiler {
    /// Opens the library at `path`.
    ///
    /// # Errors
    /// [`BackendError::Library`] if it cannot be loaded or is no NVRTC from 11.1 on.
    pub(crate) fn open(path: &Path) -> Result<Self, BackendError> {
        // The compiler opens its built-in declarations by name alone, so they have to be there before it looks.
        let builtins = builtins_beside(path).map(|path| api::open(&path)).transpose()?;
        let library = api::open(path)?;
        Ok(Self {
            create: api::function(&library, "nvrtcCreateProgram")?,
            compile: api::function(&library, "nvrtcCompileProgram")?,
            cubin_size: api::function(&library, "nvrtcGetCUBINSize")?,
            cubin: api::function(&library, "nvrtcGetCUBIN")?,
            log_size: api::function(&library, "nvrtcGetProgramLogSize")?,
            log: api::function(&library, "nvrtcGetProgramLog")?,
            destroy: api::function(&library, "nvrtcDestroyProgram")?,
            _libraries: (library, builtins),
        })
    }

    /// Makes it the compiler that TVM asks.
    ///
    /// # Errors
    /// The vendor's message.
    pub(crate) fn register(self, api: &'static Api) -> Result<(), Reason> {
        // Leaked on purpose: the table refers to it until the process ends.
        let registered: &'static Registered = Box::leak(Box::new(Registered { api, compiler: self }));
        set_global(api, CALLBACK, &make_function(api, registered, compile)?)
    }

    /// Compiles `source` to machine code for a compute capability.
    ///
    /// # Errors
    /// The compiler's own words.
    pub(crate) fn compile(&self, source: &str, (major, minor): (u32, u32)) -> Result<Vec<u8>, Reason> {
        let source = CString::new(source).map_err(|_| "the source has a zero byte".to_owned())?;
        let texts = HEADERS.map(|(_, text)| CString::new(text).unwrap_or_default());
        let (texts, names) =
            (texts.each_ref().map(|text| text.as_ptr()), HEADERS.map(|(name, _)| name.as_ptr()));
        let mut program: Program = ptr::null_mut();
        // SAFETY: wants a place for the program, and texts that live during the call.
        let code = unsafe {
            let name = c"module.cu".as_ptr();
            (self.create)(&raw mut program, source.as_ptr(), name, 2, texts.as_ptr(), names.as_ptr())
        };
        if code != 0 {
            return Err(format!("NVRTC makes no program (code {code})"));
        }
        let compiled = self.compile_program(program, (major, minor));
        // SAFETY: wants a program that was made, once.
        let _destroyed = unsafe { (self.destroy)(&raw mut program) };
        compiled
    }

    fn compile_program(&self, program: Program, (major, minor): (u32, u32)) -> Result<Vec<u8>, Reason> {
        let architecture = CString::new(format!("--gpu-architecture=sm_{major}{minor}"))
            .map_err(|_| "the architecture has a zero byte".to_owned())?;
        let options = [architecture.as_ptr(), c"-default-device".as_ptr(), c"--std=c++17".as_ptr()];
        // SAFETY: wants a live program and so many texts that live during the call.
        let code = unsafe { (self.compile)(program, 3, options.as_ptr()) };
        if code != 0 {
            let said = self.read(program, self.log_size, self.log).unwrap_or_default();
            let said = one_line(&String::from_utf8_lossy(&said));
            return Err(format!("NVRTC refuses the kernels (code {code}): {said}"));
        }
        self.read(program, self.cubin_size, self.cubin)
    }

    /// One of the texts that a program has: its size is asked for first.
    fn read(
        &self,
        program: Program,
        size_of: unsafe extern "C" fn(Program, *mut usize) -> i32,
        read: unsafe extern "C" fn(Program, *mut c_char) -> i32,
    ) -> Result<Vec<u8>, Reason> {
        let mut size = 0;
        // SAFETY: wants a live program and a place for the size.
        let code = unsafe { size_of(program, &raw mut size) };
        let mut bytes = vec![0_u8; size];
        if code != 0 {
            return Err(format!("NVRTC does not say how long its answer is (code {code})"));
        }
        // SAFETY: wants a live program and as much room as it asked for.
        let code = unsafe { read(program, bytes.as_mut_ptr().cast()) };
        if code == 0 { Ok(bytes) } else { Err(format!("NVRTC does not hand its answer out (code {code})")) }
    }
}

/// The declarations that belong to the compiler at `path`, if they lie beside it.
fn builtins_beside(path: &Path) -> Option<PathBuf> {
    let files = std::fs::read_dir(path.parent()?).ok()?;
    let is_builtins = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("libnvrtc-builtins.so"))
    };
    files.flatten().map(|file| file.path()).find(is_builtins)
}

/// `tvm_callback_cuda_compile(source) -> bytes`.
unsafe extern "C" fn compile(
    context: *mut c_void,
    arguments: *const Any,
    count: i32,
    result: *mut Any,
) -> i32 {
    // SAFETY: wants the context that the function was made with: a `Registered` that lives for ever.
    let registered = unsafe { &*context.cast::<Registered>() };
    let api = registered.api;
    // An empty list may start anywhere.
    let arguments = if count == 0 { ptr::null() } else { arguments };
    // SAFETY: wants null or a live value: the vendor's first argument.
    let first = unsafe { arguments.as_ref() };
    // SAFETY: wants a live value of the vendor: its argument.
    let source = first.and_then(|first| unsafe { source_text(first) });
    let compiled = match (source, CAPABILITY.get()) {
        (Some(source), Some(capability)) => registered.compiler.compile(&source, capability),
        (None, _) => Err("TVM passes no source".to_owned()),
        (_, None) => Err("no model of this backend is being loaded on this thread".to_owned()),
    };
    match compiled {
        Ok(code) => {
            let view = ByteArray::of(&code);
            // SAFETY: wants a view that lives during the call, and a place for the object that it makes of it.
            unsafe { (api.bytes_from_byte_array)(&raw const view, result) }
        }
        Err(reason) => {
            let reason = CString::new(reason).unwrap_or_default();
            raise(api, &reason);
            -1
        }
    }
}

/// # Safety
/// The value is the vendor's, alive.
unsafe fn source_text(value: &Any) -> Option<String> {
    match value.kind {
        kind::STRING => {
            // SAFETY: the kind says which field was written.
            let string = unsafe { value.payload.pointer }.cast::<StringObject>();
            // SAFETY: the kind says that it points to a live string object.
            let bytes = unsafe { (*string).bytes };
            // SAFETY: wants the bytes of a live string.
            Some(unsafe { text(bytes) })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How the kernels of a module begin, and one that asks every question.
    const KERNEL: &str = "
        #include <cuda/std/cstdint>
        using cuda::std::uint8_t; using cuda::std::int64_t;
        #include <cuda/std/type_traits>
        namespace std {
          using cuda::std::is_same; using cuda::std::is_same_v; using cuda::std::is_integral;
          using cuda::std::is_signed; using cuda::std::is_unsigned; using cuda::std::is_floating_point;
          using cuda::std::enable_if; using cuda::std::conditional;
        }
        static_assert(sizeof(int64_t) == 8 && sizeof(uint8_t) == 1);
        static_assert(std::is_same_v<int, int> && !std::is_same<int, long>::value);
        static_assert(std::is_integral<char>::value && !std::is_integral<float>::value);
        static_assert(std::is_signed<float>::value && std::is_unsigned<bool>::value);
        static_assert(std::is_floating_point<double>::value);
        static_assert(std::is_same_v<std::conditional<false, int, long>::type, std::enable_if<true, long>::type>);
        extern \"C\" __global__ void add(float *x) { x[threadIdx.x] += 1; }";

    fn compiler(test: &str) -> Option<Compiler> {
        let path =
            std::env::var_os("AEGIS_CACHE").map(|cache| PathBuf::from(cache).join("nvrtc/libnvrtc.so.11.2"));
        let Some(path) = path.filter(|path| path.is_file()) else {
            println!("skip {test}: AEGIS_CACHE names no folder with the compiler of kernels");
            return None;
        };
        Some(Compiler::open(&path).expect("the cache's compiler loads"))
    }

    #[test]
    fn source_becomes_machine_code_without_a_toolkit_or_a_gpu() {
        let Some(compiler) = compiler("machine code") else { return };
        let code = compiler.compile(KERNEL, (9, 0)).expect("compiles");
        assert!(code.starts_with(b"\x7fELF"), "{:?}", &code[..4]);
    }

    #[test]
    fn what_the_compiler_refuses_is_said_in_its_words() {
        let Some(compiler) = compiler("refusals") else { return };
        let refused = compiler.compile("__global__ void broken(", (9, 0)).expect_err("does not compile");
        assert!(refused.contains("module.cu(1): error"), "{refused}");
        let refused = compiler.compile("#include <cuda_fp16.h>", (9, 0)).expect_err("is not brought along");
        assert!(refused.contains("cuda_fp16.h"), "{refused}");
    }
}
