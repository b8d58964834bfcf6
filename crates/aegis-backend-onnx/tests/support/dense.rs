//! A network with layers that hand on both what they begin with and what they make of it.

use super::Seeded;
use super::tiny::{Axis, F32, Message, file, graph, integer, node, value};

/// Channels that a layer adds: more than the library's blocked kernels pack, and no multiple of it, so that layers are joined
/// unpacked.
const GROWTH: i64 = 20;
const SIDE: i64 = 16;

fn weights(name: &str, dims: &[i64], seed: &mut Seeded) -> Message {
    let mut raw = Vec::new();
    for _ in 0..dims.iter().product() {
        let unit = (seed.next() >> 40) as f32 / (1u64 << 24) as f32;
        raw.extend_from_slice(&(0.25 * unit + 0.01).to_le_bytes());
    }
    let shape = dims.iter().fold(Message::new(), |shape, &length| shape.int(1, length));
    shape.int(2, F32).text(8, name).bytes(9, &raw)
}

fn images(name: &str) -> Message {
    let axes = [1, GROWTH, SIDE, SIDE].map(Axis::Fixed);
    value(name, F32, &axes)
}

/// The file of a network with so many layers. What a layer begins with is read packed by its convolutions, and unpacked where
/// it is joined with what they make.
pub fn network(layers: i64) -> Vec<u8> {
    let mut seed = Seeded(5);
    let (mut constants, mut nodes) = (Vec::new(), Vec::new());
    let (mut joined, mut channels) = ("x".to_owned(), GROWTH);
    for layer in 0..layers {
        let of = |what: &str| format!("{what}{layer}");
        let mut conv = |name: &str, read: &str, channels: i64| {
            let (name, weight) = (of(name), of(&format!("{name}_w")));
            constants.push(weights(&weight, &[GROWTH, channels, 1, 1], &mut seed));
            nodes.push(node("Conv", &format!("{name}_node"), &[read, &weight], &[&name]));
            name
        };
        let begun = conv("begun", &joined, channels);
        let middle = conv("middle", &begun, GROWTH);
        let made = conv("made", &middle, GROWTH);
        let join = node("Concat", &of("join"), &[&begun, &made], &[&of("all")]);
        nodes.push(join.message(5, &integer("axis", 1)));
        (joined, channels) = (of("all"), 2 * GROWTH);
    }
    constants.push(weights("last_w", &[GROWTH, channels, 1, 1], &mut seed));
    nodes.push(node("Conv", "last", &[&joined, "last_w"], &["y"]));
    file(&graph(&nodes, &constants, &[images("x")], &[images("y")]))
}
