//! Whole runs on an asynchronous device: one launcher for every lane, or the driver in its place, staging, losses, and
//! segments that run too long.
//! The device is a fixture in real time, so that nothing here needs a GPU; how fast it is, is not asked.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use aegis_cuda::script::{Durations, ScriptedLoader, expected_outputs};
use aegis_cuda::sim::{Fault, FaultKind, FaultTrigger};
use aegis_cuda::{Device, SimOptions};
use aegis_sched::Overheads;
use aegis_sched::admission::{AdmissionController, AdmissionRequest};
use aegis_sched::engine::OverrunRunning;
use aegis_types::records::{Control, JobOutcome, SegmentCompleted, SegmentDispatched, SegmentRan};
use aegis_types::{LaneId, Nanos, Severity};
use aegisrt::RuntimeError;
use aegisrt::client::{Client, Fate};
use aegisrt::config::{Calibration, Fleet, LaunchMode, Prepared};
use aegisrt::inventory::Loaders;
use aegisrt::live::Live;
use aegisrt::plant::ControlRequest;
use aegisrt::run::{RunOptions, RunReport, run_with};
use aegisrt::system::{Builder, System};
use aegisrt::waiting::Waiting;

#[path = "../../../aegis-context/tests/late/mod.rs"]
mod late;
mod own;

use late::{LateDevice, Operation};

const LANES: u16 = 3;

/// Three tasks, one with recurrent state, each with a lane of its own. `arrival` is that of the first; lanes in `own`
/// have a carrier each.
fn script_fleet(
    folder: &Path,
    launch: LaunchMode,
    arrival: &str,
    own: &str,
) -> Result<Fleet, Box<dyn Error>> {
    let launch = launch.name();
    let mut text = format!(
        "[device]\nkind = \"sim\"\nlaunch = \"{launch}\"\n[[partition]]\nname = \"all\"\nsms = 4\nlanes = 3\nown_carriers = {own}\n\
         [policy]\nkind = \"fifo\"\n",
    );
    for (lane, (name, period, arrival)) in
        [("a", "10ms", arrival), ("b", "11ms", ""), ("c", "12ms", "")].into_iter().enumerate()
    {
        let (input, output, state) = match name {
            "c" => ("input h f32 2\n", "output h2 f32 2\n", "state = [[\"h2\", \"h\"]]\n"),
            _ => ("", "", ""),
        };
        let script = format!(
            "script 1\ninput x f32 1x64\n{input}output y f32 1x8\n{output}weights 4KiB\nscratch 1KiB\n\
             segment 3ms..4ms\nend\n"
        );
        std::fs::write(folder.join(format!("{name}.script")), script)?;
        text += &format!(
            "[[task]]\nname = \"{name}\"\nmodel = \"{name}.script\"\nbackend = \"script\"\npartition = \"all\"\n\
             lane = {lane}\n{arrival}period = \"{period}\"\n{state}on_overrun = \"keep\"\nbudget = {{ memory = \"64KiB\" }}\n"
        );
    }
    Ok(Fleet::parse(&folder.join("fleet.toml"), &text)?)
}

struct Ready {
    device: Arc<LateDevice>,
    system: System,
    prepared: Prepared,
    calibration: Calibration,
}

/// Overheads are taken as zero: what this machine adds are broken assumptions, which nobody asks for here. Only how long
/// a driver that spins may be kept from looking needs some room, or every look is a stall.
fn ready(launch: LaunchMode, arrival: &str) -> Result<Ready, Box<dyn Error>> {
    ready_on(false, launch, arrival, "[]")
}

/// As [`ready`], on a device that replays graphs or does not, and lanes in `own` have a carrier each.
fn ready_on(graphs: bool, launch: LaunchMode, arrival: &str, own: &str) -> Result<Ready, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let device = Arc::new(LateDevice::new(graphs, SimOptions::default()));
    let shared: Arc<dyn Device> = Arc::<LateDevice>::clone(&device);
    let loader = ScriptedLoader::new(Durations::Seeded(5));
    let mut system = Builder::new(script_fleet(folder.path(), launch, arrival, own)?)
        .loaders(Loaders::default().with(Arc::new(loader)))
        .device(shared)
        .build(|_| {})?;
    system.assign((0..LANES).map(LaneId::new).collect());
    let overheads = Overheads { stall: Nanos::from_millis(1_000), ..Overheads::default() };
    let mut calibration = Calibration::new(Path::new("platform.json"), overheads);
    calibration.device = Some(own::calibrated(system.fleet()));
    let prepared = system.prepare(None, &calibration)?;
    Ok(Ready { device, system, prepared, calibration })
}

