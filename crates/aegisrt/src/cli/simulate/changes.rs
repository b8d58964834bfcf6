//! `aegis simulate FLEET --changes FILE`: tasks that come and go while the fleet is served.

use std::path::Path;

use aegis_sched::mode::Obstacle;
use aegis_sched::policy::INSERTING;
use aegis_sched::{
    AdmissionController, AdmissionReport, AdmissionRequest, ModelError, POLICIES, Task, TaskSet,
};
use aegis_types::{Nanos, TaskId, Time};
use serde_json::{Value, json};

use super::super::answer::{Answer, CliError, Exit};
use super::super::figures::{self, span};
use super::super::setup::{FleetArgs, Setup};
use super::super::table::Grid;
use super::super::{Environment, groups, summary, verdict};
use super::fleet::{HORIZON, SHOWN, check_partitions, failed, known_policy, scenario};
use super::wishes::{RUN_MAX, Wishes};
use crate::config::{Fleet, GroupConfig};
use crate::groups::{observed, uses};
use crate::simulate::changes::{Rehearsal, Rehearsed, Reply, Served, Told, subset};
use crate::simulate::policy::PolicyChoice;

/// The run that is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    /// The file of changes.
    pub(super) changes: &'a Path,
    pub(super) seed: u64,
    /// `None` for [`HORIZON`] after the last change.
    pub(super) horizon: Option<Nanos>,
}

/// Serves the fleet and asks for each change at its time.
///
/// # Errors
/// What is wrong in any of the files, or that changes are not defined for such a fleet.
pub(super) fn perform(
    args: &FleetArgs,
    asked: Asked<'_>,
    environment: &Environment,
) -> Result<Answer, CliError> {
    if asked.horizon.is_some_and(|horizon| horizon > RUN_MAX) {
        return Err(CliError::Input(format!(
            "--horizon: a run with --changes is kept as a whole, to be checked and decided again; legal: at most {RUN_MAX}"
        )));
    }
    let fleet = Fleet::read(&args.fleet)?;
    let first: Vec<String> = fleet.tasks().iter().map(|task| task.name.clone()).collect();
    let Wishes { fleet, wishes } = Wishes::read(asked.changes, fleet, asked.horizon)?;
    check_partitions(&fleet)?;
    check_changeable(&fleet)?;
    let last = wishes.last().map_or(Nanos::ZERO, |wish| wish.at.since(Time::ZERO));
    let horizon = asked.horizon.unwrap_or(last.saturating_add(HORIZON));
    let setup = Setup::judge(args, fleet, environment)?;
    let judge = Judge { setup: &setup };
    let all = &setup.prepared.set;
    let set = subset(all, first.iter().map(String::as_str))?;
    let report = judge.report(&set);
    if let Some(excess) = report.certificate().and_then(|_| judge.too_heavy(&set)) {
        return Err(CliError::Refused(excess));
    }
    let mut answer = match report.certificate() {
        None => refused(&report, &set)?,
        Some(certificate) => {
            let policy = PolicyChoice::Named(known_policy(&setup)?);
            let scenario = scenario(&setup, policy, asked.seed);
            let (first, terms) = (&set, &|set: &TaskSet| judge.too_heavy(set));
            let rehearsal =
                Rehearsal { scenario: &scenario, first, certificate, wishes: &wishes, horizon, terms };
            let rehearsed = rehearsal.run().map_err(failed)?;
            judge.answer(&rehearsed, asked.seed, horizon)?
        }
    };
    if let Some(origin) = &setup.origin {
        answer.text = format!("judged for: {origin}\n\n{}", answer.text);
        answer.json["judged_for"] = origin.json();
    }
    Ok(answer)
}

