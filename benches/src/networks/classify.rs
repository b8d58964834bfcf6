//! Networks that say what is in a picture, and the stages that other networks start with.

use super::draft::{Draft, Tensor};
use super::layers::Conv;

/// Which residual block a backbone is made of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Block {
    /// Two 3x3 convolutions.
    Plain,
    /// 1x1, 3x3, 1x1.
    Bottleneck,
}

/// Stages at 1/4, 1/8, 1/16 and 1/32 of the picture's size, each with twice the features of the one before.
pub(super) fn residual_stages(
    draft: &mut Draft,
    picture: &Tensor,
    block: Block,
    features: u64,
    blocks: [u64; 4],
) -> Vec<Tensor> {
    let stem = match block {
        Block::Plain => features,
        Block::Bottleneck => features / 4,
    };
    let x = draft.conv_relu(picture, Conv::square(stem, 7).every(2));
    let mut x = draft.max_pool(&x);
    let mut stages = Vec::with_capacity(blocks.len());
    for (stage, count) in blocks.into_iter().enumerate() {
        let out = features << stage;
        for index in 0..count {
            let step = if index == 0 && stage > 0 { 2 } else { 1 };
            x = match block {
                Block::Plain => draft.residual(&x, out, step),
                Block::Bottleneck => draft.bottleneck(&x, out, step),
            };
        }
        stages.push(x.clone());
    }
    stages
}

/// A residual network with one number for each class.
pub(super) fn residual(draft: &mut Draft, side: u64, block: Block, features: u64, blocks: [u64; 4]) {
    let picture = draft.input("picture", &[1, 3, side, side]);
    let stages = residual_stages(draft, &picture, block, features, blocks);
    let scores = draft.classes(&stages[3], 1000);
    draft.output("scores", &scores);
}

/// Plain 3x3 convolutions and pooling, then dense layers (Simonyan and Zisserman 2015), of which the widest are
/// narrower than published: weights of a network stay within 60 MB.
pub(super) fn plain(draft: &mut Draft, side: u64, features: u64, dense: u64) {
    let mut x = draft.input("picture", &[1, 3, side, side]);
    for (stage, count) in [2, 2, 4, 4, 4].into_iter().enumerate() {
        for _ in 0..count {
            x = draft.conv_relu(&x, Conv::square(features << stage.min(3), 3));
        }
        x = draft.max_pool(&x);
    }
    let means = draft.global_pool(&x);
    let mut row = draft.reshape(&means, &[1, x.channels()]);
    for _ in 0..2 {
        row = draft.dense(&row, dense, 1.0);
        row = draft.relu(&row);
    }
    let scores = draft.dense(&row, 1000, 0.7);
    draft.output("scores", &scores);
}

/// Inverted residual blocks, as made for phones.
pub(super) fn mobile(draft: &mut Draft, side: u64, features: u64, outputs: (&str, u64)) {
    let picture = draft.input("picture", &[1, 3, side, side]);
    let x = mobile_stages(draft, &picture, features).pop().expect("there are stages");
    let x = draft.conv(&x, Conv::square(features * 32, 1));
    let x = draft.relu6(&x);
    let scores = draft.classes(&x, outputs.1);
    draft.output(outputs.0, &scores);
}

/// Stages of inverted residual blocks at 1/4 to 1/32 of the picture's size.
pub(super) fn mobile_stages(draft: &mut Draft, picture: &Tensor, features: u64) -> Vec<Tensor> {
    let x = draft.conv(picture, Conv::square(features, 3).every(2));
    let mut x = draft.relu6(&x);
    let mut stages = Vec::new();
    for (times, blocks) in [(2, 2), (3, 3), (6, 4), (12, 3)] {
        for index in 0..blocks {
            x = draft.inverted(&x, features * times, 4, if index == 0 { 2 } else { 1 });
        }
        stages.push(x.clone());
    }
    stages
}

/// Blocks of layers that see all before them, halved between blocks.
pub(super) fn dense(draft: &mut Draft, side: u64, growth: u64, blocks: &[u64]) {
    let picture = draft.input("picture", &[1, 3, side, side]);
    let x = draft.conv_relu(&picture, Conv::square(growth * 2, 7).every(2));
    let mut x = draft.max_pool(&x);
    for (index, &layers) in blocks.iter().enumerate() {
        x = draft.densely(&x, growth, layers);
        if index + 1 < blocks.len() {
            let half = x.channels() / 2;
            x = draft.conv_relu(&x, Conv::square(half, 1));
            x = draft.average_pool(&x);
        }
    }
    let scores = draft.classes(&x, 1000);
    draft.output("scores", &scores);
}
