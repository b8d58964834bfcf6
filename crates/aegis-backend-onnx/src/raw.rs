//! The vendor's handles, owned: each is released exactly once, when it is dropped.
//!
//! The safe wrappers of the `ort` crate cover loading, but not binding memory that the caller owns (its way of
//! binding borrowed tensors deadlocks), and cost a quarter more per run.

use std::ffi::CStr;
use std::ptr::{self, NonNull};

use aegis_cuda::TensorSpec;
use ort::sys;

use crate::elements;
use crate::words;

/// The vendor's reason for refusing.
pub(crate) type Reason = String;

/// Turns a status into a result, releasing it.
pub(crate) fn check(status: sys::OrtStatusPtr) -> Result<(), Reason> {
    // SAFETY: wants a status that a vendor function returned and that is not released elsewhere; callers pass the
    // return value of a call directly.
    unsafe { ort::Error::result_from_status(status) }.map_err(|error| words::plain(error.message()))
}

fn made<T>(handle: *mut T, what: &str) -> Result<NonNull<T>, Reason> {
    NonNull::new(handle).ok_or_else(|| format!("the library made no {what}"))
}

/// Which memory a pointer points into.
pub(crate) struct MemoryInfo(NonNull<sys::OrtMemoryInfo>);

impl MemoryInfo {
    /// Plain host memory.
    pub(crate) fn host() -> Result<Self, Reason> {
        let mut info = ptr::null_mut();
        let (kind, role) = (sys::OrtAllocatorType::OrtDeviceAllocator, sys::OrtMemType::OrtMemTypeDefault);
        // SAFETY: wants a place for the handle, which `info` is.
        check(unsafe { (ort::api().CreateCpuMemoryInfo)(kind, role, &mut info) })?;
        made(info, "memory description").map(Self)
    }

    /// Memory of the GPU with this number.
    pub(crate) fn device(ordinal: i32) -> Result<Self, Reason> {
        Self::named(c"Cuda", ordinal, sys::OrtMemType::OrtMemTypeDefault)
    }

    /// Host memory that this GPU copies from and to.
    pub(crate) fn pinned(ordinal: i32) -> Result<Self, Reason> {
        Self::named(c"CudaPinned", ordinal, sys::OrtMemType::OrtMemTypeCPUOutput)
    }

    /// Memory by the library's name for it.
    fn named(name: &CStr, ordinal: i32, role: sys::OrtMemType) -> Result<Self, Reason> {
        let mut info = ptr::null_mut();
        let kind = sys::OrtAllocatorType::OrtDeviceAllocator;
        // SAFETY: wants a terminated name and a place for the handle.
        check(unsafe { (ort::api().CreateMemoryInfo)(name.as_ptr(), kind, ordinal, role, &raw mut info) })?;
        made(info, "memory description").map(Self)
    }

    /// The vendor's handle, valid while this lives.
    pub(crate) fn as_ptr(&self) -> *const sys::OrtMemoryInfo {
        self.0.as_ptr()
    }
}

impl Drop for MemoryInfo {
    fn drop(&mut self) {
        // SAFETY: wants a live handle that nothing uses afterwards; it is owned and dropped here.
        unsafe { (ort::api().ReleaseMemoryInfo)(self.0.as_ptr()) }
    }
}

/// A tensor over memory that somebody else owns, or one that the library made.
pub(crate) struct Value(NonNull<sys::OrtValue>);

impl Value {
    /// Describes `spec.bytes` at `start` as a tensor.
    ///
    /// # Safety
    /// `start` is valid for reads and writes of `spec.bytes`, aligned to the element, for as long as the value or a
    /// binding that knows it is used in a run; nothing else uses the bytes during a run.
    pub(crate) unsafe fn over(info: &MemoryInfo, start: *mut u8, spec: &TensorSpec) -> Result<Self, Reason> {
        let shape = signed_shape(spec)?;
        let bytes =
            usize::try_from(spec.bytes.get()).map_err(|_| format!("{} cannot be addressed", spec.bytes))?;
        let mut value = ptr::null_mut();
        // SAFETY: wants live handles, `shape.len()` axes, and `bytes` of memory at `start`.
        //  handles and axes: borrowed for the call; memory: the caller's promise.
        let status = unsafe {
            (ort::api().CreateTensorWithDataAsOrtValue)(
                info.as_ptr(),
                start.cast(),
                bytes,
                shape.as_ptr(),
                shape.len(),
                elements::vendor(spec.element),
                &mut value,
            )
        };
        check(status)?;
        made(value, "tensor").map(Self)
    }

    /// Takes over a value that a run made; `None` if it made none.
    ///
    /// # Safety
    /// `value` is null or a live value that nobody else releases.
    pub(crate) unsafe fn from_run(value: *mut sys::OrtValue) -> Option<Self> {
        NonNull::new(value).map(Self)
    }

    /// The vendor's handle, valid while this lives.
    pub(crate) fn as_ptr(&self) -> *const sys::OrtValue {
        self.0.as_ptr()
    }

