//! The few functions of the CUDA driver that are needed beside the provider.
//!
//! They are found by name, because a machine without a GPU has no driver library, and an older driver lacks symbols.

use std::ffi::{c_int, c_uint, c_void};
use std::ptr;

use aegis_types::Bytes;
use cudarc::driver::sys;

use crate::raw::Reason;

/// What every function returns: zero for success.
type Code = u32;

/// The state of a stream that records: `CU_STREAM_CAPTURE_STATUS_ACTIVE`.
const RECORDING: c_uint = 1;
/// The kind of memory that a pointer points into: `CU_POINTER_ATTRIBUTE_MEMORY_TYPE`.
const MEMORY_TYPE: c_uint = 2;
/// Pinned for every context: `CU_MEMHOSTALLOC_PORTABLE`.
const PORTABLE: c_uint = 1;
/// `CU_MEMORYTYPE_DEVICE`.
const ON_DEVICE: c_uint = 2;
/// `CU_MEMORYTYPE_UNIFIED`: the address says which.
const UNIFIED: c_uint = 4;

type CaptureInfo = unsafe extern "C" fn(
    *mut c_void,
    *mut c_uint,
    *mut u64,
    *mut *mut c_void,
    *mut *const *mut c_void,
    *mut usize,
) -> Code;

macro_rules! functions {
    ($($field:ident = $symbol:literal: $type:ty;)*) => {
        /// Functions of the driver library, which is loaded for ever once it is.
        #[derive(Clone, Copy)]
        pub(crate) struct Driver {
            $($field: $type,)*
        }

        impl Driver {
            /// Finds the functions.
            ///
            /// # Errors
            /// Names the library or the first function that is missing.
            pub(crate) fn find() -> Result<Self, Reason> {
                // SAFETY: `is_culib_present` loads and unloads the vendor's driver library, whose initialisers run.
                if !unsafe { sys::is_culib_present() } {
                    return Err("the CUDA driver library (libcuda.so.1) is not installed".to_owned());
                }
                Ok(Self {
                    $(
                        // SAFETY: `symbol` wants the type of the function of that name: the driver API's own.
                        $field: unsafe { symbol(concat!($symbol, "\0")) }?,
                    )*
                })
            }
        }
    };
}

functions! {
    context_current = "cuCtxGetCurrent": unsafe extern "C" fn(*mut *mut c_void) -> Code;
    context_set_current = "cuCtxSetCurrent": unsafe extern "C" fn(*mut c_void) -> Code;
    primary_retain = "cuDevicePrimaryCtxRetain": unsafe extern "C" fn(*mut *mut c_void, c_int) -> Code;
    primary_release = "cuDevicePrimaryCtxRelease_v2": unsafe extern "C" fn(c_int) -> Code;
    context_device = "cuCtxGetDevice": unsafe extern "C" fn(*mut c_int) -> Code;
    memory_info = "cuMemGetInfo_v2": unsafe extern "C" fn(*mut usize, *mut usize) -> Code;
    memory_allocate = "cuMemAlloc_v2": unsafe extern "C" fn(*mut u64, usize) -> Code;
    memory_free = "cuMemFree_v2": unsafe extern "C" fn(u64) -> Code;
    pinned_allocate = "cuMemHostAlloc": unsafe extern "C" fn(*mut *mut c_void, usize, c_uint) -> Code;
    pointer_attribute = "cuPointerGetAttribute": unsafe extern "C" fn(*mut c_void, c_uint, u64) -> Code;
    capture_info = "cuStreamGetCaptureInfo_v2": CaptureInfo;
    graph_nodes = "cuGraphGetNodes": unsafe extern "C" fn(*mut c_void, *mut *mut c_void, *mut usize) -> Code;
    node_type = "cuGraphNodeGetType": unsafe extern "C" fn(*mut c_void, *mut c_uint) -> Code;
    copy_parameters = "cuGraphMemcpyNodeGetParams": unsafe extern "C" fn(*mut c_void, *mut CopyParameters) -> Code;
}

/// One side of a copy, as the driver lays it out (`CUDA_MEMCPY3D`). The binding's type has an enumeration inside, into
/// which a newer driver's numbers would not fit.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CopySide {
    x: usize,
    y: usize,
    z: usize,
    lod: usize,
    memory_type: c_uint,
    host: usize,
    device: u64,
    array: usize,
    reserved: usize,
    pitch: usize,
    height: usize,
}

/// Parameters of a copy (`CUDA_MEMCPY3D`).
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CopyParameters {
    from: CopySide,
    to: CopySide,
    width: usize,
    height: usize,
    depth: usize,
}

const _: () =
    assert!(size_of::<CopyParameters>() == size_of::<sys::CUDA_MEMCPY3D>(), "the driver writes all of it");

/// What a stream recorded so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recorded {
    /// All operations.
    pub operations: usize,
    /// Allocations of memory that belongs to the graph, outside of every grant.
    pub allocations: usize,
    /// Copies from host memory.
    pub copies: usize,
}

