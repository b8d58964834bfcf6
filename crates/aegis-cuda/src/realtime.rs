//! The operating system's real-time class for the calling thread: asked for, never assumed.

use std::num::NonZeroU64;

use aegis_types::Nanos;
use rustix::thread::set_current_timer_slack;

use crate::error::DeviceError;

/// Puts the calling thread into the first-in-first-out real-time class with this priority (1 to 99, higher first).
/// Threads of that class are preempted by no ordinary thread.
///
/// # Errors
/// [`DeviceError::System`] if the system refuses, usually for want of the privilege; nothing changed then.
pub fn enter(priority: u8) -> Result<(), DeviceError> {
    let parameters = libc::sched_param { sched_priority: i32::from(priority) };
    // SAFETY: `sched_setscheduler` wants a valid pointer to parameters, which it only reads during the call.
    //  valid: `parameters` lives on this stack until the call returns. Thread 0 is the calling thread.
    let code = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) };
    if code == 0 {
        return Ok(());
    }
    let reason = std::io::Error::last_os_error().to_string();
    Err(DeviceError::System { what: "entering the real-time class", reason })
}

/// Sets how much later than asked the system may wake the calling thread from a timed wait.
///
/// # Errors
/// [`DeviceError::System`] if the system refuses; nothing changed then.
pub fn set_timer_slack(slack: Nanos) -> Result<(), DeviceError> {
    // Zero would mean the system's default of 50 µs.
    let slack = slack.get().max(1);
    set_current_timer_slack(NonZeroU64::new(slack))
        .map_err(|error| DeviceError::System { what: "setting the timer slack", reason: error.to_string() })
}

/// Puts the calling thread back into the ordinary class.
///
/// # Errors
/// [`DeviceError::System`] if the system refuses; nothing changed then.
pub fn leave() -> Result<(), DeviceError> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: as in `enter`: the pointer is valid for the call, which only reads.
    let code = unsafe { libc::sched_setscheduler(0, libc::SCHED_OTHER, &raw const parameters) };
    if code == 0 {
        return Ok(());
    }
    let reason = std::io::Error::last_os_error().to_string();
    Err(DeviceError::System { what: "leaving the real-time class", reason })
}
