//! Lanes with a carrier of their own: whom a launch keeps waiting, and what becomes of the others. Orders of events, no
//! times: work that waits for another lane gives up only where that lane could not go on whatever the time.

use std::error::Error;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aegis_context::Lane;
use aegis_cuda::{Device, HostClock, SimOptions};
use aegis_types::record::Discard;
use aegis_types::records::SegmentOutcome;
use aegis_types::{DispatchSeq, JobId, LaneId, Nanos, PartitionId, SegmentIndex, Sink, TaskId, Time};
use aegisrt::RuntimeError;
use aegisrt::carrier::{Crew, CrewOptions, LaneReport, LaneSpec, ModelReport, Work};
use aegisrt::config::{CalibratedDevice, Fleet, LaunchMode};
use aegisrt::driver::Plant as _;
use aegisrt::mailbox::Launch;
use aegisrt::measure::profile;
use aegisrt::plant::{HostPlant, LanePort};
use aegisrt::profile::ProfileOptions;
use aegisrt::waiting::Waiting;

use crate::late::LateDevice;
use crate::ready_on;

/// Longer than anything here takes: whoever waits so long waits for ever.
const FOR_EVER: Duration = Duration::from_secs(30);

/// What happened, in order, by whichever thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn note(&self, what: impl Into<String>) {
        self.0.lock().expect("nobody panics").push(what.into());
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().expect("nobody panics").clone()
    }
}

/// Why a lane is lost.
type Why = Option<String>;
/// Not lost, but its flag will not show.
const ENDLESS: &str = "endless";
/// What a launch does before it enqueues; returns why the lane is lost, if that loses it.
type Script = Box<dyn FnMut() -> Why + Send>;

/// Work that does what its test says.
struct Scripted {
    lane: Lane,
    log: Log,
    script: Script,
    lost: Why,
}

impl Work for Scripted {
    fn run(&mut self, launch: &Launch, ended: &mut dyn FnMut(SegmentOutcome)) {
        let why = (self.script)();
        ended(SegmentOutcome::Done);
        let lands = why.is_none();
        self.lost = why.filter(|why| why != ENDLESS);
        if lands {
            self.lane.stream().signal(launch.dispatch).expect("the device is there");
        }
    }

    fn landed(&mut self, _: &Launch, _: SegmentOutcome) {
        self.log.note(format!("{} ended", self.lane.id()));
    }

    fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }

    fn loaded(&self, _: Time, _: &mut dyn Sink) {}

    fn watch(&mut self, _: &Launch, _: Nanos, _: Time, _: &mut dyn Sink) {}

    fn finish(self: Box<Self>) -> LaneReport {
        let task = TaskId::new(self.lane.id().get());
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        let none = aegis_types::Bytes::ZERO;
        let memory = aegis_context::MemoryUse { persistent: none, exchange: none, scratch: none };
        let (turn, outputs, failure, remarks) = (Nanos::ZERO, Vec::new(), None, vec![thread]);
        LaneReport {
            models: vec![ModelReport {
                task,
                memory,
                outside: aegis_types::Bytes::ZERO,
                turn,
                outputs,
                failure,
                plain: false,
                remarks,
            }],
        }
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.log.note(format!("{} gone", self.lane.id()));
    }
}

fn idle() -> Script {
    Box::new(|| None)
}

fn device() -> Arc<dyn Device> {
    Arc::new(LateDevice::new(false, SimOptions::default()))
}

/// The crew of these lanes, of which those in `own` have a carrier each. A script that is missing refuses to load.
fn crew(scripts: Vec<Option<Script>>, own: &[u16], log: &Log) -> Result<Crew, RuntimeError> {
    let options = CrewOptions { waiting: Waiting::Blocking, ..CrewOptions::default() };
    crew_on(&device(), options, scripts, own, log)
}

