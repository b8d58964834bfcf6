//! Bytes of a grant that stand for memory on the process's heap.

use std::rc::Rc;

use aegis_cuda::{DeviceMemory, ModelMemory, interop};
use aegis_types::{Bytes, Extent, GrantRefused, MemoryClass, MemoryGrant};

/// Alignment of what is reserved: nothing lies there, so that any would do.
const ALIGN: Bytes = Bytes::new(64);

/// A grant that several reservations draw on.
#[derive(Clone)]
pub(super) struct Purse(Rc<dyn MemoryGrant>);

impl Purse {
    /// The grant of a model's memory; `None` if the region is not the host's, in which I/O could not be copied.
    pub(super) fn open(memory: ModelMemory) -> Option<Self> {
        let ModelMemory { grant, region } = memory;
        is_host(&*region).then(|| Self(Rc::from(grant)))
    }

    /// Reserves `bytes`, untouched: on a host the system commits no page for it.
    pub(super) fn hold(&self, class: MemoryClass, bytes: Bytes) -> Result<Held, GrantRefused> {
        let extent = if bytes.is_zero() { None } else { Some(self.0.allocate(class, bytes, ALIGN)?) };
        Ok(Held { grant: Rc::clone(&self.0), class, extent })
    }
}

fn is_host(region: &dyn DeviceMemory) -> bool {
    let nothing = Extent { offset: Bytes::ZERO, len: Bytes::ZERO };
    interop::with_host_pointer(region, nothing, |_| ()).is_some()
}

/// A reservation, given back when dropped.
pub(super) struct Held {
    grant: Rc<dyn MemoryGrant>,
    class: MemoryClass,
    extent: Option<Extent>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(extent) = self.extent {
            self.grant.free(self.class, extent);
        }
    }
}
