//! Networks over time: speech, sounds, and where everyone is going. None is recurrent: a window slides.

use super::draft::Draft;
use super::layers::Conv;

/// Letters from a window of sound: temporal convolutions with attention between them (Gulati and others 2020).
pub(super) fn speech(draft: &mut Draft, frames: u64, features: u64, blocks: u64) {
    const BANDS: u64 = 80;
    let bands = draft.input("bands", &[1, BANDS, 1, frames]);
    let x = draft.conv_silu(&bands, Conv::time(features, 5).every(2));
    let mut x = draft.conv_silu(&x, Conv::time(features, 5).every(2));
    let steps = x.shape[3];
    for _ in 0..blocks {
        x = draft.temporal(&x, 9);
        let rows = draft.reshape(&x, &[1, features, steps]);
        let rows = draft.transpose(&rows, &[0, 2, 1]);
        let rows = draft.attention(&rows, 4);
        let columns = draft.transpose(&rows, &[0, 2, 1]);
        x = draft.reshape(&columns, &[1, features, 1, steps]);
    }
    let rows = draft.reshape(&x, &[1, features, steps]);
    let rows = draft.transpose(&rows, &[0, 2, 1]);
    let rows = draft.layer_norm(&rows);
    let letters = draft.dense(&rows, 64, 1.0);
    let shares = draft.softmax(&letters);
    draft.output("letters", &shares);
}

/// One number for each word or sound: separable convolutions in time.
pub(super) fn keyword(draft: &mut Draft, frames: u64, features: u64, blocks: u64) {
    let bands = draft.input("bands", &[1, 40, 1, frames]);
    let mut x = draft.conv_silu(&bands, Conv::time(features, 5).every(2));
    for index in 0..blocks {
        x = draft.temporal(&x, 9);
        if index % 2 == 1 {
            x = draft.max_pool(&x);
        }
    }
    let scores = draft.classes(&x, 32);
    let shares = draft.softmax(&scores);
    draft.output("words", &shares);
}

/// Six possible paths for each of `agents` agents from what they did: attention among agents (Gao and others 2020).
pub(super) fn predictor(draft: &mut Draft, agents: u64, features: u64, blocks: u64) {
    const HISTORY: u64 = 60;
    const PATHS: u64 = 6 * 30 * 2;
    let seen = draft.input("histories", &[1, agents, HISTORY]);
    let x = draft.dense(&seen, features, 1.0);
    let mut x = draft.relu(&x);
    for _ in 0..blocks {
        x = draft.attention(&x, 8);
    }
    let x = draft.layer_norm(&x);
    let paths = draft.dense(&x, PATHS, 0.7);
    draft.output("paths", &paths);
}
