//! Waking a thread that waits for a flag instead of polling it.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is called after a flag was written, on a thread of the driver's.
pub(super) type Wake = Arc<dyn Fn() + Send + Sync>;

/// The waker of a device, which the driver calls back with its address.
#[derive(Default)]
pub(super) struct Waker {
    wake: Mutex<Option<Wake>>,
}

impl Waker {
    pub(super) fn set(&self, wake: Wake) {
        *self.lock() = Some(wake);
    }

    /// What the driver is given with [`call_waker`].
    pub(super) const fn address(&self) -> *mut c_void {
        (&raw const *self).cast_mut().cast()
    }

    fn wake(&self) {
        // Called outside the lock, so that a waker may take its time.
        let wake = self.lock().clone();
        if let Some(wake) = wake {
            wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Wake>> {
        self.wake.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Called by the driver in the order of the stream.
///
/// # Safety
/// `waker` is a [`Waker::address`] and its waker lives.
pub(super) unsafe extern "C" fn call_waker(waker: *mut c_void) {
    // SAFETY: a reference wants a live, aligned `Waker`, only read: the caller's promise, and its field is a lock.
    let waker = unsafe { &*waker.cast_const().cast::<Waker>() };
    // A panic must not unwind into the driver; who waits notices it by polling.
    let _outcome = catch_unwind(AssertUnwindSafe(|| waker.wake()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn the_last_waker_set_is_called_and_its_panic_stays_inside() {
        let (waker, calls) = (Waker::default(), Arc::new(AtomicU32::new(0)));
        // SAFETY: the address of a waker that lives on this stack.
        unsafe { call_waker(waker.address()) };
        let counted = Arc::clone(&calls);
        waker.set(Arc::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        }));
        // SAFETY: as above.
        unsafe { call_waker(waker.address()) };
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        waker.set(Arc::new(|| std::panic::resume_unwind(Box::new("refused"))));
        // SAFETY: as above.
        unsafe { call_waker(waker.address()) };
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }
}
