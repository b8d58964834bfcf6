//! Tensors of the vendor over memory of ours, handed over through DLPack.

use std::ffi::c_void;
use std::ptr;

use aegis_cuda::ElementType;

use crate::abi::{self, DLPACK_VERSION, DataType, Device, DlTensor, ManagedTensor};
use crate::api::{Api, Reason};
use crate::object::{Object, raised};

/// Where a tensor lies and what it holds.
#[derive(Clone, Copy)]
pub(crate) struct Tensor<'a> {
    /// The address on its device.
    pub address: u64,
    /// Whose memory it is.
    pub device: Device,
    /// Type of the elements.
    pub element: ElementType,
    /// Length of each axis.
    pub shape: &'a [u64],
}

/// What lives as long as the vendor holds the tensor. The vendor sees the first field.
#[repr(C)]
struct Described {
    managed: ManagedTensor,
    shape: Vec<i64>,
    strides: Vec<i64>,
}

impl Tensor<'_> {
    /// Makes the vendor's object of it.
    ///
    /// # Safety
    /// The memory is at least as large as the tensor, aligned as kernels want it, and alive while the object is used.
    ///
    /// # Errors
    /// The vendor's message.
    pub(crate) unsafe fn make(self, api: &'static Api) -> Result<Object, Reason> {
        let shape = signed(self.shape)?;
        let strides = strides(&shape);
        let dimensions = i32::try_from(shape.len()).map_err(|_| "too many axes".to_owned())?;
        let address =
            usize::try_from(self.address).map_err(|_| "an address beyond this machine".to_owned())?;
        let tensor = DlTensor {
            // The memory was made elsewhere, on a GPU perhaps: only its address is known here.
            data: ptr::with_exposed_provenance_mut::<c_void>(address),
            device: self.device,
            dimensions,
            data_type: data_type(self.element),
            shape: ptr::null_mut(),
            strides: ptr::null_mut(),
            byte_offset: 0,
        };
        let managed = ManagedTensor {
            version: DLPACK_VERSION,
            context: ptr::null_mut(),
            deleter: Some(end),
            flags: 0,
            tensor,
        };
        let mut described = Box::new(Described { managed, shape, strides });
        described.managed.tensor.shape = described.shape.as_mut_ptr();
        described.managed.tensor.strides = described.strides.as_mut_ptr();
        let described = Box::into_raw(described);
        let mut made = abi::no_object();
        // SAFETY: wants a description that lives until its deleter is called, which is when the object ends. What it
        //  describes is the caller's promise. A refused description is leaked: who owns it then is not written down.
        let code = unsafe { (api.tensor_from_dlpack)(described.cast(), 0, 1, &raw mut made) };
        if code != 0 {
            return Err(raised(api));
        }
        // SAFETY: the library handed the reference over.
        unsafe { Object::take(api, made) }.ok_or_else(|| "TVM made no tensor".to_owned())
    }
}

/// Ends a description. Called by the vendor, once.
unsafe extern "C" fn end(managed: *mut ManagedTensor) {
    // SAFETY: wants the pointer that `Box::into_raw` gave, once: the vendor passes back what it was handed, and the
    //  managed tensor is the first field of the whole.
    drop(unsafe { Box::from_raw(managed.cast::<Described>()) });
}

fn signed(shape: &[u64]) -> Result<Vec<i64>, Reason> {
    let axis = |&length: &u64| i64::try_from(length).map_err(|_| format!("an axis of length {length}"));
    shape.iter().map(axis).collect()
}

/// Steps between neighbours on each axis of a tensor without gaps.
fn strides(shape: &[i64]) -> Vec<i64> {
    let mut strides = vec![1_i64; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
    }
    strides
}

/// An element type as DLPack writes it: 0 is signed, 1 unsigned, 2 floating, 4 brain floating, 6 truth.
pub(crate) const fn data_type(element: ElementType) -> DataType {
    let (code, bits) = match element {
        ElementType::F16 => (2, 16),
        ElementType::Bf16 => (4, 16),
        ElementType::F32 => (2, 32),
        ElementType::F64 => (2, 64),
        ElementType::I8 => (0, 8),
        ElementType::I16 => (0, 16),
        ElementType::I32 => (0, 32),
        ElementType::I64 => (0, 64),
        ElementType::U8 => (1, 8),
        ElementType::U16 => (1, 16),
        ElementType::U32 => (1, 32),
        ElementType::U64 => (1, 64),
        ElementType::Bool => (6, 8),
    };
    DataType { code, bits, lanes: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_are_those_of_a_tensor_without_gaps() {
        assert_eq!(strides(&[2, 3, 4]), [12, 4, 1]);
        assert_eq!(strides(&[5]), [1]);
        assert_eq!(strides(&[]), [] as [i64; 0]);
    }

    #[test]
    fn data_types_have_the_size_of_their_elements() {
        for element in
            [ElementType::F16, ElementType::Bf16, ElementType::F64, ElementType::I32, ElementType::Bool]
        {
            assert_eq!(u64::from(data_type(element).bits) / 8, element.size().get(), "{element:?}");
        }
    }
}
