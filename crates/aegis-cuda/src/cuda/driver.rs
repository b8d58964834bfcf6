//! The driver of one GPU: its functions, its primary context, and whether the context still stands.

use std::ffi::c_int;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use cudarc::driver::sys;

use super::api::{Api, Code, EdgeApi, GreenApi, GreenStreamApi, LoadApi};
use super::code::{Class, SUCCESS, class};
use super::context::PartitionContext;
use super::retire::Retired;
use super::waker::Waker;
use crate::error::DeviceError;

/// Streams of this flag never wait for the legacy default stream.
pub(super) const NON_BLOCKING: u32 = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;

/// A handle of the driver's, which only the driver looks into.
#[derive(Debug)]
pub(super) struct Token<T>(pub(super) *mut T);

impl<T> Clone for Token<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Token<T> {}

// SAFETY: `Send` wants that the handle may be used on another thread: the driver API is free-threaded, and the pointer
//  is never dereferenced here. The one restriction, that a green context is current to one thread at a time, is kept
//  where contexts are entered (`CudaDevice::bind_lane`).
unsafe impl<T> Send for Token<T> {}

// SAFETY: `Sync` wants that shared references cannot race: they give out a number.
unsafe impl<T> Sync for Token<T> {}

/// What every handle of a device keeps alive. Its handles are given back by [`Driver::close`] only, because giving
/// them back may block.
pub(super) struct Driver {
    pub(super) api: Api,
    pub(super) green: Option<GreenApi>,
    pub(super) green_stream: Option<GreenStreamApi>,
    pub(super) load: Option<LoadApi>,
    pub(super) edges: Option<EdgeApi>,
    pub(super) device: sys::CUdevice,
    pub(super) waker: Waker,
    name: String,
    primary: Token<sys::CUctx_st>,
    /// Serves load-time work outside partitions, one piece at a time.
    load_stream: Mutex<Token<sys::CUstream_st>>,
    contexts: Mutex<Vec<PartitionContext>>,
    pub(super) retired: Mutex<Vec<Retired>>,
    streams: AtomicU64,
    lost: OnceLock<String>,
}

impl Driver {
    /// Loads the driver and makes the primary context of GPU `ordinal`.
    pub(super) fn open(ordinal: u32) -> Result<Self, DeviceError> {
        let name = format!("cuda:{ordinal}");
        let api = Api::load(&name)?;
        let device = find(&api, &name, ordinal)?;
        let mut primary = std::ptr::null_mut();
        // SAFETY: `cuDevicePrimaryCtxRetain` wants a place for the context and a device: `find` has just found it.
        let code = unsafe { (api.primary_retain)(&raw mut primary, device) };
        refuse(&api, &name, code, "cuDevicePrimaryCtxRetain")?;
        let driver = Self {
            api,
            green: GreenApi::probe(),
            green_stream: GreenStreamApi::probe(),
            load: LoadApi::probe(),
            edges: EdgeApi::probe(),
            device,
            waker: Waker::default(),
            name,
            primary: Token(primary),
            load_stream: Mutex::new(Token(std::ptr::null_mut())),
            contexts: Mutex::new(Vec::new()),
            retired: Mutex::new(Vec::with_capacity(256)),
            streams: AtomicU64::new(0),
            lost: OnceLock::new(),
        };
        match driver.make_load_stream() {
            Ok(()) => Ok(driver),
            Err(error) => {
                driver.release_primary()?;
                Err(error)
            }
        }
    }

    /// The device's name in a fleet.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A number that no other stream of this device has.
    pub(super) fn number_stream(&self) -> u64 {
        self.streams.fetch_add(1, Ordering::Relaxed)
    }

    /// The primary context, which green contexts share memory with.
    pub(super) const fn primary(&self) -> Token<sys::CUctx_st> {
        self.primary
    }

    /// Contexts of the partitions, by partition; empty until they are made.
    pub(super) fn contexts(&self) -> MutexGuard<'_, Vec<PartitionContext>> {
        self.contexts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails if the context was lost.
    #[inline]
    pub(super) fn alive(&self) -> Result<(), DeviceError> {
        match self.lost.get() {
            None => Ok(()),
            Some(reason) => Err(DeviceError::Lost { reason: reason.clone() }),
        }
    }

