//! Groups of tasks in words and for programs: what each asks for beside its budgets, and what came of its agreement.

use aegis_sched::{AdmissionReport, ModelError, TaskSet};
use aegis_types::Bytes;
use serde_json::{Value, json};

use super::answer::CliError;
use super::figures::{factor, margin, percent, size};
use super::setup::Setup;
use super::table::Grid;
use crate::config::{Fleet, GroupConfig, Share};
use crate::groups::observed::{Agreement, Served};
use crate::groups::{Asked, Excess, GroupUse, uses};

/// What the groups of a fleet ask for, and which budgets of theirs that exceeds.
pub struct JudgedGroups<'a> {
    uses: Vec<GroupUse<'a>>,
    excesses: Vec<Excess>,
}

impl<'a> JudgedGroups<'a> {
    /// Judges every group. Where what a task needs of the memory cannot be known, memory is not judged: why it cannot is
    /// said where the fleet is planned.
    ///
    /// # Errors
    /// As [`uses`].
    pub fn of(setup: &'a Setup, report: &AdmissionReport) -> Result<Self, ModelError> {
        Self::as_if(setup, &setup.prepared.set, setup.system.fleet(), report)
    }

    /// As [`JudgedGroups::of`], with other periods: those of `set` and `fleet`.
    ///
    /// # Errors
    /// As [`uses`].
    pub fn as_if(
        setup: &Setup,
        set: &TaskSet,
        fleet: &'a Fleet,
        report: &AdmissionReport,
    ) -> Result<Self, ModelError> {
        let (profile, slots) = (setup.profile.as_ref(), setup.slots(report));
        let uses = match setup.system.needs(profile, &slots) {
            Ok(needs) => uses(fleet, set, Some(&needs))?,
            Err(_) => uses(fleet, set, None)?,
        };
        let excesses =
            uses.iter().flat_map(|group| setup.system.excesses(group, set, profile, &slots)).collect();
        Ok(Self { uses, excesses })
    }

    /// Whether no budget is exceeded.
    pub fn fit(&self) -> bool {
        self.excesses.is_empty()
    }

    /// The first budget of memory that is exceeded, as a refusal: what a plan cannot show.
    ///
    /// # Errors
    /// [`CliError::Refused`].
    pub fn check_memory(&self) -> Result<(), CliError> {
        let memory = |excess: &&Excess| matches!(excess.asked, Asked::Memory { .. });
        refused(self.excesses.iter().find(memory))
    }

    /// The first budget of utilisation that is exceeded, as a refusal: where memory is not planned.
    ///
    /// # Errors
    /// [`CliError::Refused`].
    pub fn check_utilisation(&self) -> Result<(), CliError> {
        let time = |excess: &&Excess| matches!(excess.asked, Asked::Utilisation { .. });
        refused(self.excesses.iter().find(time))
    }

    /// The first budget that is exceeded, as a refusal.
    ///
    /// # Errors
    /// [`CliError::Refused`].
    pub fn check(&self) -> Result<(), CliError> {
        refused(self.excesses.first())
    }

    /// The table of groups after an empty line; nothing without groups.
    pub fn table(&self) -> String {
        if self.uses.is_empty() {
            return String::new();
        }
        let header = ["group", "tasks", "memory", "of at most", "utilisation", "of at most", "misses agreed"];
        let mut grid = Grid::new(1, &header);
        for group in &self.uses {
            let config = group.config;
            let maybe = |size: Option<String>| size.unwrap_or_else(|| "-".to_owned());
            grid.row([
                config.name.clone(),
                group.tasks.len().to_string(),
                maybe(group.memory.map(size)),
                maybe(config.memory.map(size)),
                factor(group.load.ppm()),
                maybe(config.utilisation.map(|share| factor(share.ppm()))),
                maybe(config.miss_rate.map(|share| margin(share.ppm()))),
            ]);
        }
        format!("\n{}", grid.text())
    }

    /// What is exceeded, a line each.
    pub fn refusals(&self) -> String {
        self.excesses.iter().map(|excess| format!("REFUSED: {excess}\n")).collect()
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let ppm = |share: Option<Share>| share.map(Share::ppm);
        let one = |group: &GroupUse<'_>| {
            let config = group.config;
            let of = |excess: &&Excess| excess.group == config.name;
            let refusals: Vec<String> = self.excesses.iter().filter(of).map(ToString::to_string).collect();
            json!({
                "group": config.name, "tasks": group.tasks.iter().map(|task| task.get()).collect::<Vec<_>>(),
                "memory_bytes": group.memory.map(Bytes::get), "memory_budget_bytes": config.memory.map(Bytes::get),
                "utilisation_ppm": group.load.ppm(), "utilisation_budget_ppm": ppm(config.utilisation),
                "miss_rate_agreed_ppm": ppm(config.miss_rate), "fits": group.fits(), "refusals": refusals,
            })
        };
        self.uses.iter().map(one).collect()
    }
}

fn refused(excess: Option<&Excess>) -> Result<(), CliError> {
    excess.map_or(Ok(()), |excess| Err(CliError::Refused(excess.to_string())))
}

/// What came of each group while it was served, after an empty line; nothing without groups.
pub fn served_text(groups: &[(&GroupConfig, Served)]) -> String {
    if groups.is_empty() {
        return String::new();
    }
    let header = ["group", "jobs", "miss", "lost", "refused", "not served", "agreed", ""];
    let mut grid = Grid::new(1, &header);
    for (config, served) in groups {
        let count = |count: u64| count.to_string();
        grid.row([
            config.name.clone(),
            count(served.jobs),
            count(served.missed),
            count(served.lost),
            count(served.refused),
            percent(served.unserved(), served.jobs),
            config.miss_rate.map_or_else(|| "-".to_owned(), |share| margin(share.ppm())),
            said(served.keeps(config.miss_rate)).to_owned(),
        ]);
    }
    format!("\n{}", grid.text())
}

const fn said(agreement: Agreement) -> &'static str {
    match agreement {
        Agreement::None => "-",
        Agreement::Kept => "kept",
        Agreement::Broken => "BROKEN",
    }
}

/// Agreements that were broken, a sentence each.
pub fn broken(groups: &[(&GroupConfig, Served)]) -> Vec<String> {
    let broken = groups.iter().filter(|(config, served)| served.keeps(config.miss_rate) == Agreement::Broken);
    let sentence = |(config, served): &(&GroupConfig, Served)| {
        format!(
            "group `{}`: agreement broken: {} of {} jobs were not served in time ({} late, {} lost, {} refused), {} \
             was agreed",
            config.name,
            served.unserved(),
            served.jobs,
            served.missed,
            served.lost,
            served.refused,
            config.miss_rate.map_or_else(String::new, |share| margin(share.ppm()))
        )
    };
    broken.map(sentence).collect()
}

/// What came of each group, for programs.
pub fn served_json(groups: &[(&GroupConfig, Served)]) -> Value {
    let one = |(config, served): &(&GroupConfig, Served)| {
        let kept = match served.keeps(config.miss_rate) {
            Agreement::None => None,
            Agreement::Kept => Some(true),
            Agreement::Broken => Some(false),
        };
        json!({
            "group": config.name, "jobs": served.jobs, "missed": served.missed, "lost": served.lost,
            "refused": served.refused, "unserved": served.unserved(),
            "miss_rate_agreed_ppm": config.miss_rate.map(Share::ppm), "kept": kept,
        })
    };
    groups.iter().map(one).collect()
}
