//! Element types: the file format's and the vendor library's numbers for them, which are the same.

use aegis_cuda::{BackendError, ElementType};
use ort::sys::ONNXTensorElementDataType as Code;

/// Every type that the runtime carries, with its number in a model file and the vendor library's name for it.
const TYPES: [(i32, ElementType, Code); 13] = [
    (1, ElementType::F32, Code::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT),
    (2, ElementType::U8, Code::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8),
    (3, ElementType::I8, Code::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8),
    (4, ElementType::U16, Code::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16),
    (5, ElementType::I16, Code::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16),
    (6, ElementType::I32, Code::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32),
    (7, ElementType::I64, Code::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64),
    (9, ElementType::Bool, Code::ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL),
    (10, ElementType::F16, Code::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16),
    (11, ElementType::F64, Code::ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE),
    (12, ElementType::U32, Code::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32),
    (13, ElementType::U64, Code::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64),
    (16, ElementType::Bf16, Code::ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16),
];

/// The number of strings, which a model may hold as constants but not exchange.
const STRING: i32 = 8;

/// The type behind a number of the file format.
///
/// # Errors
/// [`BackendError::InvalidModel`] naming the tensor and the number.
pub(crate) fn from_code(model: &str, tensor: &str, code: i32) -> Result<ElementType, BackendError> {
    TYPES.iter().find(|entry| entry.0 == code).map(|entry| entry.1).ok_or_else(|| {
        let kind = if code == STRING { "strings".to_owned() } else { format!("elements of type number {code}") };
        BackendError::InvalidModel {
            model: model.to_owned(),
            reason: format!(
                "tensor `{tensor}` has {kind}; legal are dense tensors of numbers of 8 to 64 bits and booleans"
            ),
        }
    })
}

/// The vendor library's name for a type.
pub(crate) fn vendor(element: ElementType) -> Code {
    TYPES
        .iter()
        .find(|entry| entry.1 == element)
        .map_or(Code::ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED, |entry| entry.2)
}

/// Bits of one stored element, for every number that a constant may have; strings have none of their own.
///
/// Wider than [`from_code`]: a constant inside the model may have a type that no input can.
pub(crate) fn stored_bits(code: i32) -> Option<u64> {
    match code {
        2 | 3 | 9 | 17..=20 | 24 => Some(8),
        4 | 5 | 10 | 16 => Some(16),
        1 | 6 | 12 => Some(32),
        7 | 11 | 13 | 14 => Some(64),
        15 => Some(128),
        21..=23 => Some(4),
        25 | 26 => Some(2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_type_has_a_number_and_its_stored_size() {
        for (code, element, _) in TYPES {
            assert_eq!(from_code("m", "t", code), Ok(element));
            assert_eq!(stored_bits(code), Some(element.size().get() * 8), "{element:?}");
            assert_eq!(vendor(element) as i32, code);
        }
    }

    #[test]
    fn strings_are_refused_by_name() {
        let error = from_code("m", "words", STRING).unwrap_err().to_string();
        assert!(error.contains("words") && error.contains("strings"), "{error}");
    }
}
