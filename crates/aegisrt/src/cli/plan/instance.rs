//! `aegis plan instance.csv`: a placement for buffers in MiniMalloc's text format.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aegis_memory::csv::{CsvError, Instance};
use aegis_memory::verify::check_placement;
use aegis_memory::{Goal, MemoryError, Search, Status};
use aegis_types::Bytes;
use clap::Args;
use serde_json::json;

use super::super::answer::{Answer, CliError, Exit};
use super::super::target;
use super::options::Options;
use super::picture;
use crate::error::RuntimeError;
use crate::intake;

/// Decisions between two looks at the clock.
const STEP: u64 = 1000;

/// How long is searched where neither time nor decisions are given.
const SECONDS: f64 = 10.0;

/// Without a capacity every sum of sizes and alignments fits.
const AMPLE: Bytes = Bytes::new(u64::MAX / 4);

/// Options of a plan for single buffers.
#[derive(Debug, Args)]
pub struct InstanceArgs {
    /// For buffers in MiniMalloc's format: the bytes there are [default: as few as possible].
    #[arg(long, value_name = "BYTES")]
    capacity: Option<u64>,
    /// For buffers in MiniMalloc's format: where the buffers are written with their offsets.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// For buffers in MiniMalloc's format: chooses among equals.
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,
    /// For buffers in MiniMalloc's format: the most decisions. Equal seeds and numbers give equal offsets.
    #[arg(long, value_name = "N")]
    nodes: Option<u64>,
    /// For buffers in MiniMalloc's format: the longest search in seconds [default: 10, or no limit with --nodes].
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    seconds: Option<f64>,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds: &f64| (0.0..=1e6).contains(seconds));
    seconds.ok_or_else(|| "legal: a number from 0 to 1000000".to_owned())
}

impl InstanceArgs {
    /// Whether a path names buffers and not a fleet.
    pub(super) fn applies(path: &Path) -> bool {
        path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"))
    }

    /// The first option that is given, which a fleet has no use for.
    pub(super) fn given(&self) -> Option<&'static str> {
        let options = [
            ("--capacity", self.capacity.is_some()),
            ("--out", self.out.is_some()),
            ("--seed", self.seed.is_some()),
            ("--nodes", self.nodes.is_some()),
            ("--seconds", self.seconds.is_some()),
        ];
        options.into_iter().find(|&(_, given)| given).map(|(option, _)| option)
    }

    /// Reads, searches, verifies and writes.
    pub(super) fn perform(&self, path: &Path, options: &Options) -> Result<Answer, CliError> {
        if let Some(option) = options.of_fleets() {
            return Err(CliError::Input(format!(
                "{option}: is for a fleet; legal: a file of tables and tasks (.toml)"
            )));
        }
        options.check(&std::iter::once(path.to_path_buf()).chain(self.out.clone()).collect::<Vec<_>>())?;
        if let Some(out) = &self.out {
            target::check("--out", out, &[path.to_path_buf()])?;
        }
        let shown = path.display().to_string();
        let text = intake::text(path, intake::TEXT_MAX)
            .map_err(|error| format!("cannot be read: {error}"))
            .map_err(|reason| RuntimeError::File { path: shown.clone(), reason })?;
        let wrong = |error: CsvError| CliError::Input(format!("{shown}: {error}"));
        let instance = Instance::read(&text).map_err(wrong)?;
        let problem =
            instance.problem(self.capacity.map_or(AMPLE, Bytes::new)).map_err(|error| wrong(error.into()))?;
        let goal = if self.capacity.is_some() { Goal::Within } else { Goal::Least };
        let start = Instant::now();
        let mut search = Search::new(&problem, goal, self.seed.unwrap_or(0));
        self.run(&mut search, start);
        let took = start.elapsed();
        let placement = search.placement();
        let fits = matches!(search.status(), Status::Optimal | Status::Feasible { .. });
        let mut drawn = String::new();
        if fits {
            let rejected =
                |fault| MemoryError::Rejected { planner: "search".to_owned(), fault: Box::new(fault) };
            check_placement(&problem, &placement).map_err(rejected)?;
            if let Some(out) = &self.out {
                target::write(out, instance.write(&placement).map_err(wrong)?)?;
            }
            let edges = [search.peak(), search.bound()];
            drawn = options.draw(|| picture::of_instance(&instance, &problem, &placement, edges))?;
        }
        let mut answer = self.answer(&search, problem.buffers().len(), took);
        answer.text.push_str(&drawn);
        Ok(answer)
    }

    fn run(&self, search: &mut Search, start: Instant) {
        let limit = self.seconds.or(if self.nodes.is_some() { None } else { Some(SECONDS) });
        let limit = limit.map_or(Duration::MAX, Duration::from_secs_f64);
        let nodes = self.nodes.unwrap_or(u64::MAX);
        while search.nodes() < nodes && start.elapsed() < limit {
            if search.step(STEP.min(nodes - search.nodes())) {
                return;
            }
        }
    }

    fn answer(&self, search: &Search, buffers: usize, took: Duration) -> Answer {
        let (peak, bound, status) = (search.peak().get(), search.bound().get(), search.status());
        let (word, said) = match status {
            Status::Optimal => ("optimal", "no placement has a lower peak"),
            Status::Feasible { .. } => ("feasible", "a lower peak is not ruled out"),
            Status::Infeasible { .. } => ("infeasible", "no placement fits, whatever its order"),
            Status::Timeout { .. } => ("timeout", "none that fits is known, and none is ruled out"),
        };
        let capacity = self.capacity.map_or(String::new(), |capacity| format!(" of {capacity}"));
        let text = format!(
            "{word}: {said}\nbuffers      {buffers}\npeak         {peak}{capacity} bytes\n\
             lower bound  {bound} bytes\nsearched     {} decisions in {:.3} s\n",
            search.nodes(),
            took.as_secs_f64(),
        );
        let json = json!({
            "status": word, "buffers": buffers, "capacity_bytes": self.capacity, "peak_bytes": peak,
            "lower_bound_bytes": bound, "nodes": search.nodes(), "seconds": took.as_secs_f64(),
        });
        let fits = matches!(status, Status::Optimal | Status::Feasible { .. });
        Answer { text, json, exit: if fits { Exit::Done } else { Exit::Refused } }
    }
}