    /// Length of each axis.
    pub(crate) fn shape(&self) -> Result<Vec<u64>, Reason> {
        let mut handle = ptr::null_mut();
        // SAFETY: wants a live tensor and a place for the handle.
        check(unsafe { (ort::api().GetTensorTypeAndShape)(self.as_ptr(), &mut handle) })?;
        let info = TypeAndShape(made(handle, "tensor description")?);
        let mut axes = 0;
        // SAFETY: wants a live description, which `info` owns.
        check(unsafe { (ort::api().GetDimensionsCount)(info.0.as_ptr(), &mut axes) })?;
        let mut shape = vec![0i64; axes];
        // SAFETY: wants a live description and room for as many axes as it just reported.
        check(unsafe { (ort::api().GetDimensions)(info.0.as_ptr(), shape.as_mut_ptr(), axes) })?;
        shape
            .into_iter()
            .map(|axis| u64::try_from(axis).map_err(|_| format!("an axis of length {axis}")))
            .collect()
    }

    /// A copy of the first `bytes` of its data.
    ///
    /// # Safety
    /// It is a tensor with at least `bytes` of data.
    pub(crate) unsafe fn copy_out(&mut self, bytes: usize) -> Result<Vec<u8>, Reason> {
        let mut data = ptr::null_mut();
        // SAFETY: wants a live tensor, which `self` owns.
        check(unsafe { (ort::api().GetTensorMutableData)(self.0.as_ptr(), &mut data) })?;
        let mut copy = vec![0u8; bytes];
        if bytes > 0 {
            // SAFETY: wants `bytes` readable at `data` (the caller's promise) and writable in `copy` (just made).
            unsafe { ptr::copy_nonoverlapping(data.cast::<u8>(), copy.as_mut_ptr(), bytes) };
        }
        Ok(copy)
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        // SAFETY: wants a live handle that nothing uses afterwards; bindings count their own references.
        unsafe { (ort::api().ReleaseValue)(self.0.as_ptr()) }
    }
}

/// The library's description of a tensor.
struct TypeAndShape(NonNull<sys::OrtTensorTypeAndShapeInfo>);

impl Drop for TypeAndShape {
    fn drop(&mut self) {
        // SAFETY: wants a live handle that nothing uses afterwards; it is owned and dropped here.
        unsafe { (ort::api().ReleaseTensorTypeAndShapeInfo)(self.0.as_ptr()) }
    }
}

/// Inputs and outputs of one session, prepared once and run many times.
pub(crate) struct IoBinding(NonNull<sys::OrtIoBinding>);

impl IoBinding {
    /// An empty binding.
    ///
    /// # Safety
    /// `session` is live and outlives the binding.
    pub(crate) unsafe fn new(session: *mut sys::OrtSession) -> Result<Self, Reason> {
        let mut binding = ptr::null_mut();
        // SAFETY: wants a live session (the caller's promise) and a place for the handle.
        check(unsafe { (ort::api().CreateIoBinding)(session, &mut binding) })?;
        made(binding, "binding").map(Self)
    }

    /// Prepares `value` as the input `name`. The binding shares the value's memory, not the value.
    pub(crate) fn input(&mut self, name: &CStr, value: &Value) -> Result<(), Reason> {
        // SAFETY: wants live handles and a terminated name.
        check(unsafe { (ort::api().BindInput)(self.0.as_ptr(), name.as_ptr(), value.as_ptr()) })
    }

    /// Prepares `value` as the output `name`.
    pub(crate) fn output(&mut self, name: &CStr, value: &Value) -> Result<(), Reason> {
        // SAFETY: wants live handles and a terminated name.
        check(unsafe { (ort::api().BindOutput)(self.0.as_ptr(), name.as_ptr(), value.as_ptr()) })
    }

    /// The vendor's handle, valid while this lives.
    pub(crate) fn as_ptr(&self) -> *const sys::OrtIoBinding {
        self.0.as_ptr()
    }
}

impl Drop for IoBinding {
    fn drop(&mut self) {
        // SAFETY: wants a live handle that nothing uses afterwards; it is owned and dropped here.
        unsafe { (ort::api().ReleaseIoBinding)(self.0.as_ptr()) }
    }
}

/// How a run behaves.
pub(crate) struct RunOptions(NonNull<sys::OrtRunOptions>);

impl RunOptions {
    /// A run that returns when everything is enqueued, instead of waiting for the device.
    pub(crate) fn without_waiting() -> Result<Self, Reason> {
        let mut options = ptr::null_mut();
        // SAFETY: wants a place for the handle.
        check(unsafe { (ort::api().CreateRunOptions)(&raw mut options) })?;
        let options = made(options, "options of a run").map(Self)?;
        let (key, value) = (c"disable_synchronize_execution_providers", c"1");
        // SAFETY: wants a live handle and two terminated strings.
        check(unsafe { (ort::api().AddRunConfigEntry)(options.0.as_ptr(), key.as_ptr(), value.as_ptr()) })?;
        Ok(options)
    }

    /// The vendor's handle, valid while this lives.
    pub(crate) fn as_ptr(&self) -> *const sys::OrtRunOptions {
        self.0.as_ptr()
    }
}

impl Drop for RunOptions {
    fn drop(&mut self) {
        // SAFETY: wants a live handle that nothing uses afterwards; it is owned and dropped here.
        unsafe { (ort::api().ReleaseRunOptions)(self.0.as_ptr()) }
    }
}

fn signed_shape(spec: &TensorSpec) -> Result<Vec<i64>, Reason> {
    let signed = |&axis: &u64| i64::try_from(axis).map_err(|_| format!("an axis of length {axis}"));
    spec.shape.iter().map(signed).collect()
}
