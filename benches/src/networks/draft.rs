//! A network under construction: nodes, constants and shapes, until it is written as a file.
//!
//! A draft is a program's own and not read from anywhere, so a shape that does not fit is a mistake in this folder and
//! stops the program by an assertion. Weights come from one seeded generator in the order in which layers are added:
//! equal drafts are equal files on every machine.

use aegisrt::feed::SplitMix;
use half::f16;
use prost::Message;

use super::proto::{Attribute, Constant, Edge, Graph, Model, Node, OperatorSet, dims, element};

/// The operator set that every network is written for.
const OPERATOR_SET: i64 = 17;
/// The version of the file format that belongs to it.
const FORMAT: i64 = 8;

/// How numbers inside a network are stored. Inputs and outputs are 32-bit floating point in both cases, as sensors and
/// consumers have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Precision {
    /// 32-bit floating point throughout.
    Fp32,
    /// 16-bit floating point between a conversion at every input and one at every output.
    Fp16,
}

/// A value in a network: its name and the length of each axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    pub(super) name: String,
    pub(super) shape: Vec<u64>,
}

impl Tensor {
    /// Elements of one value.
    pub(super) fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Length of the axis of features of a batch of images, `[1, channels, height, width]`.
    pub(super) fn channels(&self) -> u64 {
        self.shape[1]
    }
}

/// A finished network.
#[derive(Clone, Debug)]
pub struct Network {
    /// The file's bytes.
    pub file: Vec<u8>,
    /// Name and shape of every input.
    pub inputs: Vec<(String, Vec<u64>)>,
    /// Name and shape of every output.
    pub outputs: Vec<(String, Vec<u64>)>,
    /// Bytes of constants.
    pub weights: u64,
    /// Bytes of the largest values that are alive around one node, inputs and output of it: a lower bound of scratch.
    pub widest: u64,
    /// Multiplications with an addition of one run.
    pub work: u64,
    /// Operator calls of one run.
    pub nodes: u64,
}

/// A network under construction.
pub struct Draft {
    precision: Precision,
    random: SplitMix,
    graph: Graph,
    inputs: Vec<(String, Vec<u64>)>,
    outputs: Vec<(String, Vec<u64>)>,
    weights: u64,
    widest: u64,
    work: u64,
}

impl Draft {
    /// An empty network whose weights are drawn from `seed`.
    pub fn new(name: &str, precision: Precision, seed: u64) -> Self {
        Self {
            precision,
            random: SplitMix(seed),
            graph: Graph { name: name.into(), ..Graph::default() },
            inputs: Vec::new(),
            outputs: Vec::new(),
            weights: 0,
            widest: 0,
            work: 0,
        }
    }

    /// An input, converted to the network's precision.
    pub fn input(&mut self, name: &str, shape: &[u64]) -> Tensor {
        self.graph.input.push(Edge::of(name, shape));
        self.inputs.push((name.into(), shape.to_vec()));
        let outside = Tensor { name: name.into(), shape: shape.to_vec() };
        match self.precision {
            Precision::Fp32 => outside,
            Precision::Fp16 => {
                self.node("Cast", &[&outside], shape, vec![Attribute::int("to", element::F16.into())])
            }
        }
    }

    /// Makes `value` an output called `name`.
    pub fn output(&mut self, name: &str, value: &Tensor) {
        self.graph.output.push(Edge::of(name, &value.shape));
        self.outputs.push((name.into(), value.shape.clone()));
        let (operator, attributes) = match self.precision {
            Precision::Fp32 => ("Identity", Vec::new()),
            Precision::Fp16 => ("Cast", vec![Attribute::int("to", element::F32.into())]),
        };
        let made = self.node(operator, &[value], &value.shape, attributes);
        // The node's own name stays; what it makes goes by the output's.
        if let Some(node) = self.graph.node.last_mut() {
            debug_assert_eq!(node.output, [made.name]);
            node.output = vec![name.into()];
        }
    }

