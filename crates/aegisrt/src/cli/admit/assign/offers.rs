//! `aegis admit --assign sizes`: how many lanes, and partitions of which size, among what the device allows.
//!
//! Budgets are known on partitions of the sizes that were profiled. So sizes come from profiles: the fleet's own, and
//! each that `--offer` names. Lanes are counted from one to as many as device and calibration allow.

use std::cmp::Reverse;
use std::path::PathBuf;

use aegis_cuda::{DeviceKind, Units};
use aegis_sched::Criticality;
use aegis_sched::assign::Effort;
use serde_json::{Value, json};

use super::rewrite::{Size, resized};
use super::settle::{Ground, Settled, work};
use crate::cli::answer::CliError;
use crate::cli::figures;
use crate::cli::setup::{Setup, lane_choices};
use crate::cli::table::Grid;
use crate::config::{Fleet, Profile};

/// Ways to divide a device that are looked at, for each profile.
const WAYS_MAX: usize = 64;

/// Rows that people are shown.
const SHOWN: usize = 12;

/// A way to divide the device, with what it carries.
pub(super) struct Row {
    /// The fleet on these partitions, its lanes open.
    pub fleet: Fleet,
    pub profile: Option<Profile>,
    pub settled: Settled,
    sizes: Vec<Size>,
}

/// All that were looked at, the best first, and why others were not.
pub(super) struct Ranked {
    pub rows: Vec<Row>,
    pub skipped: Vec<String>,
}

/// Settles the fleet on every way to divide the device, and ranks them: certified before not, budgets that were
/// measured in this company before others, then as [`choose`](aegis_sched::assign::choose) does: who leaves out the least critical tasks and the
/// fewest, then who carries most load, then the fewest lanes.
///
/// # Errors
/// What is wrong in a profile.
pub(super) fn rank(setup: &Setup, more: &[PathBuf], effort: Effort) -> Result<Ranked, CliError> {
    let fleet = setup.system.fleet();
    let mut ranked = Ranked { rows: Vec::new(), skipped: Vec::new() };
    let mut profiles = vec![setup.profile.clone()];
    for path in more {
        let profile = Profile::load(path)?;
        let expected = setup.calibration.machine.as_str();
        profile.matches_machine(expected)?;
        profile.matches_device(setup.system.device().context())?;
        profile.matches_wait(fleet.wait())?;
        profiles.push(Some(profile));
    }
    for known in &profiles {
        let units = match known {
            Some(profile) => match units_of(fleet, profile, setup) {
                Ok(units) => units,
                Err(why) => {
                    ranked.skipped.push(format!("{}: {why}", profile.path().display()));
                    continue;
                }
            },
            None => vec![None; fleet.partitions().len()],
        };
        for sizes in ways(fleet, setup, &units, &mut ranked.skipped) {
            match row(setup, known.as_ref(), sizes.clone(), effort) {
                Ok(row) => ranked.rows.push(row),
                Err(error) => ranked.skipped.push(format!("{}: {error}", words(fleet, &sizes))),
            }
        }
    }
    ranked.rows.sort_by_key(|row| {
        let load = Reverse(row.settled.load_ppm);
        (!row.is_certified(), row.gaps() > 0, row.left_out(), load, row.lanes())
    });
    Ok(ranked)
}

/// The sizes that the profile was made on, by partition of the fleet; `None` where sizes are not counted.
fn units_of(fleet: &Fleet, profile: &Profile, setup: &Setup) -> Result<Vec<Option<u32>>, String> {
    let context = setup.system.device().context();
    let mut left = context.units;
    let mut units = Vec::new();
    for partition in fleet.partitions() {
        let Units::Count(_) = partition.units else {
            units.push(None);
            continue;
        };
        let Some(then) = profile.partitions.iter().find(|then| then.name == partition.name) else {
            return Err(format!("it has no partition `{}`", partition.name));
        };
        let rest = left.checked_sub(then.units).filter(|_| {
            then.units >= context.unit_minimum && then.units.is_multiple_of(context.unit_granularity.max(1))
        });
        let Some(rest) = rest else {
            return Err(format!("the device has no {} units more for `{}`", then.units, partition.name));
        };
        left = rest;
        units.push(Some(then.units));
    }
    Ok(units)
}

/// Lane counts of all partitions, each from one on, in the order of their digits; not more than are looked at.
fn ways(fleet: &Fleet, setup: &Setup, units: &[Option<u32>], skipped: &mut Vec<String>) -> Vec<Vec<Size>> {
    let context = setup.system.device().context();
    let count = fleet.partitions().len();
    let measured = setup.calibration.device.as_ref().filter(|_| fleet.device() == DeviceKind::Cuda);
    let all = measured.map_or(context.queue_limit, |device| context.queue_limit.min(device.lanes.into()));
    let most: Vec<u16> =
        fleet.partitions().iter().map(|partition| most_lanes(&partition.units, all, count)).collect();
    let mut ways = Vec::new();
    let mut lanes = vec![1u16; count];
    loop {
        let sum: u32 = lanes.iter().map(|&lanes| u32::from(lanes)).sum();
        if sum <= all || fleet.device() == DeviceKind::Host {
            let size = |(&lanes, &units): (&u16, &Option<u32>)| Size { lanes, units };
            ways.push(lanes.iter().zip(units).map(size).collect());
        }
        let Some(next) = (0..count).rev().find(|&place| lanes[place] < most[place]) else { return ways };
        if ways.len() >= WAYS_MAX {
            skipped.push(format!("the first {WAYS_MAX} ways were looked at, and there are more"));
            return ways;
        }
        lanes[next] += 1;
        lanes[next + 1..].fill(1);
    }
}

