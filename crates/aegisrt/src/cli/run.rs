//! `aegis run`: a fleet that is admitted, run on its device, and what came of it.

mod clients;

use std::fs::{File, TryLockError};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use aegis_sched::{Arrival, Certificate, TaskSet};
use aegis_trace::{Finished, Trace, TraceError};
use aegis_types::Nanos;
use aegis_types::records::Control;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};

use self::clients::{Crowd, Plan, Submitted};
use super::answer::{Answer, CliError, Exit};
use super::groups::JudgedGroups;
use super::outputs::{self, Compared, Found};
use super::overload::Overload;
use super::pressure::{Fullness, Held};
use super::progress::line;
use super::setup::{FleetArgs, Setup, placed};
use super::{Environment, chains, figures, groups, stored, summary, target, verdict};
use crate::carrier::ModelReport;
use crate::config::Fleet;
use crate::error::RuntimeError;
use crate::groups::observed::served;
use crate::live::Live;
use crate::machine;
use crate::plant::ControlRequest;
use crate::run::{RunOptions, RunReport, run_with};

/// How often the watcher looks for Ctrl-C. It sleeps in between: it must not disturb the lanes.
const LOOK: Duration = Duration::from_millis(50);

/// Run a fleet that is admitted.
#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    fleet: FleetArgs,
    /// How long jobs are released.
    #[arg(long, value_name = "SPAN", default_value = "10s")]
    duration: Nanos,
    /// Write the trace to this file; without it, the last records are kept in memory for the summary only.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Compare the outputs of the first jobs of each task with plain runs of its model: bit by bit, but for rounding where
    /// a GPU's are compared with the host's.
    #[arg(long)]
    check_outputs: bool,
    /// How many jobs of each task are compared.
    #[arg(long, value_name = "N", default_value_t = 16, requires = "check_outputs",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    keep_outputs: u32,
    /// Submit jobs of sporadic tasks, whose clients are otherwise programs that use the library: each the first of the
    /// inputs that the fleet gives the task.
    #[arg(long, value_enum, value_name = "PATTERN")]
    clients: Option<clients::Pattern>,
    /// Let the clients of a group's sporadic tasks submit so many jobs in every period, of which a contract lets in one;
    /// repeatable.
    #[arg(long, value_name = "GROUP=TIMES", requires = "clients")]
    overload: Vec<Overload>,
    /// Overwrite the lanes' scratch before every job.
    #[arg(long)]
    poison: bool,
    /// Ask for the system's real-time class.
    #[arg(long)]
    realtime: bool,
}

/// A run and everything that was found out about it afterwards.
struct Ended {
    report: RunReport,
    /// What clients of this command's own did; `None` where there were none.
    submitted: Option<Vec<Submitted>>,
    compared: Option<Vec<Compared>>,
    held: Held,
    /// Records of the decision ring that were lost, or why nobody can read the trace to its end.
    lost: Result<u64, CliError>,
    exit: Exit,
}

impl Run {
    pub(super) fn perform(&self, environment: &Environment) -> Result<Answer, CliError> {
        if self.duration.is_zero() || self.duration > Fleet::SPAN_MAX {
            return Err(CliError::Input(format!(
                "--duration: is {}; legal: a span above zero, at most {}",
                self.duration,
                Fleet::SPAN_MAX
            )));
        }
        let fleet = Fleet::read(&self.fleet.fleet)?;
        if let Some(path) = &self.trace {
            let mut inputs = target::files_of(&fleet);
            inputs.extend([self.fleet.platform_path(), self.fleet.profile_path()]);
            target::check("--trace", path, &inputs)?;
        }
        let asked = listen()?;
        let setup = Setup::open(&self.fleet, fleet, environment)?;
        let verdict = setup.analyze();
        let set = &setup.prepared.set;
        let Some(certificate) = verdict.certificate() else {
            let text = format!("{}nothing was run\n", verdict::text(&verdict, set)?);
            return Ok(Answer { text, json: verdict::json(&verdict, set)?, exit: Exit::Refused });
        };
        let chains = chains::judge(setup.system.fleet(), set, certificate);
        if let Some(refusal) = chains.iter().flat_map(chains::JudgedChain::refusals).next() {
            return Err(CliError::Refused(refusal));
        }
        // Said before anything is loaded, and with the names of the tasks.
        setup.plan(&verdict)?;
        JudgedGroups::of(&setup, &verdict)?.check()?;
        let clients = self.clients.map(|pattern| Plan::of(pattern, &self.overload, &setup)).transpose()?;
        if asked.load(Ordering::Acquire) {
            let text = "ended by the operator before anything was run\n".to_owned();
            return Ok(Answer { text, json: json!({ "interrupted": true }), exit: Exit::Interrupted });
        }
        let claimed = self.trace.as_deref().map(ClaimedTrace::claim).transpose()?;
        let (report, submitted) = self.serve(&setup, certificate.clone(), &asked, clients)?;
        let ended = self.judge(&setup, report, submitted)?;
        drop(claimed);
        Ok(self.answer(&setup, &ended))
    }

