//! `aegis profile`: what each model costs, alone and beside the others, as a file that admission stands on.

mod opponents;

use std::path::{Path, PathBuf};

use aegis_types::{LaneId, Nanos};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::answer::{Answer, CliError};
use super::figures::{self, size, span};
use super::progress::Progress;
use super::setup::{FleetArgs, beside, lanes_of, open_system, placed};
use super::summary::folded;
use super::table::Grid;
use super::{Environment, target};
use crate::config::profile::{Level, LevelBudget, SlowdownTable};
use crate::config::{Fleet, Profile, SegmentProfile, TaskProfile};
use crate::inventory::Model;
use crate::profile::{self, CampaignState, ProfileOptions, Stage, WcetProfiler};
use crate::system::System;

/// Measure what each model of a fleet costs, alone and beside the others.
#[derive(Debug, Args)]
pub struct ProfileCommand {
    /// The fleet.
    fleet: PathBuf,
    /// Where the profile is written [default: profile.json beside the fleet].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// What `aegis calibrate` measured [default: platform.json beside the fleet].
    #[arg(long, value_name = "FILE")]
    platform: Option<PathBuf>,
    /// How long each task is measured, at most: two fifths to find what hurts it, the rest to confirm.
    #[arg(long, value_name = "SPAN", default_value = "4s")]
    seconds: Nanos,
    /// How long all tasks together are measured, at most, instead of --seconds for each.
    #[arg(long, value_name = "SPAN", conflicts_with = "seconds")]
    budget_seconds: Option<Nanos>,
    /// How many fresh samples of each stratum are enough.
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    samples: u32,
    /// How many strata of each task are confirmed, at most.
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=1000))]
    strata: u32,
    /// What is added to the longest sample.
    #[arg(long, value_name = "PERCENT", default_value = "20%", value_parser = percent)]
    margin: u64,
    /// The company that budgets stand for.
    #[arg(long, value_enum, default_value_t = LevelArg::Fleet)]
    level: LevelArg,
    /// The part of the campaign to do.
    #[arg(long, value_enum, default_value_t = StageArg::All)]
    stage: StageArg,
    /// End after so long; the same command goes on where this one stopped.
    #[arg(long, value_name = "SPAN")]
    time_limit: Option<Nanos>,
    /// Start over, whatever is known already.
    #[arg(long)]
    fresh: bool,
    /// Ask for the system's real-time class, as `aegis run --realtime` does.
    #[arg(long)]
    realtime: bool,
}

/// The company that budgets stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LevelArg {
    /// The fleet's own tasks, lane by lane as they are now.
    Fleet,
    /// Kernels that are made to hurt, on every other lane.
    Enemy,
}

/// The part of a campaign to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StageArg {
    /// Look for the company that hurts each task most.
    Explore,
    /// Measure what was found with fresh samples.
    Confirm,
    /// Both.
    All,
}

impl ProfileCommand {
    pub(super) fn perform(&self, environment: &Environment) -> Result<Answer, CliError> {
        let args = FleetArgs { fleet: self.fleet.clone(), profile: None, platform: self.platform.clone() };
        let fleet = Fleet::read(&self.fleet)?;
        let output = self.output.clone().unwrap_or_else(|| beside(&self.fleet, "profile.json"));
        let known = CampaignState::path_beside(&output);
        self.check_spans()?;
        let mut inputs = target::files_of(&fleet);
        inputs.push(args.platform_path());
        target::check("--output", &output, &inputs)?;
        target::check_file("--output", &output)?;
        target::check("--output", &known, &inputs)?;
        let calibration = args.load_calibration()?;
        let tasks = fleet.tasks().len();
        let options = self.options(tasks);
        let lanes = spread(&fleet);
        let folder = opponents::Folder::beside(&output);
        let (fleet, opposition) = opponents::enlarged(&fleet, &lanes, &folder)?;
        let hostile = opposition.is_hostile();
        let (mut system, _library) = open_system(fleet, environment)?;
        calibration.matches_device(system.device().context(), lanes_of(system.fleet()))?;
        calibration.matches_wait(system.fleet().wait())?;
        calibration.matches_carriers(system.fleet())?;
        if self.level == LevelArg::Enemy && !hostile {
            return Err(CliError::Input("--level: this device has no enemies; legal: fleet".into()));
        }
        system.assign(spread(system.fleet()));
        let profiler =
            WcetProfiler::new(&system, &calibration, options).against(opposition).realtime(self.realtime);
        let state = if self.fresh { profiler.blank() } else { profiler.recall(&known)? };
        if self.stage == StageArg::Confirm && !state.is_frozen() {
            let first = "--stage: not every task was explored; legal: explore first, or all";
            return Err(CliError::Input(first.into()));
        }
        let mut progress = Progress::new(tasks);
        let tell = |task: &str| progress.begin(task);
        let save = |state: &CampaignState| state.save(&known);
        let state = profiler.run(state, self.stage.into(), self.time_limit, tell, save);
        progress.finish();
        let state = state.map_err(|error| placed(error, system.fleet()))?;
        let reached = profile::Progress::of(&state);
        if !reached.is_complete() {
            return Ok(interrupted(reached, &known));
        }
        let profile = profiler.profile(&state, &output, self.level.into())?;
        profile.save(&output)?;
        let hints = hints(&system, &state);
        Ok(self.answer(&profile, &hints, &output))
    }

