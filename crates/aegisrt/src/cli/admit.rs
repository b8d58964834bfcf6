//! `aegis admit`: whether a fleet fits, in time and in memory, and if not, why and what would.
//!
//! # The answer for programs
//! One object, `schema` = [`SCHEMA`]; spans are whole nanoseconds, factors millionths. Keys may be added; what a key
//! means changes only with the schema's number. `null` stands for what was not found, and for what was not asked.
//!
//! | key | what it holds |
//! |---|---|
//! | `admitted` | whether time, memory, every group's budgets and every chain's limits hold |
//! | `judged_for` | device, machine and date of measured files that were not made here, else `null` |
//! | `policy`, `assumptions`, `lanes` | of the certificate, with the overrun that each lane tolerates |
//! | `tasks` | lane, contract, charged segments, bound, its terms, the binding term, slack, confidence |
//! | `refusal` | what fails in time: lane, task, kind, reason, binding term, changes of periods that would fit |
//! | `witness` | for a refusal in time: a schedule that misses, or why there is none |
//! | `memory` | whether the plan fits and its peak, or what is missing, who holds most, and the smallest change |
//! | `chains` | reaction time and data age of each chain, what each task adds, limits |
//! | `groups` | of each group: tasks, what they ask for, the group's budgets, what is refused and the smallest change |
//! | `notes` | budgets that were measured in other company |
//! | `shared_queue` | of each partition of several lanes: what one queue for them could certify; no runtime does that |
//! | `assign` | with `--assign`: the lanes that were found; see the module |
//! | `what_if` | with `--what-if`: changes that would admit, the smallest of each kind first |
//! | `sensitivity` | with `--sensitivity`: how far each number can move |

mod assign;
mod bounds;
mod changes;
mod chart;
mod margins;
pub(super) mod miss;
mod shared;
mod space;

use std::path::{Path, PathBuf};

use aegis_sched::assign::Effort;
use aegis_sched::policy::{INSERTING, POLICIES};
use aegis_sched::{AdmissionReport, TaskSet};
use aegis_types::Nanos;
use clap::{ArgGroup, Args};
use serde_json::Value;

use super::answer::{Answer, CliError, Exit};
use super::chains::JudgedChain;
use super::groups::JudgedGroups;
use super::profile::percent;
use super::setup::{FleetArgs, Setup, beside};
use super::{Environment, chains, fit, target, verdict};
use crate::config::Fleet;

/// The name and number of the shape of the answer for programs.
const SCHEMA: &str = "aegis-admit-1";

/// Say whether a fleet fits.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("found").args(["fit", "assign"])))]
pub struct Admit {
    #[command(flatten)]
    fleet: FleetArgs,
    /// Say which single changes would admit a fleet that is refused; with a file, ask as if its tasks came too.
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    what_if: Option<Option<PathBuf>>,
    /// Say how far every number of the fleet can move: budgets, periods, deadlines, jitter.
    #[arg(long, conflicts_with = "fit")]
    sensitivity: bool,
    /// Draw bounds against deadlines.
    #[arg(long, value_name = "FILE.svg", conflicts_with = "fit")]
    chart: Option<PathBuf>,
    /// Find the shortest periods, in steps of this span, at which the fleet is certified.
    #[arg(long, value_name = "SPAN")]
    fit: Option<Nanos>,
    /// How much longer than the shortest the periods are made that are not natural: room for overruns.
    #[arg(long, value_name = "PERCENT", requires = "fit", default_value = "0%", value_parser = percent)]
    slack: u64,
    /// Find lanes for tasks: for those whose lane is open, for all, or for all together with the number of lanes.
    #[arg(
        long, value_name = "TASKS", num_args = 0..=1, default_missing_value = "open", value_enum,
        conflicts_with = "what_if"
    )]
    assign: Option<assign::Scope>,
    /// Where the search for lanes begins to draw.
    #[arg(long, value_name = "NUMBER", requires = "assign", default_value_t = Effort::default().seed)]
    seed: u64,
    /// How far the search for lanes goes, in tasks looked at.
    #[arg(long, value_name = "NUMBER", requires = "assign", default_value_t = Effort::default().steps)]
    steps: u64,
    /// With `--assign sizes`: another profile of the same tasks, whose partition sizes are tried too; repeatable.
    #[arg(long, value_name = "PROFILE", requires = "assign")]
    offer: Vec<PathBuf>,
    /// Write the fleet with the periods or the lanes that were found.
    #[arg(long, value_name = "FILE", requires = "found")]
    write: Option<PathBuf>,
    /// Show what the bound of this task is made of, as a table.
    #[arg(long, value_name = "TASK")]
    explain: Option<String>,
}

/// Everything that decides whether a fleet is admitted.
struct Judged<'a> {
    setup: &'a Setup,
    report: AdmissionReport,
    chains: Vec<JudgedChain<'a>>,
    groups: JudgedGroups<'a>,
    space: space::Space,
    miss: Option<miss::Shown>,
    shared: Vec<shared::Shared>,
}