fn crew_on(
    device: &Arc<dyn Device>,
    options: CrewOptions,
    scripts: Vec<Option<Script>>,
    own: &[u16],
    log: &Log,
) -> Result<Crew, RuntimeError> {
    let spec = |(number, script): (u16, Option<Script>)| {
        let log = log.clone();
        let make = move |lane: Lane| -> Result<Box<dyn Work>, RuntimeError> {
            let name = std::thread::current().name().unwrap_or_default().to_owned();
            log.note(format!("{} on {name}", lane.id()));
            let what = "loading";
            let refusal = || RuntimeError::System { what, reason: "no script".into() };
            Ok(Box::new(Scripted { lane, log, script: script.ok_or_else(refusal)?, lost: None }))
        };
        LaneSpec {
            lane: LaneId::new(number),
            partition: PartitionId::new(0),
            own_carrier: own.contains(&number),
            make: Box::new(make),
            sink: Box::new(Discard),
        }
    };
    let lanes = (0..).zip(scripts).map(spec).collect();
    Crew::start(device, HostClock::start(), &std::thread::current(), options, lanes)
}

/// A plant whose driver launches these scripts itself, with its crew.
fn driven(scripts: Vec<Option<Script>>, log: &Log) -> Result<(Crew, HostPlant), RuntimeError> {
    let options =
        CrewOptions { waiting: Waiting::Spin, launch: LaunchMode::Driver, ..CrewOptions::default() };
    let crew = crew_on(&device(), options, scripts, &[], log)?;
    let plant = HostPlant::new(HostClock::start(), &crew, Vec::new(), Arc::default(), Waiting::Spin);
    Ok((crew, plant))
}

fn launch(lane: u16) -> Launch {
    let job = JobId::new(TaskId::new(lane), 0);
    Launch { job, segment: SegmentIndex::new(0), slot: 0, dispatch: DispatchSeq::new(1) }
}

fn post(port: &LanePort, lane: u16) {
    port.mailbox.post(launch(lane));
    port.carrier.unpark();
}

/// Waits until that holds, and says so if it never does.
fn until(what: &str, holds: impl Fn() -> bool) {
    let last = Instant::now() + FOR_EVER;
    while !holds() {
        assert!(Instant::now() < last, "never: {what}");
        std::thread::sleep(Duration::from_micros(100));
    }
}

fn landed(port: &LanePort) -> bool {
    port.flag.load() == DispatchSeq::new(1)
}

/// A launch on lane 0 that waits for lane 1's for that long at most.
fn behind(log: &Log, patience: Duration) -> (Vec<Option<Script>>, Receiver<()>) {
    let (tell, told): (Sender<()>, Receiver<()>) = channel();
    let (enter, entered) = channel();
    let (long, short) = (log.clone(), log.clone());
    let wait: Script = Box::new(move || {
        enter.send(()).expect("the test listens");
        long.note(match told.recv_timeout(patience) {
            Ok(()) => "the long launch saw the short one",
            Err(RecvTimeoutError::Timeout) => "the long launch gave up",
            Err(RecvTimeoutError::Disconnected) => "the short one will never run",
        });
        None
    });
    let run: Script = Box::new(move || {
        short.note("the short launch");
        let _gone = tell.send(());
        None
    });
    (vec![Some(wait), Some(run)], entered)
}

fn order(own: &[u16], patience: Duration) -> Result<Vec<String>, Box<dyn Error>> {
    let log = Log::default();
    let (scripts, entered) = behind(&log, patience);
    let crew = crew(scripts, own, &log)?;
    let ports = crew.ports();
    post(&ports[0], 0);
    entered.recv_timeout(FOR_EVER)?;
    post(&ports[1], 1);
    until("both land", || ports.iter().all(landed));
    let reports = crew.join(FOR_EVER)?;
    let tasks: Vec<u16> = reports.iter().map(|report| report.models[0].task.get()).collect();
    assert_eq!(tasks, [0, 1], "reports come by lane, whoever carried them");
    Ok(log
        .all()
        .into_iter()
        .filter(|line| line.contains("launch"))
        .filter(|line| !line.contains(" on "))
        .collect())
}

