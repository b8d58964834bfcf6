//! `aegis admit`: whether a fleet fits, in time and in memory, and if not, why and what would.

use std::path::PathBuf;

use aegis_types::Nanos;
use clap::Args;
use serde_json::json;

use super::answer::{Answer, CliError, Exit};
use super::profile::percent;
use super::setup::{FleetArgs, Setup};
use super::{Environment, figures, fit, verdict};
use crate::config::Fleet;

/// Say whether a fleet fits.
#[derive(Debug, Args)]
pub struct Admit {
    #[command(flatten)]
    fleet: FleetArgs,
    /// Ask as if the tasks of this file came too.
    #[arg(long, value_name = "FILE")]
    what_if: Option<PathBuf>,
    /// Find the shortest periods, in steps of this span, at which the fleet is certified.
    #[arg(long, value_name = "SPAN")]
    fit: Option<Nanos>,
    /// How much longer than the shortest the periods are made that are not natural: room for overruns.
    #[arg(long, value_name = "PERCENT", requires = "fit", default_value = "0%", value_parser = percent)]
    slack: u64,
    /// Write the fleet with the periods that were found.
    #[arg(long, value_name = "FILE", requires = "fit")]
    write: Option<PathBuf>,
    /// Show what the bound of this task is made of.
    #[arg(long, value_name = "TASK")]
    explain: Option<String>,
}

impl Admit {
    pub(super) fn perform(&self, environment: &Environment) -> Result<Answer, CliError> {
        let mut fleet = Fleet::read(&self.fleet.fleet)?;
        let own = fleet.tasks().len();
        if let Some(path) = &self.what_if {
            fleet = fleet.with_tasks_of(path)?;
        }
        if let Some(task) = self.explain.as_ref().filter(|task| fleet.task(task).is_none()) {
            let names: Vec<&str> = fleet.tasks().iter().map(|task| task.name.as_str()).collect();
            return Err(CliError::Input(format!("--explain: no task `{task}`; legal: {}", names.join(", "))));
        }
        if let Some(granularity) = self.fit {
            let wish = fit::Wish { granularity, slack_ppm: self.slack };
            return fit::fit(&self.fleet, fleet, wish, self.write.as_deref(), environment);
        }
        let added: Vec<String> = fleet.tasks()[own..].iter().map(|task| format!("`{}`", task.name)).collect();
        let setup = Setup::open(&self.fleet, fleet, environment)?;
        let mut answer = self.judge(&setup)?;
        if !added.is_empty() {
            answer.text = format!("What if {} came too?\n\n{}", added.join(", "), answer.text);
        }
        Ok(answer)
    }

    fn judge(&self, setup: &Setup) -> Result<Answer, CliError> {
        let set = &setup.prepared.set;
        let report = setup.analyze();
        let mut json = verdict::json(&report, set)?;
        let planned = setup.plan(&report);
        let mut text = match &planned {
            Err(CliError::Refused(_)) => verdict::text_in_time(&report, set)?,
            _ => verdict::text(&report, set)?,
        };
        for gap in &setup.prepared.gaps {
            let (task, unmet) = (verdict::name(gap.task, set), gap.unmet.join(", "));
            text.push_str(&format!("note: the budget of `{task}` was not measured beside {unmet}\n"));
        }
        if let Some(name) = &self.explain
            && let Some((id, _)) = setup.system.fleet().task(name)
            && let Some(task) = report.tasks.get(id.index())
        {
            text.push_str(&format!("\n{}", verdict::terms(task, set)));
        }
        let mut exit = if report.is_admitted() { Exit::Done } else { Exit::Refused };
        match planned {
            Ok(plan) => {
                let capacity = plan.parts().capacity;
                let (peak, capacity) = (figures::size(plan.peak()), figures::size(capacity));
                text.push_str(&format!("memory: {peak} of {capacity}\n"));
                json["memory"] = json!({ "fits": true, "peak_bytes": plan.peak().get() });
            }
            Err(CliError::Refused(reason)) => {
                text.push_str(&format!("REFUSED: {reason}\n"));
                json["memory"] = json!({ "fits": false, "reason": reason });
                json["admitted"] = json!(false);
                exit = Exit::Refused;
            }
            // A verdict in time stands whatever else is wrong.
            Err(error) if exit == Exit::Refused => {
                text.push_str(&format!("memory: not planned: {error}\n"));
                json["memory"] = json!({ "fits": null, "reason": error.to_string() });
            }
            Err(error) => return Err(error),
        }
        Ok(Answer { text, json, exit })
    }
}