impl Admit {
    pub(super) fn perform(&self, environment: &Environment) -> Result<Answer, CliError> {
        let mut fleet = Fleet::read(&self.fleet.fleet)?;
        let own = fleet.tasks().len();
        if let Some(Some(path)) = &self.what_if {
            fleet = fleet.with_tasks_of(path)?;
        }
        if let Some(task) = self.explain.as_ref().filter(|task| fleet.task(task).is_none()) {
            let names: Vec<&str> = fleet.tasks().iter().map(|task| task.name.as_str()).collect();
            return Err(CliError::Input(format!("--explain: no task `{task}`; legal: {}", names.join(", "))));
        }
        if let Some(path) = &self.chart {
            let mut inputs = target::files_of(&fleet);
            inputs.extend([self.fleet.platform_path(), self.fleet.profile_path()]);
            target::check("--chart", path, &inputs)?;
        }
        self.check_searches(&fleet)?;
        if let Some(granularity) = self.fit {
            let wish = fit::Wish { granularity, slack_ppm: self.slack };
            return fit::fit(&self.fleet, fleet, wish, self.write.as_deref(), environment);
        }
        if let Some(scope) = self.assign {
            return self.assigned(scope, fleet, environment);
        }
        let added: Vec<String> = fleet.tasks()[own..].iter().map(|task| format!("`{}`", task.name)).collect();
        let setup = Setup::judge(&self.fleet, fleet, environment)?;
        let mut answer = self.answer(&Judged::of(&setup)?, "")?;
        if !added.is_empty() {
            answer.text = format!("What if {} came too?\n\n{}", added.join(", "), answer.text);
        }
        Ok(answer)
    }

    /// Searches vary numbers of sporadic tasks. What a policy that inserts idle time is certified by are the schedules of
    /// one set of releases, and how these move with a number nobody has shown.
    fn check_searches(&self, fleet: &Fleet) -> Result<(), CliError> {
        let asked = [
            ("--what-if", self.what_if.is_some()),
            ("--sensitivity", self.sensitivity),
            ("--fit", self.fit.is_some()),
            ("--assign", self.assign.is_some()),
        ];
        let (name, asked) = (fleet.policy(), asked.into_iter().find(|(_, asked)| *asked));
        match asked.filter(|_| INSERTING.contains(&name)) {
            None => Ok(()),
            Some((option, _)) => {
                let problem = format!(
                    "inserts idle time, and only the releases of one fleet are explored, so that {option} is refused"
                );
                Err(fleet.complain_policy(problem, POLICIES.join(", ")).into())
            }
        }
    }

    /// The answer; for people `preface` stands between whom it is about and the verdict.
    fn answer(&self, judged: &Judged<'_>, preface: &str) -> Result<Answer, CliError> {
        let (setup, report) = (judged.setup, &judged.report);
        let set = &setup.prepared.set;
        let (said, mut json) = (judged.text(self.explain.as_deref())?, judged.json()?);
        let origin = setup.origin.as_ref().map(|origin| format!("judged for: {origin}\n\n"));
        let mut text = format!("{}{preface}{said}", origin.unwrap_or_default());
        if self.what_if.is_some() {
            let found = changes::search(setup)?;
            text.push_str(&format!("\n{}", changes::text(&found, set, report.is_admitted())));
            json["what_if"] = changes::json(&found, set);
        }
        if self.sensitivity {
            let found = margins::search(set, setup.system.policy().as_ref())?;
            text.push_str(&format!("\n{}", margins::text(&found, set)));
            json["sensitivity"] = margins::json(&found, set);
        }
        if let Some(path) = &self.chart {
            write_chart(path, report, set, &judged.title())?;
            text.push_str(&format!("wrote {}\n", path.display()));
        }
        let exit = if judged.is_admitted() { Exit::Done } else { Exit::Refused };
        Ok(Answer { text, json, exit })
    }
}

/// The fleet and the measured files that do not stand beside it, as arguments of a command that reads the same.
fn files(setup: &Setup) -> String {
    let fleet = setup.system.fleet().path();
    let platform = ("--platform", "platform.json", Some(setup.calibration.path()));
    let profile = ("--profile", "profile.json", setup.profile.as_ref().map(|profile| profile.path()));
    let named = [platform, profile].into_iter().filter_map(|(option, name, path)| {
        let path = path.filter(|path| *path != beside(fleet, name))?;
        Some(format!(" {option} {}", path.display()))
    });
    format!("{}{}", fleet.display(), named.collect::<String>())
}

fn write_chart(path: &Path, report: &AdmissionReport, set: &TaskSet, title: &str) -> Result<(), CliError> {
    target::write(path, chart::svg(report, set, title)?)
}

