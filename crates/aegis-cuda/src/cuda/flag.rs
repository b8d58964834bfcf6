//! The completion flag of a lane: a word of pinned host memory that the lane's stream writes.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aegis_types::DispatchSeq;

use super::driver::{Driver, Token};
use super::memory::allocate_pinned;
use super::retire::Handle;
use crate::error::DeviceError;
use crate::stream::CompletionFlag;

/// A page of its own for each flag: a host that polls one lane's flag shares no cache line with another's.
const PAGE: usize = 4096;

/// A page that starts with the flag's word.
pub(super) struct FlagPage {
    driver: Arc<Driver>,
    start: Token<c_void>,
    device: u64,
}

impl FlagPage {
    /// A page of zeroes: no dispatch has this number.
    pub(super) fn allocate(driver: &Arc<Driver>) -> Result<Arc<Self>, DeviceError> {
        let _primary = driver.on_primary()?;
        let (start, device) = allocate_pinned(driver, PAGE)?;
        Ok(Arc::new(Self { driver: Arc::clone(driver), start, device }))
    }

    /// The word's address for the device.
    pub(super) const fn device_address(&self) -> u64 {
        self.device
    }
}

impl CompletionFlag for FlagPage {
    fn load(&self) -> DispatchSeq {
        // SAFETY: `from_ptr` wants an aligned, initialised word that lives and is accessed atomically only.
        //  aligned, live: the start of a page that is given up in `Drop`; initialised: zeroed when it was allocated;
        //  atomically: the device writes it in one transaction of eight aligned bytes, nobody else writes.
        let word = unsafe { AtomicU64::from_ptr(self.start.0.cast()) };
        // Acquire: whoever loads this number also sees what the device wrote before it.
        DispatchSeq::new(word.load(Ordering::Acquire))
    }
}

impl Drop for FlagPage {
    fn drop(&mut self) {
        self.driver.retire(None, Handle::Pinned(self.start));
    }
}
