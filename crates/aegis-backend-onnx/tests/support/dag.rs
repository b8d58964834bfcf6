//! Random graphs of small matrices with branches, residuals, repeated inputs and nodes that depend on constants only.

use super::Seeded;
use super::tiny::{Axis, F32, Message, file, graph, node, value};

/// Length of both axes of every tensor.
const SIDE: i64 = 4;

/// A matrix of constants between -0.5 and 0.5.
fn matrix(name: &str, seed: &mut Seeded) -> Message {
    let mut raw = Vec::new();
    for _ in 0..SIDE * SIDE {
        let unit = (seed.next() >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
        raw.extend_from_slice(&unit.to_le_bytes());
    }
    Message::new().int(1, SIDE).int(1, SIDE).int(2, F32).text(8, name).bytes(9, &raw)
}

fn square(name: &str) -> Message {
    value(name, F32, &[Axis::Fixed(SIDE), Axis::Fixed(SIDE)])
}

/// The file of a graph of 3 to 14 nodes behind one or two inputs, in which every tensor that nobody reads is an output, and now and
/// then one that somebody reads.
pub fn random(seed: &mut Seeded) -> Vec<u8> {
    let mut pick = |limit: usize| (seed.next() % limit as u64) as usize;
    let (inputs, count) = (1 + pick(2), 3 + pick(12));
    let constants = ["w0", "w1", "folded"];
    let mut known: Vec<String> = (0..inputs).map(|at| format!("x{at}")).collect();
    let mut nodes = vec![node("Add", "fold", &["w0", "w1"], &["folded"])];
    let (mut made, mut unread) = (Vec::new(), std::collections::BTreeSet::new());
    let mut extra = None;
    for at in 0..count {
        // Mostly recent tensors, so that graphs are deep; sometimes any.
        let near = known.len().min(3);
        let mut operand = || {
            if pick(4) > 0 {
                known[known.len() - 1 - pick(near)].clone()
            } else {
                known[pick(known.len())].clone()
            }
        };
        let (a, b) = (operand(), operand());
        let weight = constants[pick(3)];
        let output = format!("t{at}");
        let name = format!("node{at}");
        let (operator, reads) = match pick(6) {
            0 => ("Relu", vec![a.as_str()]),
            1 => ("Tanh", vec![a.as_str()]),
            2 => ("MatMul", vec![a.as_str(), weight]),
            3 => ("MatMul", vec![a.as_str(), b.as_str()]),
            4 => ("Mul", vec![a.as_str(), weight]),
            _ => ("Add", vec![a.as_str(), b.as_str()]),
        };
        nodes.push(node(operator, &name, &reads, &[&output]));
        for read in reads {
            unread.remove(read);
        }
        unread.insert(output.clone());
        if pick(8) == 0 {
            extra = Some(output.clone());
        }
        known.push(output.clone());
        made.push(output);
    }
    unread.extend(extra);
    let outputs: Vec<Message> =
        made.iter().filter(|name| unread.contains(*name)).map(|name| square(name)).collect();
    let inputs: Vec<Message> = (0..inputs).map(|at| square(&format!("x{at}"))).collect();
    let constants = [matrix("w0", seed), matrix("w1", seed)];
    file(&graph(&nodes, &constants, &inputs, &outputs))
}