#[test]
fn a_launch_waits_for_the_lanes_of_its_carrier_and_for_no_others() -> Result<(), Box<dyn Error>> {
    // On one thread the second launch cannot begin before the first returns, however long that waits.
    let shared = order(&[], Duration::from_millis(100))?;
    assert_eq!(shared, ["the long launch gave up", "the short launch"]);
    for own in [&[0][..], &[1], &[0, 1]] {
        let apart = order(own, FOR_EVER)?;
        assert_eq!(apart, ["the short launch", "the long launch saw the short one"], "{own:?}");
    }
    Ok(())
}

#[test]
fn models_load_in_the_order_of_lanes_whoever_carries_them() -> Result<(), Box<dyn Error>> {
    let log = Log::default();
    let crew = crew((0..4).map(|_| Some(idle())).collect(), &[0, 2], &log)?;
    let shared = "aegis-launcher";
    let expected = [("lane0", "aegis-launcher-lane0"), ("lane1", shared), ("lane2", "aegis-launcher-lane2")];
    let expected = expected.into_iter().chain([("lane3", shared)]);
    let expected: Vec<String> = expected.map(|(lane, thread)| format!("{lane} on {thread}")).collect();
    assert_eq!(log.all(), expected);
    let ports = crew.ports();
    let gaps = |one: usize, other: usize| Arc::ptr_eq(&ports[one].gap, &ports[other].gap);
    assert!(gaps(1, 3) && !gaps(0, 1) && !gaps(2, 1) && !gaps(0, 2), "each thread watches itself");
    let threads: Vec<String> = crew
        .join(FOR_EVER)?
        .into_iter()
        .map(|mut report| report.models.remove(0).remarks.remove(0))
        .collect();
    assert_eq!(threads, ["aegis-launcher-lane0", shared, "aegis-launcher-lane2", shared]);
    Ok(())
}

#[test]
fn a_refusal_takes_back_what_every_carrier_loaded() {
    for own in [&[][..], &[0], &[2], &[1, 2]] {
        let log = Log::default();
        let scripts = vec![Some(idle()), Some(idle()), None, Some(idle())];
        let Err(error) = crew(scripts, own, &log) else { panic!("lane 2 refuses") };
        assert!(error.to_string().contains("no script"), "{error}");
        let mut told = log.all();
        assert!(!told.iter().any(|line| line.starts_with("lane3")), "{own:?}: {told:?}");
        told.sort();
        let gone: Vec<&String> = told.iter().filter(|line| line.ends_with("gone")).collect();
        assert_eq!(gone, ["lane0 gone", "lane1 gone"], "{own:?}");
    }
}

#[test]
fn a_carrier_that_panics_while_it_loads_is_named() {
    let log = Log::default();
    let panics = |lane: Lane| -> Result<Box<dyn Work>, RuntimeError> { panic!("{} is too much", lane.id()) };
    let idle_log = log.clone();
    let loads = move |lane: Lane| -> Result<Box<dyn Work>, RuntimeError> {
        Ok(Box::new(Scripted { lane, log: idle_log, script: idle(), lost: None }))
    };
    let spec = |number: u16, own_carrier, make| LaneSpec {
        lane: LaneId::new(number),
        partition: PartitionId::new(0),
        own_carrier,
        make,
        sink: Box::new(Discard),
    };
    let lanes = vec![spec(0, false, Box::new(loads)), spec(1, true, Box::new(panics))];
    let options = CrewOptions { waiting: Waiting::Blocking, ..CrewOptions::default() };
    let started = Crew::start(&device(), HostClock::start(), &std::thread::current(), options, lanes);
    let Err(error) = started else { panic!("lane 1 panicked") };
    let text = error.to_string();
    assert!(text.contains("lane1") && text.contains("is too much"), "{text}");
    assert_eq!(log.all(), ["lane0 gone"]);
}