/// Most lanes of one partition: on the host a core each, elsewhere what the others leave.
fn most_lanes(units: &Units, all: u32, partitions: usize) -> u16 {
    let most = match units {
        Units::These(cores) => u32::try_from(cores.len()).unwrap_or(u32::MAX),
        Units::Count(_) => {
            all.saturating_sub(u32::try_from(partitions.saturating_sub(1)).unwrap_or(u32::MAX))
        }
    };
    u16::try_from(most.max(1)).unwrap_or(u16::MAX)
}

fn row(setup: &Setup, profile: Option<&Profile>, sizes: Vec<Size>, effort: Effort) -> Result<Row, CliError> {
    let fleet = resized(setup.system.fleet(), &sizes)?;
    let (choices, work) = (lane_choices(&fleet, true), work(setup));
    let settled = Ground { setup, fleet: &fleet, profile, choices, work: &work, effort }.settle()?;
    Ok(Row { fleet, profile: profile.cloned(), settled, sizes })
}

impl Row {
    /// Whether admission certifies what has lanes.
    fn is_certified(&self) -> bool {
        self.settled.part.as_ref().is_some_and(|part| part.report.is_admitted())
    }

    /// Tasks whose budgets were not measured in the company that they would have.
    fn gaps(&self) -> usize {
        self.settled.part.as_ref().map_or(0, |part| part.prepared.gaps.len())
    }

    fn lanes(&self) -> u32 {
        self.sizes.iter().map(|size| u32::from(size.lanes)).sum()
    }

    /// Tasks left out, the most critical first.
    fn left_out(&self) -> [usize; 3] {
        let of = |criticality| {
            let left = |id: &&aegis_types::TaskId| {
                self.settled.set.task(**id).is_some_and(|task| task.criticality == criticality)
            };
            self.settled.assigned.dropped.iter().filter(left).count()
        };
        [Criticality::High, Criticality::Medium, Criticality::Low].map(of)
    }

    /// The smallest share of a deadline that is left, in millionths.
    fn slack_ppm(&self) -> Option<u64> {
        let part = self.settled.part.as_ref().filter(|part| part.report.is_admitted())?;
        let share = |task: &aegis_sched::admission::TaskReport| {
            let share = u128::from(task.slack?.get()) * 1_000_000 / u128::from(task.deadline.get().max(1));
            u64::try_from(share).ok()
        };
        part.report.tasks.iter().filter_map(share).min()
    }

    fn json(&self) -> Value {
        let sizes = self.fleet.partitions().iter().zip(&self.sizes).map(
            |(partition, size)| json!({ "partition": partition.name, "lanes": size.lanes, "units": size.units }),
        );
        let [high, medium, low] = self.left_out();
        json!({
            "partitions": sizes.collect::<Vec<_>>(),
            "profile": self.profile.as_ref().map(|profile| profile.path().display().to_string()),
            "certified": self.is_certified(), "load_ppm": self.settled.load_ppm,
            "left_out": { "high": high, "medium": medium, "low": low },
            "unmeasured": self.gaps(), "slack_ppm": self.slack_ppm(),
        })
    }
}

impl Ranked {
    /// For people, and for programs.
    pub(super) fn table(&self) -> (String, Value) {
        let ways: Vec<Value> = self.rows.iter().map(Row::json).collect();
        (self.text(), json!({ "ways": ways, "not_looked_at": self.skipped }))
    }

    fn text(&self) -> String {
        let header = ["", "partitions", "certified", "left out", "load", "least slack", "unmeasured"];
        let mut grid = Grid::new(3, &header);
        for (index, row) in self.rows.iter().enumerate().take(SHOWN) {
            let certified = if row.is_certified() { "yes" } else { "no" };
            let slack =
                row.slack_ppm().map_or_else(|| "-".to_owned(), |ppm| figures::percent(ppm, 1_000_000));
            grid.row([
                format!("{}.", index + 1),
                words(&row.fleet, &row.sizes),
                certified.to_owned(),
                row.settled.assigned.dropped.len().to_string(),
                figures::factor(row.settled.load_ppm),
                slack,
                row.gaps().to_string(),
            ]);
        }
        let more = match self.rows.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!("and {more} more\n"),
        };
        let skipped: String = self.skipped.iter().map(|why| format!("not looked at: {why}\n")).collect();
        format!(
            "Ways to divide the device, the best first (load: time alone over periods of the tasks with lanes;\n\
             least slack: the smallest share of a deadline that is left; unmeasured: tasks whose budget was\n\
             measured in other company):\n{}{more}{skipped}",
            grid.text()
        )
    }
}

fn words(fleet: &Fleet, sizes: &[Size]) -> String {
    let one = |(partition, size): (&crate::config::PartitionConfig, &Size)| {
        let units = size.units.map_or(String::new(), |units| format!("{units} sms, "));
        let lanes = if size.lanes == 1 { "lane" } else { "lanes" };
        format!("{}: {units}{} {lanes}", partition.name, size.lanes)
    };
    fleet.partitions().iter().zip(sizes).map(one).collect::<Vec<_>>().join("; ")
}
