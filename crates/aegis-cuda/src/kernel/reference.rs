//! What a model of kernels answers, in integer arithmetic: the rules of the data path, and the host's own execution of
//! them, which looks at the sampled words only.

use aegis_types::{Bytes, ContentHash};

use super::parse::{Model, Segment};
use super::steps::{Step, Work};
use crate::error::BackendError;

/// Words of a model's state; the data path runs in one block of as many threads.
pub(super) const STATE_WORDS: usize = 1024;
/// The state as it is handed from segment to segment.
pub(super) const STATE: Bytes = Bytes::new(4 * STATE_WORDS as u64);
/// Words of a region that take part, spread evenly over it: enough to see who overlaps it, few enough to leave the
/// time to the steps.
pub(super) const SAMPLES: u64 = 1 << SAMPLES_LOG2;
const SAMPLES_LOG2: u32 = 12;
/// What `stream` changes in every word in every round.
pub(super) const STREAM_KEY: u32 = 0xA5A5_A5A5;

/// For a fixed word a bijection of `state`, by the integer hash "lowbias32" of C. Wellons; the kernels have the same.
pub(super) const fn blend(state: u32, word: u32) -> u32 {
    let x = (state ^ word.wrapping_mul(0x9E37_79B1)).wrapping_add(0x6D2B_79F5);
    let x = (x ^ (x >> 16)).wrapping_mul(0x7FEB_352D);
    let x = (x ^ (x >> 15)).wrapping_mul(0x846C_A68B);
    x ^ (x >> 16)
}

/// Where the sample of this number lies in a region of so many words.
pub(super) const fn sample_position(sample: u64, words: u64) -> u64 {
    if words <= SAMPLES { sample } else { ((sample as u128 * words as u128) >> SAMPLES_LOG2) as u64 }
}

/// How many words of a region take part.
pub(super) const fn samples_of(words: u64) -> u64 {
    if words < SAMPLES { words } else { SAMPLES }
}

/// What weights are generated from; constants of copies follow.
pub(super) fn seed(hash: &ContentHash, constant: u32) -> u32 {
    let [a, b, c, d, ..] = *hash.as_bytes();
    blend(u32::from_le_bytes([a, b, c, d]), constant)
}

/// What tells apart the regions that go into the state or come out of it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Role {
    Weights,
    Input(usize),
    Scratch,
    Output(usize),
}

impl Role {
    /// A different number for each.
    pub(super) fn salt(self) -> u32 {
        let numbered = |index: usize, kind: u32| u32::try_from(index).unwrap_or(u32::MAX) << 2 | kind;
        match self {
            Self::Weights => 0,
            Self::Input(index) => numbered(index, 1),
            Self::Scratch => 2,
            Self::Output(index) => numbered(index, 3),
        }
    }
}

/// Computes all outputs of a job.
///
/// # Errors
/// [`BackendError::BindingCount`] for the wrong number of inputs, [`BackendError::Binding`] for one of another size.
pub(super) fn outputs(
    name: &str,
    model: &Model,
    hash: &ContentHash,
    inputs: &[Vec<u8>],
) -> Result<Vec<Vec<u8>>, BackendError> {
    check(name, model, inputs)?;
    let mut state = State::new();
    if !model.weights.is_zero() {
        let seed = seed(hash, 0);
        state.fold(Role::Weights, model.weights, |at| blend(seed, low(at)));
    }
    for (index, input) in inputs.iter().enumerate() {
        state.fold(Role::Input(index), Bytes::new(input.len() as u64), |at| word_of(input, at));
    }
    if state.fresh {
        state.fold(Role::Weights, Bytes::ZERO, |_| 0);
    }
    let copies = model.copies();
    for segment in &model.segments {
        through_scratch(&mut state, segment, &copies, hash);
    }
    let emit =
        |(index, spec): (usize, &crate::backend::TensorSpec)| state.emit(Role::Output(index), spec.bytes);
    Ok(model.outputs.iter().enumerate().map(emit).collect())
}

