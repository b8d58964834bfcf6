//! Fleets of an experiment as files: what a user would write, so that every experiment can be repeated by hand.

use std::fmt::Write as _;
use std::path::Path;

use aegis_types::{Bytes, Nanos};
use aegisrt::config::{Fleet, LaunchMode};

use super::card::Gpu;
use super::error::ExperimentError;
use super::recipe::Recipe;
use super::store::Store;

/// A partition to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionPlan {
    /// Its name.
    pub name: String,
    /// Streaming multiprocessors.
    pub sms: u32,
    /// Lanes.
    pub lanes: u16,
}

/// A task to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskPlan {
    /// Its name; the model's file is named after it.
    pub name: String,
    /// The model.
    pub artifact: Recipe,
    /// Position of its partition.
    pub partition: usize,
    /// Its lane within the partition; open without.
    pub lane: Option<u16>,
    /// Period, and deadline, unless twice the jitter is longer.
    pub period: Nanos,
    /// How late a release may be without shifting those after it.
    pub jitter: Nanos,
    /// First release.
    pub offset: Nanos,
    /// All memory that it may take.
    pub memory: Bytes,
    /// Occupancy that is declared where nothing is measured.
    pub compute: Option<Nanos>,
}

/// A fleet to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetPlan {
    /// Its folder below the results.
    pub name: String,
    /// The device's number.
    pub ordinal: u32,
    /// Its partitions.
    pub partitions: Vec<PartitionPlan>,
    /// Its tasks.
    pub tasks: Vec<TaskPlan>,
}

impl PartitionPlan {
    /// One partition of all multiprocessors.
    pub fn whole(sms: u32, lanes: u16) -> Vec<Self> {
        vec![Self { name: "all".into(), sms, lanes }]
    }
}

impl TaskPlan {
    /// A task of the first partition, on any lane, whose period nobody looks at.
    pub fn plain(name: impl Into<String>, artifact: impl Into<Recipe>, memory: Bytes) -> Self {
        Self {
            name: name.into(),
            artifact: artifact.into(),
            partition: 0,
            lane: None,
            period: Nanos::from_millis(1_000),
            jitter: Nanos::ZERO,
            offset: Nanos::ZERO,
            memory,
            compute: None,
        }
    }
}

impl FleetPlan {
    /// The fleet as a user writes it; models lie beside it.
    pub fn text(&self, launch: LaunchMode) -> String {
        let mut text = format!(
            "[device]\nkind = \"cuda:{}\"\nwait = \"spin\"\nlaunch = \"{}\"\n\n[policy]\nkind = \"edf\"\n",
            self.ordinal,
            launch.name()
        );
        // Writing into a text cannot fail.
        for partition in &self.partitions {
            let PartitionPlan { name, sms, lanes } = partition;
            let _ok = write!(text, "\n[[partition]]\nname = \"{name}\"\nsms = {sms}\nlanes = {lanes}\n");
        }
        for task in &self.tasks {
            self.task_text(task, &mut text);
        }
        text
    }

    fn task_text(&self, task: &TaskPlan, text: &mut String) {
        let (name, backend) = (&task.name, task.artifact.backend());
        let partition = self.partitions.get(task.partition).map_or("", |partition| &partition.name);
        let _ok = write!(
            text,
            "\n[[task]]\nname = \"{name}\"\nmodel = \"{name}.{backend}\"\nbackend = \"{backend}\"\n\
             partition = \"{partition}\"\nperiod = \"{}ns\"\ndeadline = \"{}ns\"\njitter = \"{}ns\"\noffset = \"{}ns\"\n\
             on_overrun = \"keep\"\n",
            task.period.get(),
            task.period.get().max(task.jitter.get().saturating_mul(2)),
            task.jitter.get(),
            task.offset.get()
        );
        if let Some(lane) = task.lane {
            let _ok = writeln!(text, "lane = {lane}");
        }
        let compute = task.compute.map_or(String::new(), |span| format!(", compute = \"{}ns\"", span.get()));
        let _ok = writeln!(text, "budget = {{ memory = \"{}B\"{compute} }}", task.memory.get());
    }

    /// Writes fleet and models below the results and reads the fleet back as the runtime does.
    ///
    /// # Errors
    /// What the file system or the fleet's checks refuse, and what makes a network.
    pub fn write(&self, gpu: &Gpu, store: &Store) -> Result<Fleet, ExperimentError> {
        for task in &self.tasks {
            let file = format!("fleets/{}/{}.{}", self.name, task.name, task.artifact.backend());
            store.write(&file, &task.artifact.file(gpu.runtime.as_ref())?)?;
        }
        let text = self.text(gpu.launch);
        let path = store.write(&format!("fleets/{}/fleet.toml", self.name), text.as_bytes())?;
        Ok(Fleet::read(&path)?)
    }

    /// Checks the text without writing anything.
    ///
    /// # Errors
    /// What the fleet's checks refuse.
    pub fn check(&self) -> Result<Fleet, ExperimentError> {
        Ok(Fleet::parse(Path::new("fleet.toml"), &self.text(LaunchMode::default()))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_a_fleet() {
        let mut second = TaskPlan::plain("b", "kernel 1\nsegment\nend\n".to_owned(), Bytes::new(4096));
        second.partition = 1;
        second.lane = Some(1);
        second.compute = Some(Nanos::from_micros(70));
        second.period = Nanos::new(1_234_567);
        let first = TaskPlan::plain("a", "kernel 1\nsegment\nend\n".to_owned(), Bytes::new(4096));
        let plan = FleetPlan {
            name: "test".into(),
            ordinal: 0,
            partitions: vec![
                PartitionPlan { name: "left".into(), sms: 64, lanes: 1 },
                PartitionPlan { name: "right".into(), sms: 68, lanes: 3 },
            ],
            tasks: vec![first, second],
        };
        let fleet = plan.check().expect("a legal fleet");
        assert_eq!((fleet.partitions().len(), fleet.tasks().len()), (2, 2));
        let (_, task) = fleet.task("b").expect("it is there");
        assert_eq!((task.period, task.budget.compute), (Nanos::new(1_234_567), Some(Nanos::from_micros(70))));
        assert_eq!(fleet.fixed_lanes()[1].map(|lane| lane.get()), Some(2));
    }
}
