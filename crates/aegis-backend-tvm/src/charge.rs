//! Whom the vendor's allocations are charged to, and where they are served from.
//!
//! The vendor calls back on the thread that called it, so the thread itself remembers the model at work: a [`Scope`]
//! sets it before every call and restores it afterwards. A first run is *recorded*: each piece of memory is taken from
//! the grant when it is asked for and given back when it is not used any more. From then on runs are *served* by the
//! [`Plan`] that the record gave: the same pieces in the same order, at places known beforehand.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::Arc;

use aegis_cuda::{DeviceMemory, ModelMemory};
use aegis_types::{Bytes, Extent, GrantRefused, MemoryClass, MemoryGrant};

use crate::api::Api;
use crate::device::Processor;
use crate::hooks::Hooks;
use crate::plan::{Interval, Place, Plan};
use crate::storage::Storage;

thread_local! {
    /// The model at work on this thread; null outside of calls into the vendor's library.
    static CURRENT: Cell<*const Charge> = const { Cell::new(ptr::null()) };
}

/// Why a piece of memory was not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The grant has no more.
    Grant(GrantRefused),
    /// The module asked for something that it did not ask for when it was loaded, or that nothing here can serve.
    Unexpected(String),
}

/// The memory of one loaded model.
pub(crate) struct Charge {
    api: &'static Api,
    grant: Box<dyn MemoryGrant>,
    region: Arc<dyn DeviceMemory>,
    processor: Processor,
    storage_kind: i32,
    ledger: RefCell<Ledger>,
    /// Counts runs, so that what an earlier run left behind is told from what this one makes.
    run: Cell<u64>,
    refusal: RefCell<Option<Refusal>>,
    objects: RefCell<Vec<NonNull<Storage>>>,
    idle: RefCell<Vec<NonNull<Storage>>>,
}

/// What is asked for goes where?
enum Ledger {
    /// No run is going on.
    Closed,
    /// Into the grant, and into a record.
    Recording(Record),
    /// Where the plan says.
    Serving(Service),
}

#[derive(Default)]
struct Record {
    clock: u32,
    taken: Vec<Taken>,
}

/// A piece of memory that a recorded run asked for.
struct Taken {
    extent: Extent,
    address: u64,
    bytes: u64,
    born: u32,
    died: Option<u32>,
}

/// A run by the plan.
struct Service {
    plan: Rc<Plan>,
    next: usize,
    scratch: u64,
    outputs: Rc<[u64]>,
}

/// What a recorded run tells about every later one.
pub(crate) struct Recorded {
    /// Where each piece lies.
    pub plan: Plan,
    /// Outputs that come to lie in scratch and are copied from there: which one, and the offset.
    pub copies: Vec<(usize, u64)>,
    /// How often memory was asked for.
    pub requests: usize,
}

impl Charge {
    /// A charge on the memory of one model.
    pub(crate) fn new(hooks: &Hooks, memory: ModelMemory, processor: Processor) -> Rc<Self> {
        Rc::new(Self {
            api: hooks.api,
            grant: memory.grant,
            region: memory.region,
            processor,
            storage_kind: hooks.storage_kind,
            ledger: RefCell::new(Ledger::Closed),
            run: Cell::new(0),
            refusal: RefCell::new(None),
            objects: RefCell::default(),
            idle: RefCell::default(),
        })
    }

