//! Tiny ONNX files written byte by byte: an encoder that shares nothing with the reader under test.

/// A message of the file format under construction.
#[derive(Clone, Default)]
pub struct Message(Vec<u8>);

impl Message {
    pub fn new() -> Self {
        Self::default()
    }

    fn varint(mut self, mut value: u64) -> Self {
        while value >= 0x80 {
            self.0.push((value & 0x7F) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }

    pub fn int(self, field: u32, value: i64) -> Self {
        self.varint(u64::from(field) << 3).varint(value.cast_unsigned())
    }

    pub fn bytes(self, field: u32, bytes: &[u8]) -> Self {
        let mut message = self.varint(u64::from(field) << 3 | 2).varint(bytes.len() as u64);
        message.0.extend_from_slice(bytes);
        message
    }

    pub fn text(self, field: u32, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    pub fn message(self, field: u32, message: &Message) -> Self {
        self.bytes(field, &message.0)
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// An axis: a length or a name.
pub enum Axis {
    Fixed(i64),
    Named(&'static str),
    Open,
}

pub const F32: i64 = 1;
pub const BOOL: i64 = 9;
pub const I64: i64 = 7;

/// Name and type of an input or output.
pub fn value(name: &str, element: i64, axes: &[Axis]) -> Message {
    let mut shape = Message::new();
    for axis in axes {
        let dimension = match axis {
            Axis::Fixed(length) => Message::new().int(1, *length),
            Axis::Named(name) => Message::new().text(2, name),
            Axis::Open => Message::new(),
        };
        shape = shape.message(1, &dimension);
    }
    let tensor = Message::new().int(1, element).message(2, &shape);
    Message::new().text(1, name).message(2, &Message::new().message(1, &tensor))
}

/// A node in a domain.
pub fn node_in(domain: &str, operator: &str, name: &str, inputs: &[&str], outputs: &[&str]) -> Message {
    let mut node = Message::new();
    for input in inputs {
        node = node.text(1, input);
    }
    for output in outputs {
        node = node.text(2, output);
    }
    node.text(3, name).text(4, operator).text(7, domain)
}

/// A node of the standard operators.
pub fn node(operator: &str, name: &str, inputs: &[&str], outputs: &[&str]) -> Message {
    node_in("", operator, name, inputs, outputs)
}

/// A constant of `f32`.
pub fn constant(name: &str, values: &[f32]) -> Message {
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Message::new().int(1, values.len() as i64).int(2, F32).text(8, name).bytes(9, &raw)
}

/// A graph of nodes, constants, inputs and outputs.
pub fn graph(nodes: &[Message], constants: &[Message], inputs: &[Message], outputs: &[Message]) -> Message {
    let mut graph = Message::new();
    for (field, messages) in [(1, nodes), (5, constants), (11, inputs), (12, outputs)] {
        for message in messages {
            graph = graph.message(field, message);
        }
        if field == 1 {
            graph = graph.text(2, "tiny");
        }
    }
    graph
}

/// A file around a graph, with the standard operators and one set of somebody else's.
pub fn file(graph: &Message) -> Vec<u8> {
    let standard = Message::new().text(1, "").int(2, 17);
    let other = Message::new().text(1, "acme").int(2, 1);
    Message::new().int(1, 8).message(7, graph).message(8, &standard).message(8, &other).into_bytes()
}

/// An attribute that holds a graph.
pub fn body(name: &str, graph: &Message) -> Message {
    Message::new().text(1, name).message(6, graph).int(20, 5)
}

/// A file with an `If` in it: `y = c ? x + x : x - x`.
pub fn with_if() -> Vec<u8> {
    let branch = |operator: &str, output: &str| {
        let made = value(output, F32, &[Axis::Fixed(4)]);
        graph(&[node(operator, "inner", &["x", "x"], &[output])], &[], &[], &[made])
    };
    let choose = node("If", "choose", &["c"], &["y"])
        .message(5, &body("then_branch", &branch("Add", "a")))
        .message(5, &body("else_branch", &branch("Sub", "b")));
    let inputs = [value("c", BOOL, &[Axis::Fixed(1)]), value("x", F32, &[Axis::Fixed(4)])];
    file(&graph(&[choose], &[], &inputs, &[value("y", F32, &[Axis::Fixed(4)])]))
}

/// An attribute that holds an integer.
pub fn integer(name: &str, value: i64) -> Message {
    Message::new().text(1, name).int(3, value).int(20, 2)
}

/// `y = table[i]`: an index outside of the three elements fails while the model runs.
pub fn with_gather() -> Vec<u8> {
    let nodes = [node("Gather", "look_up", &["table", "i"], &["y"])];
    let inputs = [value("i", I64, &[Axis::Fixed(1)])];
    file(&graph(
        &nodes,
        &[constant("table", &[5.0, 6.0, 7.0])],
        &inputs,
        &[value("y", F32, &[Axis::Fixed(1)])],
    ))
}

/// `y = sum(zeros(n))`: the scratch that a job needs depends on its data.
pub fn with_scratch_by_data() -> Vec<u8> {
    let sum = node("ReduceSum", "sum", &["zeros"], &["y"]).message(5, &integer("keepdims", 0));
    let nodes = [node("ConstantOfShape", "spread", &["n"], &["zeros"]), sum];
    file(&graph(&nodes, &[], &[value("n", I64, &[Axis::Fixed(1)])], &[value("y", F32, &[])]))
}

/// `y = nonzero(x)`: how many elements come out depends on the data, so the file cannot tell.
pub fn with_open_output() -> Vec<u8> {
    let open = value("y", I64, &[Axis::Fixed(2), Axis::Named("found")]);
    let input = value("x", F32, &[Axis::Named("rows"), Axis::Fixed(4)]);
    file(&graph(&[node("NonZero", "find", &["x"], &["y"])], &[], &[input], &[open]))
}
