//! Where a plan's device memory comes from: the task's grant while it is served, the bare device while it is looked
//! into. The vendor library calls back here, on any thread.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aegis_cuda::{BackendError, Device, DeviceError, DeviceMemory, MemorySpace, ModelMemory};
use aegis_types::{Bytes, Extent, GrantRefused, MemoryClass};

use crate::bindings::ShimMemory;
use crate::machine::Machine;

/// Alignment of every piece: what the library asks of I/O and scratch.
pub(crate) const ALIGN: Bytes = Bytes::new(256);

/// The memory of one plan.
pub(crate) struct Supply {
    book: Mutex<Book>,
    machine: Arc<dyn Machine>,
}

struct Book {
    source: Source,
    /// What the library holds, by address.
    held: BTreeMap<u64, Held>,
    /// Whether the plan is being served: it may not take anything then.
    serving: bool,
    /// The first refusal since it was last asked for.
    refusal: Option<Refusal>,
}

enum Source {
    Granted(ModelMemory),
    /// Each piece is a reservation of its own.
    Bare(Arc<dyn Device>),
}

/// A piece that the library took.
struct Held {
    /// As the library asked for it.
    asked: Bytes,
    extent: Extent,
    /// Kept for as long as the piece is held, if the piece is all of it.
    _region: Option<Arc<dyn DeviceMemory>>,
}

/// Why the library got no memory.
pub(crate) enum Refusal {
    Grant(GrantRefused),
    Device(DeviceError),
    /// It asked while the plan was being served.
    Serving(Bytes),
}

/// A piece of the grant that the backend itself takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub(crate) class: MemoryClass,
    pub(crate) extent: Extent,
    pub(crate) address: u64,
}

impl Supply {
    /// Memory of a task.
    pub(crate) fn granted(machine: Arc<dyn Machine>, memory: ModelMemory) -> Self {
        Self::from(machine, Source::Granted(memory))
    }

    /// Memory of a device, outside of every budget.
    pub(crate) fn bare(machine: Arc<dyn Machine>, device: Arc<dyn Device>) -> Self {
        Self::from(machine, Source::Bare(device))
    }

    fn from(machine: Arc<dyn Machine>, source: Source) -> Self {
        let book = Book { source, held: BTreeMap::new(), serving: false, refusal: None };
        Self { book: Mutex::new(book), machine }
    }

    /// The functions for the library. The supply must not move and must outlive the runtime that they are given to.
    pub(crate) fn functions(&self) -> ShimMemory {
        let owner = std::ptr::from_ref(self).cast_mut().cast();
        ShimMemory { owner, allocate: Some(allocate), deallocate: Some(deallocate) }
    }

    /// From here on the library gets nothing more.
    pub(crate) fn serve(&self) {
        self.lock().serving = true;
    }

    /// What the library holds, as it asked for it.
    pub(crate) fn held(&self) -> Bytes {
        Bytes::new(self.lock().held.values().map(|held| held.asked.get()).sum())
    }

    /// The first refusal since the last call.
    pub(crate) fn take_refusal(&self) -> Option<Refusal> {
        self.lock().refusal.take()
    }

    /// Takes a piece of the grant for the backend itself; an empty piece has the address zero.
    ///
    /// # Errors
    /// The refusal; [`DeviceError::Unsupported`] for a supply without a grant or a region that cannot be addressed.
    pub(crate) fn lend(&self, class: MemoryClass, bytes: Bytes) -> Result<Piece, Refusal> {
        if bytes.is_zero() {
            return Ok(Piece { class, extent: Extent { offset: Bytes::ZERO, len: bytes }, address: 0 });
        }
        let book = self.lock();
        let Source::Granted(memory) = &book.source else {
            return Err(Refusal::Device(DeviceError::Unsupported { what: "scratch outside of a grant" }));
        };
        self.grant(memory, class, bytes, ALIGN)
    }

    /// Gives a piece back that [`lend`](Self::lend) lent.
    pub(crate) fn give_back(&self, piece: Piece) {
        if let Source::Granted(memory) = &self.lock().source
            && !piece.extent.len.is_zero()
        {
            memory.grant.free(piece.class, piece.extent);
        }
    }

