//! A run read back from its trace: records, task set, and the certificate that was served under.
//!
//! A certificate is never stored, because only the referee makes one. It is made again from the task set that the
//! trace holds, by the same deterministic analysis, and compared with the bounds that the trace recorded.

use std::path::{Path, PathBuf};

use aegis_sched::{
    AdmissionController, AdmissionReport, AdmissionRequest, Certificate, SchedulingPolicy, TaskSet, policy,
};
use aegis_trace::Trace;
use aegis_types::records::TaskAdmitted;
use serde_json::{Value, json};

use super::answer::CliError;
use super::verdict;

/// A run as its trace tells it.
pub struct StoredRun {
    /// The file.
    pub path: PathBuf,
    /// Its records.
    pub trace: Trace,
    /// The tasks.
    pub set: TaskSet,
    /// The certificate, made again.
    pub certificate: Certificate,
    /// The name of the policy.
    pub policy: String,
}

impl StoredRun {
    /// Reads the trace of a run.
    ///
    /// # Errors
    /// That the file is no trace; that it was cut before its head was complete; that its policy is not known here.
    pub fn open(path: &Path) -> Result<Self, CliError> {
        let trace = Trace::open(path)?;
        let blob = |name: &str| trace.blob(name).ok_or_else(|| missing(path, &trace, name));
        let set: TaskSet = serde_json::from_slice(blob("taskset")?).map_err(|error| {
            CliError::Input(format!("{}: the task set in the trace cannot be read: {error}", path.display()))
        })?;
        let policy = String::from_utf8_lossy(blob("policy")?).into_owned();
        let report = analyze(&set, by_name(&policy)?);
        let certificate = match (report.certificate(), report.refusal()) {
            (Some(certificate), _) => certificate.clone(),
            (None, refusal) => {
                let reason = refusal.map_or_else(String::new, |refusal| verdict::refused(refusal, &set));
                return Err(CliError::Input(format!(
                    "{}: this build does not certify the task set of the trace, so that nothing can be compared with \
                     it: {}",
                    path.display(),
                    reason.trim_end()
                )));
            }
        };
        Ok(Self { path: path.into(), trace, set, certificate, policy })
    }

    /// What does not fit or is missing, in words.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = damages(&self.trace);
        for (_, admitted) in self.trace.all::<TaskAdmitted>() {
            let again =
                self.certificate.task(admitted.task).map(|(lane, position)| lane.tasks()[position].wcrt);
            if again != Some(admitted.wcrt) {
                notes.push(format!(
                    "`{}` was certified with a WCRT of {}, this build says {}: bounds below are this build's",
                    verdict::name(admitted.task, &self.set),
                    super::figures::span(admitted.wcrt),
                    super::figures::maybe(again)
                ));
            }
        }
        notes
    }

    /// Whether the file was cut or damaged.
    pub fn is_damaged(&self) -> bool {
        self.trace.damage().is_some()
    }
}

/// The policy of that name.
///
/// # Errors
/// The names that are legal.
pub fn by_name(name: &str) -> Result<Box<dyn SchedulingPolicy>, CliError> {
    policy::by_name(name)
        .ok_or_else(|| CliError::Input(format!("no policy `{name}` here; legal: {}", policy::legal_names())))
}

/// The verdict on a task set under a policy.
pub fn analyze(set: &TaskSet, policy: Box<dyn SchedulingPolicy>) -> AdmissionReport {
    AdmissionController::new(policy).analyze(&AdmissionRequest::new(set).tight())
}

/// Damages and gaps of a trace in words.
pub fn damages(trace: &Trace) -> Vec<String> {
    let damages = trace.damages().iter().map(|damage| format!("the trace is damaged {damage}"));
    let gap = |gap: &aegis_trace::Gap| {
        format!("{} records of `{}` were lost", gap.lost, trace.producer_name(gap.producer))
    };
    damages.chain(trace.gaps().iter().map(gap)).collect()
}

/// Damages and gaps of a trace for programs.
pub fn damages_json(trace: &Trace) -> Value {
    let damage = |damage: &aegis_trace::Damage| json!({ "offset": damage.offset, "what": damage.what.to_string(), "recovered": damage.recovered_records });
    let gap =
        |gap: &aegis_trace::Gap| json!({ "producer": trace.producer_name(gap.producer), "lost": gap.lost });
    json!({
        "damages": trace.damages().iter().map(damage).collect::<Vec<_>>(),
        "gaps": trace.gaps().iter().map(gap).collect::<Vec<_>>(),
    })
}

fn missing(path: &Path, trace: &Trace, blob: &str) -> CliError {
    let why = match trace.damage() {
        Some(damage) => format!("it is damaged {damage}"),
        None => "it was not written by `aegis run`".to_owned(),
    };
    CliError::Input(format!(
        "{}: the trace has no blob `{blob}`: {why}; legal: the trace of a run with its head complete",
        path.display()
    ))
}