    /// The vendor's functions.
    pub(crate) const fn api(&self) -> &'static Api {
        self.api
    }

    /// The grant, for memory that this crate and not the vendor asks for.
    pub(crate) fn grant(&self) -> &dyn MemoryGrant {
        &*self.grant
    }

    /// The region that the grant's extents lie in.
    pub(crate) fn region(&self) -> &Arc<dyn DeviceMemory> {
        &self.region
    }

    /// Where the model computes.
    pub(crate) const fn processor(&self) -> &Processor {
        &self.processor
    }

    /// Where an extent of the region lies for kernels; `None` if it is not aligned as they want it.
    pub(crate) fn address(&self, extent: Extent) -> Option<u64> {
        let address = self.processor.address(&*self.region, extent)?;
        address.is_multiple_of(self.processor.alignment().get()).then_some(address)
    }

    /// Starts recording a run.
    pub(crate) fn record(self: &Rc<Self>) -> Scope<'_> {
        self.open(Ledger::Recording(Record::default()))
    }

    /// Starts a run by `plan`, with its scratch at the address `scratch` and its outputs at `outputs`.
    pub(crate) fn serve(&self, plan: &Rc<Plan>, scratch: u64, outputs: &Rc<[u64]>) -> Scope<'_> {
        let (plan, outputs) = (Rc::clone(plan), Rc::clone(outputs));
        self.open(Ledger::Serving(Service { plan, next: 0, scratch, outputs }))
    }

    fn open(&self, ledger: Ledger) -> Scope<'_> {
        self.ledger.replace(ledger);
        self.run.set(self.run.get() + 1);
        Scope { charge: self, previous: CURRENT.replace(ptr::from_ref(self)), not_send: PhantomData }
    }

    /// The first refusal since the last call, if any.
    pub(crate) fn take_refusal(&self) -> Option<Refusal> {
        self.refusal.take()
    }

    /// Remembers why something was refused, for the caller of the vendor.
    pub(crate) fn refuse(&self, refusal: Refusal) {
        self.refusal.borrow_mut().get_or_insert(refusal);
    }

    /// Serves a piece of memory and returns its address; `None` after a refusal, which is remembered.
    pub(crate) fn take(&self, bytes: u64) -> Option<u64> {
        match &mut *self.ledger.borrow_mut() {
            Ledger::Closed => {
                self.refuse(Refusal::Unexpected("the module asks for memory outside of a run".to_owned()));
                None
            }
            Ledger::Recording(record) => self.take_recorded(record, bytes),
            Ledger::Serving(service) => {
                let served = service.serve(bytes);
                if served.is_none() {
                    let (asked, expected) = (service.next, service.plan.slots.len());
                    self.refuse(Refusal::Unexpected(format!(
                        "request {asked} of {expected} is for {bytes} bytes, which is not what the module asked for \
                         when it was loaded"
                    )));
                }
                served
            }
        }
    }

    fn take_recorded(&self, record: &mut Record, bytes: u64) -> Option<u64> {
        let asked = Bytes::new(bytes.max(1));
        let extent = match self.grant.allocate(MemoryClass::Scratch, asked, self.processor.alignment()) {
            Ok(extent) => extent,
            Err(refused) => {
                self.refuse(Refusal::Grant(refused));
                return None;
            }
        };
        let Some(address) = self.address(extent) else {
            self.grant.free(MemoryClass::Scratch, extent);
            self.refuse(Refusal::Unexpected("the grant's memory is not aligned".to_owned()));
            return None;
        };
        let born = record.tick();
        record.taken.push(Taken { extent, address, bytes, born, died: None });
        Some(address)
    }

    /// Takes back a piece of memory that a run asked for.
    pub(crate) fn give_back(&self, address: u64) {
        if let Ledger::Recording(record) = &mut *self.ledger.borrow_mut() {
            let now = record.tick();
            let alive = |taken: &&mut Taken| taken.address == address && taken.died.is_none();
            if let Some(taken) = record.taken.iter_mut().find(alive) {
                taken.died = Some(now);
                self.grant.free(MemoryClass::Scratch, taken.extent);
            }
        }
    }

    /// Serves a piece of memory as an object of the vendor, with one reference to it.
    pub(crate) fn take_storage(&self, bytes: u64) -> Option<NonNull<Storage>> {
        let address = self.take(bytes)?;
        let idle = self.idle.borrow_mut().pop();
        let mut storage = idle.unwrap_or_else(|| self.make_object());
        // SAFETY: wants a live object that nobody else uses: objects live until the charge is dropped, and this one
        //  was idle or was just made.
        unsafe { storage.as_mut() }.put(address, bytes, self.processor.device(), self.run.get());
        Some(storage)
    }

    /// One more object; only the first runs make any.
    fn make_object(&self) -> NonNull<Storage> {
        let storage = Box::leak(Storage::idle(self.storage_kind, ptr::from_ref(self)));
        let storage = NonNull::from(storage);
        let mut objects = self.objects.borrow_mut();
        objects.push(storage);
        // So that giving objects back never allocates.
        self.idle.borrow_mut().reserve(objects.len());
        storage
    }

    /// Called when the vendor uses an object no more.
    pub(crate) fn storage_unused(&self, storage: NonNull<Storage>, run: u64, address: u64) {
        self.idle.borrow_mut().push(storage);
        if run == self.run.get() {
            self.give_back(address);
        }
    }

    /// Ends the recorded run, gives its memory back, and says what it told. `outputs` are the addresses and sizes of
    /// what it returned.
    ///
    /// # Errors
    /// Which output is not computed by the module, in its order.
    pub(crate) fn recorded(&self, outputs: &[(u64, u64)]) -> Result<Recorded, usize> {
        let record = self.close().ok_or(0_usize)?;
        record.conclude(outputs, self.processor.alignment().get())
    }

    /// Ends a run. What a recorded one took is given back.
    fn close(&self) -> Option<Record> {
        let Ledger::Recording(record) = self.ledger.replace(Ledger::Closed) else { return None };
        for taken in record.taken.iter().filter(|taken| taken.died.is_none()) {
            self.grant.free(MemoryClass::Scratch, taken.extent);
        }
        Some(record)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        for mut storage in self.objects.take() {
            // SAFETY: wants a live object that nobody else writes meanwhile: none was freed before.
            let object = unsafe { storage.as_mut() };
            if object.is_idle() {
                // SAFETY: wants the pointer that a box was leaked as, once: the list holds each object once.
                drop(unsafe { Box::from_raw(storage.as_ptr()) });
            } else {
                // The vendor still holds it, which it does not once a model is dropped in order; leaked, not freed.
                object.forget_charge();
            }
        }
    }
}

