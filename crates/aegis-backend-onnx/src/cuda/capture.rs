//! Finds out at load time whether a job can be recorded into a graph and replayed.
//!
//! The library does not say so, and much can stand in the way: a wait for the device, a copy from or to the host, an
//! allocation of the driver's, a function on the host. A job is recorded by way of trial, what was recorded is looked
//! at, and replays on several sets of inputs must give the bits that plain runs give.
//!
//! Kernels that are told sizes through memory copy them from the host. What they copy cannot depend on a job's inputs if
//! no node runs on the host and nothing is copied to it: while a job is recorded the device computes nothing, so nothing
//! of it can have reached the host. Then the library's blocks that the copies read are kept as they are for as long as
//! the graph may be replayed ([`pinned`](super::pinned)), and replays are compared with runs all the same.
//!
//! One exception: while a stream records, the vendor's matrix library takes its workspace as an allocation of the graph,
//! and may then choose another order of summing than in a run. Numbers of such a graph may differ by rounding.

use aegis_cuda::{BackendError, Bindings, DeviceSlice, ElementType, Stream, TensorSpec};
use aegis_types::{MemoryClass, Severity};

use super::driver::Recorded;
use super::model::OnDevice;
use crate::opened::Temporaries;

/// What the outputs are filled with before each run, so that a run that does nothing is seen.
const POISON: u8 = 0xA5;
/// Sets of inputs that replays are compared on.
const SETS: u32 = 3;
/// How far numbers of a graph with allocations of its own may be from those of runs, relative to numbers above one.
const ROUNDING: f32 = 2e-5;

/// What came of it.
pub(crate) enum Trial {
    /// Replays do what runs do.
    Replays {
        /// What was recorded.
        recorded: Recorded,
    },
    /// It has to be run as it is.
    Runs {
        /// What stands in the way.
        reason: String,
    },
}

/// Tries it on temporary buffers, which are given back.
///
/// # Errors
/// Those of plain runs, and a lost device. What only recording runs into is no error.
pub(crate) fn trial(device: &OnDevice, stream: &mut dyn Stream) -> Result<Trial, BackendError> {
    let lent = device.opened().temporaries()?;
    let outcome = on(device, stream, &lent);
    // Waited for even after a refusal: nothing may write to memory that is given back.
    stream.synchronize()?;
    outcome
}

fn on(device: &OnDevice, stream: &mut dyn Stream, lent: &Temporaries) -> Result<Trial, BackendError> {
    let (inputs, outputs) = (&device.opened().description().inputs, &device.opened().description().outputs);
    let bound = device.opened().prepare(lent.buffers.clone())?;
    let mut expected = Vec::new();
    for set in 0..SETS {
        fill(&lent.buffers, inputs, set);
        match device.run(&bound, MemoryClass::Scratch) {
            Ok(()) => expected.push(read(stream, &lent.buffers)?),
            // The first set is what the model was warmed up with; what fails on another depends on its inputs.
            Err(error) if set > 0 && !is_fatal(&error) => {
                stream.synchronize()?;
                return Ok(Trial::Runs { reason: format!("what it does depends on its inputs: {error}") });
            }
            Err(error) => return Err(error),
        }
    }
    let (mut recorded, mut kept) = (Recorded::default(), Vec::new());
    let outcome = stream.capture(&mut |stream| {
        (recorded, kept) = device.record(&bound, stream)?;
        Ok(())
    });
    let graph = match outcome {
        Ok(graph) => graph,
        Err(error) if is_fatal(&error) => return Err(error),
        Err(BackendError::Execution { reason, .. }) => return Ok(Trial::Runs { reason }),
        Err(error) => return Ok(Trial::Runs { reason: error.to_string() }),
    };
    let tolerance = if recorded.allocations > 0 { ROUNDING } else { 0.0 };
    for turn in 0..2 * SETS {
        let set = turn % SETS;
        fill(&lent.buffers, inputs, set);
        stream.replay(&*graph)?;
        let seen = read(stream, &lent.buffers)?;
        if !agree(outputs, &seen, &expected[set as usize], tolerance) {
            return Ok(Trial::Runs {
                reason: format!("replay {turn} of its graph gave other outputs than runs"),
            });
        }
    }
    drop((graph, kept));
    Ok(Trial::Replays { recorded })
}

fn is_fatal(error: &BackendError) -> bool {
    error.severity() == Severity::Fatal
}

