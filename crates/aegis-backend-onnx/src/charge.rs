//! Whom the vendor library's allocations are charged to.
//!
//! The library calls one allocator for all models and does not say for which. It allocates on the thread that called
//! it, because sessions have a single intra-op thread, so the thread itself remembers the model at work: a [`Scope`]
//! sets it before every call into the library and restores it afterwards.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::Arc;

use aegis_cuda::{DeviceMemory, ModelMemory, interop};
use aegis_types::{Bytes, Extent, GrantRefused, MemoryClass, MemoryGrant};

thread_local! {
    /// The model at work on this thread; null outside of calls into the library.
    static CURRENT: Cell<*const Charge> = const { Cell::new(ptr::null()) };
}

/// Alignment of every block. ONNX Runtime's kernels load whole cache lines and vectors of up to 64 bytes.
pub(crate) const ALIGN: usize = 64;
/// Alignment of every block of a GPU's memory: what the driver's own allocations have, which kernels count on.
const DEVICE_ALIGN: u64 = 256;

/// The memory of one loaded model, and what its allocations count as at the moment.
pub(crate) struct Charge {
    grant: Box<dyn MemoryGrant>,
    region: Arc<dyn DeviceMemory>,
    class: Cell<MemoryClass>,
    refusal: Cell<Option<GrantRefused>>,
    scratch_live: Cell<u32>,
    on_device: bool,
}

/// A piece of the grant that the library holds.
#[derive(Clone, Copy)]
pub(crate) struct Piece<A> {
    /// Where it starts: a pointer, aligned to [`ALIGN`], or an address of a GPU's memory.
    pub start: A,
    /// What the grant lent.
    pub extent: Extent,
    /// As which class.
    pub class: MemoryClass,
}

impl Charge {
    /// A charge on the memory of one model.
    pub(crate) fn new(memory: ModelMemory) -> Self {
        let nothing = Extent { offset: Bytes::ZERO, len: Bytes::ZERO };
        Self {
            on_device: interop::with_device_pointer(&*memory.region, nothing, |_| ()).is_some(),
            grant: memory.grant,
            region: memory.region,
            class: Cell::new(MemoryClass::Persistent),
            refusal: Cell::new(None),
            scratch_live: Cell::new(0),
        }
    }

    /// Whether the region is memory that this backend can address.
    pub(crate) fn is_host_memory(&self) -> bool {
        let nothing = Extent { offset: Bytes::ZERO, len: Bytes::ZERO };
        interop::with_host_pointer(&*self.region, nothing, |_| ()).is_some()
    }

    /// Whether the region is a GPU's memory. What the library keeps on the host is then outside of the grant.
    pub(crate) const fn is_on_device(&self) -> bool {
        self.on_device
    }

    /// Alignment of the blocks.
    pub(crate) const fn alignment(&self) -> Bytes {
        Bytes::new(if self.on_device { DEVICE_ALIGN } else { ALIGN as u64 })
    }

    /// The region that the grant's extents lie in.
    pub(crate) fn region(&self) -> &Arc<dyn DeviceMemory> {
        &self.region
    }

    /// The grant itself, for memory that this crate and not the library asks for.
    pub(crate) fn grant(&self) -> &dyn MemoryGrant {
        &*self.grant
    }

    /// Makes this model the one at work on this thread until the scope is dropped.
    pub(crate) fn enter(&self, class: MemoryClass) -> Scope<'_> {
        let previous = CURRENT.replace(ptr::from_ref(self));
        Scope { charge: self, previous, previous_class: self.class.replace(class), not_send: PhantomData }
    }

    /// The first refusal since the last call, if any.
    pub(crate) fn take_refusal(&self) -> Option<GrantRefused> {
        self.refusal.take()
    }

    /// Scratch blocks that the library holds.
    pub(crate) fn scratch_live(&self) -> u32 {
        self.scratch_live.get()
    }

    /// Takes memory from the grant; a refusal is remembered for the caller of the library.
    pub(crate) fn take(&self, bytes: usize) -> Option<Piece<NonNull<u8>>> {
        self.take_at(bytes, |extent| {
            let start = interop::with_host_pointer(&*self.region, extent, NonNull::new).flatten();
            start.filter(|start| start.addr().get().is_multiple_of(ALIGN))
        })
    }

    /// Takes a GPU's memory from the grant, as [`Charge::take`] takes the host's.
    pub(crate) fn take_on_device(&self, bytes: usize) -> Option<Piece<u64>> {
        self.take_at(bytes, |extent| interop::with_device_pointer(&*self.region, extent, |address| address))
    }

    fn take_at<A>(&self, bytes: usize, start: impl FnOnce(Extent) -> Option<A>) -> Option<Piece<A>> {
        let class = self.class.get();
        let lent = self.grant.allocate(class, Bytes::new(bytes as u64), self.alignment());
        let extent = lent.map_err(|refused| self.remember(refused)).ok()?;
        let Some(start) = start(extent) else {
            // A grant whose extents cannot be addressed lends nothing, which its owner learns like any other refusal.
            self.grant.free(class, extent);
            let (owner, asked, used) = (self.grant.owner(), extent.len, self.grant.used(class));
            self.remember(GrantRefused { owner, class, asked, used, limit: Bytes::ZERO });
            return None;
        };
        self.count_scratch(class, 1);
        Some(Piece { start, extent, class })
    }

    /// Keeps the first refusal.
    fn remember(&self, refused: GrantRefused) {
        self.refusal.set(self.refusal.get().or(Some(refused)));
    }

    /// Gives memory back to the grant.
    pub(crate) fn give_back(&self, extent: Extent, class: MemoryClass) {
        self.grant.free(class, extent);
        self.count_scratch(class, -1);
    }

    fn count_scratch(&self, class: MemoryClass, change: i32) {
        if class == MemoryClass::Scratch {
            self.scratch_live.set(self.scratch_live.get().saturating_add_signed(change));
        }
    }
}

/// Bytes of the grant that stand for memory which the library keeps elsewhere; given back when dropped.
pub(crate) struct StandIn {
    charge: Rc<Charge>,
    extent: Option<Extent>,
}

impl StandIn {
    /// Of nothing.
    pub(crate) fn none(charge: &Rc<Charge>) -> Self {
        Self { charge: Rc::clone(charge), extent: None }
    }

    /// Reserves `bytes` as persistent memory, untouched: on a host the system commits no page for it.
    pub(crate) fn reserve(charge: &Rc<Charge>, bytes: Bytes) -> Result<Self, GrantRefused> {
        let reserve = || charge.grant.allocate(MemoryClass::Persistent, bytes, charge.alignment());
        let extent = if bytes.is_zero() { None } else { Some(reserve()?) };
        Ok(Self { charge: Rc::clone(charge), extent })
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        if let Some(extent) = self.extent {
            self.charge.grant.free(MemoryClass::Persistent, extent);
        }
    }
}

/// While it lives, allocations on this thread are charged to one model.
pub(crate) struct Scope<'c> {
    charge: &'c Charge,
    previous: *const Charge,
    previous_class: MemoryClass,
    /// The thread that entered is the one whose memory is restored.
    not_send: PhantomData<*const ()>,
}

impl Drop for Scope<'_> {
    fn drop(&mut self) {
        self.charge.class.set(self.previous_class);
        CURRENT.set(self.previous);
    }
}

/// The model at work on this thread, as an address: `None` outside of every [`Scope`].
///
/// It stays valid while the scope lives, which is at least as long as the call into the library that asks for it.
pub(crate) fn current() -> Option<NonNull<Charge>> {
    NonNull::new(CURRENT.get().cast_mut())
}