impl Driver {
    /// The number of the device whose context is current on this thread.
    pub(crate) fn ordinal(&self) -> Result<i32, Reason> {
        let mut ordinal = 0;
        // SAFETY: `cuCtxGetDevice` wants a place for the device, and refuses where no context is current.
        check(unsafe { (self.context_device)(&raw mut ordinal) }, "cuCtxGetDevice")?;
        Ok(ordinal)
    }

    /// Does `work` with the device's primary context current on this thread, and makes the one before it current again.
    ///
    /// The provider makes its objects there, also those whose work runs in a partition, and expects to find itself there
    /// when it gives them back; it sets the context at each run, but not at the end.
    pub(crate) fn on_primary<R>(&self, ordinal: i32, work: impl FnOnce() -> R) -> R {
        let (mut before, mut primary) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: `cuCtxGetCurrent` wants a place for the context.
        let known = unsafe { (self.context_current)(&raw mut before) } == 0;
        // SAFETY: `cuDevicePrimaryCtxRetain` wants a place for the context, and refuses a device that is not there.
        let retained = unsafe { (self.primary_retain)(&raw mut primary, ordinal) } == 0;
        if retained {
            // SAFETY: `cuCtxSetCurrent` wants a live context: retained above. A refusal leaves the one before.
            let _code = unsafe { (self.context_set_current)(primary) };
        }
        let done = work();
        if known {
            // SAFETY: `cuCtxSetCurrent` wants null or a live context: it was current on this thread, whose lane lives.
            let _code = unsafe { (self.context_set_current)(before) };
        }
        if retained {
            // SAFETY: `cuDevicePrimaryCtxRelease` wants one retaining by this caller: the one above.
            let _code = unsafe { (self.primary_release)(ordinal) };
        }
        done
    }

    /// Memory of the device of the current context that nobody has.
    pub(crate) fn free_memory(&self) -> Result<Bytes, Reason> {
        let (mut free, mut total) = (0, 0);
        // SAFETY: `cuMemGetInfo` wants two places, and refuses where no context is current.
        check(unsafe { (self.memory_info)(&raw mut free, &raw mut total) }, "cuMemGetInfo")?;
        Ok(Bytes::new(free as u64))
    }

    /// Memory of the driver's own; `None` if it has none or the stream records.
    pub(crate) fn allocate(&self, bytes: usize) -> Option<u64> {
        let mut address = 0;
        // SAFETY: `cuMemAlloc` wants a place for the address, and refuses where no context is current.
        let code = unsafe { (self.memory_allocate)(&raw mut address, bytes) };
        (code == 0 && address != 0).then_some(address)
    }

    /// Host memory that every context's copies reach, for ever; `None` if there is none or the stream records.
    pub(crate) fn allocate_pinned(&self, bytes: usize) -> Option<usize> {
        let mut start = ptr::null_mut::<c_void>();
        // SAFETY: `cuMemHostAlloc` wants a place for the address, and refuses where no context is current.
        let code = unsafe { (self.pinned_allocate)(&raw mut start, bytes, PORTABLE) };
        (code == 0 && !start.is_null()).then(|| start.expose_provenance())
    }

    /// Gives back what [`Driver::allocate`] gave.
    ///
    /// # Safety
    /// `address` came from there, and nothing uses it any more.
    pub(crate) unsafe fn release(&self, address: u64) {
        // SAFETY: `cuMemFree` wants an address that `cuMemAlloc` gave: the caller's promise. A refusal leaks it.
        let _leaked = unsafe { (self.memory_free)(address) };
    }

    /// Whether `stream` records.
    ///
    /// # Safety
    /// `stream` is live.
    pub(crate) unsafe fn is_recording(&self, stream: *mut c_void) -> bool {
        // SAFETY: `recording` wants a live stream: the caller's promise.
        unsafe { self.recording(stream) }.is_ok_and(|graph| graph.is_some())
    }