/// What a change while serving is not defined for.
fn check_changeable(fleet: &Fleet) -> Result<(), CliError> {
    if INSERTING.contains(&fleet.policy()) {
        let problem = "inserts idle time, and is certified for the releases of one set from its start on, so that --changes \
                       are refused";
        return Err(fleet.complain_policy(problem, POLICIES.join(", ")).into());
    }
    let Some(position) = fleet.tasks().iter().position(|task| !task.excludes.is_empty()) else {
        return Ok(());
    };
    // A checked fleet has far fewer tasks than u16 numbers.
    let id = TaskId::new(position as u16);
    let problem = "what waiting costs depends on every excluded task, so that --changes are refused";
    Err(fleet.complain(id, "exclude", problem, "tasks without `exclude`").into())
}

/// The fleet is refused before any change.
fn refused(report: &AdmissionReport, set: &TaskSet) -> Result<Answer, CliError> {
    let text = format!(
        "{}the fleet is refused before its first change; its budgets are those that hold beside every task to come\n",
        verdict::text(report, set)?
    );
    Ok(Answer { text, json: verdict::json(report, set)?, exit: Exit::Refused })
}

/// Answers in words, and for programs.
struct Judge<'a> {
    setup: &'a Setup,
}

impl Judge<'_> {
    fn report(&self, set: &TaskSet) -> AdmissionReport {
        let controller: AdmissionController = self.setup.controller();
        controller.analyze(&AdmissionRequest::new(set).tight())
    }

    /// The first group that exceeds its budget of utilisation, in words. Charges that leave the range of time are refused
    /// where the set is certified.
    fn too_heavy(&self, set: &TaskSet) -> Option<String> {
        let groups = uses(self.setup.system.fleet(), set, None).ok()?;
        let excesses = groups.iter().flat_map(|group| self.setup.system.excesses(group, set, None, &[]));
        excesses.map(|excess| excess.to_string()).next()
    }

    /// What came of each group, whatever it consisted of at the time.
    fn groups<'f>(&'f self, found: &Rehearsed) -> Vec<(&'f GroupConfig, observed::Served)> {
        let fleet = self.setup.system.fleet();
        let mut sums = vec![observed::Served::default(); fleet.groups().len()];
        for one in &found.tasks {
            let group = fleet.task(&one.name).and_then(|(_, config)| fleet.group_of(config));
            if let Some(sum) = group.and_then(|group| sums.get_mut(group)) {
                *sum = sum.and(observed::Served {
                    jobs: one.jobs.saturating_sub(one.stopped) + one.refused,
                    missed: one.missed,
                    lost: one.lost,
                    refused: one.refused,
                });
            }
        }
        fleet.groups().iter().zip(sums).collect()
    }

    fn answer(&self, found: &Rehearsed, seed: u64, horizon: Nanos) -> Result<Answer, CliError> {
        let mut text = format!(
            "one run of {} in virtual time, seed {seed}, {}\n",
            span(horizon),
            figures::counted(found.told.len() as u64, "change")
        );
        let mut changes = Vec::new();
        for (index, told) in found.told.iter().enumerate() {
            text.push_str(&self.told(index + 1, told)?);
            changes.push(self.told_json(told)?);
        }
        text.push_str(&served(found));
        let groups = self.groups(found);
        text.push_str(&groups::served_text(&groups));
        for sentence in groups::broken(&groups) {
            text.push_str(&format!("{}\n", summary::folded(&sentence)));
        }
        let notes = self.notes();
        notes.iter().for_each(|note| text.push_str(&format!("note: {note}\n")));
        let sum = |of: fn(&Served) -> u64| found.tasks.iter().map(of).sum::<u64>();
        let violations = found.violations.len() as u64 + found.more;
        let task = |one: &Served| {
            json!({
                "task": one.name, "jobs": one.jobs, "missed": one.missed, "beyond_bound": one.beyond,
                "longest_response_ns": one.longest.get(), "bound_ns": one.bound.get(),
            })
        };
        let exit = exit(found);
        let said = |exit: Exit| found.told.iter().filter(|told| reply(told).1 == exit).count();
        let json = json!({
            "seed": seed, "horizon_ns": horizon.get(), "changes": changes,
            "accepted": said(Exit::Done), "refused": said(Exit::Refused), "undecided": said(Exit::Undecided),
            "jobs": sum(|one| one.jobs), "missed": sum(|one| one.missed), "beyond_bounds": sum(|one| one.beyond),
            "tasks": found.tasks.iter().map(task).collect::<Vec<_>>(),
            "groups": groups::served_json(&groups),
            "notes": notes,
            "violations": violations,
            "found": found.violations.iter().map(ToString::to_string).collect::<Vec<_>>(),
        });
        Ok(Answer { text, json, exit })
    }

    /// Budgets that nobody has measured beside all that may come.
    fn notes(&self) -> Vec<String> {
        let note = |gap: &crate::config::ContextGap| {
            let (task, unmet) = (verdict::name(gap.task, &self.setup.prepared.set), gap.unmet.join(", "));
            format!("the budget of `{task}` was not measured beside {unmet}")
        };
        self.setup.prepared.gaps.iter().map(note).collect()
    }

    fn told(&self, number: usize, told: &Told) -> Result<String, CliError> {
        let mut text = format!("\nchange {number} at {}: {}\n", moment(told.wish.at), wished(told));
        if moment(told.asked) != moment(told.wish.at) {
            text.push_str(&format!("  answered at {}\n", moment(told.asked)));
        }
        let made = told.made.map_or_else(
            || "not made until the end of the run: a longer --horizon may show when".to_owned(),
            |at| format!("in effect from {}", moment(at)),
        );
        match &told.reply {
            Reply::AtOnce => text.push_str(&format!("  at once: {made}{}\n", charged(told))),
            Reply::AtIdle { because } => {
                text.push_str(&format!("  at idle, when no lane has a job: {made}; not at once, because\n"));
                for obstacle in because {
                    text.push_str(&indented(&self.obstacle(obstacle, told)?));
                }
            }
            Reply::Refused => {
                let report = self.report(&told.after);
                if let Some(refusal) = report.refusal() {
                    text.push_str(&indented(&verdict::refused(refusal, &told.after)));
                }
                text.push_str("  what was served is served on\n");
            }
            Reply::Barred { because } => {
                text.push_str(&indented(&format!("REFUSED: {because}\nwhat was served is served on\n")));
            }
            Reply::Nothing => text.push_str("  nothing to do: a change before was refused\n"),
            Reply::NotAsked { because } => {
                text.push_str(&format!("  not asked for until the end: {because}\n"))
            }
        }
        Ok(text)
    }

    fn obstacle(&self, obstacle: &Obstacle, told: &Told) -> Result<String, CliError> {
        Ok(match obstacle {
            Obstacle::Platform => "the platforms differ\n".to_owned(),
            Obstacle::Contract { task, field } => format!("task `{task}` is not the same in `{field}`\n"),
            Obstacle::Inserts => "the policy inserts idle time\n".to_owned(),
            Obstacle::Model(error) => format!("old and new tasks together are no model: {error}\n"),
            Obstacle::Union(refusal) => {
                let union = together(told)?;
                format!("old and new tasks together do not fit: {}", verdict::refused(refusal, &union))
            }
        })
    }

    fn told_json(&self, told: &Told) -> Result<Value, CliError> {
        let (word, _) = reply(told);
        let (mut because, mut refusal) = (Vec::new(), Value::Null);
        match &told.reply {
            Reply::AtIdle { because: obstacles } => {
                for obstacle in obstacles {
                    because.push(self.obstacle(obstacle, told)?);
                }
            }
            Reply::Refused => {
                refusal = verdict::json(&self.report(&told.after), &told.after)?["refusal"].take();
            }
            Reply::Barred { because: term } => because.push(term.clone()),
            Reply::NotAsked { because: error } => because.push(error.to_string()),
            Reply::AtOnce | Reply::Nothing => {}
        }
        Ok(json!({
            "at_ns": told.wish.at.get(), "asked_ns": told.asked.get(),
            "remove": told.wish.remove, "add": told.wish.add, "reply": word,
            "because": because, "refusal": refusal,
            "made_ns": told.made.map(Time::get), "settled_ns": told.settled.map(Time::get),
        }))
    }
}

