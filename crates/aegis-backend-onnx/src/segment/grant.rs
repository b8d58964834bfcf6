//! One grant for several owners: the pieces of a model and the memory between them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aegis_types::{Bytes, Extent, GrantRefused, MemoryClass, MemoryGrant, TaskId};

/// A grant that several hold. The lock is never contended: all of them belong to the lane's thread, and a grant calls
/// back to nobody.
#[derive(Clone)]
pub(super) struct PooledGrant {
    owner: TaskId,
    grant: Arc<Mutex<Box<dyn MemoryGrant>>>,
}

impl PooledGrant {
    pub(super) fn new(grant: Box<dyn MemoryGrant>) -> Self {
        Self { owner: grant.owner(), grant: Arc::new(Mutex::new(grant)) }
    }

    /// Poisoning is ignored: a grant that panics on a double free keeps its book.
    fn lock(&self) -> MutexGuard<'_, Box<dyn MemoryGrant>> {
        self.grant.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryGrant for PooledGrant {
    fn owner(&self) -> TaskId {
        self.owner
    }

    fn allocate(&self, class: MemoryClass, bytes: Bytes, align: Bytes) -> Result<Extent, GrantRefused> {
        self.lock().allocate(class, bytes, align)
    }

    fn free(&self, class: MemoryClass, extent: Extent) {
        self.lock().free(class, extent);
    }

    fn used(&self, class: MemoryClass) -> Bytes {
        self.lock().used(class)
    }

    fn high_water(&self, class: MemoryClass) -> Bytes {
        self.lock().high_water(class)
    }
}
