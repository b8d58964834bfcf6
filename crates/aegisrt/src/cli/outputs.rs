//! Whether the outputs of a run are right: each model run once more, plainly, on the same inputs, and compared bit by
//! bit.

use std::collections::BTreeMap;

use aegis_types::TaskId;

use super::answer::CliError;
use super::backends::Libraries;
use crate::carrier::{LaneReport, ModelReport};
use crate::inventory::Model;
use crate::system::System;

/// What a comparison found for one task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// The task.
    pub task: TaskId,
    /// Jobs whose outputs were compared.
    pub jobs: u64,
    /// The first job that differs, and the output in which it does.
    pub wrong: Option<(u64, String)>,
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
        compared.push(compare_one(model, libraries, report)?);
    }
    compared.sort_by_key(|entry| entry.task);
    Ok(compared)
}

/// Jobs of a task run in order and every job that ran was kept, from the first, so that carrying the state from one to
/// the next gives what the run had. A job that failed leaves no trace in the state of the plain runs; the comparison
/// then says so by finding a difference, which is as it should be: the outputs behind a failed job are suspect.
fn compare_one(model: &Model, libraries: &Libraries, report: &ModelReport) -> Result<Compared, CliError> {
    let mut plain = libraries.plain(model)?;
    let feed = model.feed()?;
    let description = &model.description;
    let mut state: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    let mut jobs = 0;
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
            if expected != found {
                let wrong = Some((*number, spec.name.clone()));
                return Ok(Compared { task: report.task, jobs, wrong });
            }
        }
        for pair in &model.config.state {
            let position = description.outputs.iter().position(|spec| spec.name == pair.output);
            if let Some(bytes) = position.and_then(|position| expected.get(position)) {
                state.insert(&pair.input, bytes.clone());
            }
        }
    }
    Ok(Compared { task: report.task, jobs, wrong: None })
}
