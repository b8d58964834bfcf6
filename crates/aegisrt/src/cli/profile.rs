//! `aegis profile`: what each model costs, alone and beside the others, as a file that admission stands on.

use std::path::PathBuf;

use aegis_types::{LaneId, Nanos};
use clap::Args;
use serde_json::{Value, json};

use super::answer::{Answer, CliError};
use super::figures::{self, size, span};
use super::progress::Progress;
use super::setup::{FleetArgs, beside, open_system};
use super::table::Grid;
use super::{Environment, target};
use crate::config::{Fleet, Profile, TaskProfile};
use crate::measure;
use crate::profile::ProfileOptions;

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
    /// How long each task is measured beside the others, at most.
    #[arg(long, value_name = "SPAN", default_value = "4s")]
    seconds: Nanos,
    /// How many samples of each task are enough.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    samples: u32,
    /// What is added to the longest sample.
    #[arg(long, value_name = "PERCENT", default_value = "20%", value_parser = percent)]
    margin: u64,
    /// Ask for the system's real-time class, as `aegis run --realtime` does.
    #[arg(long)]
    realtime: bool,
}

impl ProfileCommand {
    pub(super) fn perform(&self, environment: &Environment) -> Result<Answer, CliError> {
        let args = FleetArgs { fleet: self.fleet.clone(), profile: None, platform: self.platform.clone() };
        let fleet = Fleet::read(&self.fleet)?;
        let output = self.output.clone().unwrap_or_else(|| beside(&self.fleet, "profile.json"));
        if self.seconds.is_zero() || self.seconds > Fleet::SPAN_MAX {
            return Err(CliError::Input(format!(
                "--seconds: is {}; legal: a span above zero, at most {}",
                self.seconds,
                Fleet::SPAN_MAX
            )));
        }
        let mut inputs = target::files_of(&fleet);
        inputs.push(args.platform_path());
        target::check("--output", &output, &inputs)?;
        let calibration = args.load_calibration()?;
        let (mut system, _library) = open_system(fleet, environment)?;
        system.assign(spread(system.fleet()));
        let options = ProfileOptions {
            time_per_task: self.seconds,
            samples: usize::try_from(self.samples).unwrap_or(usize::MAX),
            ..ProfileOptions::default()
        };
        let mut progress = Progress::new(system.models().len());
        let tell = |task: &str| progress.begin(task);
        let measured =
            measure::profile(&system, &calibration, &output, options, self.margin, self.realtime, tell);
        progress.finish();
        let (profile, _samples) = measured?;
        profile.save(&output)?;
        let text = format!(
            "{}\n{}\nbudget: the longest of n runs beside the other lanes, plus {}. With 95% confidence a further run \
             of the same\nmixture exceeds it with at most probability p. That is a measurement, not a proof.\nwrote \
             {}\n",
            costs(&profile),
            memory(&profile),
            figures::margin(self.margin),
            output.display()
        );
        let tasks: Vec<Value> = profile.tasks.iter().map(task_json).collect();
        let json = json!({ "machine": profile.machine, "output": output, "margin_ppm": self.margin, "tasks": tasks });
        Ok(Answer::done(text, json))
    }
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
fn total(task: &TaskProfile, figure: fn(&crate::config::SegmentProfile) -> Nanos) -> Nanos {
    task.segments.iter().fold(Nanos::ZERO, |sum, segment| sum.saturating_add(figure(segment)))
}

fn costs(profile: &Profile) -> String {
    let header = ["task", "alone p50", "p50", "p99", "max", "budget", "n", "p <="];
    let mut grid = Grid::new(1, &header);
    for task in &profile.tasks {
        let samples = task.segments.iter().map(|segment| segment.samples).min().unwrap_or(0);
        let exceedance =
            task.segments.iter().map(|segment| segment.exceedance.probability_ppm).max().unwrap_or(0);
        grid.row([
            task.task.clone(),
            span(task.alone),
            span(total(task, |segment| segment.p50)),
            span(total(task, |segment| segment.p99)),
            span(total(task, |segment| segment.high_water)),
            span(total(task, |segment| segment.budget)),
            samples.to_string(),
            figures::margin(exceedance),
        ]);
    }
    grid.text()
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
    let segment = |segment: &crate::config::SegmentProfile| {
        json!({
            "budget_ns": segment.budget.get(), "p50_ns": segment.p50.get(), "p99_ns": segment.p99.get(),
            "max_ns": segment.high_water.get(), "samples": segment.samples,
            "exceedance_ppm": segment.exceedance.probability_ppm,
        })
    };
    json!({
        "task": task.task,
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
