//! Whether the jobs of a served fleet are right: the outputs that the runtime kept beside those of the bare loop on a
//! lane of the same partition, where no other model runs.
//!
//! The loop makes the model's calls and no graph, so that replays are compared with what they stand for. A host would be
//! the more independent reference, and is that of the backends' own tests; bit for bit it can never agree with a GPU.

use std::path::Path;

use aegis_types::{LaneId, Nanos, PartitionId};
use aegisrt::config::{Calibration, Fleet, Profile};
use aegisrt::inventory::Model;
use aegisrt::run::{RunOptions, RunReport, run};
use aegisrt::system::System;
use serde::{Deserialize, Serialize};

use super::super::error::ExperimentError;
use super::super::serve::{Contract, options};
use super::super::stages::Bench;
use super::bare::{Job, Way, distance};
use super::{Libraries, loaders, system_of};

/// Jobs of each task that are compared, from the first.
const KEPT: usize = 16;
/// How far numbers may be from those of the loop: sums in another order.
const TOLERANCE: f64 = 2e-5;

/// What a comparison found for one task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ComparedRow {
    /// The task.
    pub task: String,
    /// Its backend's word.
    pub backend: String,
    /// Jobs that were compared.
    pub jobs: usize,
    /// Jobs whose outputs are not the loop's bit for bit.
    pub differing: usize,
    /// The largest difference of two numbers, as a share of the largest expected one or of one; one for other values that
    /// differ, infinite where one has no number.
    pub distance: f64,
}

/// What was served and compared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OutputsReport {
    /// Jobs that ended.
    pub jobs: u64,
    /// Deadlines that were missed.
    pub misses: u64,
    /// Covered jobs beyond their bound: none, or the certificate is wrong.
    pub beyond_bound: u64,
    /// The comparisons.
    pub rows: Vec<ComparedRow>,
}

/// Serves a fleet that is calibrated and profiled, by `platform.json` and `profile.json` beside it, and compares the first jobs of each task.
///
/// # Errors
/// What is wrong in the files, a refused fleet, what device, library or a model refuses, and outputs that are wrong.
pub fn compare(
    bench: &Bench,
    libraries: &Libraries,
    path: &Path,
    seconds: u64,
) -> Result<String, ExperimentError> {
    let fleet = Fleet::read(path)?;
    let calibration = Calibration::load(&path.with_file_name("platform.json"))?;
    let profile = Profile::load(&path.with_file_name("profile.json"))?;
    let opened = bench.gpu.open()?;
    let system = system_of(fleet, &loaders(&bench.gpu, libraries)?, opened.device())?;
    bench.store.tell("outputs: serving");
    let report = served(&system, &calibration, &profile, seconds)?;
    let tally = report.tally.tasks();
    let mut found = OutputsReport {
        jobs: tally.iter().map(|task| task.completed()).sum(),
        misses: tally.iter().map(|task| task.misses).sum(),
        beyond_bound: tally.iter().map(|task| task.bound_violations).sum(),
        rows: Vec::new(),
    };
    for kept in report.lanes.iter().flat_map(|lane| &lane.models) {
        let model = &system.models()[kept.task.index()];
        bench.store.tell(&format!("outputs: {}", model.config.name));
        let place = (model.config.partition, system.lanes()[kept.task.index()]);
        found.rows.push(one(&system, place, model, &kept.outputs)?);
    }
    bench.store.save("outputs", &found)?;
    drop(system);
    opened.close()?;
    judged(&found)
}

fn served(
    system: &System,
    calibration: &Calibration,
    profile: &Profile,
    seconds: u64,
) -> Result<RunReport, ExperimentError> {
    let prepared = system.prepare(Some(profile), calibration)?;
    let certificate = Contract { set: &prepared.set, calibration, profile: Some(profile) }.certify()?;
    let duration = Nanos::from_millis(seconds.saturating_mul(1_000));
    let options = RunOptions { keep_outputs: KEPT, ..options(duration, None) };
    Ok(run(system, &prepared, certificate, Some(profile), calibration, &options)?)
}

/// Runs the jobs that were kept once more, in order, so that state is carried as it was.
fn one(
    system: &System,
    place: (PartitionId, LaneId),
    model: &Model,
    kept: &[(u64, Vec<Vec<u8>>)],
) -> Result<ComparedRow, ExperimentError> {
    let mut job = Job::load(system.device().as_ref(), place, model, false)?;
    let clock = system.clock();
    let (task, backend) = (model.config.name.clone(), model.config.backend.name().to_owned());
    let mut row = ComparedRow { task, backend, jobs: kept.len(), differing: 0, distance: 0.0 };
    for (number, outputs) in kept {
        job.run(*number, Way::Calls, &clock)?;
        if let Some(far) = distance(&model.description.outputs, outputs, &job.outputs()) {
            row.differing += 1;
            row.distance = row.distance.max(far);
        }
    }
    Ok(row)
}

/// The table, if everything is as it must be.
fn judged(found: &OutputsReport) -> Result<String, ExperimentError> {
    let mut text = format!(
        "{} jobs, {} misses, {} beyond the certificate\nbackend  task               jobs  differing  distance\n",
        found.jobs, found.misses, found.beyond_bound
    );
    for row in &found.rows {
        let ComparedRow { task, backend, jobs, differing, distance } = row;
        text.push_str(&format!("{backend:8} {task:18} {jobs:4} {differing:10}  {distance:.1e}\n"));
    }
    let wrong = found.rows.iter().find(|row| row.jobs == 0 || row.distance > TOLERANCE);
    match wrong {
        Some(row) => Err(ExperimentError::Failed {
            task: row.task.clone(),
            reason: format!("its outputs are not those of plain runs\n{text}"),
        }),
        None if found.beyond_bound > 0 => Err(ExperimentError::Failed {
            task: "the fleet".into(),
            reason: format!("covered jobs were later than their bounds\n{text}"),
        }),
        None => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_passes_and_everything_else_is_told() {
        let row = |distance, jobs| ComparedRow { task: "t".into(), jobs, distance, ..ComparedRow::default() };
        let report = |rows, beyond_bound| OutputsReport { rows, beyond_bound, ..OutputsReport::default() };
        assert!(judged(&report(vec![row(0.0, 16), row(1e-6, 16)], 0)).is_ok());
        for wrong in [
            report(vec![row(1e-3, 16)], 0),
            report(vec![row(f64::INFINITY, 16)], 0),
            report(vec![row(0.0, 0)], 0),
            report(vec![row(0.0, 16)], 1),
        ] {
            assert!(matches!(judged(&wrong), Err(ExperimentError::Failed { .. })), "{wrong:?}");
        }
    }
}