    fn check_spans(&self) -> Result<(), CliError> {
        let spans = [
            ("--seconds", Some(self.seconds)),
            ("--budget-seconds", self.budget_seconds),
            ("--time-limit", self.time_limit),
        ];
        for (option, span) in spans {
            if let Some(span) = span.filter(|span| span.is_zero() || *span > Fleet::SPAN_MAX) {
                return Err(CliError::Input(format!(
                    "{option}: is {span}; legal: a span above zero, at most {}",
                    Fleet::SPAN_MAX
                )));
            }
        }
        Ok(())
    }

    fn options(&self, tasks: usize) -> ProfileOptions {
        let each = |all: Nanos| Nanos::new((all.get() / tasks.max(1) as u64).max(1));
        ProfileOptions {
            time_per_task: self.budget_seconds.map_or(self.seconds, each),
            samples: usize::try_from(self.samples).unwrap_or(usize::MAX),
            strata_max: usize::try_from(self.strata).unwrap_or(usize::MAX),
            margin_ppm: self.margin,
            ..ProfileOptions::default()
        }
    }

    fn answer(&self, profile: &Profile, hints: &[String], output: &Path) -> Answer {
        let told: String = hints.iter().map(|hint| format!("{}\n", folded(hint))).collect();
        let text = format!(
            "{}\n{}\n{}\n{told}budget: the longest run seen in the company of the {} level, plus {}. With 95% confidence a \
             further run in\nany mixture of the confirmed strata exceeds it with at most probability p; n is the \
             fewest samples of a\nstratum. That is a measurement, not a proof.\nwrote {}\n",
            costs(profile),
            slowdowns(&profile.slowdown),
            memory(profile),
            profile.level,
            figures::margin(self.margin),
            output.display()
        );
        let tasks: Vec<Value> = profile.tasks.iter().map(task_json).collect();
        let rows = profile.slowdown.rows.iter();
        let rows: Vec<Value> = rows
            .map(|row| json!({ "task": row.task, "beside": row.beside, "slowdown_ppm": row.ppm }))
            .collect();
        let json = json!({
            "complete": true, "machine": profile.machine, "output": output, "level": profile.level.word(),
            "margin_ppm": self.margin, "tasks": tasks, "hints": hints, "lanes": profile.slowdown.lanes, "slowdown": rows,
        });
        Answer::done(text, json)
    }
}

impl From<LevelArg> for Level {
    fn from(level: LevelArg) -> Self {
        match level {
            LevelArg::Fleet => Self::Fleet,
            LevelArg::Enemy => Self::Enemy,
        }
    }
}

impl From<StageArg> for Stage {
    fn from(stage: StageArg) -> Self {
        match stage {
            StageArg::Explore => Self::Explore,
            StageArg::Confirm => Self::Confirm,
            StageArg::All => Self::All,
        }
    }
}

/// Tasks that keep lanes of the launcher waiting that need not.
fn hints(system: &System, state: &CampaignState) -> Vec<String> {
    let tasks = state.tasks.iter().zip(system.models()).zip(system.lanes());
    let hint = |((known, model), lane): ((&profile::TaskCampaign, &Model), &LaneId)| {
        let hint = system.fleet().hint_of_carrier(*lane).filter(|_| known.plain)?;
        Some(format!("{}: {hint}", model.config.name))
    };
    tasks.filter_map(hint).collect()
}

/// A campaign that has more to do: no profile is written yet.
fn interrupted(reached: profile::Progress, known: &Path) -> Answer {
    let profile::Progress { explored, confirmed, tasks } = reached;
    let next = if explored < tasks { "explore" } else { "confirm" };
    let text = format!(
        "explored {explored} and confirmed {confirmed} of {}; no profile yet\nwhat is known is in {}: the same command \
         goes on, with --stage {next} or all\n",
        figures::counted(tasks as u64, "task"),
        known.display()
    );
    let json = json!({
        "complete": false, "explored": explored, "confirmed": confirmed, "tasks": tasks, "campaign": known,
    });
    Answer::done(text, json)
}

/// A lane for every task before any budget is known: fixed ones where the fleet fixes them, the others spread over
/// their partitions in turn, so that every lane is busy while a task is measured.
fn spread(fleet: &Fleet) -> Vec<LaneId> {
    let mut next = vec![0u16; fleet.partitions().len()];
    let place = |(task, fixed): (&crate::config::TaskConfig, Option<LaneId>)| {
        let lanes = fleet.lanes_of(task.partition);
        let turn = &mut next[task.partition.index()];
        fixed.unwrap_or_else(|| {
            let lane = lanes.start + *turn % (lanes.end - lanes.start).max(1);
            *turn = turn.wrapping_add(1);
            LaneId::new(lane)
        })
    };
    fleet.tasks().iter().zip(fleet.fixed_lanes()).map(place).collect()
}