#[test]
fn a_device_that_one_carrier_lost_is_lost_for_all_lanes() -> Result<(), Box<dyn Error>> {
    for own in [&[1][..], &[0], &[0, 1, 2]] {
        let log = Log::default();
        let loses: Script = Box::new(|| Some("unplugged".into()));
        let crew = crew(vec![Some(idle()), Some(loses), Some(idle())], own, &log)?;
        let ports = crew.ports();
        post(&ports[0], 0);
        until("lane 0 lands", || landed(&ports[0]));
        assert!(!ports.iter().any(|port| port.mailbox.is_dead()));
        post(&ports[1], 1);
        until("all lanes are told dead", || ports.iter().all(|port| port.mailbox.is_dead()));
        let error = crew.join(FOR_EVER).expect_err("lane 1 is lost");
        let RuntimeError::CarrierLost { lane, reason } = error else { panic!("{own:?}: {error}") };
        assert_eq!((lane, reason.as_str()), (LaneId::new(1), "unplugged"), "{own:?}");
    }
    Ok(())
}

#[test]
fn a_launch_that_does_not_return_names_its_lane_and_hides_no_loss() -> Result<(), Box<dyn Error>> {
    for loses in [false, true] {
        let log = Log::default();
        let (release, released) = channel::<()>();
        let (enter, entered) = channel();
        let hangs: Script = Box::new(move || {
            enter.send(()).expect("the test listens");
            let _released = released.recv();
            None
        });
        let other: Script = Box::new(move || loses.then(|| "unplugged".into()));
        let crew = crew(vec![Some(other), Some(hangs), Some(idle())], &[1], &log)?;
        let ports = crew.ports();
        post(&ports[1], 1);
        entered.recv_timeout(FOR_EVER)?;
        post(&ports[0], 0);
        until("lane 0 ends", || landed(&ports[0]) || ports[0].mailbox.is_dead());
        let error = crew.join(Duration::from_millis(300)).expect_err("lane 1 hangs");
        let RuntimeError::CarrierLost { lane, reason } = error else { panic!("{error}") };
        let expected = if loses { (0, "unplugged") } else { (1, "its segment does not end") };
        assert_eq!((lane.get(), reason.as_str()), expected);
        drop(release);
    }
    Ok(())
}

#[test]
fn a_driver_that_launches_does_everything_on_its_own_thread() -> Result<(), Box<dyn Error>> {
    let log = Log::default();
    let (first, second) = (log.clone(), log.clone());
    let scripts: [Script; 2] = [
        Box::new(move || {
            first.note("the first launch");
            None
        }),
        Box::new(move || {
            second.note("the second launch");
            None
        }),
    ];
    let (crew, mut plant) = driven(scripts.map(Some).into(), &log)?;
    let here = std::thread::current().name().unwrap_or_default().to_owned();
    for lane in [1, 0] {
        plant.post(LaneId::new(lane), launch(lane));
        log.note("posted");
    }
    let loaded = ["lane0", "lane1"].map(|lane| format!("{lane} on {here}"));
    let order = ["the second launch", "posted", "the first launch", "posted"].map(str::to_owned);
    assert_eq!(log.all(), [&loaded[..], &order].concat(), "a post is a launch");
    for lane in [0, 1].map(LaneId::new) {
        let last = Instant::now() + FOR_EVER;
        while plant.landed(lane) != (DispatchSeq::new(1), SegmentOutcome::Done) {
            assert!(Instant::now() < last, "never: {lane} lands");
            plant.wait(None);
        }
        let ended = format!("{lane} ended");
        assert!(!log.all().contains(&ended), "a look takes nothing away, so that the stamp comes soon");
        plant.settle(lane);
        assert!(log.all().contains(&ended), "{:?}", log.all());
    }
    drop(plant);
    let threads: Vec<String> = crew
        .join(FOR_EVER)?
        .into_iter()
        .map(|mut report| report.models.remove(0).remarks.remove(0))
        .collect();
    assert_eq!(threads, [here.clone(), here]);
    Ok(())
}