    /// Turns the result of `call` into an error; a sticky one loses the context.
    #[inline]
    pub(super) fn check(&self, code: Code, call: &'static str) -> Result<(), DeviceError> {
        if code == SUCCESS { Ok(()) } else { Err(self.error(code, call)) }
    }

    #[cold]
    fn error(&self, code: Code, call: &'static str) -> DeviceError {
        let reason = self.api.describe(code);
        match class(code) {
            Class::Later => DeviceError::System { what: call, reason },
            Class::Absent => DeviceError::Unavailable { device: self.name.clone(), reason },
            Class::Refused => DeviceError::Refused { call, reason },
            Class::Sticky => {
                let first = self.lost.get_or_init(|| format!("{call}: {reason}"));
                DeviceError::Lost { reason: first.clone() }
            }
        }
    }

    /// Makes `context` current on the calling thread.
    #[inline]
    pub(super) fn enter(&self, context: Token<sys::CUctx_st>) -> Result<(), DeviceError> {
        self.alive()?;
        if self.current()? == context.0 { Ok(()) } else { self.set_current(context.0) }
    }

    /// Makes the primary context current until the answer is dropped, and then the one before it.
    pub(super) fn on_primary(&self) -> Result<OnPrimary<'_>, DeviceError> {
        self.alive()?;
        let before = self.current()?;
        self.set_current(self.primary.0)?;
        Ok(OnPrimary { driver: self, before })
    }

    /// Leaves `context` if it is current on the calling thread, so that another thread may enter it.
    pub(super) fn leave(&self, context: Token<sys::CUctx_st>) {
        if self.current().is_ok_and(|current| current == context.0) {
            // A refusal leaves the context current, which the next `enter` on this thread corrects.
            let _left = self.set_current(std::ptr::null_mut());
        }
    }

    /// Runs `work` on the stream that serves load time, and waits for it.
    pub(super) fn on_load_stream(
        &self,
        work: impl FnOnce(sys::CUstream) -> Result<(), DeviceError>,
    ) -> Result<(), DeviceError> {
        let _primary = self.on_primary()?;
        let stream = self.load_stream.lock().unwrap_or_else(PoisonError::into_inner);
        work(stream.0)?;
        // SAFETY: `cuStreamSynchronize` wants a live stream: it is destroyed by `close` only, which owns `self`.
        let code = unsafe { (self.api.stream_synchronize)(stream.0) };
        self.check(code, "cuStreamSynchronize")
    }

    /// An attribute of the device.
    pub(super) fn attribute(&self, attribute: sys::CUdevice_attribute) -> Result<u32, DeviceError> {
        let mut value: c_int = 0;
        // SAFETY: `cuDeviceGetAttribute` wants a place for the value, an attribute's number (an unknown one is refused)
        //  and a device, which `open` has found.
        let code = unsafe { (self.api.device_attribute)(&raw mut value, attribute as u32, self.device) };
        self.check(code, "cuDeviceGetAttribute")?;
        Ok(u32::try_from(value).unwrap_or(0))
    }

    /// The vendor's name of the device.
    pub(super) fn device_name(&self) -> Result<String, DeviceError> {
        let mut text = [0_u8; 128];
        // SAFETY: `cuDeviceGetName` wants a buffer of the length told: 128 bytes, of which it fills 127 at most and
        //  ends them with zero.
        let code = unsafe { (self.api.device_name)(text.as_mut_ptr().cast(), 127, self.device) };
        self.check(code, "cuDeviceGetName")?;
        let end = text.iter().position(|&byte| byte == 0).unwrap_or(0);
        Ok(String::from_utf8_lossy(&text[..end]).into_owned())
    }

    /// Version of the driver API, as major and minor.
    pub(super) fn version(&self) -> Result<(u32, u32), DeviceError> {
        let mut version: c_int = 0;
        // SAFETY: `cuDriverGetVersion` wants a place for the version.
        let code = unsafe { (self.api.driver_version)(&raw mut version) };
        self.check(code, "cuDriverGetVersion")?;
        let version = u32::try_from(version).unwrap_or(0);
        Ok((version / 1000, version % 1000 / 10))
    }

    /// Free and total device memory, in bytes.
    pub(super) fn memory(&self) -> Result<(u64, u64), DeviceError> {
        let _primary = self.on_primary()?;
        let (mut free, mut total) = (0_usize, 0_usize);
        // SAFETY: `cuMemGetInfo` wants two places to write to, and a current context: the primary one.
        let code = unsafe { (self.api.memory_info)(&raw mut free, &raw mut total) };
        self.check(code, "cuMemGetInfo")?;
        Ok((free as u64, total as u64))
    }

    /// Destroys the green contexts and gives the primary one back. No handle may be alive: `self` is the last owner.
    pub(super) fn close(self) -> Result<(), DeviceError> {
        // Nothing that belongs to the device may be current while it is destroyed.
        self.set_current(std::ptr::null_mut())?;
        let mut outcome = Ok(());
        for context in self.contexts().drain(..) {
            outcome = outcome.and(context.destroy(&self));
        }
        let stream = *self.load_stream.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: `cuStreamDestroy` wants a stream that is not used any more: `self` is its only owner and ends here.
        let code = unsafe { (self.api.stream_destroy)(stream.0) };
        outcome.and(self.check(code, "cuStreamDestroy")).and(self.release_primary())
    }

    fn make_load_stream(&self) -> Result<(), DeviceError> {
        let _primary = self.on_primary()?;
        let mut stream = std::ptr::null_mut();
        // SAFETY: `cuStreamCreate` wants a place for the stream, and a current context: the primary one.
        let code = unsafe { (self.api.stream_create)(&raw mut stream, NON_BLOCKING) };
        self.check(code, "cuStreamCreate")?;
        *self.load_stream.lock().unwrap_or_else(PoisonError::into_inner) = Token(stream);
        Ok(())
    }

    fn release_primary(&self) -> Result<(), DeviceError> {
        // SAFETY: `cuDevicePrimaryCtxRelease` wants a device whose context was retained: `open` did, and each owner of
        //  a driver releases once.
        let code = unsafe { (self.api.primary_release)(self.device) };
        self.check(code, "cuDevicePrimaryCtxRelease")
    }

    #[inline]
    fn current(&self) -> Result<sys::CUcontext, DeviceError> {
        let mut current = std::ptr::null_mut();
        // SAFETY: `cuCtxGetCurrent` wants a place for the context.
        let code = unsafe { (self.api.context_current)(&raw mut current) };
        self.check(code, "cuCtxGetCurrent")?;
        Ok(current)
    }

    fn set_current(&self, context: sys::CUcontext) -> Result<(), DeviceError> {
        // SAFETY: `cuCtxSetCurrent` wants null or a live context: those of this device live until `close`, and one that
        //  was current before is the business of whoever made it current.
        let code = unsafe { (self.api.context_set_current)(context) };
        self.check(code, "cuCtxSetCurrent")
    }
}

