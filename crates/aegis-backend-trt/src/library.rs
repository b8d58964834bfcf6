//! The vendor library: opened at run time, and let near only after its version was looked at.

use std::ffi::c_void;
use std::fmt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;

use aegis_cuda::BackendError;
use libloading::Library;

use crate::bindings::{ShimLogger, ShimTable};
use crate::journal::{self, Journal};
use crate::version::{Fit, Version};

/// Said in refusals where the table of the shim is asked for a function: `shim.cpp` has no table with a hole.
pub(crate) const FILLED: &str = "the shim fills every field of its table";

/// The vendor's `createInferRuntime_INTERNAL`.
type Create = unsafe extern "C" fn(*mut c_void, i32) -> *mut c_void;

/// The vendor's `getInferLibVersion`.
type LibraryVersion = unsafe extern "C" fn() -> i32;

/// TensorRT, loaded. Clones share it; it is used from any thread.
#[derive(Clone)]
pub struct TensorRt {
    shared: Arc<Shared>,
}

struct Shared {
    table: &'static ShimTable,
    create: Create,
    /// What the library says of itself.
    version: Version,
    /// What the library is told of the headers.
    told: i32,
    logger: Logger,
    journal: &'static Journal,
}

/// The vendor's sink of messages.
struct Logger(NonNull<ShimLogger>);

// SAFETY: the logger is used by the library from any thread, as the vendor asks of every logger: it only calls
// `journal::log`, which locks. Rust never reads what the pointer leads to.
unsafe impl Send for Logger {}
// SAFETY: as above.
unsafe impl Sync for Logger {}

impl TensorRt {
    /// Files that the vendor installs the library under, which the system's search finds; the newest first.
    pub const FILES: [&str; 6] = [
        "libnvinfer.so.11",
        "libnvinfer_lean.so.11",
        "libnvinfer.so.10",
        "libnvinfer_lean.so.10",
        "libnvinfer.so.8",
        "libnvinfer_lean.so.8",
    ];

    /// Loads the library from a file, or from a bare name of [`FILES`](Self::FILES) by the system's search.
    ///
    /// The first function that is called is the one that tells the version; if that does not fit the headers that this
    /// crate was built with, no other is. Loading needs no GPU and no driver: those are looked for when a model is.
    /// The library is never unloaded, because it keeps the logger that it was given.
    ///
    /// # Errors
    /// [`BackendError::Library`] if this crate was built without headers, the file cannot be loaded or is no TensorRT,
    /// or its version is another one; legal versions are named.
    pub fn load(path: &Path) -> Result<Self, BackendError> {
        let refuse = |reason: String| library_error(format!("`{}`: {reason}", path.display()));
        let tables = tables();
        if tables.is_empty() {
            return Err(library_error(
                "this program was built without TensorRT's headers: build it with TENSORRT_INCLUDE_DIR set to the \
                 folder of NvInferRuntime.h, or after `cargo xtask fetch`"
                    .to_owned(),
            ));
        }
        let (create, number) = open(path).map_err(&refuse)?;
        let version = Version::decode(number).map_err(&refuse)?;
        let Some(table) = tables.iter().copied().find(|table| fit(table).takes(version)) else {
            let legal: Vec<String> = tables.iter().map(|table| fit(table).range()).collect();
            let legal = legal.join(", ");
            return Err(refuse(format!("it is TensorRT {version}; this program was built for {legal}")));
        };
        // Leaked on purpose, once for each load: the library keeps the logger until the process ends.
        let journal: &'static Journal = Box::leak(Box::default());
        let owner = std::ptr::from_ref(journal).cast_mut().cast();
        let new = table.logger_new.expect(FILLED);
        // SAFETY: `logger_new` wants a function that takes `owner`, and an owner that lives as long as the logger: both
        //  live until the process ends.
        let logger = NonNull::new(unsafe { new(Some(journal::log), owner) }).map(Logger);
        let logger = logger.ok_or_else(|| refuse("there is no memory for its logger".to_owned()))?;
        // A library that is older than the headers is told its own version: no newer function of it is used.
        let told = table.headers.min(number);
        Ok(Self { shared: Arc::new(Shared { table, create, version, told, logger, journal }) })
    }