    /// Runs with a watcher beside it that shows live lines and hears Ctrl-C, and with clients if there are some.
    fn serve(
        &self,
        setup: &Setup,
        certificate: Certificate,
        asked: &Arc<AtomicBool>,
        clients: Option<Plan>,
    ) -> Result<(RunReport, Option<Vec<Submitted>>), CliError> {
        let (control, live) = (Arc::new(ControlRequest::default()), Arc::new(Live::default()));
        let watcher = Watcher::start(self.duration, asked, &control, &live);
        let options = RunOptions {
            duration: self.duration,
            trace: self.trace.clone(),
            keep_outputs: if self.check_outputs {
                usize::try_from(self.keep_outputs).unwrap_or(0)
            } else {
                0
            },
            poison: self.poison,
            realtime: self.realtime,
            waiting: setup.system.fleet().wait().into(),
            control,
            live,
        };
        let mut crowd = None;
        let ready = |ports| crowd = clients.map(|clients| clients.start(ports));
        let Setup { system, prepared, calibration, .. } = setup;
        let profile = setup.profile.as_ref();
        let report = run_with(system, prepared, certificate, profile, calibration, &options, ready);
        watcher.stop();
        let submitted = crowd.map(Crowd::stop);
        Ok((report.map_err(|error| placed(error, system.fleet()))?, submitted))
    }

    fn judge(
        &self,
        setup: &Setup,
        report: RunReport,
        submitted: Option<Vec<Submitted>>,
    ) -> Result<Ended, CliError> {
        // Before plain runs for comparison take memory of their own.
        let held = Held::of(&report.plan, &report.lanes, machine::resident_peak());
        let compared = match self.check_outputs {
            true => Some(outputs::compare(&setup.system, &setup.libraries, &report.lanes)?),
            false => None,
        };
        let lost = decisions_lost(&report.trace);
        let wrong = compared.iter().flatten().any(|task| matches!(task.found, Found::Wrong { .. }));
        let exit = match summary::exit(&report.tally) {
            Exit::Violated => Exit::Violated,
            _ if wrong || lost.as_ref().is_ok_and(|lost| *lost > 0) => Exit::Violated,
            _ if lost.is_err() => Exit::Fatal,
            _ if report.interrupted => Exit::Interrupted,
            exit => exit,
        };
        Ok(Ended { report, submitted, compared, held, lost, exit })
    }