impl Record {
    fn tick(&mut self) -> u32 {
        self.clock += 1;
        self.clock
    }

    fn conclude(self, outputs: &[(u64, u64)], align: u64) -> Result<Recorded, usize> {
        let mut claimed = vec![None; self.taken.len()];
        let mut elsewhere = Vec::new();
        for (index, &(address, bytes)) in outputs.iter().enumerate() {
            let alive = |taken: &Taken| taken.died.is_none();
            let whole = |(at, taken): &(usize, &Taken)| {
                alive(taken) && taken.address == address && taken.bytes == bytes && claimed[*at].is_none()
            };
            let inside = |(_, taken): &(usize, &Taken)| {
                let end = taken.address.checked_add(taken.bytes);
                let fits = address.checked_add(bytes).zip(end).is_some_and(|(own, end)| own <= end);
                alive(taken) && address >= taken.address && fits
            };
            let pieces = || self.taken.iter().enumerate();
            if let Some((at, _)) = pieces().find(whole) {
                claimed[at] = Some(index);
            } else if let Some((at, taken)) = pieces().find(inside) {
                elsewhere.push((index, at, address - taken.address));
            } else {
                return Err(index);
            }
        }
        // What an output is copied from must not be another output's buffer.
        for source in 0..elsewhere.len() {
            let (_, at, _) = elsewhere[source];
            if let Some(output) = claimed[at].take() {
                elsewhere.push((output, at, 0));
            }
        }
        let interval = |(taken, output): (&Taken, &Option<usize>)| Interval {
            bytes: taken.bytes,
            born: taken.born,
            died: taken.died.unwrap_or(u32::MAX),
            output: *output,
        };
        let intervals: Vec<Interval> = self.taken.iter().zip(&claimed).map(interval).collect();
        let plan = Plan::lay_out(&intervals, align).ok_or(0_usize)?;
        let copies = elsewhere
            .into_iter()
            .filter_map(|(output, at, within)| match plan.slots[at].place {
                Place::Scratch(offset) => Some((output, offset + within)),
                Place::Output(_) => None,
            })
            .collect();
        Ok(Recorded { plan, copies, requests: self.taken.len() })
    }
}