impl Ready {
    fn run(
        &self,
        waiting: Waiting,
        control: &Arc<ControlRequest>,
        start: impl FnOnce(Vec<Client>),
    ) -> Result<RunReport, RuntimeError> {
        let controller = AdmissionController::new(Box::new(Arc::clone(self.system.policy())));
        let report = controller.analyze(&AdmissionRequest::new(&self.prepared.set).tight());
        let certificate = report.certificate().expect("three light lanes").clone();
        let options = RunOptions {
            duration: Nanos::from_millis(400),
            trace: None,
            keep_outputs: 5,
            poison: false,
            realtime: false,
            waiting,
            control: Arc::clone(control),
            live: Arc::new(Live::default()),
        };
        run_with(&self.system, &self.prepared, certificate, None, &self.calibration, &options, start)
    }

    /// What the kept outputs of a task must be, with state carried from job to job.
    fn expected(&self, task: usize) -> Vec<Vec<Vec<u8>>> {
        let model = &self.system.models()[task];
        let feed = model.feed().expect("seeded inputs");
        let mut state = vec![0; 8];
        let job = |number| {
            let mut inputs = feed.sample(number).to_vec();
            if model.description.inputs.len() > 1 {
                inputs.push(state.clone());
            }
            let outputs = expected_outputs(&model.request(), &inputs).expect("a script");
            state = outputs.last().expect("an output").clone();
            outputs
        };
        (0..5).map(job).collect()
    }
}

fn serves(ready: &Ready, waiting: Waiting) -> Result<(), Box<dyn Error>> {
    let report = ready.run(waiting, &Arc::default(), |_| {})?;
    for (index, task) in report.tally.tasks().iter().enumerate() {
        assert!(task.released > 5, "{waiting:?}: {} jobs of {}", task.released, task.name);
        assert_eq!(task.completed(), task.released, "{waiting:?}: {}", task.name);
        let model = &report.lanes[index].models[0];
        let outputs: Vec<_> = model.outputs.iter().map(|(_, outputs)| outputs.clone()).collect();
        assert_eq!(outputs, ready.expected(index), "{waiting:?}: {}", task.name);
        assert_eq!((model.failure.as_deref(), model.turn.is_zero()), (None, false), "{waiting:?}");
    }
    let released: u64 = report.tally.tasks().iter().map(|task| task.released).sum();
    let copies = ready.device.operations().iter().filter(|it| matches!(it, Operation::Copy(_))).count();
    assert!(copies as u64 >= 2 * released, "{waiting:?}: {copies} copies for {released} jobs");
    let trace = report.trace?.into_trace()?;
    let (dispatched, ran) = (trace.all::<SegmentDispatched>().count(), trace.all::<SegmentRan>().count());
    assert_eq!(dispatched, ran, "{waiting:?}: every segment was seen to end");
    assert!(trace.all::<SegmentRan>().all(|(_, ran)| ran.left.since(ran.entered) > Nanos::from_millis(1)));
    Ok(())
}

#[test]
fn one_thread_launches_on_every_lane_however_it_waits() -> Result<(), Box<dyn Error>> {
    for waiting in [Waiting::Spin, Waiting::Hybrid { before: Nanos::from_micros(100) }, Waiting::Blocking] {
        for launch in LaunchMode::ALL {
            serves(&ready(launch, "")?, waiting)?;
        }
    }
    Ok(())
}

#[test]
fn clients_get_the_outputs_of_what_landed() -> Result<(), Box<dyn Error>> {
    LaunchMode::ALL.into_iter().try_for_each(answers_clients)
}