fn check(name: &str, model: &Model, inputs: &[Vec<u8>]) -> Result<(), BackendError> {
    let (expected, got) = (model.inputs.len(), inputs.len());
    if expected != got {
        return Err(BackendError::BindingCount { model: name.into(), what: "input", expected, got });
    }
    let misfit = model.inputs.iter().zip(inputs).find(|(spec, input)| spec.bytes.get() != input.len() as u64);
    misfit.map_or(Ok(()), |(spec, input)| {
        Err(BackendError::Binding {
            model: name.into(),
            tensor: spec.name.clone(),
            expected: spec.bytes,
            got: Bytes::new(input.len() as u64),
        })
    })
}

/// One segment's use of its scratch.
fn through_scratch(state: &mut State, segment: &Segment, copies: &[Bytes], hash: &ContentHash) {
    if segment.scratch.is_zero() {
        return;
    }
    let words = segment.scratch.get() / 4;
    let position = |sample: usize| sample_position(sample as u64, words);
    let mut samples = state.spread(words);
    for Step { work, repeat, .. } in &segment.steps {
        match *work {
            Work::Stream { bytes, rounds, .. } if rounds % 2 == 1 && repeat % 2 == 1 => {
                let reached = |sample: usize| position(sample) < bytes.get() / 4;
                let changed = samples.iter_mut().enumerate().filter(|(sample, _)| reached(*sample));
                changed.for_each(|(_, word)| *word ^= STREAM_KEY);
            }
            Work::Copy { bytes } => {
                let constant = copies.partition_point(|size| *size < bytes);
                let seed = seed(hash, 1 + low(constant as u64));
                for (sample, word) in samples.iter_mut().enumerate() {
                    if position(sample) < bytes.get() / 4 {
                        *word = blend(seed, low(position(sample)));
                    }
                }
            }
            Work::Compute { .. }
            | Work::Fill { .. }
            | Work::Stream { .. }
            | Work::Read { .. }
            | Work::Hold { .. }
            | Work::Storm { .. }
            | Work::Overrun { .. }
            | Work::Stray { .. } => {}
        }
    }
    state.fold_samples(Role::Scratch, &samples);
}

/// The state of a job between kernels.
struct State {
    words: Vec<u32>,
    /// Nothing was folded in: the first fold begins anew.
    fresh: bool,
}

impl State {
    fn new() -> Self {
        Self { words: vec![0; STATE_WORDS], fresh: true }
    }

    fn fold(&mut self, role: Role, bytes: Bytes, word: impl Fn(u64) -> u32) {
        let words = bytes.get().div_ceil(4);
        let samples: Vec<u32> =
            (0..samples_of(words)).map(|sample| word(sample_position(sample, words))).collect();
        self.fold_samples(role, &samples);
    }

    fn fold_samples(&mut self, role: Role, samples: &[u32]) {
        for word in &mut self.words {
            *word = blend(*word, role.salt());
        }
        for (sample, word) in samples.iter().enumerate() {
            let own = &mut self.words[sample % STATE_WORDS];
            *own = blend(*own, *word);
        }
        let total = self.words.iter().fold(0u32, |sum, word| sum.wrapping_add(*word));
        for (lane, word) in (0u32..).zip(&mut self.words) {
            *word = blend(*word, total.wrapping_add(lane));
        }
        self.fresh = false;
    }

    fn spread(&self, words: u64) -> Vec<u32> {
        let own = |sample: u64| self.words[usize::try_from(sample).unwrap_or(0) % STATE_WORDS];
        (0..samples_of(words)).map(|sample| blend(own(sample), low(sample))).collect()
    }

    fn emit(&self, role: Role, bytes: Bytes) -> Vec<u8> {
        let length = usize::try_from(bytes.get()).unwrap_or(0);
        let mut out = vec![0; length];
        for (at, chunk) in out.chunks_mut(4).enumerate() {
            let word = blend(blend(self.words[at % STATE_WORDS], role.salt()), low(at as u64));
            chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
        }
        out
    }
}

/// A word of `data`; what lies past its end reads as zero bytes.
fn word_of(data: &[u8], at: u64) -> u32 {
    let start = usize::try_from(at).unwrap_or(usize::MAX / 8) * 4;
    let mut word = [0; 4];
    for (byte, from) in word.iter_mut().zip(data.iter().skip(start)) {
        *byte = *from;
    }
    u32::from_le_bytes(word)
}

/// The low half of a position, as the kernels use it.
pub(super) const fn low(position: u64) -> u32 {
    (position & 0xFFFF_FFFF) as u32
}