    fn answer(&self, setup: &Setup, ended: &Ended) -> Answer {
        let report = &ended.report;
        let served = served(setup.system.fleet(), &report.tally);
        let mut text = summary::table(&report.tally);
        text.push_str(&groups::served_text(&served));
        text.push('\n');
        for note in self.idle(&setup.prepared.set) {
            text.push_str(&format!("{note}\n"));
        }
        if let Some(submitted) = &ended.submitted {
            text.push_str(&format!("{}\n", clients::text(submitted)));
        }
        let incidents = summary::incidents(&report.tally);
        for line in &incidents {
            text.push_str(&format!("{line}\n"));
        }
        for sentence in groups::broken(&served) {
            text.push_str(&format!("{}\n", summary::folded(&sentence)));
        }
        for failure in failures(setup, report) {
            text.push_str(&format!("{failure}\n"));
        }
        for remark in remarks(setup, report) {
            text.push_str(&summary::folded(&remark));
            text.push('\n');
        }
        for task in ended.compared.iter().flatten() {
            text.push_str(&compared_text(setup, task));
        }
        if let Ok(lost @ 1..) = ended.lost {
            text.push_str(&format!("trace: {} of the decisions lost\n", figures::counted(lost, "record")));
        }
        if report.interrupted {
            text.push_str("ended early by the operator; jobs that had not started were dropped\n");
        }
        text.push_str(&format!("{}\n", summary::folded(&summary::claim(&report.tally))));
        let thresholds = setup.system.fleet().pressure();
        let fullness = Fullness::of(&report.plan, &setup.prepared.set, &thresholds);
        text.push_str(&summary::folded(&ended.held.text()));
        text.push_str(&format!("\nmemory: pressure {}\n{}", fullness.level(), fullness.holders()));
        text.push_str(&format!("driver: {}; {} cycles\n", report.realtime, report.cycles));
        match (&ended.lost, &self.trace) {
            (Err(error), _) => {
                text.push_str(&format!("{}\n", summary::folded(&format!("TRACE CUT: {error}"))))
            }
            (_, Some(path)) => text.push_str(&format!("trace: {}\n", path.display())),
            _ => {}
        }
        Answer { text, json: self.json(setup, ended, &incidents), exit: ended.exit }
    }

    /// Tasks that could not run, because nobody asks for their jobs here.
    fn idle(&self, set: &TaskSet) -> Vec<String> {
        let told = |task: &aegis_sched::Task| {
            format!(
                "{}: sporadic, and nobody submits its jobs: a program that uses the library does, or --clients",
                task.name
            )
        };
        let sporadic = set.tasks().iter().filter(|task| task.arrival == Arrival::Sporadic);
        sporadic.filter(|_| self.clients.is_none()).map(told).collect()
    }

    fn json(&self, setup: &Setup, ended: &Ended, incidents: &[String]) -> Value {
        let report = &ended.report;
        let compared = |task: &Compared| {
            let (wrong, distance) = match &task.found {
                Found::Equal => (None, Some(0.0)),
                Found::Near(far) => (None, Some(*far)),
                Found::Wrong { job, output } => (Some(json!({ "job": job, "output": output })), None),
                Found::Unrepeatable { .. } | Found::NoPlainRun(_) => (None, None),
            };
            json!({
                "task": verdict::name(task.task, &setup.prepared.set), "jobs": task.jobs, "wrong": wrong,
                "distance": distance,
            })
        };
        let thresholds = setup.system.fleet().pressure();
        json!({
            "exit_code": ended.exit.code(),
            "interrupted": report.interrupted,
            "summary": report.tally.summary(),
            "groups": groups::served_json(&served(setup.system.fleet(), &report.tally)),
            "notes": self.idle(&setup.prepared.set),
            "clients": ended.submitted.as_ref().map(|submitted| clients::json(submitted, setup)),
            "incidents": incidents,
            "failures": failures(setup, report),
            "remarks": remarks(setup, report),
            "claim": summary::claim(&report.tally),
            "outputs": ended.compared.as_ref().map(|all| all.iter().map(compared).collect::<Vec<_>>()),
            "decisions_lost": ended.lost.as_ref().ok(),
            "trace_error": ended.lost.as_ref().err().map(CliError::to_string),
            "realtime": report.realtime,
            "cycles": report.cycles,
            "memory_peak_bytes": report.plan.peak().get(),
            "memory": ended.held.json(),
            "pressure": Fullness::of(&report.plan, &setup.prepared.set, &thresholds).json(),
            "trace": self.trace,
        })
    }
}