    /// Loads the first of [`FILES`](Self::FILES) that is there and fits.
    ///
    /// # Errors
    /// [`BackendError::Library`] with the reason of each.
    pub fn find() -> Result<Self, BackendError> {
        let mut reasons = Vec::new();
        for name in Self::FILES {
            match Self::load(Path::new(name)) {
                Ok(found) => return Ok(found),
                Err(BackendError::Library { reason, .. }) => reasons.push(reason),
                Err(other) => return Err(other),
            }
            if tables().is_empty() {
                break;
            }
        }
        Err(library_error(reasons.join("; ")))
    }

    /// The library's version, for reports.
    pub fn version(&self) -> Version {
        self.shared.version
    }

    /// The versions that this program was built for, in words; none where it was built without headers.
    pub fn built_for() -> Vec<String> {
        tables().into_iter().map(|table| fit(table).range()).collect()
    }

    pub(crate) fn table(&self) -> &'static ShimTable {
        self.shared.table
    }

    pub(crate) fn create(&self) -> Create {
        self.shared.create
    }

    pub(crate) fn told(&self) -> i32 {
        self.shared.told
    }

    pub(crate) fn logger(&self) -> *mut ShimLogger {
        self.shared.logger.0.as_ptr()
    }

    pub(crate) fn journal(&self) -> &'static Journal {
        self.shared.journal
    }
}

impl fmt::Debug for TensorRt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TensorRt").field("version", &self.shared.version).finish_non_exhaustive()
    }
}

/// Opens the library and asks for its version.
fn open(path: &Path) -> Result<(Create, i32), String> {
    // SAFETY: `new` runs the initialisers of the library, which is the caller's choice: the vendor's.
    let opened = unsafe { Library::new(path) };
    let library = opened.map_err(|error| format!("cannot be loaded: {error}"))?;
    let missing = |error: libloading::Error| format!("is no TensorRT: {error}");
    // SAFETY: `get` wants the symbol's own type: the vendor's header declares this one.
    let version = unsafe { library.get::<LibraryVersion>(b"getInferLibVersion\0") };
    let version = *version.map_err(missing)?;
    // SAFETY: as above.
    let create = unsafe { library.get::<Create>(b"createInferRuntime_INTERNAL\0") };
    let create = *create.map_err(missing)?;
    // SAFETY: the function takes nothing and has been the same in every version.
    let number = unsafe { version() };
    // The functions stay callable: the library is never closed.
    std::mem::forget(library);
    Ok((create, number))
}

fn fit(table: &ShimTable) -> Fit {
    Fit { headers: table.headers, oldest: table.oldest }
}

/// The tables of the generations that the build script compiled.
fn tables() -> Vec<&'static ShimTable> {
    let found: Vec<*const ShimTable> = vec![
        #[cfg(tensorrt_11)]
        // SAFETY: the function takes nothing and returns the address of a constant.
        unsafe {
            crate::bindings::aegis_trt_table_11()
        },
        #[cfg(tensorrt_10)]
        // SAFETY: as above.
        unsafe {
            crate::bindings::aegis_trt_table_10()
        },
        #[cfg(tensorrt_8)]
        // SAFETY: as above.
        unsafe {
            crate::bindings::aegis_trt_table_8()
        },
    ];
    // SAFETY: `as_ref` wants null or a live table that nobody writes to: a constant of the program.
    found.into_iter().filter_map(|table| unsafe { table.as_ref() }).collect()
}

pub(crate) fn library_error(reason: String) -> BackendError {
    BackendError::Library { backend: crate::NAME, reason }
}
