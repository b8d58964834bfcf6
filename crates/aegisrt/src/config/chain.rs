//! Cause-effect chains of a fleet: which tasks hand data on, in which order, and how late or old it may be.

use std::collections::{BTreeMap, BTreeSet};

use aegis_sched::Arrival;
use aegis_sched::chain::Step;
use aegis_types::{Nanos, TaskId};

use super::check::Table;
use super::error::ConfigError;
use super::file::ChainFile;
use super::fleet::{Fleet, TaskConfig};
use super::source::key;

/// Jobs in a row that may be lost: more would be a task that does not run.
const SKIPS_MAX: i64 = 1_000;
/// Chains of a fleet: far more than anyone reads.
const CHAINS_MAX: usize = 1_000;

/// A chain of tasks, from the one that reads the input to the one that writes the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainConfig {
    /// Its name, unique among the chains.
    pub name: String,
    /// Its tasks, in order, each once; at least one. How many jobs in a row may be lost, and the longest time between
    /// arrivals where clients release the task.
    pub steps: Vec<Step>,
    /// Longest reaction time that is accepted; `None` for any.
    pub reaction: Option<Nanos>,
    /// Oldest data that are accepted when the last job ends; `None` for any.
    pub age: Option<Nanos>,
}

/// Checks the chains of a fleet whose tasks were checked.
pub(super) fn check(written: Vec<ChainFile>, fleet: &Fleet) -> Result<Vec<ChainConfig>, ConfigError> {
    let source = &fleet.sources[0];
    if written.len() > CHAINS_MAX {
        let legal = format!("at most {CHAINS_MAX} tables [[chain]]");
        return Err(source.complain(&key!["chain"], format!("{} chains", written.len()), legal));
    }
    let mut names = BTreeSet::new();
    let mut checked = Vec::with_capacity(written.len());
    for (index, chain) in written.into_iter().enumerate() {
        let table = Table::new(source, &key!["chain", index]);
        let name = table.name(&chain.name)?;
        if !names.insert(name.clone()) {
            let legal = "a name that no other chain has";
            return Err(table.bad(&key!["name"], "another chain has this name", legal));
        }
        let (reaction, age) = (limit(chain.reaction, "reaction", &table)?, limit(chain.age, "age", &table)?);
        checked.push(ChainConfig { name, steps: steps(&chain, fleet, &table)?, reaction, age });
    }
    Ok(checked)
}

fn limit(written: Option<Nanos>, name: &str, table: &Table<'_>) -> Result<Option<Nanos>, ConfigError> {
    match written {
        Some(span) if span.is_zero() || span > Fleet::SPAN_MAX => {
            let legal = format!("a span above zero, at most {}", Fleet::SPAN_MAX);
            Err(table.bad(&key![name], "no limit that can be kept or broken", legal))
        }
        written => Ok(written),
    }
}

fn steps(chain: &ChainFile, fleet: &Fleet, table: &Table<'_>) -> Result<Vec<Step>, ConfigError> {
    let known = |name: &String| fleet.task(name).map(|(id, task)| (id, task.clone()));
    if chain.tasks.is_empty() {
        let legal = "an array of at least one task's name";
        return Err(table.bad(&key!["tasks"], "no task at all", legal));
    }
    let mut found: Vec<(TaskId, TaskConfig)> = Vec::with_capacity(chain.tasks.len());
    for (position, name) in chain.tasks.iter().enumerate() {
        let Some((id, task)) = known(name) else {
            let names: Vec<&str> = fleet.tasks().iter().map(|task| task.name.as_str()).collect();
            let legal = format!("one of: {}", names.join(", "));
            return Err(table.bad(&key!["tasks", position], "no such task", legal));
        };
        if found.iter().any(|(other, _)| *other == id) {
            return Err(table.bad(
                &key!["tasks", position],
                "the task is in the chain already",
                "each task once",
            ));
        }
        found.push((id, task));
    }
    check_named(chain.skips.keys(), "skips", chain, table)?;
    check_named(chain.gaps.keys(), "gaps", chain, table)?;
    found.into_iter().map(|(id, task)| step(id, &task, chain, table)).collect()
}

/// Keys of a table by task name that name no task of the chain.
fn check_named<'a>(
    names: impl Iterator<Item = &'a String>,
    key: &str,
    chain: &ChainFile,
    table: &Table<'_>,
) -> Result<(), ConfigError> {
    for name in names {
        if !chain.tasks.contains(name) {
            let legal = format!("tasks of the chain: {}", chain.tasks.join(", "));
            return Err(table.bad(&key![key, name.as_str()], "the chain has no such task", legal));
        }
    }
    Ok(())
}

fn step(id: TaskId, task: &TaskConfig, chain: &ChainFile, table: &Table<'_>) -> Result<Step, ConfigError> {
    let name = task.name.as_str();
    let skips = match chain.skips.get(name) {
        Some(&skips) => table.number(&key!["skips", name], skips, 0, SKIPS_MAX)?,
        None => 0,
    };
    let gap = chain.gaps.get(name).copied();
    let legal = || format!("a span from {}, the task's period, to {}", task.period, Fleet::SPAN_MAX);
    match (gap, task.arrival) {
        (Some(gap), _) if gap < task.period || gap > Fleet::SPAN_MAX => {
            let problem = "no longest time between arrivals";
            Err(table.bad(&key!["gaps", name], problem, legal()))
        }
        (None, Arrival::Sporadic) => {
            let problem = "is missing: clients release the task, and nothing says how long they may wait";
            Err(table.bad(&key!["gaps", name], problem, legal()))
        }
        (gap, _) => Ok(Step { task: id, gap, skips }),
    }
}

/// The table of a chain as a fleet has it.
pub(super) fn write(chain: &ChainConfig, fleet: &Fleet) -> ChainFile {
    let name = |step: &Step| fleet.tasks()[step.task.index()].name.clone();
    let skips: BTreeMap<String, i64> = chain
        .steps
        .iter()
        .filter(|step| step.skips > 0)
        .map(|step| (name(step), i64::from(step.skips)))
        .collect();
    let gaps = chain.steps.iter().filter_map(|step| Some((name(step), step.gap?))).collect();
    ChainFile {
        name: chain.name.clone(),
        tasks: chain.steps.iter().map(name).collect(),
        reaction: chain.reaction,
        age: chain.age,
        skips,
        gaps,
    }
}

impl Fleet {
    /// Its cause-effect chains; perhaps none.
    pub fn chains(&self) -> &[ChainConfig] {
        &self.chains
    }

    /// A complaint about a key of a chain, counted from 0, with the line of the file.
    pub fn complain_chain(
        &self,
        chain: usize,
        key: &str,
        problem: impl Into<String>,
        legal: impl Into<String>,
    ) -> ConfigError {
        // Only the first source has chains; others add tasks.
        self.sources[0].complain(&key!["chain", chain, key], problem.into(), legal.into())
    }
}

/// Keeps chains legal where periods became longer: no gap between arrivals is shorter than the period.
pub(super) fn follow(chains: &mut [ChainConfig], tasks: &[TaskConfig]) {
    for step in chains.iter_mut().flat_map(|chain| &mut chain.steps) {
        let period = tasks[step.task.index()].period;
        step.gap = step.gap.map(|gap| gap.max(period));
    }
}
