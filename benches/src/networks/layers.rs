//! Layers: one operator each, with its weights, its shape and its work.
//!
//! Only operators with a fixed output shape that ONNX Runtime runs on a CUDA device without going back to the host, so
//! that a network can be captured into a graph. Images are `[1, channels, height, width]`; a signal in time is an
//! image of height 1.

use super::draft::{Draft, Tensor};
use super::proto::{Attribute, dims};

/// A convolution that keeps the size but for its stride: padding is half of the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Conv {
    out: u64,
    kernel: [u64; 2],
    stride: [u64; 2],
    groups: u64,
    gain: f32,
}

impl Conv {
    /// `out` features by a square kernel of odd side.
    pub const fn square(out: u64, side: u64) -> Self {
        Self { out, kernel: [side, side], stride: [1, 1], groups: 1, gain: 1.0 }
    }

    /// `out` features by a kernel of odd length in time.
    pub const fn time(out: u64, length: u64) -> Self {
        Self { out, kernel: [1, length], stride: [1, 1], groups: 1, gain: 1.0 }
    }

    /// The same, for every `step`-th place on each axis that the kernel extends over.
    #[must_use]
    pub const fn every(mut self, step: u64) -> Self {
        self.stride = [if self.kernel[0] == 1 && self.kernel[1] > 1 { 1 } else { step }, step];
        self
    }

    /// The same, with features in `groups` groups that do not see each other.
    #[must_use]
    pub const fn groups(mut self, groups: u64) -> Self {
        self.groups = groups;
        self
    }

    /// The same, with weights smaller or larger by a factor.
    #[must_use]
    pub const fn gain(mut self, gain: f32) -> Self {
        self.gain = gain;
        self
    }
}

impl Draft {
    /// A convolution with offsets.
    pub fn conv(&mut self, x: &Tensor, conv: Conv) -> Tensor {
        let Conv { out, kernel: [high, wide], stride, groups, gain } = conv;
        let inside = x.channels() / groups;
        assert_eq!(inside * groups, x.channels(), "features divide into groups");
        let fan_in = inside * high * wide;
        let weight = self.weight(&[out, inside, high, wide], fan_in, gain);
        let bias = self.bias(out);
        let size = |axis: usize| (x.shape[axis + 2] - 1) / stride[axis] + 1;
        let shape = [1, out, size(0), size(1)];
        self.count(shape.iter().product::<u64>() * fan_in);
        let attributes = vec![
            Attribute::ints("kernel_shape", &dims(&[high, wide])),
            Attribute::ints("strides", &dims(&stride)),
            Attribute::ints("pads", &dims(&[high / 2, wide / 2, high / 2, wide / 2])),
            Attribute::int("group", dims(&[groups])[0]),
        ];
        self.node("Conv", &[x, &weight, &bias], &shape, attributes)
    }

    /// A convolution followed by [`Draft::relu`].
    pub fn conv_relu(&mut self, x: &Tensor, conv: Conv) -> Tensor {
        let y = self.conv(x, conv);
        self.relu(&y)
    }

    /// A learned change to twice the height and width.
    pub fn deconv(&mut self, x: &Tensor, out: u64) -> Tensor {
        let weight = self.weight(&[x.channels(), out, 2, 2], x.channels(), 1.0);
        let bias = self.bias(out);
        let shape = [1, out, x.shape[2] * 2, x.shape[3] * 2];
        self.count(shape.iter().product::<u64>() * x.channels());
        let attributes = vec![Attribute::ints("kernel_shape", &[2, 2]), Attribute::ints("strides", &[2, 2])];
        self.node("ConvTranspose", &[x, &weight, &bias], &shape, attributes)
    }

    /// Twice the height and width by repetition.
    pub fn upsample(&mut self, x: &Tensor) -> Tensor {
        let factors = self.factors(&[1.0, 1.0, 2.0, 2.0]);
        let region = Tensor { name: String::new(), shape: vec![0] };
        let shape = [1, x.channels(), x.shape[2] * 2, x.shape[3] * 2];
        let attributes = vec![
            Attribute::text("mode", "nearest"),
            Attribute::text("coordinate_transformation_mode", "asymmetric"),
            Attribute::text("nearest_mode", "floor"),
        ];
        self.node("Resize", &[x, &region, &factors], &shape, attributes)
    }

    /// The largest of 3x3 (or, in one dimension, 1x3) places, for every second place.
    pub fn max_pool(&mut self, x: &Tensor) -> Tensor {
        let flat = x.shape[2] == 1;
        let (high, step) = if flat { (1, 1) } else { (3, 2) };
        let shape = [1, x.channels(), (x.shape[2] - 1) / step + 1, (x.shape[3] - 1) / 2 + 1];
        let attributes = vec![
            Attribute::ints("kernel_shape", &dims(&[high, 3])),
            Attribute::ints("strides", &dims(&[step, 2])),
            Attribute::ints("pads", &dims(&[high / 2, 1, high / 2, 1])),
        ];
        self.node("MaxPool", &[x], &shape, attributes)
    }

    /// The mean of 2x2 places, for every second place. Height and width are even.
    pub fn average_pool(&mut self, x: &Tensor) -> Tensor {
        let shape = [1, x.channels(), x.shape[2] / 2, x.shape[3] / 2];
        let attributes = vec![Attribute::ints("kernel_shape", &[2, 2]), Attribute::ints("strides", &[2, 2])];
        self.node("AveragePool", &[x], &shape, attributes)
    }

    /// The mean of all places: `[1, channels, 1, 1]`.
    pub fn global_pool(&mut self, x: &Tensor) -> Tensor {
        let shape = [1, x.channels(), 1, 1];
        self.node("GlobalAveragePool", &[x], &shape, Vec::new())
    }

