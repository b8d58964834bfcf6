//! A policy of one's own, in one file: the job with the shortest budget goes first.
//!
//! A policy that belongs to a class is certified by the analysis of the class; nothing else has to be told. This one
//! orders by a number of the task, so it is a static priority, and admission bounds its response times like those of
//! any other. Here it serves scripted models, which occupy a core of this machine as long as their scripts say:
//!
//! ```text
//! cargo run --release -p aegisrt --example custom_policy
//! ```

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use aegis_cuda::script::{Durations, ScriptedLoader};
use aegis_cuda::{HostDevice, HostOptions};
use aegis_sched::admission::{AdmissionController, AdmissionRequest};
use aegis_sched::{PolicyClass, Replay, SchedulingPolicy, Task, replay};
use aegis_types::records::SegmentDispatched;
use aegis_types::{Bytes, Nanos, TaskId};
use aegisrt::calibrate::CalibrateOptions;
use aegisrt::config::Fleet;
use aegisrt::inventory::Loaders;
use aegisrt::live::Live;
use aegisrt::measure;
use aegisrt::plant::ControlRequest;
use aegisrt::run::{RunOptions, run};
use aegisrt::system::Builder;
use aegisrt::tally::Tally;
use aegisrt::waiting::Waiting;

/// The shorter the budget of a whole job, the more urgent.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShortestBudgetFirst;

impl SchedulingPolicy for ShortestBudgetFirst {
    fn name(&self) -> &'static str {
        "shortest-budget-first"
    }

    fn class(&self) -> PolicyClass {
        PolicyClass::StaticPriority
    }

    fn key(&self, task: &Task) -> u64 {
        let budgets = task.segments.iter().map(|segment| segment.bound);
        budgets.fold(Nanos::ZERO, Nanos::saturating_add).get()
    }
}

/// Names, durations and budgets of the models, the longest first: in the order of their numbers they would run the
/// other way round.
const MODELS: [(&str, &str, &str); 3] =
    [("planner", "20ms", "40ms"), ("detector", "8ms", "20ms"), ("voice", "2ms", "10ms")];

/// Writes the scripts into `folder` and the fleet that runs them once a second. It names the simulated device, whose
/// models are scripts; the builder is given the cores of this machine instead.
fn fleet(folder: &Path) -> Result<Fleet, Box<dyn Error>> {
    let mut text = String::from(
        "[device]\nkind = \"sim\"\n[[partition]]\nname = \"all\"\nsms = 1\n[policy]\nkind = \"fifo\"\n",
    );
    for (name, duration, budget) in MODELS {
        let script =
            format!("script 1\ninput x f32 1x16\noutput y f32 1x4\nweights 4KiB\nsegment {duration}\nend\n");
        std::fs::write(folder.join(format!("{name}.script")), script)?;
        text += &format!(
            "[[task]]\nname = \"{name}\"\nmodel = \"{name}.script\"\nbackend = \"script\"\npartition = \"all\"\n\
             period = \"1s\"\non_overrun = \"keep\"\nbudget = {{ memory = \"64KiB\", compute = \"{budget}\" }}\n"
        );
    }
    Ok(Fleet::parse(&folder.join("fleet.toml"), &text)?)
}

/// What a run under the policy showed.
pub struct Shown {
    /// The name that the certificate is made out to.
    pub policy: &'static str,
    /// R of each task.
    pub wcrt: Vec<Nanos>,
    /// R of each task under the fleet's own policy.
    pub wcrt_fifo: Vec<Option<Nanos>>,
    /// Tasks in the order in which their segments were dispatched.
    pub order: Vec<TaskId>,
    /// What was counted.
    pub tally: Tally,
    /// The decisions, made again from the trace.
    pub replay: Replay,
}

/// Calibrates, admits, runs for `duration` and replays.
///
/// # Errors
/// What fleet, device or models refuse; the reason of a refused admission.
pub fn rehearse(duration: Nanos) -> Result<Shown, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let fleet = fleet(folder.path())?;
    let loader = ScriptedLoader::new(Durations::Longest);
    let device = HostDevice::new(HostOptions { memory: Bytes::new(1 << 20) })?;
    let system = Builder::new(fleet)
        .loaders(Loaders::default().with(Arc::new(loader)))
        .device(Arc::new(device))
        .policy(Arc::new(ShortestBudgetFirst))
        .build(|_| {})?;

    let short = CalibrateOptions { duration: Nanos::from_millis(300), ..CalibrateOptions::default() };
    let (calibration, _) = measure::calibrate(&system, Path::new("platform.json"), short, false)?;
    let prepared = system.prepare(None, &calibration)?;

    let request = AdmissionRequest::new(&prepared.set).tight();
    let controller = AdmissionController::new(Box::new(Arc::clone(system.policy())));
    let report = controller.analyze(&request);
    let certificate = match (report.certificate(), report.refusal()) {
        (Some(certificate), _) => certificate.clone(),
        (None, refusal) => return Err(refusal.map_or_else(String::new, ToString::to_string).into()),
    };
    let fifo = AdmissionController::new(Box::new(aegis_sched::policy::Fifo)).analyze(&request);

    let options = RunOptions {
        duration,
        trace: None,
        keep_outputs: 0,
        poison: false,
        realtime: false,
        waiting: Waiting::Blocking,
        control: Arc::new(ControlRequest::default()),
        live: Arc::new(Live::default()),
    };
    let served = run(&system, &prepared, certificate.clone(), None, &calibration, &options)?;
    let trace = served.trace?.into_trace()?;
    let replay = replay(trace.records(), &prepared.set, &certificate, Box::new(ShortestBudgetFirst))?;
    Ok(Shown {
        policy: certificate.policy(),
        wcrt: report.tasks.iter().filter_map(|task| task.wcrt).collect(),
        wcrt_fifo: fifo.tasks.iter().map(|task| task.wcrt).collect(),
        order: trace.all::<SegmentDispatched>().map(|(_, dispatched)| dispatched.job.task).collect(),
        tally: served.tally,
        replay,
    })
}

fn ms(span: Nanos) -> String {
    format!("{:.1} ms", span.as_micros_f64() / 1e3)
}

fn main() -> Result<(), Box<dyn Error>> {
    let shown = rehearse(Nanos::from_millis(3_000))?;
    println!("certified under {}", shown.policy);
    for ((task, wcrt), fifo) in shown.tally.tasks().iter().zip(&shown.wcrt).zip(&shown.wcrt_fifo) {
        let fifo = fifo.map_or_else(|| "none".to_owned(), ms);
        println!(
            "{:<9} {} jobs  max {}  WCRT {} (fifo {fifo})  deadline {}  misses {}  covered {:.2}",
            task.name,
            task.completed(),
            ms(task.response_max),
            ms(*wcrt),
            task.deadline,
            task.misses,
            task.covered_fraction(),
        );
    }
    let names: Vec<&str> = shown.order.iter().take(3).map(|task| MODELS[task.index()].0).collect();
    println!("dispatched first: {}", names.join(", "));
    println!("replay: {} records equal, {:?}", shown.replay.equal, shown.replay.end);
    Ok(())
}