impl<'a> Judged<'a> {
    /// # Errors
    /// What keeps a fleet that fits in time from being planned at all; a verdict in time stands whatever else is wrong.
    fn of(setup: &'a Setup) -> Result<Self, CliError> {
        let report = setup.analyze();
        let set = &setup.prepared.set;
        let certificate = report.certificate();
        let chains = certificate
            .map_or_else(Vec::new, |certificate| chains::judge(setup.system.fleet(), set, certificate));
        let miss = miss::of(&report, set, setup.system.policy().as_ref());
        let shared = shared::judge(setup)?;
        let groups = JudgedGroups::of(setup, &report)?;
        match space::Space::of(setup, &report) {
            space::Space::Unknown(error) if report.is_admitted() => Err(error),
            space => Ok(Self { setup, report, chains, groups, space, miss, shared }),
        }
    }

    fn is_admitted(&self) -> bool {
        self.report.is_admitted() && self.space.fits() && self.groups.fit() && self.broken().next().is_none()
    }

    /// What the chains are refused for.
    fn broken(&self) -> impl Iterator<Item = String> + '_ {
        self.chains.iter().flat_map(JudgedChain::refusals)
    }

    fn title(&self) -> String {
        let fleet = self.setup.system.fleet();
        let verdict = if self.is_admitted() { "admitted" } else { "refused" };
        let name = fleet.path().file_name().map(|name| name.to_string_lossy().into_owned());
        let origin = self.setup.origin.as_ref().map(|origin| format!(", judged for {}", origin.device));
        format!(
            "{}: {verdict} under {}{}",
            name.unwrap_or_default(),
            fleet.policy(),
            origin.unwrap_or_default()
        )
    }

    fn notes(&self) -> Vec<String> {
        let set = &self.setup.prepared.set;
        let note = |gap: &crate::config::ContextGap| {
            let (task, unmet) = (verdict::name(gap.task, set), gap.unmet.join(", "));
            format!("the budget of `{task}` was not measured beside {unmet}")
        };
        self.setup.prepared.gaps.iter().map(note).collect()
    }

    fn text(&self, explain: Option<&str>) -> Result<String, CliError> {
        let (setup, report) = (self.setup, &self.report);
        let set = &setup.prepared.set;
        let fails_elsewhere = report.is_admitted() && !self.is_admitted();
        let mut text = match fails_elsewhere {
            true => verdict::text_in_time(report, set)?,
            false => verdict::text(report, set)?,
        };
        text.push_str(&miss::text(self.miss.as_ref(), set, &files(setup)));
        text.push_str(&bounds::text(report, set));
        for note in self.notes() {
            text.push_str(&format!("note: {note}\n"));
        }
        let explained = explain.and_then(|name| setup.system.fleet().task(name));
        if let Some(task) = explained.and_then(|(id, _)| report.tasks.get(id.index())) {
            text.push_str(&format!("\n{}", verdict::terms(task, set)));
        }
        text.push_str(&self.chains_text());
        text.push_str(&self.space.text(set));
        text.push_str(&self.groups.table());
        text.push_str(&self.groups.refusals());
        let shared: String = self.shared.iter().map(shared::Shared::text).collect();
        text.push_str(&shared);
        Ok(text)
    }

    fn chains_text(&self) -> String {
        let count = self.setup.system.fleet().chains().len();
        if count > 0 && !self.report.is_admitted() {
            return format!("chains: {count} not judged, because the fleet does not fit in time\n");
        }
        let shown: String = self.chains.iter().map(|chain| format!("\n{}", chain.text())).collect();
        let refused: String = self.broken().map(|refusal| format!("REFUSED: {refusal}\n")).collect();
        format!("{shown}{refused}")
    }

    fn json(&self) -> Result<Value, CliError> {
        let (setup, report) = (self.setup, &self.report);
        let set = &setup.prepared.set;
        let mut json = verdict::json(report, set)?;
        json["schema"] = SCHEMA.into();
        json["admitted"] = self.is_admitted().into();
        json["judged_for"] = setup.origin.as_ref().map_or(Value::Null, super::recorded::Origin::json);
        for (task, judged) in json["tasks"].as_array_mut().into_iter().flatten().zip(&report.tasks) {
            let binding = bounds::binding(judged).map(|term| verdict::term_json(term, set));
            task["binding"] = binding.unwrap_or_default();
        }
        json["witness"] = miss::json(self.miss.as_ref(), set);
        json["memory"] = self.space.json(set);
        json["chains"] = self.chains.iter().map(JudgedChain::json).collect();
        json["groups"] = self.groups.json();
        json["notes"] = self.notes().into();
        json["shared_queue"] = self.shared.iter().map(shared::Shared::json).collect();
        json["assign"] = Value::Null;
        json["what_if"] = Value::Null;
        json["sensitivity"] = Value::Null;
        Ok(json)
    }
}
