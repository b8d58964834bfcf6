//! Errors are classed by the response they demand, not by where they arose.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The response that an error demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The same call may succeed later; the caller decides whether to retry.
    Transient,
    /// The same call will fail again; refuse it. Others are unaffected.
    Permanent,
    /// The context is lost: stop dispatching, flush the trace, report, and end the process in order.
    Fatal,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Transient => "transient",
            Self::Permanent => "permanent",
            Self::Fatal => "fatal",
        })
    }
}
