//! Who holds how much of a device.
//!
//! The book is locked for a few instructions at admission and at the end of a task, never while serving.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aegis_types::records::{MemoryRefused, MemoryReleased, MemoryReserved};
use aegis_types::{Bytes, Record, Sink, TaskId, Time};

use crate::error::MemoryError;
use crate::pressure::{Pressure, PressureChanged, Thresholds};

/// The reservations of one device. Clones are handles to the same ledger.
#[derive(Clone, Debug)]
pub struct Ledger {
    book: Arc<Mutex<Book>>,
}

#[derive(Debug)]
struct Book {
    capacity: Bytes,
    reserved: Bytes,
    thresholds: Thresholds,
    /// Bytes by task, without tasks that hold none.
    tasks: BTreeMap<TaskId, Bytes>,
}

impl Ledger {
    /// An empty ledger for a device of `capacity`, which knows one level of pressure.
    pub fn new(capacity: Bytes) -> Self {
        Self::with_thresholds(capacity, Thresholds::none())
    }

    /// An empty ledger for a device of `capacity`. Reservations and releases that change the level of pressure are
    /// recorded with the level that they led to; dropped reservations cannot be.
    pub fn with_thresholds(capacity: Bytes, thresholds: Thresholds) -> Self {
        let book = Book { capacity, reserved: Bytes::ZERO, thresholds, tasks: BTreeMap::new() };
        Self { book: Arc::new(Mutex::new(book)) }
    }

    /// Reserves `bytes` for `task`, which may hold several reservations, and records the answer.
    ///
    /// # Errors
    /// [`MemoryError::OverCapacity`] when less is left; nothing changes.
    pub fn reserve(
        &self,
        task: TaskId,
        bytes: Bytes,
        sink: &mut dyn Sink,
        now: Time,
    ) -> Result<Reservation, MemoryError> {
        let mut book = lock(&self.book);
        let (reserved, capacity) = (book.reserved, book.capacity);
        let Some(after) = reserved.checked_add(bytes).filter(|&after| after <= capacity) else {
            drop(book);
            sink.emit(MemoryRefused { task, asked: bytes, used: reserved, limit: capacity }.at(now));
            let fits = capacity.saturating_sub(reserved);
            return Err(MemoryError::OverCapacity { task, asked: bytes, reserved, capacity, fits });
        };
        book.reserved = after;
        let changed = book.changed(task, reserved);
        if !bytes.is_zero() {
            let held = book.tasks.entry(task).or_default();
            // Not above the total, which was checked.
            *held = Bytes::new(held.get() + bytes.get());
        }
        drop(book);
        sink.emit(MemoryReserved { task, bytes, reserved: after, capacity }.at(now));
        tell(changed, sink, now);
        Ok(Reservation { book: Arc::clone(&self.book), task, bytes })
    }

    /// The device's capacity.
    pub fn capacity(&self) -> Bytes {
        lock(&self.book).capacity
    }

    /// Bytes reserved by all tasks.
    pub fn reserved(&self) -> Bytes {
        lock(&self.book).reserved
    }

    /// The largest reservation that would be granted.
    pub fn available(&self) -> Bytes {
        let book = lock(&self.book);
        book.capacity.saturating_sub(book.reserved)
    }

    /// Bytes reserved by one task.
    pub fn held_by(&self, task: TaskId) -> Bytes {
        lock(&self.book).tasks.get(&task).copied().unwrap_or_default()
    }

    /// Bytes by task, for tasks that hold any, by rising number.
    pub fn holders(&self) -> Vec<(TaskId, Bytes)> {
        lock(&self.book).tasks.iter().map(|(&task, &bytes)| (task, bytes)).collect()
    }

    /// How full the device is, with the tasks that hold its memory. A report: nothing is taken from anybody.
    pub fn pressure(&self, thresholds: &Thresholds) -> Pressure {
        let book = lock(&self.book);
        let (reserved, capacity) = (book.reserved, book.capacity);
        let holders = book.tasks.iter().map(|(&task, &bytes)| (task, bytes)).collect();
        drop(book);
        Pressure::of(thresholds, reserved, capacity, holders)
    }
}

/// Bytes that are reserved for a task until this value is dropped. Only a [`Ledger`] makes one.
#[derive(Debug)]
#[must_use = "dropping a reservation gives the bytes back"]
pub struct Reservation {
    book: Arc<Mutex<Book>>,
    task: TaskId,
    bytes: Bytes,
}

impl Reservation {
    /// The task that holds it.
    pub const fn task(&self) -> TaskId {
        self.task
    }

    /// Its size.
    pub const fn bytes(&self) -> Bytes {
        self.bytes
    }

    /// Gives the bytes back and records it. Dropping counts the same, but cannot record.
    pub fn release(mut self, sink: &mut dyn Sink, now: Time) {
        let (task, bytes) = (self.task, self.bytes);
        let (reserved, changed) = self.give_back();
        sink.emit(MemoryReleased { task, bytes, reserved }.at(now));
        tell(changed, sink, now);
    }

    /// Gives the bytes back once and returns what stays reserved on the device, and the level if it is another.
    fn give_back(&mut self) -> (Bytes, Option<PressureChanged>) {
        let bytes = std::mem::take(&mut self.bytes);
        let mut book = lock(&self.book);
        let before = book.reserved;
        book.reserved = before.saturating_sub(bytes);
        let left = book.tasks.get(&self.task).copied().unwrap_or_default().saturating_sub(bytes);
        if left.is_zero() {
            book.tasks.remove(&self.task);
        } else {
            book.tasks.insert(self.task, left);
        }
        (book.reserved, book.changed(self.task, before))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let _left = self.give_back();
    }
}

impl Book {
    /// The level of pressure, if it is another than with `before` bytes reserved.
    fn changed(&self, task: TaskId, before: Bytes) -> Option<PressureChanged> {
        let Self { capacity, reserved, thresholds, .. } = self;
        let level = thresholds.level(*reserved, *capacity);
        let (reserved, capacity) = (*reserved, *capacity);
        // There are at most a handful of thresholds.
        let (highest, now) = (thresholds.percent().len() as u64, level as u64);
        let record = PressureChanged { task, level: now, highest, reserved, capacity };
        (level != thresholds.level(before, capacity)).then_some(record)
    }
}

fn tell(changed: Option<PressureChanged>, sink: &mut dyn Sink, now: Time) {
    if let Some(changed) = changed {
        sink.emit(changed.at(now));
    }
}

/// No code panics between two writes of the book, so a poisoned one is whole.
fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}