    /// What `stream` recorded so far, if it may be replayed: kernels, fills, copies inside the device's memory, and
    /// copies from host memory for which `keep` has answered that it stays as it is; it is asked with address and length.
    ///
    /// Anything else would act on replay as it did when it was recorded, on host memory that is somebody else's by then:
    /// a copy reads or writes whatever lies there, and a host function gives back memory twice.
    ///
    /// # Errors
    /// Says which operation cannot be replayed, or that nothing is recorded.
    ///
    /// # Safety
    /// `stream` is live.
    pub(crate) unsafe fn recorded(
        &self,
        stream: *mut c_void,
        keep: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<Recorded, Reason> {
        // SAFETY: `recording` wants a live stream: the caller's promise.
        let Some(graph) = unsafe { self.recording(stream) }? else {
            return Err("the recording was broken by an operation that cannot be recorded".to_owned());
        };
        let nodes = self.nodes(graph)?;
        let mut recorded = Recorded { operations: nodes.len(), ..Recorded::default() };
        for (position, &node) in nodes.iter().enumerate() {
            let mut kind = c_uint::MAX;
            // SAFETY: `cuGraphNodeGetType` wants a live node, which the graph has just named, and a place for the type.
            check(unsafe { (self.node_type)(node, &raw mut kind) }, "cuGraphNodeGetType")?;
            match kind {
                KERNEL | FILL | EMPTY | FREE => {}
                ALLOCATION => recorded.allocations += 1,
                COPY => recorded.copies += usize::from(self.copy_from_host(node, position, keep)?),
                HOST => return Err(format!("operation {position} calls a function on the host")),
                other => {
                    return Err(format!("operation {position} is of kind {other}, which is not replayed"));
                }
            }
        }
        Ok(recorded)
    }

    /// The graph that `stream` records; `None` if it records none, or was broken.
    ///
    /// # Safety
    /// `stream` is live.
    unsafe fn recording(&self, stream: *mut c_void) -> Result<Option<*mut c_void>, Reason> {
        let (mut status, mut graph) = (0, ptr::null_mut());
        let none = ptr::null_mut();
        // SAFETY: `cuStreamGetCaptureInfo` wants a live stream (the caller's promise), a place for the status, and
        //  places or null for the rest.
        let code = unsafe {
            (self.capture_info)(
                stream,
                &raw mut status,
                ptr::null_mut(),
                &raw mut graph,
                ptr::null_mut(),
                none,
            )
        };
        check(code, "cuStreamGetCaptureInfo")?;
        Ok((status == RECORDING).then_some(graph))
    }

    fn nodes(&self, graph: *mut c_void) -> Result<Vec<*mut c_void>, Reason> {
        let mut count = 0;
        // SAFETY: `cuGraphGetNodes` wants a live graph, which the stream is recording, and a place for the number.
        check(unsafe { (self.graph_nodes)(graph, ptr::null_mut(), &raw mut count) }, "cuGraphGetNodes")?;
        let mut nodes = vec![ptr::null_mut(); count];
        if count > 0 {
            // SAFETY: as above, with room for as many nodes as there are.
            let code = unsafe { (self.graph_nodes)(graph, nodes.as_mut_ptr(), &raw mut count) };
            check(code, "cuGraphGetNodes")?;
        }
        Ok(nodes)
    }

    /// Whether a copy reads host memory, which `keep` has to answer for. What writes there is refused.
    fn copy_from_host(
        &self,
        node: *mut c_void,
        position: usize,
        keep: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<bool, Reason> {
        let mut copy = CopyParameters::default();
        // SAFETY: `cuGraphMemcpyNodeGetParams` wants a live node that is a copy, and a place for its parameters.
        check(unsafe { (self.copy_parameters)(node, &raw mut copy) }, "cuGraphMemcpyNodeGetParams")?;
        let bytes = copy.width;
        if self.host_side(&copy.to).is_some() {
            return Err(format!("operation {position} copies {bytes} B to host memory"));
        }
        let Some(address) = self.host_side(&copy.from) else { return Ok(false) };
        let is_line = copy.height <= 1 && copy.depth <= 1;
        if is_line && keep(address.saturating_add(copy.from.x), bytes) {
            return Ok(true);
        }
        Err(format!(
            "operation {position} copies {bytes} B from host memory, which a replay would find changed"
        ))
    }

    /// The address of a side of a copy that is not the device's memory.
    fn host_side(&self, side: &CopySide) -> Option<usize> {
        match side.memory_type {
            ON_DEVICE => None,
            UNIFIED if self.is_device_memory(side.device) => None,
            UNIFIED => usize::try_from(side.device).ok(),
            _ => Some(side.host),
        }
    }

    fn is_device_memory(&self, address: u64) -> bool {
        let mut kind: c_uint = 0;
        // SAFETY: `cuPointerGetAttribute` wants a place of the attribute's size, four bytes, and refuses an address
        //  that it does not know.
        let code = unsafe { (self.pointer_attribute)((&raw mut kind).cast(), MEMORY_TYPE, address) };
        code == 0 && kind == ON_DEVICE
    }
}

/// Kinds of operations, as the driver numbers them (`CUgraphNodeType`).
const KERNEL: c_uint = 0;
const COPY: c_uint = 1;
const FILL: c_uint = 2;
const HOST: c_uint = 3;
const EMPTY: c_uint = 5;
const ALLOCATION: c_uint = 10;
const FREE: c_uint = 11;

fn check(code: Code, call: &str) -> Result<(), Reason> {
    if code == 0 { Ok(()) } else { Err(format!("{call} refuses with code {code}")) }
}

/// A symbol of the driver library.
///
/// # Safety
/// `F` is the type of the function of that name, which ends with a zero byte, and the library can be loaded.
unsafe fn symbol<F: Copy>(name: &str) -> Result<F, Reason> {
    // SAFETY: `culib` wants that the library can be loaded: the caller's promise.
    let library = unsafe { sys::culib() };
    // SAFETY: `get` wants the symbol's own type: the caller's promise. The library is never unloaded.
    let found = unsafe { library.get::<F>(name.as_bytes()) };
    let missing = |_| format!("the CUDA driver is too old: it has no {}", name.trim_end_matches('\0'));
    found.map(|symbol| *symbol).map_err(missing)
}