/// What is said of an answer, and what the exit code says where it is the worst.
const fn reply(told: &Told) -> (&'static str, Exit) {
    match (&told.reply, told.made) {
        (Reply::AtOnce, _) => ("at_once", Exit::Done),
        (Reply::AtIdle { .. }, Some(_)) => ("at_idle", Exit::Done),
        (Reply::AtIdle { .. }, None) => ("at_idle", Exit::Undecided),
        (Reply::Refused | Reply::Barred { .. }, _) => ("refused", Exit::Refused),
        (Reply::Nothing, _) => ("nothing", Exit::Done),
        (Reply::NotAsked { .. }, _) => ("not_asked", Exit::Undecided),
    }
}

/// A violation before a refusal before what was left open.
fn exit(found: &Rehearsed) -> Exit {
    let any = |exit: Exit| found.told.iter().any(|told| reply(told).1 == exit);
    let wrong = |one: &Served| one.missed > 0 || one.beyond > 0;
    if !found.violations.is_empty() || found.tasks.iter().any(wrong) {
        Exit::Violated
    } else if any(Exit::Refused) {
        Exit::Refused
    } else if any(Exit::Undecided) {
        Exit::Undecided
    } else {
        Exit::Done
    }
}

/// Old and new tasks as one set, numbered as [`aegis_sched::mode`] numbers them.
fn together(told: &Told) -> Result<TaskSet, ModelError> {
    let known = |task: &&Task| told.before.tasks().iter().all(|old| old.name != task.name);
    let both = told.before.tasks().iter().chain(told.after.tasks().iter().filter(known));
    let tasks = (0u16..).map(TaskId::new).zip(both).map(|(id, task)| Task { id, ..task.clone() }).collect();
    TaskSet::new(tasks, told.before.platform().clone())
}

