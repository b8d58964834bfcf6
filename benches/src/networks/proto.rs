//! The part of the ONNX file format that generated networks use, as Protocol Buffers messages.
//!
//! Only written, never read: what a reader in this project makes of these files is thereby compared with an encoder
//! that shares nothing with it. Field numbers are those of `onnx.proto`.

use prost::Message;

/// A model file.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Model {
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    #[prost(string, tag = "2")]
    pub producer_name: String,
    #[prost(message, optional, tag = "7")]
    pub graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSet>,
}

/// A set of operators that the model draws on.
#[derive(Clone, PartialEq, Message)]
pub(super) struct OperatorSet {
    #[prost(string, tag = "1")]
    pub domain: String,
    #[prost(int64, tag = "2")]
    pub version: i64,
}

/// Nodes in an order in which they can run, constants, inputs and outputs.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Graph {
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<Node>,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<Constant>,
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<Edge>,
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<Edge>,
}

/// One operator call.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Node {
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    #[prost(string, tag = "3")]
    pub name: String,
    #[prost(string, tag = "4")]
    pub op_type: String,
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<Attribute>,
}

/// A named value of one of the kinds that [`Attribute::kind`] numbers.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Attribute {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(float, optional, tag = "2")]
    pub f: Option<f32>,
    #[prost(int64, optional, tag = "3")]
    pub i: Option<i64>,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub s: Option<Vec<u8>>,
    #[prost(int64, repeated, tag = "8")]
    pub ints: Vec<i64>,
    #[prost(int32, tag = "20")]
    pub kind: i32,
}

impl Attribute {
    /// A floating-point number.
    pub(super) fn float(name: &str, value: f32) -> Self {
        Self { name: name.into(), f: Some(value), kind: 1, ..Self::default() }
    }

    /// A whole number.
    pub(super) fn int(name: &str, value: i64) -> Self {
        Self { name: name.into(), i: Some(value), kind: 2, ..Self::default() }
    }

    /// A word.
    pub(super) fn text(name: &str, value: &str) -> Self {
        Self { name: name.into(), s: Some(value.as_bytes().to_vec()), kind: 3, ..Self::default() }
    }

    /// Whole numbers.
    pub(super) fn ints(name: &str, values: &[i64]) -> Self {
        Self { name: name.into(), ints: values.to_vec(), kind: 7, ..Self::default() }
    }
}

/// A constant with its elements, packed in little-endian order.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Constant {
    #[prost(int64, repeated, tag = "1")]
    pub dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    #[prost(string, tag = "8")]
    pub name: String,
    #[prost(bytes = "vec", tag = "9")]
    pub raw_data: Vec<u8>,
}

/// Name and type of an input or output.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Edge {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub kind: Option<Kind>,
}

/// A type; only dense tensors occur.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Kind {
    #[prost(message, optional, tag = "1")]
    pub tensor: Option<Dense>,
}

/// A dense tensor's type.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Dense {
    #[prost(int32, tag = "1")]
    pub element: i32,
    #[prost(message, optional, tag = "2")]
    pub shape: Option<Shape>,
}

/// The axes of a tensor.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Shape {
    #[prost(message, repeated, tag = "1")]
    pub axes: Vec<Axis>,
}

/// One axis, of fixed length.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Axis {
    #[prost(int64, optional, tag = "1")]
    pub length: Option<i64>,
}

/// The numbers of element types in the file format.
pub(super) mod element {
    /// 32-bit floating point.
    pub(in super::super) const F32: i32 = 1;
    /// 64-bit whole numbers.
    pub(in super::super) const I64: i32 = 7;
    /// 16-bit floating point.
    pub(in super::super) const F16: i32 = 10;
}

impl Edge {
    /// A tensor of 32-bit floating point.
    pub(super) fn of(name: &str, shape: &[u64]) -> Self {
        let axes = dims(shape).into_iter().map(|length| Axis { length: Some(length) }).collect();
        let dense = Dense { element: element::F32, shape: Some(Shape { axes }) };
        Self { name: name.into(), kind: Some(Kind { tensor: Some(dense) }) }
    }
}

/// Lengths as the format writes them.
pub(super) fn dims(shape: &[u64]) -> Vec<i64> {
    shape
        .iter()
        .map(|&length| i64::try_from(length).expect("no axis of a network has 2^63 elements"))
        .collect()
}
