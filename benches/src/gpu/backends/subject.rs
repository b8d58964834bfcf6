//! One task of a fleet in the whole runtime, alone on the device.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aegis_sched::Certificate;
use aegis_trace::Trace;
use aegis_types::records::SegmentCompleted;
use aegis_types::{JobId, Nanos, Record, Time};
use aegisrt::config::{Calibration, Fleet, Prepared};
use aegisrt::inventory::{Loaders, Model};
use aegisrt::run::{RunOptions, run};
use aegisrt::system::System;
use toml::{Table, Value};

use super::super::between::{late, releases};
use super::super::card::{Gpu, Opened};
use super::super::error::ExperimentError;
use super::super::floor::WARM_UP;
use super::super::overhead::generous;
use super::super::serve::{Contract, trace_of};
use super::super::spread::Spread;
use super::super::store::Store;
use super::system_of;

/// A fleet's text with its device undivided and one lane on it.
pub struct Whole {
    path: PathBuf,
    table: Table,
}

/// Reads a fleet and leaves its tasks one lane of the whole device, on which launches whoever does on this device.
///
/// # Errors
/// What is wrong in the fleet.
pub fn whole(path: &Path, gpu: &Gpu) -> Result<Whole, ExperimentError> {
    // Checked as it stands, so that complaints name lines that the user wrote.
    let fleet = Fleet::read(path)?;
    let mut table: Table = fleet.to_toml().parse().map_err(|error: toml::de::Error| {
        ExperimentError::File { path: path.to_owned(), reason: error.to_string() }
    })?;
    let mut all = Table::new();
    all.insert("name".into(), "all".into());
    all.insert("sms".into(), Value::Integer(i64::from(gpu.sms)));
    all.insert("lanes".into(), Value::Integer(1));
    table.insert("partition".into(), Value::Array(vec![Value::Table(all)]));
    if let Some(device) = table.get_mut("device").and_then(Value::as_table_mut) {
        device.insert("launch".into(), gpu.launch.name().into());
    }
    table.remove("chain");
    table.remove("group");
    Ok(Whole { path: path.to_owned(), table })
}

/// A fleet of one task.
pub struct About {
    path: PathBuf,
    table: Table,
}

fn named(task: &Value) -> &str {
    task.get("name").and_then(Value::as_str).unwrap_or("")
}

impl Whole {
    /// The names of its tasks.
    fn names(&self) -> Vec<String> {
        let tasks = self.table.get("task").and_then(Value::as_array);
        tasks.into_iter().flatten().map(|task| named(task).to_owned()).collect()
    }

    /// What is left with one task.
    pub fn about(&self, name: &str) -> About {
        let mut table = self.table.clone();
        if let Some(tasks) = table.get_mut("task").and_then(Value::as_array_mut) {
            tasks.retain(|task| named(task) == name);
            for task in tasks.iter_mut().filter_map(Value::as_table_mut) {
                let keys = [
                    "natural_period",
                    "excludes",
                    "lane",
                    "deadline",
                    "jitter",
                    "offset",
                    "priority",
                    "group",
                ];
                for key in keys {
                    task.remove(key);
                }
                task.insert("partition".into(), "all".into());
                task.insert("on_overrun".into(), "keep".into());
            }
        }
        About { path: self.path.clone(), table }
    }
}

/// The tasks that were asked for, or all.
pub fn names(whole: &Whole, asked: &[String]) -> Vec<String> {
    let known = whole.names();
    if asked.is_empty() { known } else { known.into_iter().filter(|name| asked.contains(name)).collect() }
}

impl About {
    /// The fleet with this period and releases that may be [`late`]; half of the period is declared as occupancy, for
    /// nothing is claimed of such a run.
    ///
    /// # Errors
    /// What the fleet's checks refuse.
    pub fn fleet(&self, period: Nanos) -> Result<Fleet, ExperimentError> {
        let mut table = self.table.clone();
        if let Some(tasks) = table.get_mut("task").and_then(Value::as_array_mut) {
            for task in tasks.iter_mut().filter_map(Value::as_table_mut) {
                // Later by the jitter: half of the period is spoken for.
                let (jitter, deadline) = (late(period), period.saturating_add(late(period)));
                let spans = [("period", period), ("jitter", jitter), ("deadline", deadline)];
                for (key, span) in spans {
                    task.insert(key.into(), format!("{}ns", span.get()).into());
                }
                if let Some(budget) = task.get_mut("budget").and_then(Value::as_table_mut) {
                    budget.insert("compute".into(), format!("{}ns", period.get() / 2).into());
                }
            }
        }
        Ok(Fleet::parse(&self.path, &table.to_string())?)
    }
}

/// The model of the one task, described on a device that is closed again.
///
/// # Errors
/// What device or backend refuse.
pub fn describe(gpu: &Gpu, loaders: &Loaders, about: &About) -> Result<Model, ExperimentError> {
    let opened = gpu.open()?;
    let system = system_of(about.fleet(Nanos::from_millis(1_000))?, loaders, opened.device())?;
    let model = system.models().first().cloned();
    drop(system);
    opened.close()?;
    model.ok_or_else(|| ExperimentError::Illegal {
        what: "there is no such task".into(),
        legal: "the name of a task of the fleet".into(),
    })
}

/// A task that is served again and again for short times.
pub struct Subject {
    system: System,
    prepared: Prepared,
    certificate: Certificate,
    calibration: Calibration,
    device: Opened,
}