/// While it lives, the primary context is current on the thread that made it.
pub(super) struct OnPrimary<'a> {
    driver: &'a Driver,
    before: sys::CUcontext,
}

impl Drop for OnPrimary<'_> {
    fn drop(&mut self) {
        // A refusal leaves the primary context current, which the next `enter` on this thread corrects.
        let _restored = self.driver.set_current(self.before);
    }
}

fn find(api: &Api, name: &str, ordinal: u32) -> Result<sys::CUdevice, DeviceError> {
    let mut count: c_int = 0;
    // SAFETY: `cuDeviceGetCount` wants a place for the number.
    let code = unsafe { (api.device_count)(&raw mut count) };
    refuse(api, name, code, "cuDeviceGetCount")?;
    let Some(ordinal) = c_int::try_from(ordinal).ok().filter(|&ordinal| ordinal < count) else {
        let reason = format!("the driver finds {count} GPUs; they are numbered from 0");
        return Err(DeviceError::Unavailable { device: name.into(), reason });
    };
    let mut device = 0;
    // SAFETY: `cuDeviceGet` wants a place for the device and a number below the count.
    let code = unsafe { (api.device_get)(&raw mut device, ordinal) };
    refuse(api, name, code, "cuDeviceGet")?;
    Ok(device)
}

/// While a device is opened, every failure means that it is not available.
fn refuse(api: &Api, device: &str, code: Code, call: &str) -> Result<(), DeviceError> {
    if code == SUCCESS {
        return Ok(());
    }
    let reason = format!("{call}: {}", api.describe(code));
    Err(DeviceError::Unavailable { device: device.into(), reason })
}
