//! What a job costs over its backend's own loop, and whether jobs that the runtime served are right.
//!
//! The loop is what a program without a runtime would write against the same backend: inputs into pinned memory, the
//! model's calls or its captured graph with the copies of its inputs and outputs on a stream, then a wait. Loop and
//! runtime run in one process at the same time, each between the other's jobs, so that both meet the same episodes of the
//! machine. Each slice loads the model anew for both: where its buffers come to lie makes a job of half a millisecond faster
//! or slower by some microseconds, and a loop that kept its place would be compared with many places of the other.
//!
//! | module | what it holds |
//! |---|---|
//! | [`bare`] | the loop |
//! | [`subject`] | one task in the whole runtime |
//! | [`outputs`] | outputs of a served fleet beside those of the loop |

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aegis_types::Nanos;
use aegisrt::config::Fleet;
use aegisrt::inventory::{Loaders, Model};
use aegisrt::system::{Builder, System};
use serde::{Deserialize, Serialize};

use super::between::{Beat, between};
use super::card::Gpu;
use super::error::ExperimentError;
use super::overhead::above;
use super::serve::options;
use super::spread::{Spread, SpreadRow};
use super::stages::Bench;

pub mod bare;
pub mod outputs;
pub mod subject;

use bare::{Bare, pause_for};
use subject::{About, Subject, whole};

/// What is aimed at, at the median and at the 99.9th percentile.
pub const LIMITS: [(f64, Nanos); 2] = [(0.5, Nanos::from_micros(5)), (0.999, Nanos::from_micros(15))];

/// One slice, in which loop and runtime have each a place in memory.
const SLICE: Nanos = Nanos::from_millis(1_000);

/// What runs models here, and where its libraries are.
#[derive(Clone, Debug, Default)]
pub struct Libraries {
    /// The folder of TVM's libraries; none where no task runs on it.
    pub tvm: Option<PathBuf>,
}

/// One model, by the loop and by the runtime.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BackendRow {
    /// The task of the fleet.
    pub task: String,
    /// Its backend's word.
    pub backend: String,
    /// Whether its jobs are replayed as graphs.
    pub captured: bool,
    /// Distance of two releases.
    pub pause_ns: u64,
    /// What the backend said of how it was loaded.
    pub remarks: Vec<String>,
    /// The loop with the model's calls, which waits for the stream, one job after the other and nothing beside them.
    pub calls: SpreadRow,
    /// The loop at its best: the graph where there is one, else the calls, and a polled flag.
    pub bare: SpreadRow,
    /// The runtime: from when a job was due to its completion stamp.
    pub ours: SpreadRow,
    /// The runtime above the loop at its best, at the median and the 99.9th percentile, all slices together.
    pub above_ns: [i64; 2],
    /// The same, slice by slice.
    pub slices: Vec<[i64; 2]>,
    /// The medians of the slices.
    pub slices_median_ns: [i64; 2],
    /// Whether both limits are kept, all slices together.
    pub kept: bool,
}

/// One model while it is measured.
struct Duel {
    described: Model,
    subject: Subject,
    /// What a job takes, and how far apart two are.
    job: Nanos,
    pause: Nanos,
    captured: bool,
    remarks: Vec<String>,
    calls: Spread,
    floor: Spread,
    ours: Spread,
    slices: Vec<[i64; 2]>,
}

/// What models run on here: what the device's own experiments use, and TVM where its libraries are named.
///
/// # Errors
/// What the libraries refuse, or that this program was built without them.
pub fn loaders(gpu: &Gpu, libraries: &Libraries) -> Result<Loaders, ExperimentError> {
    match &libraries.tvm {
        None => Ok(gpu.loaders()),
        Some(folder) => with_tvm(gpu.loaders(), folder),
    }
}

#[cfg(feature = "tvm")]
fn with_tvm(loaders: Loaders, folder: &Path) -> Result<Loaders, ExperimentError> {
    use aegis_backend_tvm::{TvmLoader, TvmOptions, TvmRuntime};
    let options = TvmOptions { folder: folder.to_owned(), cuda: true, nvrtc: None };
    Ok(loaders.with(Arc::new(TvmLoader::new(TvmRuntime::load(&options)?))))
}

#[cfg(not(feature = "tvm"))]
fn with_tvm(_loaders: Loaders, folder: &Path) -> Result<Loaders, ExperimentError> {
    Err(ExperimentError::Illegal {
        what: format!("{} is to be used, and this program was built without TVM", folder.display()),
        legal: "a build with the feature `tvm`".into(),
    })
}

/// A fleet on its device with what runs its models.
pub(super) fn system_of(
    fleet: Fleet,
    loaders: &Loaders,
    device: Arc<dyn aegis_cuda::Device>,
) -> Result<System, ExperimentError> {
    Ok(Builder::new(fleet).loaders(loaders.clone()).device(device).build(|_| {})?)
}

impl Duel {
    fn open(bench: &Bench, loaders: &Loaders, about: &About) -> Result<Self, ExperimentError> {
        let (gpu, store) = (&bench.gpu, &bench.store);
        let described = subject::describe(gpu, loaders, about)?;
        let mut bare = Bare::on_whole_device(gpu, &described)?;
        let job = bare.job()?;
        let pause = pause_for(job);
        let calls = bare.calls()?;
        let (captured, remarks) = (bare.is_captured(), bare.remarks());
        bare.close()?;
        let subject = Subject::open(gpu, store, loaders, about, pause)?;
        let (floor, ours, slices) = (Spread::new(), Spread::new(), Vec::new());
        Ok(Self { described, subject, job, pause, captured, remarks, calls, floor, ours, slices })
    }