#[test]
fn a_driver_that_launches_is_told_of_a_loss_and_of_a_segment_that_does_not_end() -> Result<(), Box<dyn Error>>
{
    for (loses, expected) in [(true, (1, "unplugged")), (false, (0, "its segment does not end"))] {
        let log = Log::default();
        let first: Script = Box::new(|| Some(ENDLESS.into()));
        let second: Script = Box::new(move || loses.then(|| "unplugged".into()));
        let (crew, mut plant) = driven(vec![Some(first), Some(second)], &log)?;
        [0, 1].into_iter().for_each(|lane| plant.post(LaneId::new(lane), launch(lane)));
        assert_eq!(crew.ports().iter().all(|port| port.mailbox.is_dead()), loses);
        drop(plant);
        let error = crew.join(Duration::from_millis(100)).expect_err("one lane never ends");
        let RuntimeError::CarrierLost { lane, reason } = error else { panic!("{error}") };
        assert_eq!((lane.get(), reason.as_str()), expected);
        assert!(log.all().ends_with(&["lane0 gone".to_owned(), "lane1 gone".to_owned()]), "{:?}", log.all());
    }
    Ok(())
}

#[test]
fn whole_runs_are_the_same_with_carriers_of_their_own() -> Result<(), Box<dyn Error>> {
    for (own, waiting) in
        [("[1]", Waiting::Spin), ("[0, 2]", Waiting::Blocking), ("[0, 1, 2]", Waiting::Blocking)]
    {
        crate::serves(&ready_on(false, LaunchMode::Carrier, "", own)?, waiting)?;
    }
    Ok(())
}

/// Scripts are never captured.
#[test]
fn models_that_no_graph_replays_are_told_where_there_are_graphs() -> Result<(), Box<dyn Error>> {
    for graphs in [false, true] {
        let report = ready_on(graphs, LaunchMode::Carrier, "", "[]")?.run(
            Waiting::Blocking,
            &Arc::default(),
            |_| {},
        )?;
        let plain: Vec<bool> = report.lanes.iter().flat_map(|lane| &lane.models).map(|it| it.plain).collect();
        assert_eq!(plain, [graphs; 3]);
    }
    Ok(())
}

/// A campaign runs on the fleet's own carriers and says which they were; a fleet with others does not get its budgets.
#[test]
fn a_campaign_is_one_of_the_carriers_that_it_had() -> Result<(), Box<dyn Error>> {
    let of = |launch, own| ready_on(false, launch, "", own);
    let (mixed, shared) = (of(LaunchMode::Carrier, "[1]")?, of(LaunchMode::Carrier, "[]")?);
    let profile_of = |ready: &crate::Ready| {
        let samples = ProfileOptions { samples: 5, ..ProfileOptions::default() };
        let options = ProfileOptions { time_per_task: Nanos::from_millis(300), ..samples };
        let path = Path::new("profile.json");
        profile(&ready.system, &ready.calibration, path, options)
    };
    let profile = profile_of(&mixed)?;
    assert!(profile.from_post, "budgets begin with the post");
    assert_eq!(profile.matches_carriers(mixed.system.fleet()), Ok(()));
    mixed.system.prepare(Some(&profile), &mixed.calibration)?;
    let refused = shared.system.prepare(Some(&profile), &shared.calibration).map(drop);
    let text = refused.expect_err("all lanes share the launcher").to_string();
    assert!(text.contains("device.own_carriers") && text.contains("aegis profile"), "{text}");
    let driven = of(LaunchMode::Driver, "[]")?;
    let refused = driven.system.prepare(Some(&profile), &driven.calibration).map(drop);
    let text = refused.expect_err("nobody but the driver launches").to_string();
    assert!(text.contains("device.launch") && text.contains("aegis profile"), "{text}");
    let profile = profile_of(&driven)?;
    driven.system.prepare(Some(&profile), &driven.calibration)?;
    Ok(())
}

/// What a calibration of such a fleet would say of its device.
pub fn calibrated(fleet: &Fleet) -> CalibratedDevice {
    let (name, versions, own_carriers) = ("late".into(), Vec::new(), fleet.own_carriers());
    CalibratedDevice {
        name,
        versions,
        lanes: crate::LANES,
        own_carriers,
        launch: fleet.launch(),
        regime: None,
    }
}