/// Whether outputs are equal, bit for bit unless numbers of 32 bits may differ by rounding.
fn agree(specs: &[TensorSpec], seen: &[Vec<u8>], expected: &[Vec<u8>], tolerance: f32) -> bool {
    let numbers = |bytes: &[u8]| -> Vec<f32> {
        let words = bytes.chunks_exact(4).map(|word| [word[0], word[1], word[2], word[3]]);
        words.map(f32::from_le_bytes).collect()
    };
    specs.iter().zip(seen.iter().zip(expected)).all(|(spec, (seen, expected))| {
        let rounded = tolerance > 0.0 && spec.element == ElementType::F32;
        let near = |(seen, expected): (f32, f32)| {
            seen.to_bits() == expected.to_bits()
                || (seen - expected).abs() <= tolerance * expected.abs().max(1.0)
        };
        seen == expected || rounded && numbers(seen).into_iter().zip(numbers(expected)).all(near)
    })
}

/// Fills inputs with numbers that differ from set to set, and outputs with none.
fn fill(buffers: &Bindings, specs: &[TensorSpec], set: u32) {
    for (position, (slice, spec)) in buffers.inputs.iter().zip(specs).enumerate() {
        slice.write(&pattern(spec, position, set));
    }
    for slice in &buffers.outputs {
        slice.write(&vec![POISON; length(slice)]);
    }
}

/// The first set is zeroes, as the model was warmed up with. In others, numbers are small and of both signs; integers
/// are zero or one, because they may be indices that must exist.
fn pattern(spec: &TensorSpec, position: usize, set: u32) -> Vec<u8> {
    let bytes = usize::try_from(spec.bytes.get()).unwrap_or(usize::MAX);
    let size = usize::try_from(spec.element.size().get()).unwrap_or(1);
    let mixed = |index: usize| {
        let seed = (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        seed.rotate_left(set.wrapping_mul(7))
            .wrapping_add(position as u64)
            .wrapping_mul(0xBF58_476D_1CE4_E5B9)
    };
    let number = |index: usize| (mixed(index) >> 48) as f32 / 32_768.0 - 1.0;
    match spec.element {
        _ if set == 0 => vec![0; bytes],
        ElementType::F32 => (0..bytes / 4).flat_map(|index| number(index).to_le_bytes()).collect(),
        ElementType::F64 => (0..bytes / 8).flat_map(|index| f64::from(number(index)).to_le_bytes()).collect(),
        // Half precision: the bit below the top makes numbers below two of it, of either sign.
        ElementType::F16 | ElementType::Bf16 => {
            (0..bytes / 2).flat_map(|index| ((mixed(index) >> 48) as u16 & 0xBFFF).to_le_bytes()).collect()
        }
        _ => (0..bytes / size)
            .flat_map(|index| (mixed(index) >> 63).to_le_bytes().into_iter().take(size))
            .collect(),
    }
}

fn read(stream: &mut dyn Stream, buffers: &Bindings) -> Result<Vec<Vec<u8>>, BackendError> {
    stream.synchronize()?;
    let copy = |slice: &std::rc::Rc<DeviceSlice>| {
        let mut bytes = vec![0; length(slice)];
        slice.read(&mut bytes);
        bytes
    };
    Ok(buffers.outputs.iter().map(copy).collect())
}

fn length(slice: &DeviceSlice) -> usize {
    usize::try_from(slice.len().get()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aegis_types::Bytes;

    fn spec(element: ElementType) -> TensorSpec {
        let bytes = Bytes::new(8 * element.size().get());
        TensorSpec { name: "t".into(), element, shape: vec![8], bytes }
    }

    #[test]
    fn sets_have_the_size_of_the_tensor_and_differ() {
        for element in
            [ElementType::F16, ElementType::F32, ElementType::F64, ElementType::I64, ElementType::Bool]
        {
            let spec = spec(element);
            let sets: Vec<Vec<u8>> = (0..SETS).map(|set| pattern(&spec, 1, set)).collect();
            assert!(sets.iter().all(|set| set.len() as u64 == spec.bytes.get()), "{element:?}");
            assert!(
                sets[0].iter().all(|&byte| byte == 0) && sets[1] != sets[0] && sets[2] != sets[1],
                "{element:?}"
            );
        }
        let numbers = pattern(&spec(ElementType::I64), 0, 2);
        assert!(numbers.chunks(8).all(|word| word[0] <= 1 && word[1..] == [0; 7]));
    }

    #[test]
    fn rounding_is_allowed_where_said_and_wrong_numbers_nowhere() {
        let bytes = |number: f32| vec![number.to_le_bytes().to_vec()];
        let specs = [spec(ElementType::F32)];
        let check = |seen: f32, tolerance| agree(&specs, &bytes(seen), &bytes(1.0), tolerance);
        assert!(check(1.0, 0.0) && !check(1.00001, 0.0));
        assert!(check(1.00001, ROUNDING) && !check(1.0001, ROUNDING) && !check(f32::NAN, ROUNDING));
        assert!(agree(&specs, &bytes(f32::NAN), &bytes(f32::NAN), 0.0));
        let whole = [spec(ElementType::I32)];
        assert!(!agree(&whole, &bytes(1.00001), &bytes(1.0), ROUNDING), "integers do not round");
    }
}
