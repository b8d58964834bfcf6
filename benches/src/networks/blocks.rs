//! Blocks: the arrangements of layers that published networks are made of.
//!
//! Nothing is trained here, so no block has a batch normalisation: a deployed network carries it inside its
//! convolutions. Branches that are added to their own input are scaled down instead, so that values stay finite in 16
//! bits through any number of blocks.

use super::draft::{Draft, Tensor};
use super::layers::Conv;

/// How much the branch of a residual block adds: a hundred blocks then grow values by a small factor only.
const BRANCH: f32 = 0.25;

impl Draft {
    /// Two 3x3 convolutions around which the input is carried (He, Zhang, Ren, Sun 2016).
    pub fn residual(&mut self, x: &Tensor, out: u64, step: u64) -> Tensor {
        let y = self.conv_relu(x, Conv::square(out, 3).every(step));
        let y = self.conv(&y, Conv::square(out, 3).gain(BRANCH));
        self.carried(x, &y, step)
    }

    /// A 3x3 convolution between two of 1x1 that narrow and widen, with the input carried around.
    pub fn bottleneck(&mut self, x: &Tensor, out: u64, step: u64) -> Tensor {
        let y = self.conv_relu(x, Conv::square(out / 4, 1));
        let y = self.conv_relu(&y, Conv::square(out / 4, 3).every(step));
        let y = self.conv(&y, Conv::square(out, 1).gain(BRANCH));
        self.carried(x, &y, step)
    }

    /// A convolution that sees each feature by itself between two of 1x1 that widen and narrow (Sandler, Howard, Zhu,
    /// Zhmoginov, Chen 2018).
    pub fn inverted(&mut self, x: &Tensor, out: u64, widen: u64, step: u64) -> Tensor {
        let wide = x.channels() * widen;
        let y = self.conv(x, Conv::square(wide, 1));
        let y = self.relu6(&y);
        let y = self.conv(&y, Conv::square(wide, 3).every(step).groups(wide));
        let y = self.relu6(&y);
        let y = self.conv(&y, Conv::square(out, 1).gain(if step == 1 { BRANCH } else { 1.0 }));
        if step == 1 && x.channels() == out { self.add(x, &y) } else { y }
    }

    /// Half of the features go through residual blocks of smooth activations, half go past them (Wang, Liao, Wu, Chen,
    /// Hsieh, Yeh 2020).
    pub fn partial(&mut self, x: &Tensor, out: u64, blocks: u64) -> Tensor {
        let past = self.conv_silu(x, Conv::square(out / 2, 1));
        let mut through = self.conv_silu(x, Conv::square(out / 2, 1));
        for _ in 0..blocks {
            let y = self.conv_silu(&through, Conv::square(out / 2, 1));
            let y = self.conv(&y, Conv::square(out / 2, 3).gain(BRANCH));
            through = self.add(&through, &y);
        }
        let both = self.concat(&[&past, &through], 1);
        self.conv_silu(&both, Conv::square(out, 1))
    }

    /// Layers of `growth` features each, every one of which sees all before it (Huang, Liu, van der Maaten, Weinberger
    /// 2017).
    pub fn densely(&mut self, x: &Tensor, growth: u64, layers: u64) -> Tensor {
        let mut all = x.clone();
        for _ in 0..layers {
            let y = self.conv_relu(&all, Conv::square(4 * growth, 1));
            let y = self.conv_relu(&y, Conv::square(growth, 3));
            all = self.concat(&[&all, &y], 1);
        }
        all
    }

    /// Features weighed by what their means say (Hu, Shen, Sun 2018).
    pub fn excited(&mut self, x: &Tensor) -> Tensor {
        let means = self.global_pool(x);
        let narrow = self.conv_relu(&means, Conv::square((x.channels() / 8).max(4), 1));
        let gate = self.conv(&narrow, Conv::square(x.channels(), 1));
        let gate = self.sigmoid(&gate);
        self.multiply(x, &gate)
    }

    /// Attention of every row to every row, then two dense layers, each with the input carried around and normalised
    /// before (Vaswani and others 2017; Xiong and others 2020). `x` is `[1, rows, features]`.
    pub fn attention(&mut self, x: &Tensor, heads: u64) -> Tensor {
        let (rows, features) = (x.shape[1], x.shape[2]);
        let each = features / heads;
        let normal = self.layer_norm(x);
        let split = |draft: &mut Self| {
            let y = draft.dense(&normal, features, 0.7);
            draft.reshape(&y, &[1, rows, heads, each])
        };
        let (query, key, value) = (split(self), split(self), split(self));
        let query = self.transpose(&query, &[0, 2, 1, 3]);
        let key = self.transpose(&key, &[0, 2, 3, 1]);
        let value = self.transpose(&value, &[0, 2, 1, 3]);
        let scores = self.matmul(&query, &key);
        let scores = self.scale(&scores, 1.0 / (each as f32).sqrt());
        let shares = self.softmax(&scores);
        let mixed = self.matmul(&shares, &value);
        let mixed = self.transpose(&mixed, &[0, 2, 1, 3]);
        let mixed = self.reshape(&mixed, &[1, rows, features]);
        let mixed = self.dense(&mixed, features, BRANCH);
        let x = self.add(x, &mixed);
        let normal = self.layer_norm(&x);
        let wide = self.dense(&normal, 4 * features, 1.0);
        let wide = self.relu(&wide);
        let narrow = self.dense(&wide, features, BRANCH);
        self.add(&x, &narrow)
    }

    /// A separable convolution in time around which the signal is carried.
    pub fn temporal(&mut self, x: &Tensor, length: u64) -> Tensor {
        let features = x.channels();
        let y = self.conv(x, Conv::time(features, length).groups(features));
        let y = self.conv_silu(&y, Conv::square(features * 2, 1));
        let y = self.conv(&y, Conv::square(features, 1).gain(BRANCH));
        self.add(x, &y)
    }

    /// A convolution followed by [`Draft::silu`].
    pub fn conv_silu(&mut self, x: &Tensor, conv: Conv) -> Tensor {
        let y = self.conv(x, conv);
        self.silu(&y)
    }

    /// The input, or where its shape does not fit a 1x1 convolution of it, plus the branch.
    fn carried(&mut self, x: &Tensor, branch: &Tensor, step: u64) -> Tensor {
        let around = if x.shape == branch.shape {
            x.clone()
        } else {
            self.conv(x, Conv::square(branch.channels(), 1).every(step).gain(0.7))
        };
        let sum = self.add(&around, branch);
        self.relu(&sum)
    }

    /// The means of all places as one row, then a dense layer: one number for each class.
    pub fn classes(&mut self, x: &Tensor, classes: u64) -> Tensor {
        let means = self.global_pool(x);
        let row = self.reshape(&means, &[1, x.channels()]);
        self.dense(&row, classes, 0.7)
    }
}
