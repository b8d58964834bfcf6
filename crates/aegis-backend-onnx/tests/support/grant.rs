//! A grant by first fit over two parts of a region: the task's own memory and the lane's scratch.

use std::sync::{Arc, Mutex, MutexGuard};

use aegis_types::{Bytes, Extent, GrantRefused, MemoryClass, MemoryGrant, TaskId};

/// What the grant lends and has lent; the test keeps one end, the model the other.
#[derive(Clone)]
pub struct Book(Arc<Mutex<Pages>>);

struct Pages {
    own: Extent,
    scratch: Extent,
    lent: Vec<(MemoryClass, Extent)>,
    used: [u64; 3],
    high: [u64; 3],
    /// Every piece of scratch that was ever lent, in order.
    scratch_lent: Vec<Extent>,
}

impl Book {
    /// `own` bytes for the task, then `scratch` bytes of the lane.
    pub fn new(own: u64, scratch: u64) -> Self {
        let extent = |offset, len| Extent { offset: Bytes::new(offset), len: Bytes::new(len) };
        let scratch_start = own.next_multiple_of(4096);
        Self(Arc::new(Mutex::new(Pages {
            own: extent(0, own),
            scratch: extent(scratch_start, scratch),
            lent: Vec::with_capacity(4096),
            used: [0; 3],
            high: [0; 3],
            scratch_lent: Vec::new(),
        })))
    }

    pub fn grant(&self) -> Box<dyn MemoryGrant> {
        Box::new(self.clone())
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().expect("nothing panics while it holds the pages")
    }

    /// Size of the region that both parts lie in.
    pub fn region_size(&self) -> Bytes {
        self.scratch().end().expect("small")
    }

    pub fn scratch(&self) -> Extent {
        self.pages().scratch
    }

    pub fn nothing_lent(&self) -> bool {
        self.pages().lent.is_empty()
    }

    pub fn scratch_requests(&self) -> u64 {
        self.scratch_lent().len() as u64
    }

    pub fn scratch_lent(&self) -> Vec<Extent> {
        self.pages().scratch_lent.clone()
    }
}

impl MemoryGrant for Book {
    fn owner(&self) -> TaskId {
        TaskId::new(7)
    }

    fn allocate(&self, class: MemoryClass, bytes: Bytes, align: Bytes) -> Result<Extent, GrantRefused> {
        let mut pages = self.pages();
        let part = if class == MemoryClass::Scratch { pages.scratch } else { pages.own };
        let (asked, end) = (bytes.get(), part.end().expect("small").get());
        let mut start = part.offset.get().next_multiple_of(align.get());
        for (_, taken) in &pages.lent {
            let inside = taken.offset.get() >= part.offset.get() && taken.offset.get() < end;
            if inside && start + asked > taken.offset.get() {
                start = start.max(taken.end().expect("small").get()).next_multiple_of(align.get());
            }
        }
        let of = |class: MemoryClass| pages.used[class as usize];
        if start + asked > end {
            let used = match class {
                MemoryClass::Scratch => of(class),
                _ => of(MemoryClass::Persistent) + of(MemoryClass::Exchange),
            };
            let (used, limit) = (Bytes::new(used), part.len);
            return Err(GrantRefused { owner: self.owner(), class, asked: bytes, used, limit });
        }
        let extent = Extent { offset: Bytes::new(start), len: bytes };
        let at = pages.lent.partition_point(|(_, other)| other.offset < extent.offset);
        pages.lent.insert(at, (class, extent));
        if class == MemoryClass::Scratch {
            pages.scratch_lent.push(extent);
        }
        pages.used[class as usize] += asked;
        pages.high[class as usize] = pages.high[class as usize].max(pages.used[class as usize]);
        Ok(extent)
    }

    fn free(&self, class: MemoryClass, extent: Extent) {
        let mut pages = self.pages();
        let at = pages.lent.iter().position(|&lent| lent == (class, extent));
        pages.lent.remove(at.expect("only what was lent is given back"));
        pages.used[class as usize] -= extent.len.get();
    }

    fn used(&self, class: MemoryClass) -> Bytes {
        Bytes::new(self.pages().used[class as usize])
    }

    fn high_water(&self, class: MemoryClass) -> Bytes {
        Bytes::new(self.pages().high[class as usize])
    }
}
