//! Memory lent to tasks: the plan's extents, each behind an arena, reserved in the ledger as long as a grant lives.
//!
//! A task's persistent and exchange arenas are its own. The lane's scratch arena is shared by the grants of the lane
//! behind a lock that nobody contends for: the lane has one segment in flight, so one grant at a time is in use. The
//! lock makes grants movable to the lane's thread; the rule of the lane makes the sharing sound.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aegis_types::{Bytes, Extent, GrantRefused, LaneId, MemoryClass, MemoryGrant, Sink, TaskId, Time};

use crate::arena::{Arena, ArenaError};
use crate::error::MemoryError;
use crate::exchange::Exchange;
use crate::ledger::{Ledger, Reservation};
use crate::plan::{LaneScratch, MemoryPlan, TaskShare};

/// A plan that is entered in a ledger. Dropping it undoes that, and so does dropping the grants made of it.
#[derive(Debug)]
#[must_use = "dropping a plan's reservation gives the bytes back"]
pub struct PlanReservation {
    plan: MemoryPlan,
    /// As the plan's tasks.
    tasks: Vec<Reservation>,
    /// As the plan's lanes, in the name of each lane's holder.
    lanes: Vec<Reservation>,
}

impl PlanReservation {
    /// Reserves the plan's peak: each task's private bytes in its name, each lane's scratch in the name of its holder.
    /// One record for each.
    ///
    /// # Errors
    /// [`MemoryError::OverCapacity`] for the first that does not fit. Those before it are released and recorded, so
    /// nothing changed.
    pub fn reserve(
        plan: MemoryPlan,
        ledger: &Ledger,
        sink: &mut dyn Sink,
        now: Time,
    ) -> Result<Self, MemoryError> {
        let private = plan.tasks().iter().map(|share| (share.task, share.private));
        let scratch = plan.lanes().iter().map(|lane| (lane.holder, lane.charged));
        let mut tasks = Vec::with_capacity(plan.tasks().len() + plan.lanes().len());
        for (task, bytes) in private.chain(scratch) {
            match ledger.reserve(task, bytes, sink, now) {
                Ok(reservation) => tasks.push(reservation),
                Err(error) => {
                    tasks.into_iter().rev().for_each(|undone| undone.release(sink, now));
                    return Err(error);
                }
            }
        }
        let lanes = tasks.split_off(plan.tasks().len());
        Ok(Self { plan, tasks, lanes })
    }

    /// The plan.
    pub const fn plan(&self) -> &MemoryPlan {
        &self.plan
    }

    /// Gives everything back and records it.
    pub fn release(self, sink: &mut dyn Sink, now: Time) {
        self.tasks.into_iter().chain(self.lanes).for_each(|reservation| reservation.release(sink, now));
    }

    /// Turns the reservation into grants. Each arena gets a table of `lines` lines, allocated here and never again: two
    /// for each block that a task holds at once is always enough, and one more.
    pub fn into_grants(self, lines: usize) -> Vec<LaneGrants> {
        self.into_grants_with(lines, |_| Vec::new())
    }

    /// As [`into_grants`](Self::into_grants), where `blocks` lists the blocks that a task will take of its exchange
    /// memory. Where they are all that the plan has for it, they come out of a pool: each in constant time, however many
    /// there are, and no other sizes. No blocks mean that they are not known.
    pub fn into_grants_with(self, lines: usize, blocks: impl Fn(TaskId) -> Vec<Bytes>) -> Vec<LaneGrants> {
        let align = self.plan.parts().align;
        let mut lanes: Vec<LaneGrants> = Vec::with_capacity(self.lanes.len());
        let mut shared = Vec::with_capacity(self.lanes.len());
        for (lane, reservation) in self.plan.lanes().iter().zip(self.lanes) {
            shared.push(Arc::new(SharedScratch::new(lane, lines, reservation)));
            lanes.push(LaneGrants { lane: lane.lane, tasks: Vec::new() });
        }
        for (share, reservation) in self.plan.tasks().iter().zip(self.tasks) {
            let found = lanes.binary_search_by_key(&share.lane, |lane| lane.lane);
            let at = found.expect("a verified plan lists the lane of every task");
            let exchange = Exchange::new(share.exchange, lines, &blocks(share.task), align);
            let scratch = Arc::clone(&shared[at]);
            lanes[at].tasks.push(TaskGrant::new(share, lines, exchange, reservation, scratch));
        }
        lanes
    }
}