    /// One slice of both.
    fn turn(&mut self, gpu: &Gpu) -> Result<(), ExperimentError> {
        let options = options(SLICE, None);
        let measure = |beat: Beat<'_>| {
            let mut bare = Bare::on_whole_device(gpu, &self.described)?;
            let floor = bare.measure_between(beat, self.pause, self.job)?;
            bare.close()?;
            Ok(floor)
        };
        let serve = || self.subject.serve(&options, self.pause);
        let (floor, ours) = between(&options.live, SLICE, measure, serve)?;
        self.slices.push(LIMITS.map(|(quantile, _)| above(&ours, &floor, quantile)));
        self.floor.merge(&floor);
        self.ours.merge(&ours);
        Ok(())
    }

    fn row(&self) -> BackendRow {
        let median = |which: usize| {
            let mut column: Vec<i64> = self.slices.iter().map(|pair| pair[which]).collect();
            column.sort_unstable();
            column.get(column.len() / 2).copied().unwrap_or(0)
        };
        let all = LIMITS.map(|(quantile, _)| above(&self.ours, &self.floor, quantile));
        let within = |(limit, seen): (&(f64, Nanos), &i64)| {
            i64::try_from(limit.1.get()).is_ok_and(|limit| *seen <= limit)
        };
        BackendRow {
            task: self.described.config.name.clone(),
            backend: self.described.config.backend.name().to_owned(),
            captured: self.captured,
            pause_ns: self.pause.get(),
            remarks: self.remarks.clone(),
            calls: self.calls.row(),
            bare: self.floor.row(),
            ours: self.ours.row(),
            above_ns: all,
            slices: self.slices.clone(),
            slices_median_ns: [median(0), median(1)],
            kept: LIMITS.iter().zip(&all).all(within),
        }
    }

    fn close(self) -> Result<(), ExperimentError> {
        self.subject.close()
    }
}

/// Measures every task of a fleet by itself, model after model, in slices by turns. Tasks that the results have already
/// are left out.
///
/// # Errors
/// What is wrong in the fleet, and what device, library or a model refuses.
pub fn measure(
    bench: &Bench,
    libraries: &Libraries,
    fleet: &Path,
    tasks: &[String],
) -> Result<String, ExperimentError> {
    let mut rows: Vec<BackendRow> = bench.store.load("backends").unwrap_or_default();
    let loaders = loaders(&bench.gpu, libraries)?;
    let text = whole(fleet, &bench.gpu)?;
    let names = subject::names(&text, tasks);
    let open: Vec<&String> = names.iter().filter(|name| rows.iter().all(|row| row.task != **name)).collect();
    for (done, name) in open.iter().enumerate() {
        // What is left is shared by those that are left.
        let shares = u32::try_from(open.len() - done).unwrap_or(u32::MAX);
        let end = bench.allowance.left().saturating_sub(bench.allowance.part(1, shares, Duration::MAX));
        if bench.allowance.left() < Duration::from_secs(5) {
            break;
        }
        bench.store.tell(&format!("backends: {name}"));
        let mut duel = match Duel::open(bench, &loaders, &text.about(name)) {
            Ok(duel) => duel,
            Err(error) => {
                // The others are measured all the same; the table shows which is missing.
                bench.store.tell(&format!("backends: {name}: {error}"));
                continue;
            }
        };
        loop {
            let before = bench.allowance.left();
            duel.turn(&bench.gpu)?;
            let took = before.saturating_sub(bench.allowance.left());
            if bench.allowance.left() < end + took {
                break;
            }
        }
        rows.push(duel.row());
        duel.close()?;
        bench.store.save("backends", &rows)?;
    }
    Ok(table(&rows))
}

/// The rows for people, in microseconds.
pub fn table(rows: &[BackendRow]) -> String {
    let us = |nanos: u64| nanos as f64 / 1e3;
    let mut text = String::from(
        "backend  task               graph  calls p50    bare p50  p99  p99.9    ours p50  p99  p99.9    above  by slices\n",
    );
    for row in rows {
        let spread = |row: &SpreadRow| {
            format!("{:8.1} {:8.1} {:8.1}", us(row.p50_ns), us(row.p99_ns), us(row.p999_ns))
        };
        let [median, tail] = row.above_ns.map(|nanos| nanos as f64 / 1e3);
        let [middle, end] = row.slices_median_ns.map(|nanos| nanos as f64 / 1e3);
        text.push_str(&format!(
            "{:8} {:18} {:5} {:8.1}  {}  {}  {median:+.1} {tail:+.1}  {middle:+.1} {end:+.1} of {} n {} {}\n",
            row.backend,
            row.task,
            if row.captured { "yes" } else { "no" },
            us(row.calls.p50_ns),
            spread(&row.bare),
            spread(&row.ours),
            row.slices.len(),
            row.ours.n,
            if row.kept { "kept" } else { "missed" },
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_line_for_each_model_and_says_what_was_kept() {
        let row = |task: &str, kept| BackendRow { task: task.into(), kept, ..BackendRow::default() };
        let text = table(&[row("a", true), row("b", false)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[1].ends_with("kept") && lines[2].ends_with("missed"), "{text}");
    }
}
