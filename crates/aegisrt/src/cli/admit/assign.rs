//! `aegis admit --assign`: lanes for the tasks of a fleet, and a verdict on what has lanes.
//!
//! # The part of the answer for programs
//! `assign` in the object of [`admit`](super): `scope`, `seed`, `steps` (tasks looked at), `lanes` (of each task: its
//! lane within the partition or `null`, and what the fleet said), `left_out` (the least critical first, with reasons by
//! lane), `chains_left_out`, `written`; with `--assign sizes` also `sizes`: its `ways`, the best first, and what was
//! `not_looked_at`. All else in the answer speaks of the tasks that have lanes; `admitted` holds only if that is all of them.

mod offers;
mod rewrite;
mod settle;

use std::path::Path;

use aegis_sched::Criticality;
use aegis_sched::assign::Effort;
use aegis_types::{LaneId, TaskId};
use clap::ValueEnum;
use serde_json::{Value, json};

use self::settle::{Ground, Settled, work};
use super::{Admit, Judged};
use crate::cli::answer::{Answer, CliError, Exit};
use crate::cli::fit::written;
use crate::cli::setup::{Setup, lane_choices};
use crate::cli::table::Grid;
use crate::cli::{Environment, target};
use crate::config::{Fleet, LaneChoice, Profile};

/// Which tasks are given lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Scope {
    /// Tasks whose lane the fleet leaves open.
    Open,
    /// All tasks, each in its partition.
    All,
    /// All tasks, with as many lanes in each partition as turn out best, on sizes that were profiled.
    Sizes,
}

impl Scope {
    const fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::All => "all",
            Self::Sizes => "sizes",
        }
    }
}

/// What was found: the fleet that was searched for, the profile that it is judged with, and its lanes.
struct Found {
    fleet: Fleet,
    profile: Option<Profile>,
    settled: Settled,
    /// The least critical first.
    left_out: Vec<LeftOut>,
    /// Ways to divide the device, for people and for programs.
    table: Option<(String, Value)>,
}

/// A task without a lane, and what stands against it by lane.
struct LeftOut {
    id: TaskId,
    reasons: Vec<(LaneId, String)>,
}

impl Admit {
    /// Finds lanes and judges what has some.
    ///
    /// # Errors
    /// What is wrong in the files; that the result cannot be written.
    pub(super) fn assigned(
        &self,
        scope: Scope,
        fleet: Fleet,
        environment: &Environment,
    ) -> Result<Answer, CliError> {
        if scope != Scope::Sizes && !self.offer.is_empty() {
            let legal = "legal: with --assign sizes";
            return Err(CliError::Input(format!(
                "--offer: lanes are looked for on the fleet's own sizes; {legal}"
            )));
        }
        if let Some(path) = &self.write {
            let mut inputs = target::files_of(&fleet);
            // The fleet itself may be brought up to date in place.
            inputs.retain(|input| input != fleet.path());
            inputs.extend([self.fleet.platform_path(), self.fleet.profile_path()]);
            inputs.extend(self.offer.iter().cloned());
            target::check("--write", path, &inputs)?;
        }
        let setup = Setup::judge(&self.fleet, fleet, environment)?;
        let found = self.find(scope, &setup)?;
        let kept = found.settled.part.as_ref().map(|part| part.kept.fleet.clone());
        let Some(kept) = kept else {
            let none = "No task has a lane on which it fits; the fleet as it stands:\n\n";
            let preface = format!("{}{none}", found.text(&setup));
            let mut answer = self.answer(&Judged::of(&setup)?, &preface)?;
            answer.json["assign"] = found.json(scope, self, None);
            answer.json["admitted"] = false.into();
            answer.exit = Exit::Refused;
            return Ok(answer);
        };
        let said = found.text(&setup);
        let judged = setup.again(kept, found.profile.clone(), environment)?;
        let complete = found.left_out.is_empty();
        let head = if complete { "" } else { "Without the tasks that were left out:\n\n" };
        let mut answer = self.answer(&Judged::of(&judged)?, &format!("{said}{head}"))?;
        let path = self.write.as_deref().filter(|_| answer.exit == Exit::Done);
        if let Some(path) = path {
            write(judged.system.fleet(), path)?;
        }
        answer.text.push_str(&self.wrote(path));
        answer.json["assign"] = found.json(scope, self, path);
        if !complete {
            answer.json["admitted"] = false.into();
            answer.exit = Exit::Refused;
        }
        Ok(answer)
    }

    fn wrote(&self, path: Option<&Path>) -> String {
        match (path, &self.write) {
            (Some(path), _) => {
                format!("wrote {}, without the comments of {}\n", path.display(), self.fleet.fleet.display())
            }
            (None, Some(path)) => format!("{} was not written: nothing is admitted\n", path.display()),
            (None, None) => String::new(),
        }
    }