fn compared_text(setup: &Setup, task: &Compared) -> String {
    let name = verdict::name(task.task, &setup.prepared.set);
    let jobs = figures::counted(task.jobs, "job");
    match &task.found {
        Found::Equal => format!("{name}: outputs of {jobs} equal a plain run, bit by bit\n"),
        Found::Near(far) => format!(
            "{name}: outputs of {jobs} are those of a plain run on the host but for rounding: {far:.1e} at most\n"
        ),
        Found::Wrong { job, output } => {
            format!("{name}: WRONG OUTPUT: `{output}` of job {job} differs from a plain run\n")
        }
        Found::Unrepeatable { output } => {
            let said = format!(
                "{name}: outputs not compared: two plain runs of the model on the same inputs differ in `{output}`; it draws \
                 random numbers, or keeps something between runs"
            );
            format!("{}\n", summary::folded(&said))
        }
        Found::NoPlainRun(backend) => {
            format!("{name}: outputs not compared: backend `{}` has no plain run here\n", backend.name())
        }
    }
}

/// The trace that this process writes: while this lives, no other run writes it too.
struct ClaimedTrace {
    path: PathBuf,
    _locked: File,
}

impl ClaimedTrace {
    /// # Errors
    /// That the file cannot be written, or that another run writes it.
    fn claim(path: &Path) -> Result<Self, CliError> {
        let opened = File::options().write(true).create(true).truncate(false).open(path);
        let file = opened.map_err(|error| CliError::Unwritable {
            path: path.display().to_string(),
            reason: error.to_string(),
        })?;
        if !file.metadata().is_ok_and(|kind| kind.is_file()) {
            let path = path.display();
            return Err(CliError::Input(format!(
                "--trace: {path} is no regular file, and a trace is read again when it is complete; legal: the path \
                 of a file, or no option"
            )));
        }
        // Where a file system has no locks there is nothing to ask.
        if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            let path = path.display();
            return Err(CliError::Input(format!(
                "--trace: another run is writing {path}; legal: a file of its own for each run"
            )));
        }
        Ok(Self { path: path.into(), _locked: file })
    }
}

impl Drop for ClaimedTrace {
    /// A run that failed before its first record leaves no empty file behind.
    fn drop(&mut self) {
        let empty = std::fs::metadata(&self.path).is_ok_and(|found| found.is_file() && found.len() == 0);
        if empty {
            let _gone = std::fs::remove_file(&self.path);
        }
    }
}

/// What backends said of segments that failed.
fn failures(setup: &Setup, report: &RunReport) -> Vec<String> {
    said(setup, report, |model| model.failure.as_slice())
}

/// What backends said of how models were loaded, and what the fleet could do about it.
fn remarks(setup: &Setup, report: &RunReport) -> Vec<String> {
    let mut remarks = said(setup, report, |model| &model.remarks);
    let plain = report.lanes.iter().flat_map(|lane| &lane.models).filter(|model| model.plain);
    remarks.extend(plain.filter_map(|model| {
        let lane = *setup.system.lanes().get(model.task.index())?;
        let hint = setup.system.fleet().hint_of_carrier(lane)?;
        Some(format!("{}: {hint}", verdict::name(model.task, &setup.prepared.set)))
    }));
    remarks
}

/// Sentences about models, each after the name of its task.
fn said(setup: &Setup, report: &RunReport, of: impl Fn(&ModelReport) -> &[String]) -> Vec<String> {
    let models = report.lanes.iter().flat_map(|lane| &lane.models);
    let sentences = models.flat_map(|model| {
        let name = verdict::name(model.task, &setup.prepared.set);
        of(model).iter().map(move |sentence| format!("{name}: {sentence}")).collect::<Vec<_>>()
    });
    sentences.collect()
}

/// Records of the ring of decisions that are missing.
///
/// # Errors
/// That the trace was not written to its end, or cannot be read.
fn decisions_lost(finished: &Result<Finished, TraceError>) -> Result<u64, CliError> {
    let count = |trace: &Trace| {
        let gaps = trace.gaps().iter().filter(|gap| trace.producer_name(gap.producer) == "decisions");
        gaps.map(|gap| gap.lost).sum()
    };
    Ok(match finished.as_ref().map_err(TraceError::clone)? {
        Finished::File(path) => count(&open(path)?),
        // The last records are kept on purpose; what gave way to them was not lost.
        Finished::Memory(_) => 0,
    })
}

