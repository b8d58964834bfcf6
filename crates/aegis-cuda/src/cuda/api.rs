//! The driver's functions, found by name when the device is opened.
//!
//! The binding's own wrappers look a symbol up at its first call, panic if it is missing, and give results as a closed
//! enumeration, into which a newer driver's codes do not fit. So the table is ours: everything is found at once, what
//! older drivers lack is an `Option`, and a result is the plain number.

use std::ffi::{c_char, c_int, c_uint, c_ulonglong, c_void};

use cudarc::driver::sys;

use crate::error::DeviceError;

/// What every function returns: zero for success.
pub(super) type Code = u32;

macro_rules! table {
    ($(#[$doc:meta])* $name:ident { $($field:ident = $symbol:literal ($($argument:ty),*);)* }) => {
        $(#[$doc])*
        pub(super) struct $name {
            $(pub(super) $field: unsafe extern "C" fn($($argument),*) -> Code,)*
        }

        impl $name {
            /// Finds every function, or names the first that is missing.
            fn find() -> Result<Self, &'static str> {
                Ok(Self {
                    $(
                        // SAFETY: `symbol` wants the type of the function of that name: the driver API's own.
                        $field: unsafe { symbol(concat!($symbol, "\0")) }.ok_or($symbol)?,
                    )*
                })
            }
        }
    };
}

table! {
    /// Functions that every driver since CUDA 11.7 has.
    Api {
        init = "cuInit"(c_uint);
        driver_version = "cuDriverGetVersion"(*mut c_int);
        device_count = "cuDeviceGetCount"(*mut c_int);
        device_get = "cuDeviceGet"(*mut sys::CUdevice, c_int);
        device_name = "cuDeviceGetName"(*mut c_char, c_int, sys::CUdevice);
        device_attribute = "cuDeviceGetAttribute"(*mut c_int, c_uint, sys::CUdevice);
        error_name = "cuGetErrorName"(Code, *mut *const c_char);
        error_string = "cuGetErrorString"(Code, *mut *const c_char);
        primary_retain = "cuDevicePrimaryCtxRetain"(*mut sys::CUcontext, sys::CUdevice);
        primary_release = "cuDevicePrimaryCtxRelease_v2"(sys::CUdevice);
        context_current = "cuCtxGetCurrent"(*mut sys::CUcontext);
        context_set_current = "cuCtxSetCurrent"(sys::CUcontext);
        memory_info = "cuMemGetInfo_v2"(*mut usize, *mut usize);
        memory_allocate = "cuMemAlloc_v2"(*mut sys::CUdeviceptr, usize);
        memory_free = "cuMemFree_v2"(sys::CUdeviceptr);
        pinned_allocate = "cuMemHostAlloc"(*mut *mut c_void, usize, c_uint);
        pinned_free = "cuMemFreeHost"(*mut c_void);
        pinned_device_address = "cuMemHostGetDevicePointer_v2"(*mut sys::CUdeviceptr, *mut c_void, c_uint);
        fill = "cuMemsetD8Async"(sys::CUdeviceptr, u8, usize, sys::CUstream);
        copy = "cuMemcpyAsync"(sys::CUdeviceptr, sys::CUdeviceptr, usize, sys::CUstream);
        copy_in = "cuMemcpyHtoDAsync_v2"(sys::CUdeviceptr, *const c_void, usize, sys::CUstream);
        copy_out = "cuMemcpyDtoHAsync_v2"(*mut c_void, sys::CUdeviceptr, usize, sys::CUstream);
        stream_create = "cuStreamCreate"(*mut sys::CUstream, c_uint);
        stream_create_at = "cuStreamCreateWithPriority"(*mut sys::CUstream, c_uint, c_int);
        stream_priorities = "cuCtxGetStreamPriorityRange"(*mut c_int, *mut c_int);
        stream_destroy = "cuStreamDestroy_v2"(sys::CUstream);
        stream_synchronize = "cuStreamSynchronize"(sys::CUstream);
        stream_query = "cuStreamQuery"(sys::CUstream);
        stream_write_32 = "cuStreamWriteValue32_v2"(sys::CUstream, sys::CUdeviceptr, u32, c_uint);
        stream_write_64 = "cuStreamWriteValue64_v2"(sys::CUstream, sys::CUdeviceptr, u64, c_uint);
        stream_begin_capture = "cuStreamBeginCapture_v2"(sys::CUstream, c_uint);
        stream_end_capture = "cuStreamEndCapture"(sys::CUstream, *mut sys::CUgraph);
        launch_host = "cuLaunchHostFunc"(sys::CUstream, sys::CUhostFn, *mut c_void);
        launch_kernel = "cuLaunchKernel"(
            sys::CUfunction, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint,
            sys::CUstream, *mut *mut c_void, *mut *mut c_void
        );
        graph_nodes = "cuGraphGetNodes"(sys::CUgraph, *mut sys::CUgraphNode, *mut usize);
        graph_edges = "cuGraphGetEdges"(sys::CUgraph, *mut sys::CUgraphNode, *mut sys::CUgraphNode, *mut usize);
        graph_join = "cuGraphAddDependencies"(
            sys::CUgraph, *const sys::CUgraphNode, *const sys::CUgraphNode, usize
        );
        graph_part = "cuGraphRemoveDependencies"(
            sys::CUgraph, *const sys::CUgraphNode, *const sys::CUgraphNode, usize
        );
        graph_instantiate = "cuGraphInstantiateWithFlags"(*mut sys::CUgraphExec, sys::CUgraph, c_ulonglong);
        graph_upload = "cuGraphUpload"(sys::CUgraphExec, sys::CUstream);
        graph_launch = "cuGraphLaunch"(sys::CUgraphExec, sys::CUstream);
        graph_destroy = "cuGraphDestroy"(sys::CUgraph);
        exec_destroy = "cuGraphExecDestroy"(sys::CUgraphExec);
        event_create = "cuEventCreate"(*mut sys::CUevent, c_uint);
        event_record = "cuEventRecord"(sys::CUevent, sys::CUstream);
        event_query = "cuEventQuery"(sys::CUevent);
        event_elapsed = "cuEventElapsedTime"(*mut f32, sys::CUevent, sys::CUevent);
        event_destroy = "cuEventDestroy_v2"(sys::CUevent);
        module_load = "cuModuleLoadDataEx"(*mut sys::CUmodule, *const c_void, c_uint, *mut c_uint, *mut *mut c_void);
        module_unload = "cuModuleUnload"(sys::CUmodule);
        module_function = "cuModuleGetFunction"(*mut sys::CUfunction, sys::CUmodule, *const c_char);
        function_attribute = "cuFuncGetAttribute"(*mut c_int, c_uint, sys::CUfunction);
        function_set_attribute = "cuFuncSetAttribute"(sys::CUfunction, c_uint, c_int);
    }
}

table! {
    /// Loading a kernel at once instead of at its first launch (CUDA 12.4).
    LoadApi {
        function_load = "cuFuncLoad"(sys::CUfunction);
    }
}

table! {
    /// Edges of graphs whose kernels overlap on purpose, which older queries refuse to name (CUDA 12.3).
    EdgeApi {
        graph_edges = "cuGraphGetEdges_v2"(
            sys::CUgraph, *mut sys::CUgraphNode, *mut sys::CUgraphNode, *mut sys::CUgraphEdgeData, *mut usize
        );
        graph_part = "cuGraphRemoveDependencies_v2"(
            sys::CUgraph, *const sys::CUgraphNode, *const sys::CUgraphNode, *const sys::CUgraphEdgeData, usize
        );
    }
}

table! {
    /// Green contexts (CUDA 12.4).
    GreenApi {
        device_resource = "cuDeviceGetDevResource"(sys::CUdevice, *mut sys::CUdevResource, c_uint);
        resource_split = "cuDevSmResourceSplitByCount"(
            *mut sys::CUdevResource, *mut c_uint, *const sys::CUdevResource, *mut sys::CUdevResource, c_uint, c_uint
        );
        resource_describe = "cuDevResourceGenerateDesc"(
            *mut sys::CUdevResourceDesc, *mut sys::CUdevResource, c_uint
        );
        green_create = "cuGreenCtxCreate"(*mut sys::CUgreenCtx, sys::CUdevResourceDesc, sys::CUdevice, c_uint);
        green_destroy = "cuGreenCtxDestroy"(sys::CUgreenCtx);
        green_context = "cuCtxFromGreenCtx"(*mut sys::CUcontext, sys::CUgreenCtx);
        green_resource = "cuGreenCtxGetDevResource"(sys::CUgreenCtx, *mut sys::CUdevResource, c_uint);
    }
}

table! {
    /// Streams made in a green context directly (CUDA 12.5).
    GreenStreamApi {
        green_stream = "cuGreenCtxStreamCreate"(*mut sys::CUstream, sys::CUgreenCtx, c_uint, c_int);
    }
}

impl LoadApi {
    /// Its functions, if the driver has them.
    pub(super) fn probe() -> Option<Self> {
        Self::find().ok()
    }
}

impl EdgeApi {
    /// Its functions, if the driver has them.
    pub(super) fn probe() -> Option<Self> {
        Self::find().ok()
    }
}

impl GreenApi {
    /// Its functions, if the driver has all of them.
    pub(super) fn probe() -> Option<Self> {
        Self::find().ok()
    }
}

impl GreenStreamApi {
    /// Its functions, if the driver has them.
    pub(super) fn probe() -> Option<Self> {
        Self::find().ok()
    }
}

impl Api {
    /// Loads the driver library and initialises it.
    ///
    /// # Errors
    /// [`DeviceError::Unavailable`] for `device` if there is no driver, it is too old, or it finds no GPU.
    pub(super) fn load(device: &str) -> Result<Self, DeviceError> {
        let unavailable = |reason: String| DeviceError::Unavailable { device: device.into(), reason };
        // SAFETY: `is_culib_present` loads and unloads libraries, whose initialisers run: the vendor's driver, under
        //  the names that the binding knows.
        if !unsafe { sys::is_culib_present() } {
            return Err(unavailable("the CUDA driver library (libcuda.so.1) is not installed".into()));
        }
        let too_old = |symbol| unavailable(format!("the CUDA driver is too old: it has no {symbol}"));
        let api = Self::find().map_err(too_old)?;
        // SAFETY: `cuInit` wants zero for its flags.
        let code = unsafe { (api.init)(0) };
        if code != 0 {
            return Err(unavailable(format!("cuInit: {}", api.describe(code))));
        }
        Ok(api)
    }

    /// The code with its name and text.
    pub(super) fn describe(&self, code: Code) -> String {
        let name = self.text(self.error_name, code).unwrap_or_else(|| "unknown code".into());
        match self.text(self.error_string, code) {
            Some(text) => format!("{name} ({code}): {text}"),
            None => format!("{name} ({code})"),
        }
    }

    fn text(
        &self,
        query: unsafe extern "C" fn(Code, *mut *const c_char) -> Code,
        code: Code,
    ) -> Option<String> {
        let mut text = std::ptr::null();
        // SAFETY: both queries want a place to write a pointer to; they accept any number as a code.
        let found = unsafe { query(code, &raw mut text) };
        if found != 0 || text.is_null() {
            return None;
        }
        // SAFETY: `from_ptr` wants a string that ends and lives: the driver's own constant.
        let text = unsafe { std::ffi::CStr::from_ptr(text) };
        Some(text.to_string_lossy().into_owned())
    }
}

/// A symbol of the driver library.
///
/// # Safety
/// `F` is the function's type, and the library can be loaded.
unsafe fn symbol<F: Copy>(name: &str) -> Option<F> {
    // SAFETY: `culib` wants that the library can be loaded, which `load` has asked.
    let library = unsafe { sys::culib() };
    // SAFETY: `get` wants the symbol's own type, which the caller promises. The library is never unloaded.
    let found = unsafe { library.get::<F>(name.as_bytes()) };
    found.ok().map(|symbol| *symbol)
}
