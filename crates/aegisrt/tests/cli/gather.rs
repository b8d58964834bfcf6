//! Models of one operator: a lookup in a table of two numbers, which fails when its input says so, and a draw of a random
//! number, which no two runs make alike.

const FLOAT: u8 = 1;
const INT64: u8 = 7;

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
    file("Gather", &["table", "index"], &table(), INT64)
}

/// The model: `value = table + index`, two numbers, of which the file says that they are one.
pub fn misstated() -> Vec<u8> {
    file("Add", &["table", "index"], &table(), FLOAT)
}

/// The constant `table`: one and two.
fn table() -> Vec<u8> {
    let table = [number(1, 2), number(2, FLOAT), bytes(8, b"table"), bytes(9, &[0, 0, 128, 63, 0, 0, 0, 64])]
        .concat();
    bytes(5, &table)
}

/// The model: `value` is drawn anew in every run, in the shape of `index`, a number.
pub fn random() -> Vec<u8> {
    file("RandomNormalLike", &["index"], &[], FLOAT)
}

/// A file with one operator from `index` and constants to `value`.
fn file(operator: &str, reads: &[&str], constants: &[u8], element: u8) -> Vec<u8> {
    let reads: Vec<u8> = reads.iter().flat_map(|name| bytes(1, name.as_bytes())).collect();
    let node = [reads, bytes(2, b"value"), bytes(3, b"lookup"), bytes(4, operator.as_bytes())].concat();
    let graph = [
        bytes(1, &node),
        bytes(2, b"lookup"),
        constants.to_vec(),
        bytes(11, &tensor("index", element)),
        bytes(12, &tensor("value", FLOAT)),
    ]
    .concat();
    let opset = [bytes(1, b""), number(2, 17)].concat();
    [number(1, 8), bytes(7, &graph), bytes(8, &opset)].concat()
}
