//! Pieces of the grant that this crate and not the vendor asks for: parameters, and buffers of the warm-up.

use std::rc::Rc;

use aegis_cuda::{BackendError, DeviceError, DeviceSlice, TensorSpec};
use aegis_types::{Bytes, Extent, MemoryClass};

use crate::charge::Charge;

/// Parameters in the model's own memory, for as long as it is loaded.
pub(crate) struct Held {
    charge: Rc<Charge>,
    extent: Extent,
    address: u64,
    /// `None` only while being dropped.
    slice: Option<DeviceSlice>,
}

impl Held {
    /// Takes memory for `bytes` and copies them there; `None` for no bytes.
    ///
    /// # Errors
    /// [`BackendError::Memory`] if the budget is exceeded, the region's own if it cannot lend.
    pub(crate) fn fill(charge: &Rc<Charge>, model: &str, bytes: &[u8]) -> Result<Option<Self>, BackendError> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let asked = Bytes::new(bytes.len() as u64);
        let align = charge.processor().alignment();
        let extent = charge
            .grant()
            .allocate(MemoryClass::Persistent, asked, align)
            .map_err(|source| BackendError::Memory { model: model.to_owned(), source })?;
        // From here on dropping it gives the memory back.
        let mut held = Self { charge: Rc::clone(charge), extent, address: 0, slice: None };
        let slice = DeviceSlice::lend(charge.region(), Extent { offset: extent.offset, len: asked })?;
        held.address = charge.address(extent).ok_or_else(|| unusable(&slice))?;
        slice.write(bytes);
        held.slice = Some(slice);
        Ok(Some(held))
    }

    /// Where it starts.
    pub(crate) const fn address(&self) -> u64 {
        self.address
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.slice.take());
        self.charge.grant().free(MemoryClass::Persistent, self.extent);
    }
}

/// Buffers for the warm-up, given back when dropped.
pub(crate) struct Temporaries<'c> {
    charge: &'c Charge,
    extents: Vec<Extent>,
}

impl<'c> Temporaries<'c> {
    /// None yet.
    pub(crate) const fn new(charge: &'c Charge) -> Self {
        Self { charge, extents: Vec::new() }
    }

    /// One buffer for each tensor.
    ///
    /// # Errors
    /// [`BackendError::Memory`] if the budget is exceeded, the region's own if it cannot lend.
    pub(crate) fn slices(
        &mut self,
        model: &str,
        specs: &[TensorSpec],
    ) -> Result<Vec<Rc<DeviceSlice>>, BackendError> {
        let mut slices = Vec::with_capacity(specs.len());
        for spec in specs {
            let extent = self
                .charge
                .grant()
                .allocate(MemoryClass::Exchange, spec.bytes, self.charge.processor().alignment())
                .map_err(|source| BackendError::Memory { model: model.to_owned(), source })?;
            self.extents.push(extent);
            // An allocator may round up; the binding wants the tensor's own size.
            let exact = Extent { offset: extent.offset, len: spec.bytes };
            slices.push(Rc::new(DeviceSlice::lend(self.charge.region(), exact)?));
        }
        Ok(slices)
    }
}

impl Drop for Temporaries<'_> {
    fn drop(&mut self) {
        for &extent in &self.extents {
            self.charge.grant().free(MemoryClass::Exchange, extent);
        }
    }
}

fn unusable(slice: &DeviceSlice) -> DeviceError {
    let Extent { offset, len } = slice.extent();
    let reason = "is not aligned memory of the model's device";
    DeviceError::BadSlice { offset, len, region: slice.region().size(), reason }
}
