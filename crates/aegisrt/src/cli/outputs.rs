//! Whether the outputs of a run are right: each model run once more, plainly, on the same inputs, and compared: bit by
//! bit where the plain run computes on the same kind of device, else with what other kernels may round otherwise.

use std::collections::BTreeMap;

use aegis_cuda::{DeviceKind, ElementType};
use aegis_types::TaskId;

use super::answer::CliError;
use super::backends::Libraries;
use crate::carrier::{LaneReport, ModelReport};
use crate::config::BackendKind;
use crate::inventory::Model;
use crate::system::System;

/// How far numbers of 32 and 64 bits of another device may be, relative to numbers above one: sums in another order, over
/// the depth of a network.
const ROUNDING: f64 = 1e-3;
/// As [`ROUNDING`], for numbers of 16 bits, which carry three digits at most.
const ROUNDING_HALF: f64 = 2e-2;

/// What a comparison found for one task.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    /// The task.
    pub task: TaskId,
    /// Jobs whose outputs were compared.
    pub jobs: u64,
    /// What came of it.
    pub found: Found,
}

/// What came of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// Every bit is the plain run's.
    Equal,
    /// The plain run computes on the host, and numbers are rounded otherwise there: the largest distance, relative to
    /// numbers above one.
    Near(f64),
    /// The first job that differs, and the output in which it does.
    Wrong {
        /// The job's number.
        job: u64,
        /// The output's name.
        output: String,
    },
    /// Its backend has no plain run here.
    NoPlainRun(BackendKind),
}

/// Compares what the carriers kept with plain runs on the libraries of the run. Tasks without a kept job have no entry.
///
/// # Errors
/// What the plain runs refuse.
pub fn compare(
    system: &System,
    libraries: &Libraries,
    lanes: &[LaneReport],
) -> Result<Vec<Compared>, CliError> {
    let kept = lanes.iter().flat_map(|lane| &lane.models).filter(|report| !report.outputs.is_empty());
    let mut compared = Vec::new();
    for report in kept {
        let model = &system.models()[report.task.index()];
        // Kernels of the built-in workload are exact on every device; only a vendor's differ.
        let elsewhere =
            system.fleet().device() == DeviceKind::Cuda && model.config.backend == BackendKind::Onnx;
        compared.push(compare_one(model, libraries, report, elsewhere)?);
    }
    compared.sort_by_key(|entry| entry.task);
    Ok(compared)
}

/// Jobs of a task run in order and every job that ran was kept, from the first, so that carrying the state from one to
/// the next gives what the run had. A job that failed leaves no trace in the state of the plain runs; the comparison
/// then says so by finding a difference, which is as it should be: the outputs behind a failed job are suspect.
fn compare_one(
    model: &Model,
    libraries: &Libraries,
    report: &ModelReport,
    elsewhere: bool,
) -> Result<Compared, CliError> {
    let Some(mut plain) = libraries.plain(model)? else {
        let found = Found::NoPlainRun(model.config.backend);
        return Ok(Compared { task: report.task, jobs: 0, found });
    };
    let feed = model.feed()?;
    let description = &model.description;
    let mut state: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    let (mut jobs, mut largest) = (0, 0.0_f64);
    for (number, outputs) in &report.outputs {
        let mut fed = feed.sample(*number).iter();
        let mut inputs = Vec::with_capacity(description.inputs.len());
        for spec in &description.inputs {
            let zeros = || vec![0; usize::try_from(spec.bytes.get()).unwrap_or(0)];
            let carried = model.config.state.iter().any(|pair| pair.input == spec.name);
            inputs.push(if carried {
                state.get(spec.name.as_str()).cloned().unwrap_or_else(zeros)
            } else {
                fed.next().cloned().unwrap_or_else(zeros)
            });
        }
        let expected = plain(&inputs)?;
        jobs += 1;
        let named = description.outputs.iter().zip(expected.iter().zip(outputs));
        for (spec, (expected, found)) in named {
            match distance(spec.element, expected, found).filter(|far| *far == 0.0 || elsewhere) {
                Some(far) => largest = largest.max(far),
                None => {
                    let found = Found::Wrong { job: *number, output: spec.name.clone() };
                    return Ok(Compared { task: report.task, jobs, found });
                }
            }
        }
        for pair in &model.config.state {
            let position = description.outputs.iter().position(|spec| spec.name == pair.output);
            if let Some(bytes) = position.and_then(|position| expected.get(position)) {
                state.insert(&pair.input, bytes.clone());
            }
        }
    }
    let found = if largest > 0.0 { Found::Near(largest) } else { Found::Equal };
    Ok(Compared { task: report.task, jobs, found })
}

