//! One suite that every device and backend passes.
//!
//! The checks are plain functions, so that a device or backend that lives elsewhere runs them from its own tests. Each
//! check runs on a thread of its own, because binding a lane may pin its thread for good.

mod asynchronous;
mod backend;
mod copies;
mod device;
mod grant;
mod kernels;
mod record;

use std::panic::resume_unwind;
use std::thread;

use crate::error::{BackendError, DeviceError};

pub use asynchronous::{AsynchronousCase, Probe, asynchronous, independence};
pub use backend::{BackendCase, backend};
pub use device::device;
pub use grant::CountingGrant;
pub use kernels::KernelProbe;
pub use record::{RECORD_VARIABLE, Row, markdown};

/// What was checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Checks that passed, in order.
    pub passed: Vec<&'static str>,
    /// Checks that this device or backend cannot run, with the reason.
    pub skipped: Vec<(&'static str, String)>,
}

/// A broken rule of the contract.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("conformance: {check}: {detail}")]
pub struct Violation {
    /// The check that failed.
    pub check: &'static str,
    /// What was seen and what the contract wants.
    pub detail: String,
}

/// Why a check did not pass.
enum Stop {
    Violated(String),
    Skip(String),
}

impl From<DeviceError> for Stop {
    fn from(error: DeviceError) -> Self {
        Self::Violated(format!("refused: {error}"))
    }
}

impl From<BackendError> for Stop {
    fn from(error: BackendError) -> Self {
        Self::Violated(format!("refused: {error}"))
    }
}

/// A name and the function that checks it.
type Check<'a, S> = (&'static str, fn(&'a S) -> Result<(), Stop>);

/// Runs the checks in order, up to the first violation.
fn run<'a, S: Sync>(subject: &'a S, checks: &[Check<'a, S>]) -> Result<Report, Violation> {
    let mut report = Report::default();
    for &(check, body) in checks {
        match on_thread(|| body(subject)) {
            Ok(()) => report.passed.push(check),
            Err(Stop::Skip(reason)) => report.skipped.push((check, reason)),
            Err(Stop::Violated(detail)) => return Err(Violation { check, detail }),
        }
    }
    Ok(report)
}

/// Runs `body` on a thread of its own; its panic goes on here.
fn on_thread<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(body).join().unwrap_or_else(|panic| resume_unwind(panic)))
}

fn ensure(holds: bool, detail: impl FnOnce() -> String) -> Result<(), Stop> {
    if holds { Ok(()) } else { Err(Stop::Violated(detail())) }
}

#[cfg(test)]
mod tests;
