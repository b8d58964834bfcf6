//! Inputs of periodic tasks: recorded or seeded, prepared before the first job, never only zeros.

use aegis_cuda::{ElementType, TensorSpec};

/// Samples that a seeded feed holds; job k reads sample k modulo this number.
pub const SAMPLES: usize = 8;

/// Seeded inputs of more bytes for one job are one sample, which stays where the device reads it ([`Feed::stays`]). A
/// camera's frames, too, come into such memory by themselves: copying them would cost more than many models.
const LARGE: usize = 256 << 10;

/// Prepared inputs of one task: for each sample, one buffer for each input that is not state.
#[derive(Clone, Debug)]
pub struct Feed {
    samples: Vec<Vec<Vec<u8>>>,
}

/// Why a recording cannot feed a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a recording of {size} bytes is no multiple of the {sample} bytes that one job reads")]
pub struct BadRecording {
    /// Its bytes.
    pub size: u64,
    /// Bytes that one job reads.
    pub sample: u64,
}

/// Bytes that one job reads of a recording of `size` bytes for these inputs.
///
/// # Errors
/// [`BadRecording`] if the recording is empty or does not divide into whole jobs.
pub fn recorded_job(size: u64, inputs: &[TensorSpec]) -> Result<u64, BadRecording> {
    let sample = inputs.iter().fold(0u64, |sum, input| sum.saturating_add(input.bytes.get()));
    if sample == 0 || size == 0 || !size.is_multiple_of(sample) {
        return Err(BadRecording { size, sample });
    }
    Ok(sample)
}

impl Feed {
    /// Seeded inputs: normally distributed numbers for floating-point tensors, bytes for integers, bits for booleans.
    pub fn seeded(seed: u64, inputs: &[TensorSpec]) -> Self {
        let mut random = SplitMix(seed ^ 0xA076_1D64_78BD_642F);
        let bytes: u64 = inputs.iter().map(|input| input.bytes.get()).sum();
        let count = if bytes > LARGE as u64 { 1 } else { SAMPLES };
        let sample = |_| inputs.iter().map(|input| fill(&mut random, input)).collect();
        Self { samples: (0..count).map(sample).collect() }
    }

    /// Whether every job reads the same sample, so that it need be written only once.
    pub fn stays(&self) -> bool {
        self.samples.len() == 1
    }

    /// Recorded inputs: for each job in turn, the bytes of every input in order.
    ///
    /// # Errors
    /// As [`recorded_job`].
    pub fn recorded(bytes: &[u8], inputs: &[TensorSpec]) -> Result<Self, BadRecording> {
        // A job of a recording in memory is no longer than that, and neither is an input.
        let length = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let sample = length(recorded_job(bytes.len() as u64, inputs)?);
        let sizes: Vec<usize> = inputs.iter().map(|input| length(input.bytes.get())).collect();
        let split = |mut job: &[u8]| {
            sizes
                .iter()
                .map(|&size| {
                    let (input, rest) = job.split_at(size);
                    job = rest;
                    input.to_vec()
                })
                .collect()
        };
        Ok(Self { samples: bytes.chunks_exact(sample).map(split).collect() })
    }

    /// The inputs of job `number`, in the order of the model's inputs that are not state.
    pub fn sample(&self, number: u64) -> &[Vec<u8>] {
        let index = number % self.samples.len().max(1) as u64;
        self.samples.get(index as usize).map_or(&[], Vec::as_slice)
    }
}

fn fill(random: &mut SplitMix, input: &TensorSpec) -> Vec<u8> {
    let count = input.bytes.get() / input.element.size().get().max(1);
    let mut bytes = Vec::with_capacity(usize::try_from(input.bytes.get()).unwrap_or(0));
    for _ in 0..count {
        match input.element {
            ElementType::F32 => bytes.extend_from_slice(&(random.normal() as f32).to_le_bytes()),
            ElementType::F64 => bytes.extend_from_slice(&random.normal().to_le_bytes()),
            // Half-precision ones, twos and halves: exact in both formats, with a random sign.
            ElementType::F16 => bytes.extend_from_slice(&(0x3C00 | (random.bits(1) << 15)).to_le_bytes()),
            ElementType::Bf16 => bytes.extend_from_slice(&(0x3F80 | (random.bits(1) << 15)).to_le_bytes()),
            ElementType::Bool => bytes.push(u8::try_from(random.bits(1)).unwrap_or(0)),
            ElementType::I8
            | ElementType::U8
            | ElementType::I16
            | ElementType::U16
            | ElementType::I32
            | ElementType::U32
            | ElementType::I64
            | ElementType::U64 => {
                let limit = if input.element == ElementType::I8 { 7 } else { 8 };
                let mut word = [0u8; 8];
                word[0] = u8::try_from(random.bits(limit)).unwrap_or(0);
                bytes.extend_from_slice(&word[..input.element.size().get() as usize]);
            }
        }
    }
    bytes
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, seeded, the same on every machine.
#[derive(Clone, Debug)]
pub struct SplitMix(pub u64);

impl SplitMix {
    /// The next 64 bits.
    pub fn next_word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`; zero for an empty range. The bias of the remainder is below 2^-32 for the small
    /// bounds used here.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next_word() % bound }
    }

    /// A number in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.next_word() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn bits(&mut self, count: u32) -> u16 {
        (self.next_word() >> 48) as u16 & ((1u16 << count) - 1)
    }

    /// A standard normal number (Box and Muller 1958).
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

#[cfg(test)]
mod tests {
    use aegis_types::Bytes;

    use super::*;

    fn spec(element: ElementType, count: u64) -> TensorSpec {
        let bytes = Bytes::new(count * element.size().get());
        TensorSpec { name: "x".into(), element, shape: vec![count], bytes }
    }

    #[test]
    fn seeded_inputs_are_repeatable_and_not_zero() {
        for element in
            [ElementType::F32, ElementType::I64, ElementType::U8, ElementType::F16, ElementType::Bool]
        {
            let inputs = [spec(element, 64)];
            let (a, b) = (Feed::seeded(7, &inputs), Feed::seeded(7, &inputs));
            assert_eq!(a.sample(3), b.sample(3));
            assert_eq!(a.sample(3)[0].len() as u64, inputs[0].bytes.get());
            assert!(a.sample(3)[0].iter().any(|byte| *byte != 0), "{element:?}");
            assert_ne!(a.sample(0), a.sample(1), "{element:?}");
            assert_ne!(a.sample(0), Feed::seeded(8, &inputs).sample(0), "{element:?}");
        }
    }

    #[test]
    fn large_inputs_are_one_sample() {
        let (small, large) = (spec(ElementType::F32, 65_536), spec(ElementType::F32, 65_537));
        assert!(!Feed::seeded(1, std::slice::from_ref(&small)).stays());
        let feed = Feed::seeded(1, std::slice::from_ref(&large));
        assert!(feed.stays() && feed.sample(7) == feed.sample(0) && !feed.sample(7).is_empty());
    }

    #[test]
    fn recordings_divide_into_jobs() {
        let inputs = [spec(ElementType::U8, 2), spec(ElementType::F32, 1)];
        let bytes: Vec<u8> = (0..12).collect();
        let feed = Feed::recorded(&bytes, &inputs).expect("two jobs");
        assert_eq!(feed.sample(1), [vec![6, 7], vec![8, 9, 10, 11]]);
        assert_eq!(feed.sample(2), feed.sample(0));
        assert!(Feed::recorded(&bytes[..11], &inputs).is_err());
        assert!(Feed::recorded(&[], &inputs).is_err());
    }
}