/// The largest distance of two tensors, relative to numbers above one, zero where their bits are equal; `None` if it is
/// more than rounding.
fn distance(element: ElementType, one: &[u8], other: &[u8]) -> Option<f64> {
    if one == other {
        return Some(0.0);
    }
    let (limit, numbers): (f64, fn(&[u8]) -> f64) = match element {
        ElementType::F16 => (ROUNDING_HALF, half),
        ElementType::Bf16 => (ROUNDING_HALF, |b| f64::from(f32::from_bits(u32::from(word(b)) << 16))),
        ElementType::F32 => (ROUNDING, |b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]))),
        ElementType::F64 => (ROUNDING, |b| b.try_into().map_or(f64::NAN, f64::from_le_bytes)),
        _ => return None,
    };
    let size = usize::try_from(element.size().get()).unwrap_or(1);
    if one.len() != other.len() {
        return None;
    }
    let mut largest = 0.0_f64;
    for (one, other) in one.chunks_exact(size).zip(other.chunks_exact(size)).filter(|(a, b)| a != b) {
        let (one, other) = (numbers(one), numbers(other));
        let far = (one - other).abs() / one.abs().max(1.0);
        // Whatever is not a number is not near one.
        if far.is_nan() || far > limit {
            return None;
        }
        largest = largest.max(far);
    }
    Some(largest)
}

fn word(bytes: &[u8]) -> u16 {
    u16::from_le_bytes([bytes[0], bytes[1]])
}

/// A number of half precision (IEEE 754 binary16).
fn half(bytes: &[u8]) -> f64 {
    let bits = word(bytes);
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1F), f64::from(bits & 0x3FF));
    let magnitude = match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction / 1024.0) * 2f64.powi(exponent - 15),
    };
    if bits >> 15 == 0 { magnitude } else { -magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_may_be_rounded_otherwise_and_nothing_else_may_differ() {
        let single = |number: f32| number.to_le_bytes().to_vec();
        let check = |one: f32, other: f32| distance(ElementType::F32, &single(one), &single(other));
        assert_eq!(check(2.5, 2.5), Some(0.0));
        assert!(check(1_000.0, 1_000.5).is_some_and(|far| (far - 5e-4).abs() < 1e-9));
        assert!(check(0.0, 5e-4).is_some_and(|far| (far - 5e-4).abs() < 1e-7), "absolute below one");
        assert_eq!(check(1_000.0, 1_002.0), None);
        assert_eq!(check(1.0, f32::NAN), None);
        assert_eq!(check(f32::NAN, f32::NAN), Some(0.0), "the same bits");
        assert_eq!(check(f32::INFINITY, f32::MAX), None);
        assert_eq!(distance(ElementType::I32, &[1, 0, 0, 0], &[2, 0, 0, 0]), None);
        assert_eq!(distance(ElementType::F32, &single(1.0), &[0; 8]), None);
        let double = |number: f64| number.to_le_bytes();
        assert!(distance(ElementType::F64, &double(1.0), &double(1.0005)).is_some());
        assert_eq!(distance(ElementType::F64, &double(1.0), &double(1.01)), None);
    }

    #[test]
    fn halves_are_read_as_they_are_meant() {
        // Values of the standard's own table.
        let cases: [(u16, f64); 9] = [
            (0x3C00, 1.0),
            (0xC000, -2.0),
            (0x7BFF, 65_504.0),
            (0x0400, 2f64.powi(-14)),
            (0x0001, 2f64.powi(-24)),
            (0x8000, 0.0),
            (0x7C00, f64::INFINITY),
            (0xFC00, f64::NEG_INFINITY),
            (0x3555, 0.333_251_953_125),
        ];
        for (bits, number) in cases {
            assert_eq!(half(&bits.to_le_bytes()), number, "{bits:#06x}");
        }
        assert!(half(&0x7E00u16.to_le_bytes()).is_nan());
        let one = |bits: u16| bits.to_le_bytes();
        assert!(distance(ElementType::F16, &one(0x3C00), &one(0x3C10)).is_some(), "1.6 % of one");
        assert_eq!(distance(ElementType::F16, &one(0x3C00), &one(0x3C20)), None);
        assert!(distance(ElementType::Bf16, &one(0x3F80), &one(0x3F82)).is_some());
    }
}
