//! `aegis admit --fit`: the shortest periods at which a fleet is certified, natural ones where possible.

use std::path::Path;

use aegis_sched::admission::fit_periods;
use aegis_sched::{AdmissionReport, AdmissionRequest, TaskSet};
use aegis_types::{LaneId, Nanos};
use serde_json::json;

use super::answer::{Answer, CliError, Exit};
use super::groups::JudgedGroups;
use super::setup::{FleetArgs, Setup, choose_lanes};
use super::table::Grid;
use super::{Environment, chains, figures, target, verdict};
use crate::config::{Fleet, Prepared};

/// How often lanes are chosen again for periods that were just found. Where deadlines move, another assignment may be
/// chosen for them; it has to be one that is certified, because the written fleet leaves the choice open too.
const ROUNDS: usize = 4;

/// What periods are wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    /// They are rounded up to multiples of this above the natural ones.
    pub granularity: Nanos,
    /// How much longer than the shortest those are made that are not natural.
    pub slack_ppm: u64,
}

impl Wish {
    /// A fitted period with its slack. `None` on overflow.
    fn stretch(&self, natural: Nanos, fitted: Nanos) -> Option<Nanos> {
        if fitted <= natural {
            return Some(fitted);
        }
        let wanted = fitted.scale_ppm_up(1_000_000u64.checked_add(self.slack_ppm)?)?;
        let steps = wanted.checked_sub(natural)?.get().div_ceil(self.granularity.get());
        natural.checked_add(self.granularity.checked_mul(steps)?)
    }
}

/// A fleet with the periods that were found for it.
struct Fitted {
    fleet: Fleet,
    prepared: Prepared,
    report: AdmissionReport,
}

/// Fits the periods of `fleet` and writes the result to `write`.
///
/// # Errors
/// What is wrong in the files; that the result cannot be written.
pub(super) fn fit(
    args: &FleetArgs,
    fleet: Fleet,
    wish: Wish,
    write: Option<&Path>,
    environment: &Environment,
) -> Result<Answer, CliError> {
    if wish.granularity.is_zero() || wish.granularity > Fleet::SPAN_MAX {
        return Err(CliError::Input(format!(
            "--fit: periods are rounded up to steps of {}; legal: a span above zero, at most {}",
            wish.granularity,
            Fleet::SPAN_MAX
        )));
    }
    if let Some(path) = write {
        let mut inputs = target::files_of(&fleet);
        // The fleet itself may be brought up to date in place.
        inputs.retain(|input| input != fleet.path());
        inputs.extend([args.platform_path(), args.profile_path()]);
        target::check("--write", path, &inputs)?;
    }
    let naturals: Vec<Nanos> =
        fleet.tasks().iter().map(|task| task.natural_period.unwrap_or(task.period)).collect();
    let setup = Setup::judge(args, fleet.stretched(&naturals), environment)?;
    let Some(fitted) = search(&setup, wish)? else {
        let refusal = setup.analyze();
        let set = &setup.prepared.set;
        let text = format!("{}no periods were found that fit\n", verdict::text(&refusal, set)?);
        return Ok(Answer { text, json: verdict::json(&refusal, set)?, exit: Exit::Refused });
    };
    let plan = setup.plan(&fitted.report)?;
    if let Some(path) = write {
        target::write(path, written(&fitted.fleet, path))?;
    }
    let mut answer = answer(&fitted, &naturals)?;
    judge_chains(&mut answer, &fitted);
    judge_groups(&mut answer, &setup, &fitted)?;
    answer.json["memory"] = json!({ "fits": true, "peak_bytes": plan.peak().get() });
    if let Some(path) = write {
        answer.text.push_str(&format!("wrote {}\n", path.display()));
    }
    if let Some(origin) = &setup.origin {
        answer.text = format!("judged for: {origin}\n\n{}", answer.text);
        answer.json["judged_for"] = origin.json();
    }
    Ok(answer)
}

/// Longer periods make older data: the fleet that is written may break what the one that was read kept.
fn judge_chains(answer: &mut Answer, fitted: &Fitted) {
    let set = &fitted.prepared.set;
    let judged = fitted.report.certificate().map(|known| chains::judge(&fitted.fleet, set, known));
    for chain in judged.iter().flatten() {
        answer.text.push_str(&format!("\n{}", chain.text()));
        for refusal in chain.refusals() {
            answer.text.push_str(&format!("REFUSED: {refusal}\n"));
            answer.exit = Exit::Refused;
        }
    }
    answer.json["chains"] = judged.iter().flatten().map(chains::JudgedChain::json).collect();
}

