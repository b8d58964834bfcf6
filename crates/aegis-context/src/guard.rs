//! The one wall against panics of backends.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use aegis_cuda::BackendError;

/// How a guarded call ended.
pub(crate) enum Guarded<T> {
    /// It returned.
    Returned(Result<T, BackendError>),
    /// It panicked; the error carries the message.
    Panicked(BackendError),
}

impl<T> Guarded<T> {
    /// Both kinds of failure as one.
    pub(crate) fn flatten(self) -> Result<T, BackendError> {
        match self {
            Self::Returned(result) => result,
            Self::Panicked(error) => Err(error),
        }
    }
}

/// Calls into a backend. What the call may leave half done is the backend's own, and the caller never enters a backend
/// again that panicked; everything else it touches (stream, grant) changes by whole operations.
pub(crate) fn guarded<T>(model: &str, call: impl FnOnce() -> Result<T, BackendError>) -> Guarded<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => Guarded::Returned(result),
        Err(panic) => {
            let reason = format!("the backend panicked: {}", message(&*panic));
            Guarded::Panicked(BackendError::Execution { model: model.into(), reason, started: true })
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
