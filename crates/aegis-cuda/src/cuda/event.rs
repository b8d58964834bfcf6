//! Events: places in a stream whose instants the device records.

use std::sync::Arc;

use cudarc::driver::sys;

use super::code::NOT_READY;
use super::driver::{Driver, Token};
use super::retire::Handle;
use super::stream::CudaStream;
use crate::error::DeviceError;

/// An event of one device, recorded by [`CudaStream::mark`]. Made at load time, used again for every mark.
pub struct Event {
    driver: Arc<Driver>,
    raw: Token<sys::CUevent_st>,
}

impl Event {
    /// An event for streams of the partition of `stream`. Not reached before it is marked.
    ///
    /// # Errors
    /// [`DeviceError::Refused`] by the driver, or [`DeviceError::Lost`].
    pub fn new(stream: &CudaStream) -> Result<Self, DeviceError> {
        let driver = stream.driver();
        stream.enter()?;
        let mut raw = std::ptr::null_mut();
        // SAFETY: `cuEventCreate` wants a place for the event, flags (zero: with timing) and a current context: the
        //  partition's.
        let code = unsafe { (driver.api.event_create)(&raw mut raw, 0) };
        driver.check(code, "cuEventCreate")?;
        Ok(Self { driver: Arc::clone(driver), raw: Token(raw) })
    }

    /// Whether the device has reached the last mark; true also if there was none.
    ///
    /// # Errors
    /// Those of the work before the mark.
    pub fn reached(&self) -> Result<bool, DeviceError> {
        self.driver.alive()?;
        // SAFETY: `cuEventQuery` wants a live event: it is retired only in `Drop`.
        let code = unsafe { (self.driver.api.event_query)(self.raw.0) };
        if code == NOT_READY {
            return Ok(false);
        }
        self.driver.check(code, "cuEventQuery")?;
        Ok(true)
    }

    /// Device time from `earlier` to this event in milliseconds, negative if this one was first; `None` while one of
    /// them is not reached.
    pub(super) fn milliseconds_since(&self, earlier: &Self) -> Result<Option<f32>, DeviceError> {
        self.driver.alive()?;
        let mut milliseconds = 0.0;
        // SAFETY: `cuEventElapsedTime` wants a place for the time and two live events with timing.
        let code =
            unsafe { (self.driver.api.event_elapsed)(&raw mut milliseconds, earlier.raw.0, self.raw.0) };
        if code == NOT_READY {
            return Ok(None);
        }
        self.driver.check(code, "cuEventElapsedTime")?;
        Ok(Some(milliseconds))
    }

    /// The driver's handle.
    pub(super) const fn raw(&self) -> Token<sys::CUevent_st> {
        self.raw
    }

    /// Whether it is an event of this driver's device.
    pub(super) fn belongs_to(&self, driver: &Arc<Driver>) -> bool {
        Arc::ptr_eq(&self.driver, driver)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        self.driver.retire(None, Handle::Event(self.raw));
    }
}
