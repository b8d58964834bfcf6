//! Handles that were given up. Giving them back may block, so it is done where blocking is allowed.

use std::ffi::c_void;
use std::sync::{Arc, MutexGuard, PoisonError};

use aegis_types::PartitionId;
use cudarc::driver::sys;

use super::code::NOT_READY;
use super::driver::{Driver, Token};
use super::flag::FlagPage;
use crate::error::DeviceError;
use crate::region::Charge;

/// A handle that nobody uses any more, with what must outlive it. In the order in which handles are given back.
pub(super) enum Handle {
    /// An executable graph.
    Graph(Token<sys::CUgraphExec_st>),
    /// A stream; its last write into the flag may still be under way.
    Stream(
        Token<sys::CUstream_st>,
        #[expect(dead_code, reason = "held until the stream is done")] Arc<FlagPage>,
    ),
    /// An event.
    Event(Token<sys::CUevent_st>),
    /// A module.
    Module(Token<sys::CUmod_st>),
    /// Device memory and its share of the capacity.
    Device(u64, #[expect(dead_code, reason = "given back with the memory")] Charge),
    /// Pinned host memory.
    Pinned(Token<c_void>),
}

impl Handle {
    const fn rank(&self) -> u8 {
        match self {
            Self::Graph(_) => 0,
            Self::Stream(..) => 1,
            Self::Event(_) => 2,
            Self::Module(_) => 3,
            Self::Device(..) => 4,
            Self::Pinned(_) => 5,
        }
    }
}

/// A handle and the partition whose context it needs to be given back; none for what any context serves.
pub(super) struct Retired {
    pub(super) home: Option<PartitionId>,
    pub(super) handle: Handle,
}

/// Which handles are given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Those that any context serves: the calling thread may be any.
    Shared,
    /// Those and the ones of a partition, whose thread is calling.
    Partition(PartitionId),
    /// All: no thread carries a lane any more. Waits for streams.
    All,
}

impl Scope {
    fn covers(self, home: Option<PartitionId>) -> bool {
        match (self, home) {
            (Self::All, _) | (_, None) => true,
            (Self::Partition(partition), Some(home)) => partition == home,
            (Self::Shared, Some(_)) => false,
        }
    }
}

impl Driver {
    /// Takes over a handle. Never blocks longer than another caller needs to add or take one.
    pub(super) fn retire(&self, home: Option<PartitionId>, handle: Handle) {
        self.queue().push(Retired { home, handle });
    }

    /// Gives back the handles of `scope`. A stream that still works stays in the queue, but for [`Scope::All`].
    ///
    /// # Errors
    /// The first refusal; what was refused is given up for good.
    pub(super) fn empty_queue(&self, scope: Scope) -> Result<(), DeviceError> {
        let mut taken = self.take(scope);
        if taken.is_empty() {
            return Ok(());
        }
        taken.sort_by_key(|retired| retired.handle.rank());
        let _primary = self.on_primary()?;
        let mut outcome = Ok(());
        for retired in taken {
            let given_back = self.give_back(retired, scope == Scope::All);
            outcome = outcome.and(given_back);
        }
        outcome
    }

    /// Taken out of the queue first: no lock is held over a call that may block.
    fn take(&self, scope: Scope) -> Vec<Retired> {
        let mut queue = self.queue();
        let (taken, left) = queue.drain(..).partition(|retired| scope.covers(retired.home));
        *queue = left;
        taken
    }

    fn give_back(&self, retired: Retired, wait: bool) -> Result<(), DeviceError> {
        // SAFETY: every handle below was made by this driver, and its owner is gone, so each is destroyed once and used
        //  nowhere else. The memory's own wait for work in flight is the driver's (`cuMemFree` synchronises).
        match &retired.handle {
            Handle::Graph(graph) => {
                // SAFETY: `cuGraphExecDestroy` wants a live graph, even one that runs: see above.
                let code = unsafe { (self.api.exec_destroy)(graph.0) };
                self.check(code, "cuGraphExecDestroy")
            }
            Handle::Stream(stream, _) => self.give_back_stream(*stream, retired, wait),
            Handle::Event(event) => {
                // SAFETY: `cuEventDestroy` wants a live event, even one not reached yet: see above.
                let code = unsafe { (self.api.event_destroy)(event.0) };
                self.check(code, "cuEventDestroy")
            }
            Handle::Module(module) => {
                let home =
                    retired.home.and_then(|home| self.contexts().get(home.index()).map(|c| c.context()));
                home.map_or(Ok(()), |context| self.enter(context))?;
                // SAFETY: `cuModuleUnload` wants a live module of the current context: entered just above.
                let code = unsafe { (self.api.module_unload)(module.0) };
                self.check(code, "cuModuleUnload")
            }
            Handle::Device(address, _) => {
                // SAFETY: `cuMemFree` wants the start of a live allocation: see above.
                let code = unsafe { (self.api.memory_free)(*address) };
                self.check(code, "cuMemFree")
            }
            Handle::Pinned(start) => {
                // SAFETY: `cuMemFreeHost` wants the start of a live allocation: see above.
                let code = unsafe { (self.api.pinned_free)(start.0) };
                self.check(code, "cuMemFreeHost")
            }
        }
    }

    fn give_back_stream(
        &self,
        stream: Token<sys::CUstream_st>,
        retired: Retired,
        wait: bool,
    ) -> Result<(), DeviceError> {
        let ask = if wait { self.api.stream_synchronize } else { self.api.stream_query };
        // SAFETY: `cuStreamSynchronize` and `cuStreamQuery` want a live stream: it is destroyed below only.
        let code = unsafe { ask(stream.0) };
        if code == NOT_READY {
            self.queue().push(retired);
            return Ok(());
        }
        self.check(code, "cuStreamSynchronize")?;
        // SAFETY: `cuStreamDestroy` wants a live stream that nobody uses: its owner is gone, its work done.
        let code = unsafe { (self.api.stream_destroy)(stream.0) };
        self.check(code, "cuStreamDestroy")
    }

    /// Poisoning is ignored: no operation leaves the queue half changed.
    fn queue(&self) -> MutexGuard<'_, Vec<Retired>> {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_covers_what_its_thread_may_give_back() {
        let [zero, one] = [0, 1].map(PartitionId::new);
        for (scope, expected) in [
            (Scope::Shared, [true, false, false]),
            (Scope::Partition(one), [true, false, true]),
            (Scope::All, [true, true, true]),
        ] {
            let covered = [None, Some(zero), Some(one)].map(|home| scope.covers(home));
            assert_eq!(covered, expected, "{scope:?}");
        }
    }
}
