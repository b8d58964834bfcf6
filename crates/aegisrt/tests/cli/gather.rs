//! A model of one operator that fails when its input says so: a lookup in a table of two numbers.

/// A field of a message: bytes with their length.
fn bytes(field: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).expect("the model is smaller than that");
    // Lengths above 127 take two bytes.
    let length = if length < 128 { vec![length] } else { vec![length & 0x7F | 0x80, 1] };
    [&[field << 3 | 2], length.as_slice(), content].concat()
}

/// A field of a message: a small number.
fn number(field: u8, value: u8) -> Vec<u8> {
    vec![field << 3, value]
}

/// Name, element type and the shape `[1]` of an input or output.
fn tensor(name: &str, element: u8) -> Vec<u8> {
    let shape = bytes(1, &number(1, 1));
    let kind = bytes(1, &[number(1, element), bytes(2, &shape)].concat());
    [bytes(1, name.as_bytes()), bytes(2, &kind)].concat()
}

/// The model: `value = table[index]`, with `index` a 64-bit integer that must be -2 to 1.
pub fn model() -> Vec<u8> {
    const FLOAT: u8 = 1;
    const INT64: u8 = 7;
    let node = [
        bytes(1, b"table"),
        bytes(1, b"index"),
        bytes(2, b"value"),
        bytes(3, b"lookup"),
        bytes(4, b"Gather"),
    ]
    .concat();
    let table = [number(1, 2), number(2, FLOAT), bytes(8, b"table"), bytes(9, &[0, 0, 128, 63, 0, 0, 0, 64])]
        .concat();
    let graph = [
        bytes(1, &node),
        bytes(2, b"lookup"),
        bytes(5, &table),
        bytes(11, &tensor("index", INT64)),
        bytes(12, &tensor("value", FLOAT)),
    ]
    .concat();
    let opset = [bytes(1, b""), number(2, 17)].concat();
    [number(1, 8), bytes(7, &graph), bytes(8, &opset)].concat()
}
