//! One grant for several owners: a backend takes weights and scratch from it while its caller takes inputs and outputs, and
//! the pieces of a model take theirs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aegis_types::{Bytes, Extent, GrantRefused, MemoryClass, MemoryGrant, TaskId};

/// A grant that several hold on one lane's thread. The lock is never contended: a grant is used by one thread at a time
/// and calls back to nobody.
#[derive(Clone)]
pub struct SharedGrant {
    owner: TaskId,
    grant: Arc<Mutex<Box<dyn MemoryGrant>>>,
}

impl SharedGrant {
    /// Shares `grant`: every clone takes from it and gives back to it.
    pub fn new(grant: Box<dyn MemoryGrant>) -> Self {
        Self { owner: grant.owner(), grant: Arc::new(Mutex::new(grant)) }
    }

    /// Poisoning is ignored: a grant that panics on a double free keeps its book.
    fn lock(&self) -> MutexGuard<'_, Box<dyn MemoryGrant>> {
        self.grant.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryGrant for SharedGrant {
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
