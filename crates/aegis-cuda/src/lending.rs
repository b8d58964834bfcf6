//! The book of the extents of one region that are lent: what keeps safe code from reaching a byte twice at a time.

use std::sync::{Mutex, MutexGuard, PoisonError};

use aegis_types::{Bytes, Extent};

use crate::error::DeviceError;

/// Lent extents of a region.
#[derive(Debug)]
pub(crate) struct LentBook {
    size: Bytes,
    /// Sorted by offset; none overlap.
    lent: Mutex<Vec<Extent>>,
}

impl LentBook {
    /// The book of a region of `size`, nothing lent.
    pub(crate) fn new(size: Bytes) -> Self {
        Self { size, lent: Mutex::new(Vec::with_capacity(64)) }
    }

    /// The region's size.
    pub(crate) const fn size(&self) -> Bytes {
        self.size
    }

    /// Marks an extent as lent, as [`DeviceMemory::lend`](crate::DeviceMemory::lend).
    pub(crate) fn lend(&self, extent: Extent) -> Result<(), DeviceError> {
        let bad = |reason| {
            let (offset, len, region) = (extent.offset, extent.len, self.size);
            Err(DeviceError::BadSlice { offset, len, region, reason })
        };
        if !self.contains(extent) {
            return bad("lies outside its region");
        }
        if extent.len.is_zero() {
            return Ok(());
        }
        let mut lent = self.lock();
        let at = lent.partition_point(|other| other.offset < extent.offset);
        let neighbours = [at.checked_sub(1).and_then(|before| lent.get(before)), lent.get(at)];
        if neighbours.into_iter().flatten().any(|other| other.overlaps(&extent)) {
            return bad("shares bytes with a slice that is lent");
        }
        lent.insert(at, extent);
        Ok(())
    }

    /// Marks a lent extent as free, as [`DeviceMemory::take_back`](crate::DeviceMemory::take_back).
    pub(crate) fn take_back(&self, extent: Extent) {
        let mut lent = self.lock();
        if let Ok(at) = lent.binary_search_by(|other| other.offset.cmp(&extent.offset))
            && lent[at] == extent
        {
            lent.remove(at);
        }
    }

    /// Whether an extent lies inside the region.
    pub(crate) fn contains(&self, extent: Extent) -> bool {
        extent.end().is_some_and(|end| end <= self.size)
    }

    /// Poisoning is ignored: no operation leaves the book half changed.
    fn lock(&self) -> MutexGuard<'_, Vec<Extent>> {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