/// The shortest periods at which the fleet is certified may be shorter than a group's budget lets them be.
fn judge_groups(answer: &mut Answer, setup: &Setup, fitted: &Fitted) -> Result<(), CliError> {
    let groups = JudgedGroups::as_if(setup, &fitted.prepared.set, &fitted.fleet, &fitted.report)?;
    answer.text.push_str(&groups.table());
    answer.text.push_str(&groups.refusals());
    answer.json["groups"] = groups.json();
    if !groups.fit() {
        answer.exit = Exit::Refused;
    }
    Ok(())
}

fn search(setup: &Setup, wish: Wish) -> Result<Option<Fitted>, CliError> {
    let system = &setup.system;
    let natural = system.fleet();
    let mut lanes: Vec<LaneId> = system.lanes().to_vec();
    for _ in 0..ROUNDS {
        let start = setup.prepare_as(natural, &lanes)?;
        let Some(periods) = fit_periods(&start.set, system.policy().as_ref(), wish.granularity) else {
            return Ok(None);
        };
        let naturals = natural.tasks().iter().map(|task| task.period);
        let stretched = naturals.zip(periods).map(|(natural, fitted)| wish.stretch(natural, fitted));
        let Some(periods) = stretched.collect::<Option<Vec<Nanos>>>() else { return Ok(None) };
        // A fleet with a longer period could not be read back.
        if periods.iter().any(|period| *period > Fleet::SPAN_MAX) {
            return Ok(None);
        }
        let fleet = natural.stretched(&periods);
        let mut prepared = setup.prepare_as(&fleet, &lanes)?;
        // What a later `admit` of the written fleet will choose.
        if let Some(again) = choose_lanes(&fleet, &prepared.set, system)? {
            lanes = again;
            prepared = setup.prepare_as(&fleet, &lanes)?;
        }
        let report = setup.controller().analyze(&AdmissionRequest::new(&prepared.set).tight());
        if report.is_admitted() {
            return Ok(Some(Fitted { fleet, prepared, report }));
        }
    }
    Ok(None)
}

fn answer(fitted: &Fitted, naturals: &[Nanos]) -> Result<Answer, CliError> {
    let set: &TaskSet = &fitted.prepared.set;
    let mut grid = Grid::new(2, &["task", "lane", "period"]);
    let mut stretched = 0;
    for (task, natural) in set.tasks().iter().zip(naturals) {
        let period = if task.period > *natural {
            stretched += 1;
            format!("{} -> {} (stretched)", figures::span(*natural), figures::span(task.period))
        } else {
            figures::span(task.period)
        };
        grid.row([task.name.clone(), task.lane.to_string(), period]);
    }
    let text = format!(
        "{}\n{stretched} of {} periods are longer than natural\n\n{}",
        grid.text(),
        set.tasks().len(),
        verdict::text(&fitted.report, set)?
    );
    let mut json = verdict::json(&fitted.report, set)?;
    json["natural_periods_ns"] = json!(naturals.iter().map(|span| span.get()).collect::<Vec<_>>());
    Ok(Answer::done(text, json))
}

/// The fleet as text for a file at `path`. Files are named relative to the fleet's own folder, so a file elsewhere
/// gets them resolved.
pub(super) fn written(fleet: &Fleet, path: &Path) -> String {
    let folder = |path: &Path| path.parent().unwrap_or(Path::new("")).to_path_buf();
    if folder(path) == folder(fleet.path()) { fleet.to_toml() } else { absolute(fleet) }
}

fn absolute(fleet: &Fleet) -> String {
    let text = fleet.to_toml();
    let Ok(mut table) = text.parse::<toml::Table>() else { return text };
    let folder = fleet.path().parent().unwrap_or(Path::new("")).to_path_buf();
    let resolve = |value: &mut toml::Value| {
        if let Some(file) = value.as_str() {
            let joined = folder.join(file);
            let whole = std::path::absolute(&joined).unwrap_or(joined);
            *value = toml::Value::String(whole.to_string_lossy().into_owned());
        }
    };
    for task in table.get_mut("task").and_then(toml::Value::as_array_mut).into_iter().flatten() {
        if let Some(model) = task.get_mut("model") {
            resolve(model);
        }
        if let Some(file) = task.get_mut("inputs").and_then(|inputs| inputs.get_mut("file")) {
            resolve(file);
        }
    }
    table.to_string()
}