/// The grants of one lane, to be moved to the thread that carries its segments.
#[derive(Debug)]
pub struct LaneGrants {
    /// The lane.
    pub lane: LaneId,
    /// One for each of its tasks, by rising number.
    pub tasks: Vec<TaskGrant>,
}

/// A lane's scratch with the reservation behind it; lives until the last grant of the lane is gone.
#[derive(Debug)]
struct SharedScratch {
    arena: Mutex<Arena>,
    reservation: Reservation,
}

impl SharedScratch {
    fn new(lane: &LaneScratch, lines: usize, reservation: Reservation) -> Self {
        Self { arena: Mutex::new(Arena::new(lane.extent, lines)), reservation }
    }

    /// The arena's own state is whole whenever a caller panics, so poison means nothing here.
    fn with<T>(&self, act: impl FnOnce(&mut Arena) -> T) -> T {
        act(&mut self.arena.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The memory of one task.
///
/// A request beyond the task's own share is refused and counted, and changes nothing for others. In scratch a task is
/// confined to the first bytes of the lane's extent, as many as it demanded, so its offsets are those of a private
/// arena as long as its lane-mates leave nothing behind between segments.
#[derive(Debug)]
pub struct TaskGrant {
    owner: TaskId,
    lane: LaneId,
    persistent: RefCell<Arena>,
    exchange: RefCell<Exchange>,
    scratch: Arc<SharedScratch>,
    /// The limit inside the lane's scratch.
    shared: Bytes,
    usage: Arc<TaskUsage>,
    reservation: Reservation,
}

impl TaskGrant {
    fn new(
        share: &TaskShare,
        lines: usize,
        exchange: Exchange,
        reservation: Reservation,
        scratch: Arc<SharedScratch>,
    ) -> Self {
        Self {
            owner: share.task,
            lane: share.lane,
            persistent: RefCell::new(Arena::new(share.persistent, lines)),
            exchange: RefCell::new(exchange),
            scratch,
            shared: share.shared,
            usage: Arc::default(),
            reservation,
        }
    }

    /// The lane whose scratch it shares.
    pub const fn lane(&self) -> LaneId {
        self.lane
    }

    /// What the task may hold of `class`.
    pub fn limit(&self, class: MemoryClass) -> Bytes {
        match class {
            MemoryClass::Persistent => self.persistent.borrow().extent().len,
            MemoryClass::Exchange => self.exchange.borrow().extent().len,
            MemoryClass::Scratch => self.shared,
        }
    }

    /// The counters of this grant, readable from any thread while it is in use.
    pub fn usage(&self) -> Arc<TaskUsage> {
        Arc::clone(&self.usage)
    }

    /// Takes back whatever scratch the task still holds and returns how much that was. For a segment that failed
    /// halfway, so that its lane-mates find the scratch empty.
    pub fn reclaim_scratch(&self) -> Bytes {
        let freed = self.scratch.with(|arena| arena.free_all(self.owner));
        self.usage.freed(MemoryClass::Scratch, freed);
        freed
    }

    /// Gives the task's reservation back and records it; the last grant of a lane also gives back the lane's scratch.
    pub fn retire(self, sink: &mut dyn Sink, now: Time) {
        self.reservation.release(sink, now);
        if let Some(scratch) = Arc::into_inner(self.scratch) {
            scratch.reservation.release(sink, now);
        }
    }

    /// Lends of `class`, and says what is lent and where the class's memory begins.
    fn lend(&self, class: MemoryClass, bytes: Bytes, align: Bytes) -> (Option<Extent>, Bytes, Bytes) {
        let lend = |arena: &mut Arena| {
            let lent = arena.allocate_within(self.owner, bytes, align, self.limit_of(class, arena.extent()));
            (lent.ok(), arena.used(), arena.extent().offset)
        };
        match class {
            MemoryClass::Persistent => lend(&mut self.persistent.borrow_mut()),
            MemoryClass::Scratch => self.scratch.with(lend),
            MemoryClass::Exchange => {
                let mut exchange = self.exchange.borrow_mut();
                let lent = exchange.allocate(self.owner, bytes, align);
                (lent, exchange.used(), exchange.extent().offset)
            }
        }
    }

    /// The limit inside an arena of `class`.
    const fn limit_of(&self, class: MemoryClass, extent: Extent) -> Bytes {
        match class {
            MemoryClass::Scratch => self.shared,
            MemoryClass::Persistent | MemoryClass::Exchange => extent.len,
        }
    }
}

impl MemoryGrant for TaskGrant {
    fn owner(&self) -> TaskId {
        self.owner
    }

    fn allocate(&self, class: MemoryClass, bytes: Bytes, align: Bytes) -> Result<Extent, GrantRefused> {
        let (lent, used, start) = self.lend(class, bytes, align);
        match lent {
            Some(extent) => {
                // The end of a zero-length extent may be aligned past the arena, but it holds nothing.
                let reach = extent.end().filter(|_| !bytes.is_zero()).unwrap_or(start).saturating_sub(start);
                self.usage.lent(class, bytes, reach);
                Ok(extent)
            }
            None => {
                self.usage.refusals.fetch_add(1, Ordering::Relaxed);
                let limit = self.limit(class);
                Err(GrantRefused { owner: self.owner, class, asked: bytes, used, limit })
            }
        }
    }

    fn free(&self, class: MemoryClass, extent: Extent) {
        let outcome: Result<(), ArenaError> = match class {
            MemoryClass::Persistent => self.persistent.borrow_mut().free(self.owner, extent),
            MemoryClass::Exchange => self.exchange.borrow_mut().free(self.owner, extent),
            MemoryClass::Scratch => self.scratch.with(|arena| arena.free(self.owner, extent)),
        };
        match outcome {
            Ok(()) => self.usage.freed(class, extent.len),
            Err(error) => panic!("{class:?} memory: {error}: freed twice, or lent by another grant"),
        }
    }

    fn used(&self, class: MemoryClass) -> Bytes {
        self.usage.snapshot().used(class)
    }

    fn high_water(&self, class: MemoryClass) -> Bytes {
        self.usage.snapshot().high_water(class)
    }
}

/// Counters of one grant. Its thread writes them; any thread may read them. Each counter is exact; a snapshot taken
/// while the task allocates may mix two moments.
#[derive(Debug, Default)]
pub struct TaskUsage {
    used: [AtomicU64; 3],
    high_water: [AtomicU64; 3],
    refusals: AtomicU64,
}

impl TaskUsage {
    /// The counters as they stand.
    pub fn snapshot(&self) -> UsageSnapshot {
        let read = |counters: &[AtomicU64; 3]| {
            [0, 1, 2].map(|slot: usize| Bytes::new(counters[slot].load(Ordering::Relaxed)))
        };
        UsageSnapshot {
            used: read(&self.used),
            high_water: read(&self.high_water),
            refusals: self.refusals.load(Ordering::Relaxed),
        }
    }

    fn lent(&self, class: MemoryClass, bytes: Bytes, reach: Bytes) {
        self.used[slot(class)].fetch_add(bytes.get(), Ordering::Relaxed);
        self.high_water[slot(class)].fetch_max(reach.get(), Ordering::Relaxed);
    }

    fn freed(&self, class: MemoryClass, bytes: Bytes) {
        self.used[slot(class)].fetch_sub(bytes.get(), Ordering::Relaxed);
    }
}

/// The counters of one grant at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageSnapshot {
    used: [Bytes; 3],
    high_water: [Bytes; 3],
    refusals: u64,
}

impl UsageSnapshot {
    /// Bytes of `class` lent.
    pub const fn used(&self, class: MemoryClass) -> Bytes {
        self.used[slot(class)]
    }

    /// The farthest end of any block of `class` ever lent, from the start of its extent.
    pub const fn high_water(&self, class: MemoryClass) -> Bytes {
        self.high_water[slot(class)]
    }

    /// Requests that were refused.
    pub const fn refusals(&self) -> u64 {
        self.refusals
    }
}

const fn slot(class: MemoryClass) -> usize {
    match class {
        MemoryClass::Persistent => 0,
        MemoryClass::Exchange => 1,
        MemoryClass::Scratch => 2,
    }
}