fn open(path: &Path) -> Result<Trace, CliError> {
    let trace = Trace::open(path)?;
    match stored::damages(&trace).first() {
        Some(damage) if trace.damage().is_some() => {
            Err(RuntimeError::File { path: path.display().to_string(), reason: damage.clone() }.into())
        }
        _ => Ok(trace),
    }
}

/// Hears Ctrl-C. The first is a request; at the second the process ends at once, because the first was not heard.
fn listen() -> Result<Arc<AtomicBool>, CliError> {
    let asked = Arc::new(AtomicBool::new(false));
    let failed = |error: std::io::Error| {
        CliError::from(RuntimeError::System { what: "listening for Ctrl-C", reason: error.to_string() })
    };
    for signal in [SIGINT, SIGTERM] {
        let code = i32::from(Exit::Interrupted.code());
        // In this order: the second signal finds the flag set by the first.
        signal_hook::flag::register_conditional_shutdown(signal, code, Arc::clone(&asked)).map_err(failed)?;
        signal_hook::flag::register(signal, Arc::clone(&asked)).map_err(failed)?;
    }
    Ok(asked)
}

/// The thread beside a run: live lines, and Ctrl-C on its way to the driver.
struct Watcher {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Watcher {
    /// Starts it. The calling thread is the one that will drive.
    fn start(
        duration: Nanos,
        interrupted: &Arc<AtomicBool>,
        control: &Arc<ControlRequest>,
        live: &Arc<Live>,
    ) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let watch = Watch {
            duration,
            interrupted: Arc::clone(interrupted),
            ended: Arc::clone(&ended),
            control: Arc::clone(control),
            live: Arc::clone(live),
            driver: std::thread::current(),
        };
        Self { ended, thread: std::thread::spawn(move || watch.watch()) }
    }

    fn stop(self) {
        self.ended.store(true, Ordering::Release);
        self.thread.thread().unpark();
        // Live lines are not worth a failure of the run.
        let _panicked = self.thread.join();
    }
}

struct Watch {
    duration: Nanos,
    interrupted: Arc<AtomicBool>,
    ended: Arc<AtomicBool>,
    control: Arc<ControlRequest>,
    live: Arc<Live>,
    driver: Thread,
}

impl Watch {
    fn watch(&self) {
        let style = ProgressStyle::default_spinner().tick_chars("-\\|/ ");
        let bar = std::io::stderr().is_terminal().then(|| ProgressBar::new_spinner().with_style(style));
        let mut start = Instant::now();
        let mut serving = false;
        let (mut told, mut loading) = (0, true);
        while !self.ended.load(Ordering::Acquire) {
            if self.interrupted.load(Ordering::Acquire) && !self.control.is_asked() {
                self.control.ask(Control::Stop);
                // A driver without a timer would sleep on.
                self.driver.unpark();
                if !serving {
                    tell(&bar, "ending after the models are loaded; Ctrl-C again ends at once");
                }
            }
            if !serving && self.live.counts() != (0, 0, 0) {
                (serving, start, told) = (true, Instant::now(), 0);
            }
            let seconds = start.elapsed().as_secs();
            if seconds > told {
                told = seconds;
                let text = if serving { self.line(seconds) } else { "loading models ...".to_owned() };
                match &bar {
                    Some(bar) => bar.set_message(text),
                    None if serving || loading => line(&text),
                    None => {}
                }
                loading = false;
            }
            if let Some(bar) = &bar {
                bar.tick();
            }
            std::thread::park_timeout(LOOK);
        }
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
    }

    fn line(&self, seconds: u64) -> String {
        let (finished, late, broken) = self.live.counts();
        format!(
            "{seconds:>4}s of {}  {finished} jobs in bounds  {late} beyond  {broken} broken assumptions",
            figures::span(self.duration)
        )
    }
}

/// A line above the spinner, or a line of its own.
fn tell(bar: &Option<ProgressBar>, text: &str) {
    match bar {
        Some(bar) => bar.println(text),
        None => line(text),
    }
}