    /// The region of the grant.
    pub(crate) fn region(&self) -> Option<Arc<dyn DeviceMemory>> {
        match &self.lock().source {
            Source::Granted(memory) => Some(Arc::clone(&memory.region)),
            Source::Bare(_) => None,
        }
    }

    fn grant(
        &self,
        memory: &ModelMemory,
        class: MemoryClass,
        bytes: Bytes,
        align: Bytes,
    ) -> Result<Piece, Refusal> {
        let extent = memory.grant.allocate(class, bytes, align).map_err(Refusal::Grant)?;
        match self.machine.address(&*memory.region, extent) {
            Some(address) if address.is_multiple_of(align.get()) => Ok(Piece { class, extent, address }),
            found => {
                memory.grant.free(class, extent);
                Err(Refusal::Device(unusable(extent, &*memory.region, found)))
            }
        }
    }

    fn take(&self, bytes: Bytes, align: Bytes) -> Result<u64, Refusal> {
        let align = align.max(ALIGN);
        let mut book = self.lock();
        if book.serving {
            return Err(Refusal::Serving(bytes));
        }
        let (piece, region) = match &book.source {
            Source::Granted(memory) => (self.grant(memory, MemoryClass::Persistent, bytes, align)?, None),
            Source::Bare(device) => {
                let region = device.reserve(MemorySpace::Device, bytes).map_err(Refusal::Device)?;
                let extent = Extent { offset: Bytes::ZERO, len: bytes };
                let address = self.machine.address(&*region, extent);
                let address = address.ok_or_else(|| Refusal::Device(unusable(extent, &*region, None)))?;
                (Piece { class: MemoryClass::Persistent, extent, address }, Some(region))
            }
        };
        book.held.insert(piece.address, Held { asked: bytes, extent: piece.extent, _region: region });
        Ok(piece.address)
    }

    /// Whether the memory was held.
    fn put(&self, address: u64) -> bool {
        let mut book = self.lock();
        let held = book.held.remove(&address);
        if let (Some(held), Source::Granted(memory)) = (&held, &book.source) {
            memory.grant.free(MemoryClass::Persistent, held.extent);
        }
        held.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Supply {
    /// What the library forgot to give back is given back here: it is gone by then.
    fn drop(&mut self) {
        let left: Vec<u64> = self.lock().held.keys().copied().collect();
        left.into_iter().for_each(|address| {
            self.put(address);
        });
    }
}

impl Refusal {
    /// As an error of a model.
    pub(crate) fn of(self, model: &str) -> BackendError {
        match self {
            Self::Grant(source) => BackendError::Memory { model: model.to_owned(), source },
            Self::Device(error) => error.into(),
            Self::Serving(bytes) => BackendError::Execution {
                model: model.to_owned(),
                reason: format!(
                    "the plan asked for {bytes} more while it ran; everything is given at load time"
                ),
                started: true,
            },
        }
    }
}

fn unusable(extent: Extent, region: &dyn DeviceMemory, address: Option<u64>) -> DeviceError {
    let reason = match address {
        None => "is not in memory of the device that the plan runs on",
        Some(_) => "does not start at a multiple of the alignment asked for",
    };
    DeviceError::BadSlice { offset: extent.offset, len: extent.len, region: region.size(), reason }
}

/// The library wants memory: `owner` is the supply that [`Supply::functions`] was called on.
unsafe extern "C" fn allocate(owner: *mut c_void, bytes: u64, alignment: u64) -> *mut c_void {
    // SAFETY: `as_ref` wants null or a live supply: it outlives the runtime that calls, as `functions` asks.
    let Some(supply) = (unsafe { owner.cast::<Supply>().as_ref() }) else { return std::ptr::null_mut() };
    match supply.take(Bytes::new(bytes), Bytes::new(alignment)) {
        Ok(address) => address as *mut c_void,
        Err(refusal) => {
            supply.lock().refusal.get_or_insert(refusal);
            std::ptr::null_mut()
        }
    }
}

/// The library gives memory back; 0 for memory that it was not given.
unsafe extern "C" fn deallocate(owner: *mut c_void, memory: *mut c_void) -> i32 {
    // SAFETY: as in `allocate`.
    let supply = unsafe { owner.cast::<Supply>().as_ref() };
    i32::from(supply.is_some_and(|supply| supply.put(memory as u64)))
}
