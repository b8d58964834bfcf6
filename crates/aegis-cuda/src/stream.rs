//! The contract of a stream: work of one lane, in order, bound to one thread.

use std::any::Any;
use std::sync::Arc;

use aegis_types::{DispatchSeq, LaneId, PartitionId};

use crate::error::{BackendError, DeviceError};
use crate::memory::DeviceSlice;

/// Where a stream stores the number of the last dispatch that it finished. Read by the driver's thread.
pub trait CompletionFlag: Send + Sync {
    /// The last dispatch whose work is wholly visible to the host. Never goes back.
    fn load(&self) -> DispatchSeq;
}

/// Work that was captured once and is replayed as a whole. It belongs to the stream that captured it and keeps alive
/// what it needs; like every handle it is given up without blocking.
pub trait Graph {
    /// How many operations it holds.
    fn operations(&self) -> usize;

    /// The device's own type.
    fn as_any(&self) -> &dyn Any;
}

/// Work of one lane, in order. Not `Send`: it belongs to the thread that bound it.
///
/// # Contract
/// - Operations take effect in the order of the calls. On an asynchronous device the calls return at once.
/// - [`signal`](Stream::signal) stores its number after everything enqueued before it is visible to the host, and
///   last of all. A stale number would free a busy lane, so the number is the dispatch's own.
/// - A slice given to [`copy`](Stream::copy) stays alive until a later signal was seen.
/// - No call allocates or blocks, but for [`synchronize`](Stream::synchronize), which belongs to load time.
pub trait Stream {
    /// The lane it carries.
    fn lane(&self) -> LaneId;

    /// The partition it runs in.
    fn partition(&self) -> PartitionId;

    /// Enqueues a copy between slices of equal length, of any memory spaces.
    ///
    /// # Errors
    /// [`DeviceError::BadSlice`] if the lengths differ.
    fn copy(&mut self, from: &DeviceSlice, to: &DeviceSlice) -> Result<(), DeviceError>;

    /// Enqueues the store of `seq` into the flag.
    ///
    /// # Errors
    /// Fatal ones only: a lane whose flag cannot be written is lost.
    fn signal(&mut self, seq: DispatchSeq) -> Result<(), DeviceError>;

    /// The flag that [`signal`](Stream::signal) stores into.
    fn flag(&self) -> Arc<dyn CompletionFlag>;

    /// Whether everything enqueued is done; never waits. This is how a fault is noticed whose flag never comes.
    ///
    /// # Errors
    /// Those of the work that was enqueued.
    fn finished(&mut self) -> Result<bool, DeviceError> {
        Ok(true)
    }

    /// Waits until everything enqueued is done. Load time only.
    ///
    /// # Errors
    /// Those of the work that was enqueued.
    fn synchronize(&mut self) -> Result<(), DeviceError>;

    /// Records what `work` enqueues on this stream instead of running it. Load time only.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] where the device has no graphs
    /// ([`Capabilities::graphs`](crate::Capabilities::graphs)), what `work` refuses, or what cannot be captured;
    /// the stream is as it was then.
    fn capture(
        &mut self,
        work: &mut dyn FnMut(&mut dyn Stream) -> Result<(), BackendError>,
    ) -> Result<Box<dyn Graph>, BackendError> {
        let _never_run = work;
        Err(DeviceError::Unsupported { what: "capturing a graph" }.into())
    }

    /// Enqueues a graph that this stream captured.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] for a graph of another stream or device; otherwise as the operations it holds.
    fn replay(&mut self, graph: &dyn Graph) -> Result<(), DeviceError> {
        let _foreign = graph;
        Err(DeviceError::Unsupported { what: "replaying a graph" })
    }

    /// The device's own type, for [`interop`](crate::interop).
    fn as_any_mut(&mut self) -> &mut dyn Any;
}
