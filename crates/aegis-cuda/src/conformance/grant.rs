//! The grant that the suite lends: exclusive extents inside one given extent, counted.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aegis_types::{Bytes, Extent, GrantRefused, MemoryClass, MemoryGrant, TaskId};

/// A grant for tests: first fit inside one extent, every class exclusive. Clones show the same counts, so that one can
/// be kept while another is lent.
#[derive(Clone, Debug)]
pub struct CountingGrant {
    within: Extent,
    book: Arc<Mutex<Book>>,
}

#[derive(Debug, Default)]
struct Book {
    /// Sorted by offset.
    lent: Vec<(Extent, MemoryClass)>,
    high_water: [Bytes; 3],
    requests: [u64; 3],
}

impl CountingGrant {
    /// A grant of the bytes `within`.
    pub fn new(within: Extent) -> Self {
        Self { within, book: Arc::default() }
    }

    /// Bytes of all classes that are lent.
    pub fn used_total(&self) -> Bytes {
        let sum = self.lock().lent.iter().map(|(extent, _)| extent.len.get()).sum();
        Bytes::new(sum)
    }

    /// How often memory of that class was asked for, granted or not.
    pub fn requests(&self, class: MemoryClass) -> u64 {
        self.lock().requests[class as usize]
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first hole that is large enough.
    fn place(&self, book: &Book, bytes: Bytes, align: Bytes) -> Option<Extent> {
        let end = self.within.end()?;
        let mut offset = self.within.offset.checked_align_up(align)?;
        for (lent, _) in &book.lent {
            if offset.checked_add(bytes)? <= lent.offset {
                break;
            }
            offset = offset.max(lent.end()?.checked_align_up(align)?);
        }
        (offset.checked_add(bytes)? <= end).then_some(Extent { offset, len: bytes })
    }
}

impl Book {
    fn used(&self, class: MemoryClass) -> Bytes {
        let of_class = self.lent.iter().filter(|(_, lent)| *lent == class);
        Bytes::new(of_class.map(|(extent, _)| extent.len.get()).sum())
    }
}

impl MemoryGrant for CountingGrant {
    fn owner(&self) -> TaskId {
        TaskId::new(0)
    }

    fn allocate(&self, class: MemoryClass, bytes: Bytes, align: Bytes) -> Result<Extent, GrantRefused> {
        let mut book = self.lock();
        book.requests[class as usize] += 1;
        let Some(extent) = self.place(&book, bytes, align) else {
            let (used, limit) = (book.used(class), self.within.len);
            return Err(GrantRefused { owner: self.owner(), class, asked: bytes, used, limit });
        };
        if !bytes.is_zero() {
            let at = book.lent.partition_point(|(lent, _)| lent.offset < extent.offset);
            book.lent.insert(at, (extent, class));
            let used = book.used(class);
            let mark = &mut book.high_water[class as usize];
            *mark = used.max(*mark);
        }
        Ok(extent)
    }

    fn free(&self, class: MemoryClass, extent: Extent) {
        if extent.len.is_zero() {
            return;
        }
        let mut book = self.lock();
        let found = book.lent.iter().position(|lent| *lent == (extent, class));
        assert!(found.is_some(), "{extent:?} of {class:?} memory was not lent");
        found.map(|at| book.lent.remove(at));
    }

    fn used(&self, class: MemoryClass) -> Bytes {
        self.lock().used(class)
    }

    fn high_water(&self, class: MemoryClass) -> Bytes {
        self.lock().high_water[class as usize]
    }
}