impl Service {
    fn serve(&mut self, bytes: u64) -> Option<u64> {
        let slot = self.plan.slots.get(self.next).filter(|slot| slot.bytes == bytes)?;
        self.next += 1;
        match slot.place {
            Place::Scratch(offset) => self.scratch.checked_add(offset),
            Place::Output(index) => self.outputs.get(index).copied(),
        }
    }
}

/// While it lives, allocations on this thread are charged to one model.
pub(crate) struct Scope<'c> {
    charge: &'c Charge,
    previous: *const Charge,
    /// The thread that entered is the one whose memory is restored.
    not_send: PhantomData<*const ()>,
}

impl Scope<'_> {
    /// Ends a served run. Whether it asked for everything that the plan holds.
    pub(crate) fn complete(self) -> bool {
        match self.charge.ledger.replace(Ledger::Closed) {
            Ledger::Serving(service) => service.next == service.plan.slots.len(),
            Ledger::Closed | Ledger::Recording(_) => false,
        }
    }
}

impl Drop for Scope<'_> {
    fn drop(&mut self) {
        CURRENT.set(self.previous);
        drop(self.charge.close());
    }
}

/// The model at work on this thread, as an address: `None` outside of every [`Scope`].
///
/// It stays valid while the scope lives, which is at least as long as the call into the library that asks for it.
pub(crate) fn current() -> Option<NonNull<Charge>> {
    NonNull::new(CURRENT.get().cast_mut())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record of pieces: address, size, and when each was given back.
    fn record(pieces: &[(u64, u64, Option<u32>)]) -> Record {
        let taken = |(born, &(address, bytes, died)): (u32, &(u64, u64, Option<u32>))| Taken {
            extent: Extent { offset: Bytes::new(address), len: Bytes::new(bytes) },
            address,
            bytes,
            born,
            died,
        };
        Record { clock: 100, taken: (0..).zip(pieces).map(taken).collect() }
    }

    #[test]
    fn an_output_that_is_a_piece_of_its_own_is_served_from_its_buffer() {
        // The first piece lay where the third lies, and is gone.
        let record = record(&[(0, 64, Some(2)), (64, 40, Some(9)), (0, 64, None)]);
        let Recorded { plan, copies, requests } = record.conclude(&[(0, 64)], 64).expect("found");
        assert_eq!((plan.slots[2].place, copies.len(), requests), (Place::Output(0), 0, 3));
        assert_eq!(plan.scratch, 128);
    }

    #[test]
    fn an_output_inside_of_a_larger_piece_is_copied_from_there() {
        let record = record(&[(0, 256, None), (256, 64, None)]);
        let Recorded { plan, copies, .. } = record.conclude(&[(128, 64), (256, 64)], 64).expect("found");
        assert_eq!(copies, [(0, 128)]);
        assert_eq!(plan.slots[1].place, Place::Output(1));
    }

    #[test]
    fn outputs_that_share_a_piece_are_all_copied() {
        let record = record(&[(512, 64, None)]);
        let Recorded { plan, copies, .. } = record.conclude(&[(512, 64), (512, 64)], 64).expect("found");
        assert_eq!(copies, [(1, 0), (0, 0)]);
        assert_eq!((plan.slots[0].place, plan.scratch), (Place::Scratch(0), 64));
    }

    #[test]
    fn an_output_that_lies_elsewhere_is_named() {
        let pieces = [(0, 64, Some(1)), (64, 64, None)];
        assert_eq!(record(&pieces).conclude(&[(64, 64), (4096, 4)], 64).err(), Some(1));
        assert_eq!(
            record(&pieces).conclude(&[(0, 64)], 64).err(),
            Some(0),
            "what was given back holds nothing"
        );
    }
}