fn answers_clients(launch: LaunchMode) -> Result<(), Box<dyn Error>> {
    let ready = ready(launch, "arrival = \"sporadic\"\n")?;
    let control = Arc::<ControlRequest>::default();
    let feed = ready.system.models()[0].feed()?;
    let (tell, told) = std::sync::mpsc::channel();
    let stop = Arc::clone(&control);
    ready.run(Waiting::Blocking, &control, move |mut clients| {
        let client = clients.remove(0);
        std::thread::spawn(move || {
            let mut answers = Vec::new();
            let mut packet = client.packet();
            let mut number = 0;
            while answers.len() < 5 && !matches!(answers.last(), Some((Fate::Refused(_), _))) {
                if let Some(mut free) = packet.take() {
                    free.inputs.clone_from_slice(feed.sample(number));
                    number += 1;
                    client.submit(free).expect("a packet of the port");
                }
                if let Some(back) = client.returned() {
                    answers.push((back.fate().expect("it came back"), back.outputs.clone()));
                    // Longer than the period, so that the next one comes in time.
                    std::thread::sleep(std::time::Duration::from_millis(15));
                    packet = Some(back);
                }
                std::thread::yield_now();
            }
            stop.ask(Control::Drain);
            let _gone = tell.send(answers);
        });
    })?;
    let answers = told.recv()?;
    let completed = |fate: &Fate| matches!(fate, Fate::Ended { outcome: JobOutcome::Completed, .. });
    assert!(answers.iter().all(|(fate, _)| completed(fate)), "{answers:?}");
    let outputs: Vec<_> = answers.into_iter().map(|(_, outputs)| outputs).collect();
    assert_eq!(outputs, ready.expected(0));
    Ok(())
}

fn lost(error: &RuntimeError) {
    assert!(matches!(error, RuntimeError::CarrierLost { .. }), "{error}");
    assert_eq!(error.severity(), Severity::Fatal);
    assert!(error.to_string().contains("the device context is lost"), "{error}");
}

#[test]
fn a_device_lost_at_a_launch_ends_the_run() -> Result<(), Box<dyn Error>> {
    for launch in LaunchMode::ALL {
        let ready = ready(launch, "")?;
        let (lane, trigger) = (LaneId::new(1), FaultTrigger::Launch(7));
        ready.device.sim.inject(Fault { lane, trigger, kind: FaultKind::DeviceLost });
        lost(&ready.run(Waiting::Blocking, &Arc::default(), |_| {}).expect_err("lane 1 is lost"));
    }
    Ok(())
}

/// Every lane is in flight and none will ever be launched again: who is asked finds out.
#[test]
fn a_device_lost_while_everything_is_in_flight_ends_the_run() -> Result<(), Box<dyn Error>> {
    LaunchMode::ALL.into_iter().try_for_each(ends_when_unplugged)
}

fn ends_when_unplugged(launch: LaunchMode) -> Result<(), Box<dyn Error>> {
    let ready = ready(launch, "")?;
    for lane in (0..LANES).map(LaneId::new) {
        let kind = FaultKind::Hang(Nanos::from_millis(3_600_000));
        ready.device.sim.inject(Fault { lane, trigger: FaultTrigger::Launch(4), kind });
    }
    let device = Arc::clone(&ready.device);
    let unplug = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        device.sim.lose("unplugged");
    });
    lost(&ready.run(Waiting::Blocking, &Arc::default(), |_| {}).expect_err("every lane is lost"));
    unplug.join().expect("no panic");
    Ok(())
}

#[test]
fn a_segment_that_runs_past_its_budget_is_told_of_while_it_runs() -> Result<(), Box<dyn Error>> {
    LaunchMode::ALL.into_iter().try_for_each(tells_of_an_overrun)
}

fn tells_of_an_overrun(launch: LaunchMode) -> Result<(), Box<dyn Error>> {
    let ready = ready(launch, "")?;
    let kind = FaultKind::Longer(Nanos::from_millis(150));
    let fault = Fault { lane: LaneId::new(2), trigger: FaultTrigger::Launch(5), kind };
    ready.device.sim.inject(fault);
    let report = ready.run(Waiting::Blocking, &Arc::default(), |_| {})?;
    assert!(report.tally.tasks()[2].running_over > 0);
    let trace = report.trace?.into_trace()?;
    let long = |completed: &SegmentCompleted| completed.occupancy > Nanos::from_millis(150);
    let ended: Vec<_> = trace.all::<SegmentCompleted>().filter(|(_, it)| long(it)).collect();
    let [(ended, segment)] = ended.as_slice() else { panic!("one segment was made longer: {ended:?}") };
    let told: Vec<_> = trace
        .all::<OverrunRunning>()
        .filter(|(_, it)| it.lane == segment.lane && it.dispatch == segment.dispatch)
        .collect();
    let [(told, overrun)] = told.as_slice() else { panic!("told once: {told:?}") };
    assert!(told.stamp < ended.stamp && overrun.seen < segment.occupancy && overrun.seen > overrun.budget);
    Ok(())
}