fn wished(told: &Told) -> String {
    let quoted =
        |names: &[String]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let parts = [("remove", &told.wish.remove), ("add", &told.wish.add)];
    let parts = parts.iter().filter(|(_, names)| !names.is_empty());
    parts.map(|(word, names)| format!("{word} {}", quoted(names))).collect::<Vec<_>>().join("; ")
}

/// Until when a removed task is charged.
fn charged(told: &Told) -> String {
    let until = told.settled.map_or_else(|| "the end of the run".to_owned(), moment);
    if told.wish.remove.is_empty() { String::new() } else { format!("; what goes is charged until {until}") }
}

/// That nothing which ran was disturbed, or what was.
fn served(found: &Rehearsed) -> String {
    let mut grid = Grid::new(1, &["task", "jobs", "longest response", "bound then", "missed", "beyond"]);
    for one in &found.tasks {
        let seen = |value: Nanos| figures::maybe((one.jobs > 0).then_some(value));
        grid.row([
            one.name.clone(),
            one.jobs.to_string(),
            seen(one.longest),
            seen(one.bound),
            one.missed.to_string(),
            one.beyond.to_string(),
        ]);
    }
    let sum = |of: fn(&Served) -> u64| found.tasks.iter().map(of).sum::<u64>();
    let violations = found.violations.len() as u64 + found.more;
    let (jobs, missed, beyond) = (sum(|one| one.jobs), sum(|one| one.missed), sum(|one| one.beyond));
    let mut text = format!(
        "\n{}\n{}: {missed} missed, {beyond} beyond their bounds; {violations} violations by the checks, the replay among \
         them\n",
        grid.text().trim_end(),
        figures::counted(jobs, "job"),
    );
    for violation in found.violations.iter().take(SHOWN) {
        text.push_str(&format!("VIOLATION {}\n", figures::plain(&violation.to_string())));
    }
    text
}

/// An instant from the start of the run.
fn moment(at: Time) -> String {
    span(at.since(Time::ZERO))
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}
