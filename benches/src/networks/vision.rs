//! Networks that say where things are: detectors, segmentation, depth, lanes, poses, identities.

use super::classify::{Block, mobile_stages, residual_stages};
use super::draft::{Draft, Tensor};
use super::layers::Conv;

/// A camera's pipeline: cleans up a raw mosaic of four colours and gives a picture of the same height and width.
pub(super) fn camera(draft: &mut Draft, [height, width]: [u64; 2], features: u64, blocks: u64) {
    let raw = draft.input("mosaic", &[1, 4, height, width]);
    let mut x = draft.conv_relu(&raw, Conv::square(features, 3));
    for _ in 0..blocks {
        x = draft.residual(&x, features, 1);
        x = draft.excited(&x);
    }
    let picture = draft.conv(&x, Conv::square(3, 3).gain(0.5));
    let picture = draft.sigmoid(&picture);
    draft.output("picture", &picture);
}

/// Boxes and classes at three scales: a backbone of partial blocks, a pyramid from coarse to fine (Lin and others
/// 2017), and a head at each scale.
pub(super) fn detector(
    draft: &mut Draft,
    [height, width]: [u64; 2],
    features: u64,
    blocks: u64,
    classes: u64,
) {
    let picture = draft.input("picture", &[1, 3, height, width]);
    let mut x = draft.conv_silu(&picture, Conv::square(features, 3).every(2));
    let mut stages = Vec::new();
    for stage in 0..4u32 {
        let out = features << (stage + 1).min(3);
        x = draft.conv_silu(&x, Conv::square(out, 3).every(2));
        x = draft.partial(&x, out, blocks);
        stages.push(x.clone());
    }
    let levels = pyramid(draft, &stages[1..], features * 4);
    let found: Vec<Tensor> = levels.iter().map(|level| head(draft, level, classes + 4)).collect();
    let all = draft.concat(&found.iter().collect::<Vec<_>>(), 1);
    draft.output("boxes", &all);
}

/// Every stage with `features` features, enriched by the coarser ones.
fn pyramid(draft: &mut Draft, stages: &[Tensor], features: u64) -> Vec<Tensor> {
    let mut levels: Vec<Tensor> = Vec::with_capacity(stages.len());
    for stage in stages.iter().rev() {
        let side = draft.conv(stage, Conv::square(features, 1));
        let merged = match levels.last() {
            None => side,
            Some(coarser) => {
                let coarser = draft.upsample(coarser);
                let sum = draft.add(&side, &coarser);
                draft.scale(&sum, 0.7)
            }
        };
        levels.push(draft.conv_relu(&merged, Conv::square(features, 3)));
    }
    levels
}

/// One row for each place: `[1, places, values]`.
fn head(draft: &mut Draft, level: &Tensor, values: u64) -> Tensor {
    let x = draft.conv_silu(level, Conv::square(level.channels(), 3));
    let x = draft.conv(&x, Conv::square(values, 1).gain(0.7));
    let rows = draft.transpose(&x, &[0, 2, 3, 1]);
    draft.reshape(&rows, &[1, level.shape[2] * level.shape[3], values])
}

/// A class for every fourth place of every second row and column: an encoder, and a decoder that sees the encoder's
/// stages beside what it has learned (Ronneberger, Fischer, Brox 2015).
pub(super) fn segmentation(draft: &mut Draft, [height, width]: [u64; 2], features: u64, classes: u64) {
    let picture = draft.input("picture", &[1, 3, height, width]);
    let mut x = draft.conv_relu(&picture, Conv::square(features, 3).every(2));
    let mut stages = Vec::new();
    for stage in 0..4u32 {
        stages.push(x.clone());
        let out = features << (stage + 1).min(3);
        x = draft.conv_relu(&x, Conv::square(out, 3).every(2));
        x = draft.residual(&x, out, 1);
    }
    for stage in stages.iter().rev() {
        let up = draft.deconv(&x, stage.channels());
        let both = draft.concat(&[&up, stage], 1);
        x = draft.conv_relu(&both, Conv::square(stage.channels(), 3));
    }
    let scores = draft.conv(&x, Conv::square(classes, 1).gain(0.7));
    draft.output("classes", &scores);
}

/// A distance for every second place: a residual encoder and a decoder of sums.
pub(super) fn depth(draft: &mut Draft, [height, width]: [u64; 2], features: u64, blocks: [u64; 4]) {
    let picture = draft.input("picture", &[1, 3, height, width]);
    let stages = residual_stages(draft, &picture, Block::Plain, features, blocks);
    let mut x = stages[3].clone();
    for stage in stages[..3].iter().rev() {
        let up = draft.upsample(&x);
        let up = draft.conv_relu(&up, Conv::square(stage.channels(), 3));
        let sum = draft.add(&up, stage);
        x = draft.scale(&sum, 0.7);
    }
    let x = draft.upsample(&x);
    let x = draft.conv_relu(&x, Conv::square(features / 2, 3));
    let near = draft.conv(&x, Conv::square(1, 3).gain(0.5));
    let near = draft.sigmoid(&near);
    draft.output("nearness", &near);
}