    /// The file and what is known of it.
    pub fn finish(self) -> Network {
        let Self { graph, inputs, outputs, weights, widest, work, .. } = self;
        let nodes = graph.node.len() as u64;
        let model = Model {
            ir_version: FORMAT,
            producer_name: "aegis-networks".into(),
            graph: Some(graph),
            opset_import: vec![OperatorSet { domain: String::new(), version: OPERATOR_SET }],
        };
        Network { file: model.encode_to_vec(), inputs, outputs, weights, widest, work, nodes }
    }

    /// Adds a node that makes one value of the given shape.
    pub(super) fn node(
        &mut self,
        operator: &str,
        inputs: &[&Tensor],
        shape: &[u64],
        attribute: Vec<Attribute>,
    ) -> Tensor {
        let name = format!("{}_{}", operator.to_lowercase(), self.graph.node.len());
        let made = Tensor { name: name.clone(), shape: shape.to_vec() };
        let stored: u64 = inputs.iter().map(|input| input.elements()).sum::<u64>() + made.elements();
        self.widest = self.widest.max(stored * self.element_bytes());
        self.graph.node.push(Node {
            input: inputs.iter().map(|input| input.name.clone()).collect(),
            output: vec![name.clone()],
            name,
            op_type: operator.into(),
            attribute,
        });
        made
    }

    /// Counts multiplications with an addition.
    pub(super) fn count(&mut self, work: u64) {
        self.work += work;
    }

    /// Random weights in the network's precision, uniform with the variance that keeps values of the size of `fan_in`
    /// inputs (He, Zhang, Ren, Sun 2015), times `gain`.
    pub(super) fn weight(&mut self, shape: &[u64], fan_in: u64, gain: f32) -> Tensor {
        let reach = gain * (6.0 / fan_in as f32).sqrt();
        let elements: u64 = shape.iter().product();
        let values: Vec<f32> = (0..elements).map(|_| self.unit() * reach).collect();
        self.constant(shape, &values)
    }

    /// Small random offsets, one for each of `channels` features.
    pub(super) fn bias(&mut self, channels: u64) -> Tensor {
        let values: Vec<f32> = (0..channels).map(|_| self.unit() * 0.05).collect();
        self.constant(&[channels], &values)
    }

    /// A constant in the network's precision.
    pub(super) fn constant(&mut self, shape: &[u64], values: &[f32]) -> Tensor {
        let (data_type, raw) = match self.precision {
            Precision::Fp32 => (element::F32, values.iter().flat_map(|value| value.to_le_bytes()).collect()),
            Precision::Fp16 => {
                let bytes = values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes());
                (element::F16, bytes.collect())
            }
        };
        self.stored(shape, data_type, raw)
    }

    /// A constant of 32-bit floating point in every precision: factors of a change of size.
    pub(super) fn factors(&mut self, values: &[f32]) -> Tensor {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.stored(&[values.len() as u64], element::F32, raw)
    }

    /// A constant list of whole numbers: axes and lengths.
    pub(super) fn whole(&mut self, values: &[i64]) -> Tensor {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.stored(&[values.len() as u64], element::I64, raw)
    }

    fn stored(&mut self, shape: &[u64], data_type: i32, raw_data: Vec<u8>) -> Tensor {
        let name = format!("c_{}", self.graph.initializer.len());
        self.weights += raw_data.len() as u64;
        self.graph.initializer.push(Constant { dims: dims(shape), data_type, name: name.clone(), raw_data });
        Tensor { name, shape: shape.to_vec() }
    }

    /// A number in [-1, 1) that 32 bits hold exactly.
    fn unit(&mut self) -> f32 {
        (self.random.next_word() >> 40) as f32 / 8_388_608.0 - 1.0
    }

    const fn element_bytes(&self) -> u64 {
        match self.precision {
            Precision::Fp32 => 4,
            Precision::Fp16 => 2,
        }
    }
}
