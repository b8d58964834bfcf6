//! The vendor's stable C interface as types: layouts that its header declares, written down for this crate alone.
//!
//! Everything here is plain data. What may be done with it stands in [`api`](crate::api) and
//! [`object`](crate::object).

use std::ffi::{c_char, c_void};
use std::ptr;
use std::sync::atomic::AtomicU64;

/// Kinds of values, as the header numbers them.
pub(crate) mod kind {
    pub(crate) const NONE: i32 = 0;
    pub(crate) const INT: i32 = 1;
    pub(crate) const RAW_STRING: i32 = 8;
    pub(crate) const DATA_TYPE: i32 = 5;
    pub(crate) const SMALL_STRING: i32 = 11;
    /// From here on a value is a counted object.
    pub(crate) const FIRST_OBJECT: i32 = 64;
    pub(crate) const STRING: i32 = 65;
    pub(crate) const FUNCTION: i32 = 68;
    pub(crate) const SHAPE: i32 = 69;
    pub(crate) const TENSOR: i32 = 70;
    pub(crate) const ARRAY: i32 = 71;
}

/// Devices, as DLPack numbers them.
pub(crate) const CPU: i32 = 1;
/// A GPU of CUDA.
pub(crate) const CUDA: i32 = 2;

/// A string or byte array that somebody else owns.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct ByteArray {
    pub(crate) data: *const c_char,
    pub(crate) size: usize,
}

impl ByteArray {
    /// A view of `bytes`, for as long as they live.
    pub(crate) const fn of(bytes: &[u8]) -> Self {
        Self { data: bytes.as_ptr().cast(), size: bytes.len() }
    }
}

/// The eight bytes of a value.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) union Payload {
    pub(crate) int: i64,
    pub(crate) pointer: *mut c_void,
    pub(crate) text: [u8; 8],
    pub(crate) data_type: DataType,
}

/// A value: what functions take and return.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Any {
    pub(crate) kind: i32,
    /// Length of a small string, zero otherwise.
    pub(crate) small: u32,
    pub(crate) payload: Payload,
}

impl Any {
    /// No value; what a result must be before a call.
    pub(crate) const NONE: Self = Self { kind: kind::NONE, small: 0, payload: Payload { int: 0 } };

    pub(crate) const fn int(value: i64) -> Self {
        Self { kind: kind::INT, small: 0, payload: Payload { int: value } }
    }

    pub(crate) const fn pointer(kind: i32, pointer: *mut c_void) -> Self {
        Self { kind, small: 0, payload: Payload { pointer } }
    }
}

/// What every counted object starts with.
#[repr(C)]
pub(crate) struct Header {
    /// Strong references in the lower half, weak ones in the upper.
    pub(crate) references: AtomicU64,
    pub(crate) kind: i32,
    pub(crate) padding: u32,
    pub(crate) deleter: Option<unsafe extern "C" fn(*mut c_void, i32)>,
}

/// One strong and one weak reference: a fresh object.
pub(crate) const FRESH: u64 = (1 << 32) | 1;
/// Set in the deleter's second argument when nothing refers to the object any more, not even weakly.
pub(crate) const DELETE_SPACE: i32 = 2;

/// The start of an error object.
#[repr(C)]
pub(crate) struct ErrorObject {
    pub(crate) header: Header,
    pub(crate) kind: ByteArray,
    pub(crate) message: ByteArray,
}

/// The start of a shape object.
#[repr(C)]
pub(crate) struct ShapeObject {
    pub(crate) header: Header,
    pub(crate) data: *const i64,
    pub(crate) size: usize,
}

/// The start of a string or bytes object.
#[repr(C)]
pub(crate) struct StringObject {
    pub(crate) header: Header,
    pub(crate) bytes: ByteArray,
}

/// The start of a tensor object.
#[repr(C)]
pub(crate) struct TensorObject {
    pub(crate) header: Header,
    pub(crate) tensor: DlTensor,
}

/// The start of an array object.
#[repr(C)]
pub(crate) struct ArrayObject {
    pub(crate) header: Header,
    pub(crate) data: *const Any,
    pub(crate) size: i64,
}

/// Type of elements, as DLPack writes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DataType {
    pub(crate) code: u8,
    pub(crate) bits: u8,
    pub(crate) lanes: u16,
}

/// A device, as DLPack writes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) kind: i32,
    pub(crate) id: i32,
}

/// A tensor, as DLPack writes it.
#[repr(C)]
pub(crate) struct DlTensor {
    pub(crate) data: *mut c_void,
    pub(crate) device: Device,
    pub(crate) dimensions: i32,
    pub(crate) data_type: DataType,
    pub(crate) shape: *mut i64,
    pub(crate) strides: *mut i64,
    pub(crate) byte_offset: u64,
}

/// A tensor that is handed over with the function that ends it.
#[repr(C)]
pub(crate) struct ManagedTensor {
    pub(crate) version: [u32; 2],
    pub(crate) context: *mut c_void,
    pub(crate) deleter: Option<unsafe extern "C" fn(*mut ManagedTensor)>,
    pub(crate) flags: u64,
    pub(crate) tensor: DlTensor,
}

/// The version of DLPack that [`ManagedTensor`] is laid out by.
pub(crate) const DLPACK_VERSION: [u32; 2] = [1, 0];

/// What a generated kernel is told of the threads that share its loop.
#[repr(C)]
pub(crate) struct ParallelGroup {
    pub(crate) sync: *mut c_void,
    pub(crate) tasks: i32,
}

/// A function as the vendor calls it.
pub(crate) type SafeCall = unsafe extern "C" fn(*mut c_void, *const Any, i32, *mut Any) -> i32;
/// The body of a loop that a generated kernel would share between threads.
pub(crate) type ParallelBody = unsafe extern "C" fn(i32, *mut ParallelGroup, *mut c_void) -> i32;

/// No object.
pub(crate) const fn no_object() -> *mut c_void {
    ptr::null_mut()
}

#[cfg(test)]
mod tests {
    use std::mem::{offset_of, size_of};

    use super::*;

    /// The header's own layouts on a 64-bit machine, counted by hand.
    #[test]
    fn layouts_are_those_of_the_header() {
        assert_eq!((size_of::<Any>(), offset_of!(Any, payload)), (16, 8));
        assert_eq!((size_of::<Header>(), offset_of!(Header, kind), offset_of!(Header, deleter)), (24, 8, 16));
        assert_eq!((size_of::<DlTensor>(), offset_of!(DlTensor, byte_offset)), (48, 40));
        assert_eq!((offset_of!(DlTensor, data_type), offset_of!(DlTensor, shape)), (20, 24));
        assert_eq!((size_of::<ManagedTensor>(), offset_of!(ManagedTensor, tensor)), (80, 32));
        assert_eq!(offset_of!(ErrorObject, message), 40);
        assert_eq!((size_of::<DataType>(), size_of::<Device>(), size_of::<ByteArray>()), (4, 8, 16));
    }
}