/// For each of four lanes and each of `anchors` rows the share of every column (Qin, Wang, Li 2020).
pub(super) fn lanes(draft: &mut Draft, [height, width]: [u64; 2], features: u64, anchors: u64) {
    const LANES: u64 = 4;
    const COLUMNS: u64 = 64;
    let picture = draft.input("picture", &[1, 3, height, width]);
    let stages = residual_stages(draft, &picture, Block::Plain, features, [2, 2, 2, 2]);
    let narrow = draft.conv_relu(&stages[3], Conv::square(8, 1));
    let row = draft.reshape(&narrow, &[1, narrow.elements()]);
    let row = draft.dense(&row, 512, 1.0);
    let row = draft.relu(&row);
    let cells = draft.dense(&row, LANES * anchors * COLUMNS, 1.0);
    let cells = draft.reshape(&cells, &[1, LANES, anchors, COLUMNS]);
    let shares = draft.softmax(&cells);
    draft.output("lanes", &shares);
}

/// A direction in a space in which the same person or car is near itself: branches of different reach, weighed and
/// summed (Zhou, Yang, Cavallaro, Xiang 2019).
pub(super) fn identity(draft: &mut Draft, [height, width]: [u64; 2], features: u64, length: u64) {
    let crop = draft.input("crop", &[1, 3, height, width]);
    let x = draft.conv_relu(&crop, Conv::square(features, 7).every(2));
    let mut x = draft.max_pool(&x);
    for stage in 0..3u32 {
        for _ in 0..2 {
            x = reaches(draft, &x, features << stage);
        }
        if stage < 2 {
            x = draft.average_pool(&x);
        }
    }
    let scores = draft.classes(&x, length);
    let direction = draft.direction(&scores);
    draft.output("direction", &direction);
}

/// Branches of one, two and three separable convolutions, each weighed by its own means.
fn reaches(draft: &mut Draft, x: &Tensor, out: u64) -> Tensor {
    let narrow = draft.conv_relu(x, Conv::square(out / 2, 1));
    let mut sum: Option<Tensor> = None;
    let mut branch = narrow;
    for _ in 0..3 {
        let deep = draft.conv(&branch, Conv::square(out / 2, 3).groups(out / 2));
        branch = draft.conv_relu(&deep, Conv::square(out / 2, 1));
        let weighed = draft.excited(&branch);
        sum = Some(match sum {
            None => weighed,
            Some(sum) => draft.add(&sum, &weighed),
        });
    }
    let wide = draft.conv(&sum.expect("there are three branches"), Conv::square(out, 1).gain(0.25));
    let around = if x.channels() == out { x.clone() } else { draft.conv(x, Conv::square(out, 1)) };
    let both = draft.add(&around, &wide);
    draft.relu(&both)
}

/// A map for each joint of a body: mobile stages and learned enlargement (Xiao, Wu, Wei 2018).
pub(super) fn pose(draft: &mut Draft, [height, width]: [u64; 2], features: u64, joints: u64) {
    let crop = draft.input("crop", &[1, 3, height, width]);
    let mut x = mobile_stages(draft, &crop, features).pop().expect("there are stages");
    for _ in 0..3 {
        x = draft.deconv(&x, features * 4);
        x = draft.relu(&x);
    }
    let maps = draft.conv(&x, Conv::square(joints, 1).gain(0.7));
    draft.output("maps", &maps);
}

/// Boxes from a laser scan seen from above: features of pillars on a grid, three scales brought to one (Lang and
/// others 2019).
pub(super) fn pillars(draft: &mut Draft, [height, width]: [u64; 2], features: u64, blocks: u64) {
    let grid = draft.input("pillars", &[1, 32, height, width]);
    let mut x = grid;
    let mut scales = Vec::new();
    for stage in 0..3u32 {
        x = draft.conv_relu(&x, Conv::square(features << stage, 3).every(2));
        for _ in 0..blocks {
            x = draft.residual(&x, features << stage, 1);
        }
        let mut same = draft.conv_relu(&x, Conv::square(features, 1));
        for _ in 0..stage {
            same = draft.upsample(&same);
        }
        scales.push(same);
    }
    let all = draft.concat(&scales.iter().collect::<Vec<_>>(), 1);
    let boxes = head(draft, &all, 16);
    draft.output("boxes", &boxes);
}