    /// Rows times weights, with offsets: the last axis becomes `out` long.
    pub fn dense(&mut self, x: &Tensor, out: u64, gain: f32) -> Tensor {
        let fan_in = *x.shape.last().expect("a dense layer needs an axis");
        let weight = self.weight(&[fan_in, out], fan_in, gain);
        let bias = self.bias(out);
        let mut shape = x.shape.clone();
        shape.pop();
        shape.push(out);
        self.count(shape.iter().product::<u64>() * fan_in);
        let product = self.node("MatMul", &[x, &weight], &shape, Vec::new());
        self.node("Add", &[&product, &bias], &shape, Vec::new())
    }

    /// The product of two stacks of matrices.
    pub fn matmul(&mut self, a: &Tensor, b: &Tensor) -> Tensor {
        let axes = a.shape.len();
        assert_eq!(a.shape[axes - 1], b.shape[axes - 2], "matrices fit each other");
        let mut shape = a.shape.clone();
        shape[axes - 1] = b.shape[axes - 1];
        self.count(shape.iter().product::<u64>() * a.shape[axes - 1]);
        self.node("MatMul", &[a, b], &shape, Vec::new())
    }

    /// The larger of each element and 0.
    pub fn relu(&mut self, x: &Tensor) -> Tensor {
        self.node("Relu", &[x], &x.shape, Vec::new())
    }

    /// Each element within 0 and 6.
    pub fn relu6(&mut self, x: &Tensor) -> Tensor {
        let (low, high) = (self.constant(&[], &[0.0]), self.constant(&[], &[6.0]));
        self.node("Clip", &[x, &low, &high], &x.shape, Vec::new())
    }

    /// Each element pressed into 0 to 1.
    pub fn sigmoid(&mut self, x: &Tensor) -> Tensor {
        self.node("Sigmoid", &[x], &x.shape, Vec::new())
    }

    /// Each element times its sigmoid.
    pub fn silu(&mut self, x: &Tensor) -> Tensor {
        let gate = self.sigmoid(x);
        self.multiply(x, &gate)
    }

    /// Shares that sum to 1 along the last axis.
    pub fn softmax(&mut self, x: &Tensor) -> Tensor {
        self.node("Softmax", &[x], &x.shape, vec![Attribute::int("axis", -1)])
    }

    /// Mean 0 and variance 1 along the last axis, then learned factors and offsets.
    pub fn layer_norm(&mut self, x: &Tensor) -> Tensor {
        let features = *x.shape.last().expect("normalisation needs an axis");
        let ones = vec![1.0; usize::try_from(features).expect("a feature axis fits memory")];
        let (scale, bias) = (self.constant(&[features], &ones), self.bias(features));
        let attributes = vec![Attribute::int("axis", -1), Attribute::float("epsilon", 1e-3)];
        self.node("LayerNormalization", &[x, &scale, &bias], &x.shape, attributes)
    }

    /// The sum of two values of one shape.
    pub fn add(&mut self, a: &Tensor, b: &Tensor) -> Tensor {
        assert_eq!(a.shape, b.shape, "a sum has terms of one shape");
        self.node("Add", &[a, b], &a.shape, Vec::new())
    }

    /// The product by elements; axes of `b` may be 1 long.
    pub fn multiply(&mut self, a: &Tensor, b: &Tensor) -> Tensor {
        self.node("Mul", &[a, b], &a.shape, Vec::new())
    }

    /// Every element times one number.
    pub fn scale(&mut self, x: &Tensor, factor: f32) -> Tensor {
        let factor = self.constant(&[], &[factor]);
        self.node("Mul", &[x, &factor], &x.shape, Vec::new())
    }

    /// Values one behind the other along `axis`.
    pub fn concat(&mut self, parts: &[&Tensor], axis: usize) -> Tensor {
        let mut shape = parts[0].shape.clone();
        shape[axis] = parts.iter().map(|part| part.shape[axis]).sum();
        let number = i64::try_from(axis).expect("a value has few axes");
        self.node("Concat", parts, &shape, vec![Attribute::int("axis", number)])
    }

    /// The same elements with other axes.
    pub fn reshape(&mut self, x: &Tensor, shape: &[u64]) -> Tensor {
        assert_eq!(x.elements(), shape.iter().product::<u64>(), "a new shape has as many elements");
        let lengths = self.whole(&dims(shape));
        self.node("Reshape", &[x, &lengths], shape, Vec::new())
    }

    /// The same elements with axes in another order.
    pub fn transpose(&mut self, x: &Tensor, order: &[usize]) -> Tensor {
        let shape: Vec<u64> = order.iter().map(|&axis| x.shape[axis]).collect();
        let order: Vec<u64> = order.iter().map(|&axis| axis as u64).collect();
        self.node("Transpose", &[x], &shape, vec![Attribute::ints("perm", &dims(&order))])
    }

    /// The value over its own length along the last axis: a direction.
    pub fn direction(&mut self, x: &Tensor) -> Tensor {
        let squares = self.multiply(x, x);
        let mut shape = x.shape.clone();
        if let Some(last) = shape.last_mut() {
            *last = 1;
        }
        let axes = self.whole(&[-1]);
        let sum = self.node("ReduceSum", &[&squares, &axes], &shape, vec![Attribute::int("keepdims", 1)]);
        let floor = self.constant(&[], &[1e-3]);
        let sum = self.node("Add", &[&sum, &floor], &shape, Vec::new());
        let length = self.node("Sqrt", &[&sum], &shape, Vec::new());
        self.node("Div", &[x, &length], &x.shape, Vec::new())
    }
}