impl Subject {
    /// Opens the device for one task with this period and has it admitted.
    ///
    /// # Errors
    /// What admission, device or model refuse.
    pub fn open(
        gpu: &Gpu,
        store: &Store,
        loaders: &Loaders,
        about: &About,
        period: Nanos,
    ) -> Result<Self, ExperimentError> {
        let device = gpu.open()?;
        let system = system_of(about.fleet(period)?, loaders, device.device())?;
        let calibration = generous(gpu, 1, &store.path("backends-platform"));
        let prepared = system.prepare(None, &calibration)?;
        let certificate =
            Contract { set: &prepared.set, calibration: &calibration, profile: None }.certify()?;
        Ok(Self { system, prepared, certificate, calibration, device })
    }

    /// Serves the task, which has this period: from when each job was due to its completion stamp, without the first jobs.
    ///
    /// # Errors
    /// What device or model refuse.
    pub fn serve(&self, options: &RunOptions, period: Nanos) -> Result<Spread, ExperimentError> {
        let Self { system, prepared, certificate, calibration, .. } = self;
        let report = run(system, prepared, certificate.clone(), None, calibration, options)?;
        let failed =
            report.lanes.iter().flat_map(|lane| &lane.models).find_map(|model| model.failure.clone());
        if let Some(reason) = failed {
            let task = system.models().first().map_or(String::new(), |model| model.config.name.clone());
            return Err(ExperimentError::Failed { task, reason });
        }
        Ok(responses(&trace_of(report.trace)?, period))
    }

    /// Gives the device up.
    ///
    /// # Errors
    /// As [`Opened::close`].
    pub fn close(self) -> Result<(), ExperimentError> {
        let Self { system, device, .. } = self;
        drop(system);
        device.close()
    }
}

/// Responses of jobs, each by the stamp of its last segment, without the first [`WARM_UP`] releases.
fn responses(trace: &Trace, period: Nanos) -> Spread {
    let mut ended: BTreeMap<JobId, Time> = BTreeMap::new();
    for raw in trace.records() {
        if let Some(record) = SegmentCompleted::read(raw) {
            ended.insert(record.job, raw.stamp);
        }
    }
    let released = releases(trace);
    let first = released.values().map(|(due, _)| *due).min().unwrap_or(Time::ZERO);
    let warm = first.saturating_add(Nanos::new(period.get() * WARM_UP));
    let mut spread = Spread::new();
    for (job, end) in ended {
        if let Some((due, _)) = released.get(&job).filter(|(due, _)| *due >= warm) {
            spread.add(end.since(*due));
        }
    }
    spread
}

#[cfg(test)]
mod tests {
    use super::super::super::card::tests::imagined;
    use super::super::super::overhead::tests::admitted;
    use super::*;

    const FLEET: &str = "[device]\nkind = \"cuda:0\"\nwait = \"spin\"\n[[partition]]\nname = \"a\"\nsms = 64\nlanes = 2\n\
        [[partition]]\nname = \"b\"\nsms = 8\nlanes = 1\n[policy]\nkind = \"edf\"\n[[task]]\nname = \"one\"\n\
        model = \"one.kernel\"\nbackend = \"kernel\"\nperiod = \"10ms\"\npartition = \"a\"\nlane = 1\n\
        budget = { memory = \"4MiB\" }\nshapes = { \"x\" = [1, 4] }\n[[task]]\nname = \"two\"\nmodel = \"two.kernel\"\n\
        backend = \"kernel\"\nperiod = \"20ms\"\ndeadline = \"15ms\"\npartition = \"b\"\nbudget = { memory = \"4MiB\" }\n";

    #[test]
    fn the_fleets_of_several_backends_are_legal() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/aegisrt/examples/mixed");
        let fleets = [("lanes", 9, 3), ("partitions", 9, 3), ("nine-lanes", 9, 1), ("nine-partitions", 9, 1)];
        for (name, tasks, backends) in fleets {
            let path = folder.join(format!("{name}.toml"));
            let fleet = Fleet::read(&path).expect("legal as it stands");
            let mut words: Vec<&str> = fleet.tasks().iter().map(|task| task.backend.name()).collect();
            words.sort_unstable();
            words.dedup();
            assert_eq!((fleet.tasks().len(), words.len()), (tasks, backends), "{name}: {words:?}");
            let whole = whole(&path, &imagined()).expect("legal on one lane");
            for task in names(&whole, &[]) {
                let alone = whole.about(&task).fleet(Nanos::from_millis(2)).expect("legal alone");
                assert_eq!(alone.tasks()[0].model, fleet.task(&task).expect("it is there").1.model);
                assert_eq!(admitted(&imagined(), &alone, 1), 2, "{task}: input slots");
            }
        }
    }

    #[test]
    fn one_task_of_a_fleet_stands_on_one_lane_of_the_whole_device() {
        let folder = std::env::temp_dir().join(format!("aegis-backends-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("fleet.toml");
        std::fs::write(&path, FLEET).expect("written");
        let whole = whole(&path, &imagined()).expect("a legal fleet");
        assert_eq!(names(&whole, &[]), ["one", "two"]);
        assert_eq!(names(&whole, &["two".to_owned()]), ["two"]);
        for (name, shapes) in [("one", 1), ("two", 0)] {
            let fleet = whole.about(name).fleet(Nanos::new(634_006)).expect("still legal");
            let task = &fleet.tasks()[0];
            assert_eq!((fleet.tasks().len(), fleet.partitions().len(), task.name.as_str()), (1, 1, name));
            let period = Nanos::new(634_006);
            assert_eq!(
                (task.period, task.jitter, task.deadline),
                (period, period, Nanos::new(2 * period.get()))
            );
            assert_eq!((task.budget.compute, task.shapes.len()), (Some(Nanos::new(317_003)), shapes));
            assert_eq!(task.model, folder.join(format!("{name}.kernel")));
        }
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
