//! Whether the outputs of a run are right: each model run once more, plainly, on the same inputs, and compared: bit by
//! bit where the plain run computes on the same kind of device, else with what other kernels may round otherwise.

use std::collections::BTreeMap;

use aegis_cuda::{DeviceKind, ElementType, ModelDescription};
use aegis_sched::Arrival;
use aegis_types::TaskId;

use super::answer::CliError;
use super::backends::Libraries;
use crate::carrier::{LaneReport, ModelReport};
use crate::config::BackendKind;
use crate::difference;
use crate::inventory::Model;
use crate::system::System;

/// How far numbers of 32 and 64 bits of another device may be, as a share of the output's largest or of one: sums in another
/// order, over the depth of a network.
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
    /// The plain run computes on the host, and numbers are rounded otherwise there: the largest difference, as a
    /// share of the output's largest number or of one.
    Near(f64),
    /// The first job that differs, and the output in which it does.
    Wrong {
        /// The job's number.
        job: u64,
        /// The output's name.
        output: String,
    },
    /// Two plain runs on the same inputs differ from each other, so that no comparison says anything.
    Unrepeatable {
        /// The first output in which they do.
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
    let (mut jobs, mut largest, mut equal) = (0, 0.0_f64, true);
    for (number, outputs) in &report.outputs {
        // Clients of this command submit the first sample and no other.
        let sample = if model.config.arrival == Arrival::Sporadic { 0 } else { *number };
        let mut fed = feed.sample(sample).iter();
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
        for (spec, (bytes, found)) in named {
            match distance(spec.element, elsewhere, bytes, found) {
                Some(far) => (largest, equal) = (largest.max(far), equal && bytes == found),
                None => {
                    let output = spec.name.clone();
                    let found = match first_difference(&expected, &plain(&inputs)?) {
                        Some(position) => Found::Unrepeatable { output: name_of(description, position) },
                        None => Found::Wrong { job: *number, output },
                    };
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
    let found = if equal { Found::Equal } else { Found::Near(largest) };
    Ok(Compared { task: report.task, jobs, found })
}

/// The first output in which two runs differ.
fn first_difference(one: &[Vec<u8>], other: &[Vec<u8>]) -> Option<usize> {
    one.iter().zip(other).position(|(one, other)| one != other)
}

fn name_of(description: &ModelDescription, output: usize) -> String {
    description.outputs.get(output).map_or_else(|| output.to_string(), |spec| spec.name.clone())
}

/// How far numbers of another device may be from those of the host.
const fn rounding(element: ElementType) -> f64 {
    match element {
        ElementType::F16 | ElementType::Bf16 => ROUNDING_HALF,
        _ => ROUNDING,
    }
}

/// By how much an output differs: zero where the bits are equal, `None` if by more than rounding, or at all where nothing
/// may be rounded otherwise.
fn distance(element: ElementType, elsewhere: bool, expected: &[u8], found: &[u8]) -> Option<f64> {
    if expected == found {
        return Some(0.0);
    }
    Some(difference::of_one(element, expected, found)).filter(|far| elsewhere && *far <= rounding(element))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_another_device_may_be_rounded_otherwise_and_nothing_else_may_differ() {
        let single = |number: f32| number.to_le_bytes().to_vec();
        let check = |elsewhere, one: f32, other: f32| {
            distance(ElementType::F32, elsewhere, &single(one), &single(other))
        };
        assert_eq!(check(false, 2.5, 2.5), Some(0.0));
        assert_eq!(check(false, 2.5, 2.500_001), None, "the same device gives the same bits");
        assert_eq!(check(false, 0.0, -0.0), None, "zeros have bits, too");
        assert!(check(true, 1_000.0, 1_000.5).is_some_and(|far| (far - 5e-4).abs() < 1e-9));
        assert!(check(true, 0.0, 5e-4).is_some_and(|far| (far - 5e-4).abs() < 1e-7), "absolute below one");
        assert_eq!(check(true, 1_000.0, 1_002.0), None);
        assert_eq!(check(true, 1.0, f32::NAN), None);
        assert_eq!(check(false, f32::NAN, f32::NAN), Some(0.0), "the same bits");
        assert_eq!(check(true, f32::INFINITY, f32::MAX), None);
        assert_eq!(distance(ElementType::I32, true, &[1, 0, 0, 0], &[2, 0, 0, 0]), None);
        assert_eq!(distance(ElementType::F32, true, &single(1.0), &[0; 8]), None);
        let half = |bits: u16| bits.to_le_bytes();
        assert!(distance(ElementType::F16, true, &half(0x3C00), &half(0x3C10)).is_some(), "1.6 % of one");
        assert_eq!(distance(ElementType::F16, true, &half(0x3C00), &half(0x3C20)), None);
    }
}