    fn find(&self, scope: Scope, setup: &Setup) -> Result<Found, CliError> {
        let effort = Effort { seed: self.seed, steps: self.steps };
        let work = work(setup);
        if scope == Scope::Sizes {
            let ranked = offers::rank(setup, &self.offer, effort)?;
            let table = ranked.table();
            let Some(best) = ranked.rows.into_iter().next() else {
                let why = ranked.skipped.join("; ");
                return Err(CliError::Input(format!(
                    "--assign sizes: there is no way to divide the device: {why}"
                )));
            };
            let (fleet, profile, settled) = (best.fleet, best.profile, best.settled);
            let choices = lane_choices(&fleet, true);
            let ground =
                Ground { setup, fleet: &fleet, profile: profile.as_ref(), choices, work: &work, effort };
            let left_out = left_out(&ground, &settled)?;
            return Ok(Found { fleet, profile, settled, left_out, table: Some(table) });
        }
        let fleet = setup.system.fleet().clone();
        let (choices, profile) = (lane_choices(&fleet, scope == Scope::All), setup.profile.as_ref());
        let ground = Ground { setup, fleet: &fleet, profile, choices, work: &work, effort };
        let settled = ground.settle()?;
        let left_out = left_out(&ground, &settled)?;
        Ok(Found { fleet, profile: setup.profile.clone(), settled, left_out, table: None })
    }
}

fn left_out(ground: &Ground<'_>, settled: &Settled) -> Result<Vec<LeftOut>, CliError> {
    // The search names the most critical first.
    let dropped = settled.assigned.dropped.iter().rev();
    dropped.map(|&id| Ok(LeftOut { id, reasons: ground.reasons(settled, id)? })).collect()
}

fn write(fleet: &Fleet, path: &Path) -> Result<(), CliError> {
    target::write(path, written(fleet, path))
}

const fn criticality(level: Criticality) -> &'static str {
    match level {
        Criticality::Low => "low",
        Criticality::Medium => "medium",
        Criticality::High => "high",
    }
}

impl Found {
    /// Each task with its lane within its partition, if it has one.
    fn lanes(&self) -> impl Iterator<Item = (&crate::config::TaskConfig, &str, Option<u16>)> {
        self.fleet.tasks().iter().zip(&self.settled.assigned.lanes).map(|(task, lane)| {
            let home = self.fleet.partitions().get(task.partition.index());
            let first = self.fleet.lanes_of(task.partition).start;
            let number = lane.map(|lane| lane.get() - first);
            (task, home.map_or("", |home| home.name.as_str()), number)
        })
    }

    fn text(&self, setup: &Setup) -> String {
        let mut out = self.table.as_ref().map_or(String::new(), |(text, _)| format!("{text}\n"));
        out.push_str("Lanes that were found:\n");
        let mut grid =
            Grid::new(6, &["task", "criticality", "lane", "partition", "its number", "in the file"]);
        let lanes = &self.settled.assigned.lanes;
        for (((task, home, number), lane), said) in self.lanes().zip(lanes).zip(setup.system.fleet().tasks())
        {
            grid.row([
                task.name.clone(),
                criticality(task.criticality).to_owned(),
                lane.map_or_else(|| "none".to_owned(), |lane| lane.to_string()),
                home.to_owned(),
                number.map_or_else(|| "-".to_owned(), |number| number.to_string()),
                match said.lane {
                    LaneChoice::Auto => "auto".to_owned(),
                    LaneChoice::Fixed(number) => number.to_string(),
                },
            ]);
        }
        out.push_str(&grid.text());
        out.push('\n');
        if !self.left_out.is_empty() {
            out.push_str(&self.left_out_text());
        }
        out
    }

    fn left_out_text(&self) -> String {
        let mut out =
            "REFUSED, the least critical first. The search does not try everything: this is no proof that\n\
                       they fit no lane.\n"
                .to_owned();
        for LeftOut { id, reasons } in &self.left_out {
            if let Some(task) = self.settled.set.task(*id) {
                out.push_str(&format!("  {} ({})\n", task.name, criticality(task.criticality)));
            }
            for (lane, reason) in reasons {
                out.push_str(&format!("    on {lane}: {reason}\n"));
            }
        }
        for chain in self.chains() {
            out.push_str(&format!("  chain {chain}: it went with one of its tasks\n"));
        }
        out.push('\n');
        out
    }

    fn chains(&self) -> &[String] {
        self.settled.part.as_ref().map_or(&[], |part| &part.kept.chains)
    }

    fn json(&self, scope: Scope, asked: &Admit, written: Option<&Path>) -> Value {
        let lane = |(task, home, number): (&crate::config::TaskConfig, &str, Option<u16>)| json!({ "task": task.name, "partition": home, "lane": number });
        let left = |LeftOut { id, reasons }: &LeftOut| {
            let task = self.settled.set.task(*id);
            let reason = |(lane, why): &(LaneId, String)| json!({ "lane": lane.get(), "reason": why });
            json!({
                "task": task.map(|task| task.name.clone()),
                "criticality": task.map(|task| criticality(task.criticality)),
                "reasons": reasons.iter().map(reason).collect::<Vec<_>>(),
            })
        };
        let mut json = json!({
            "scope": scope.word(), "seed": asked.seed, "steps": self.settled.steps,
            "load_ppm": self.settled.load_ppm,
            "lanes": self.lanes().map(lane).collect::<Vec<_>>(),
            "left_out": self.left_out.iter().map(left).collect::<Vec<_>>(),
            "chains_left_out": self.chains(),
            "written": written.map(|path| path.display().to_string()),
        });
        if let Some((_, ways)) = &self.table {
            json["sizes"] = ways.clone();
        }
        json
    }
}