/// The longest of a figure over the segments of a task that run one after the other: their sum.
fn total(task: &TaskProfile, figure: fn(&SegmentProfile) -> Nanos) -> Nanos {
    task.segments.iter().fold(Nanos::ZERO, |sum, segment| sum.saturating_add(figure(segment)))
}

fn costs(profile: &Profile) -> String {
    let header = ["task", "alone p50", "p50", "p99", "max", "budget", "strata", "n", "p <="];
    let mut grid = Grid::new(1, &header);
    for task in &profile.tasks {
        let samples = task.segments.iter().map(|segment| segment.samples).min().unwrap_or(0);
        let exceedance =
            task.segments.iter().map(|segment| segment.exceedance.probability_ppm).max().unwrap_or(0);
        let at = |segment: &SegmentProfile| segment.at(profile.level).map(|level| level.strata);
        let strata = task.segments.iter().filter_map(at).min().unwrap_or(0);
        grid.row([
            task.task.clone(),
            span(task.alone),
            span(total(task, |segment| segment.p50)),
            span(total(task, |segment| segment.p99)),
            span(total(task, |segment| segment.high_water)),
            span(total(task, |segment| segment.budget)),
            strata.to_string(),
            samples.to_string(),
            figures::margin(exceedance),
        ]);
    }
    grid.text()
}

/// Tasks that hurt each other, the worst first; what everybody does to everybody would fill pages.
fn slowdowns(table: &SlowdownTable) -> String {
    const SHOWN: usize = 4;
    let mut grid = Grid::new(2, &["task", "beside", "slowdown"]);
    let mut rows: Vec<_> = table.rows.iter().collect();
    let mut tasks: Vec<&str> = rows.iter().map(|row| row.task.as_str()).collect();
    tasks.dedup();
    rows.sort_by(|a, b| b.ppm.cmp(&a.ppm).then_with(|| a.beside.cmp(&b.beside)));
    for task in tasks {
        for row in rows.iter().filter(|row| row.task == task).take(SHOWN) {
            grid.row([row.task.clone(), row.beside.clone(), figures::factor(row.ppm)]);
        }
    }
    format!(
        "slowdown on {}, median beside over median alone, the {SHOWN} largest of each task:\n{}",
        figures::counted(u64::from(table.lanes), "lane"),
        grid.text()
    )
}

fn memory(profile: &Profile) -> String {
    let mut grid = Grid::new(1, &["task", "persistent", "exchange", "scratch"]);
    for task in &profile.tasks {
        let used = &task.memory;
        grid.row([task.task.clone(), size(used.persistent), size(used.exchange), size(used.scratch)]);
    }
    grid.text()
}

fn task_json(task: &TaskProfile) -> Value {
    let level = |level: &LevelBudget| {
        json!({
            "level": level.level.word(), "budget_ns": level.budget.get(), "max_ns": level.high_water.get(),
            "strata": level.strata, "samples": level.samples,
            "exceedance_ppm": level.exceedance.probability_ppm,
        })
    };
    let segment = |segment: &SegmentProfile| {
        json!({
            "budget_ns": segment.budget.get(), "p50_ns": segment.p50.get(), "p99_ns": segment.p99.get(),
            "max_ns": segment.high_water.get(), "samples": segment.samples,
            "exceedance_ppm": segment.exceedance.probability_ppm,
            "levels": segment.levels.iter().map(level).collect::<Vec<_>>(),
        })
    };
    json!({
        "task": task.task,
        "turn_ns": task.turn.get(),
        "alone_p50_ns": task.alone.get(),
        "segments": task.segments.iter().map(segment).collect::<Vec<_>>(),
        "memory": {
            "persistent_bytes": task.memory.persistent.get(),
            "exchange_bytes": task.memory.exchange.get(),
            "scratch_bytes": task.memory.scratch.get(),
        },
    })
}

/// Percent as millionths: `20%`, `12.5%` or `20`.
pub(super) fn percent(text: &str) -> Result<u64, String> {
    let legal = || format!("`{text}` is no percentage; legal: for example 20%, at most 1000%");
    let number = text.trim().trim_end_matches('%').trim_end();
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.len() > 4 {
        return Err(legal());
    }
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return Err(legal());
    }
    let whole: u64 = whole.parse().map_err(|_| legal())?;
    let fraction: u64 = format!("{fraction:0<4}").parse().map_err(|_| legal())?;
    let ppm = whole.checked_mul(10_000).and_then(|ppm| ppm.checked_add(fraction));
    ppm.filter(|ppm| *ppm <= 10_000_000).ok_or_else(legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_exact_or_refused() {
        let cases = [("20%", 200_000), ("12.5%", 125_000), ("0", 0), ("0.0001 %", 1), ("1000%", 10_000_000)];
        for (text, ppm) in cases {
            assert_eq!(percent(text), Ok(ppm), "{text}");
        }
        for text in ["", "%", "-5%", "1.%", "5.00001%", "1001%", "20 per cent", "99999999999999999999"] {
            assert!(percent(text).is_err(), "{text}");
        }
    }
}
