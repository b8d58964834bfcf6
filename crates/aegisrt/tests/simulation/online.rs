//! Tasks added and removed while the driver serves, in virtual time: nobody's bound breaks, what is refused disturbs
//! nobody, and the trace decides everything again.

use std::sync::Arc;

use aegis_sched::admission::Depth;
use aegis_sched::mode::{Transition, transition};
use aegis_sched::replay::{Change, ReplayEnd, Takeover, replay_changes};
use aegis_sched::{
    AdmissionController, AdmissionRequest, Certificate, Engine, SchedulingPolicy, Task, TaskSet, charge,
};
use aegis_types::records::{
    AssumptionBroken, EngineStarted, JobFinished, JobRefused, JobReleased, Refusal, Standing,
};
use aegis_types::{Nanos, RawRecord, Record, Sink, TaskId, Time};
use aegisrt::driver::Driver;
use aegisrt::feed::SplitMix;
use aegisrt::online::{Accepted, Online, OnlineError};
use aegisrt::simulate::check::{Checks, Successor};
use aegisrt::simulate::faults::FaultPlan;
use aegisrt::simulate::generate::Scenario;
use aegisrt::simulate::plant::{SimPlant, Spans, device};

use crate::apart::Kept;
use crate::from_environment;

const END: Time = Time::new(400_000_000);
const GRACE: Nanos = Nanos::from_millis(10_000);

/// What took over, with everything that a replay needs.
struct Made {
    set: TaskSet,
    certificate: Certificate,
    how: How,
}

enum How {
    Idle,
    Wider(Vec<TaskId>),
    Narrower(Vec<TaskId>),
}

impl Made {
    fn change(&self, policy: &Arc<dyn SchedulingPolicy>) -> Change<'_> {
        let takeover = match &self.how {
            How::Idle => Takeover::AtIdle,
            How::Wider(retiring) => Takeover::Widened { retiring },
            How::Narrower(numbers) => Takeover::Narrowed { numbers },
        };
        Change { set: &self.set, certificate: &self.certificate, policy: Arc::clone(policy), takeover }
    }
}

/// What the second account is told of the changes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Story {
    True,
    /// Tasks that were removed are served on.
    NobodyWent,
    /// No job was pending.
    AllIdle,
    /// There was none.
    NoChange,
}

#[derive(Debug, Default)]
struct Counts {
    at_once: u64,
    at_idle: u64,
    refused: u64,
    made: u64,
    jobs: u64,
    stopping: u64,
    /// Jobs that kept the bounds of the certificate before the one in force.
    kept: u64,
    /// Runs in which jobs were pending while a change was made.
    left_behind: u64,
}

/// Some of the tasks, numbered anew.
fn chosen(all: &TaskSet, tasks: impl Iterator<Item = usize>) -> TaskSet {
    let number = |(id, task): (u16, usize)| Task { id: TaskId::new(id), ..all.tasks()[task].clone() };
    let tasks = (0u16..).zip(tasks).map(number).collect();
    TaskSet::new(tasks, all.platform().clone()).expect("a model")
}

/// A world that serves one set and is asked for others.
struct Play {
    online: Online<SimPlant<Spans>>,
    policy: Arc<dyn SchedulingPolicy>,
    first: (TaskSet, Certificate),
    kept: Kept,
    expected: Vec<Made>,
}

impl Play {
    /// `None` where the first set does not fit.
    fn new(scenario: &Scenario, first: TaskSet, drawn: &[usize]) -> Option<Self> {
        let policy: Arc<dyn SchedulingPolicy> = Arc::from(scenario.policy.make());
        let controller = AdmissionController::new(Box::new(Arc::clone(&policy)));
        let certificate = controller.analyze(&AdmissionRequest::new(&first).tight()).certificate()?.clone();
        let of = |all: &[u64]| drawn.iter().map(|&task| all[task]).collect();
        let world = Scenario {
            set: first.clone(),
            shortest: of(&scenario.shortest),
            longest_share: of(&scenario.longest_share),
            waits: vec![Nanos::ZERO; drawn.len()],
            ..scenario.clone()
        };
        let device = device(&first, &scenario.slowdown).expect("it fits");
        let spans = Spans::bind(&device, &first).expect("lanes are there");
        let charged = charge(&first).expect("it was admitted");
        let plant = SimPlant::new(&world, &charged, device, spans, &FaultPlan::none(), scenario.seed);
        let engine = Engine::new(&first, certificate.clone(), Box::new(Arc::clone(&policy)), Time::ZERO);
        let sporadic = world.sporadic().map(|task| task.id).collect();
        let stall = first.platform().overheads.stall;
        let driver = Driver::new(engine.expect("it was admitted"), plant, sporadic, stall);
        let online = Online::new(driver, first.clone(), Arc::clone(&policy), Depth::TIGHT);
        Some(Self {
            online,
            policy,
            first: (first, certificate),
            kept: Kept::default(),
            expected: Vec::new(),
        })
    }

    /// Serves up to `until`; every change that is made is one that was expected.
    fn serve(&mut self, until: u64, counts: &mut Counts) {
        while self.online.serve(Time::new(until), &mut self.kept) {
            counts.made += 1;
        }
    }

    fn ask(&mut self, new: &TaskSet, counts: &mut Counts) {
        let controller = AdmissionController::new(Box::new(Arc::clone(&self.policy)));
        let epoch = self.online.driver().engine().certificate().epoch();
        let found = transition(&controller, self.online.set(), new, epoch, Depth::TIGHT);
        let certificate = self.online.driver().engine().certificate().clone();
        match (self.online.ask(new, &mut self.kept), found) {
            (Err(OnlineError::Refused(_)), Err(_)) => {
                counts.refused += 1;
                assert_eq!(self.online.driver().engine().certificate(), &certificate);
            }
            (Ok(Accepted::AtIdle { .. }), Ok(Transition::AtIdle { then, .. })) => {
                counts.at_idle += 1;
                self.expected.push(Made { set: new.clone(), certificate: then, how: How::Idle });
            }
            (Ok(Accepted::AtOnce), Ok(Transition::AtOnce { union, then })) => {
                counts.at_once += 1;
                let ids = union.set.tasks().iter().map(|task| task.id);
                let retiring = ids.filter(|id| !union.numbers.contains(id)).collect();
                let (set, certificate) = (union.set, union.certificate);
                self.expected.push(Made { set, certificate, how: How::Wider(retiring) });
                let how = How::Narrower(union.numbers);
                self.expected.push(Made { set: new.clone(), certificate: then, how });
            }
            (Err(OnlineError::UnderWay), _) if self.online.is_changing() => {}
            // A lane has to settle first: nothing changes.
            (Err(OnlineError::Change(_)), Ok(_)) => {}
            (asked, _) => panic!("{asked:?}"),
        }
    }

    /// What the second account finds in the records, told of the changes as `story` says.
    fn found(&self, records: &[RawRecord], story: Story) -> Vec<String> {
        let successor = |made| {
            let Change { set, certificate, takeover, .. } = Made::change(made, &self.policy);
            let takeover = match (story, takeover) {
                (Story::NobodyWent, Takeover::Widened { .. }) => Takeover::Widened { retiring: &[] },
                (Story::AllIdle, _) => Takeover::AtIdle,
                (_, known) => known,
            };
            Successor { set, certificate, takeover }
        };
        let (set, certificate) = &self.first;
        let made = self.expected.iter().filter(|_| story != Story::NoChange);
        let checks = Checks::new(set, certificate, true, true);
        let mut checks = checks.followed_by(made.map(successor).collect());
        records.iter().for_each(|raw| checks.emit(*raw));
        checks.finish().1.iter().map(ToString::to_string).collect()
    }

    /// The second account passes a true story, and no other.
    fn check_account(&self, records: &[RawRecord], counts: &mut Counts) {
        let found = |story| self.found(records, story);
        assert_eq!(found(Story::True), Vec::<String>::new());
        let turned_away = records.iter().any(|raw| JobRefused::read(raw).is_some() && raw.stamp < END);
        assert_eq!(found(Story::NobodyWent).is_empty(), !turned_away);
        let starts = records.iter().filter(|raw| EngineStarted::read(raw).is_some()).count();
        assert_eq!(found(Story::NoChange).is_empty(), starts < 2);
        counts.left_behind +=
            u64::from(found(Story::AllIdle).iter().any(|what| what.contains("left behind")));
        counts.kept += self.kept(records);
    }

    /// Jobs that ended under a narrower set with bounds that are not its own.
    fn kept(&self, records: &[RawRecord]) -> u64 {
        let mut made = self.expected.iter();
        let mut now = None;
        let mut first = true;
        let mut kept = 0;
        for raw in records {
            if EngineStarted::read(raw).is_some() && !std::mem::take(&mut first) {
                now = made.next();
            }
            let narrower = now.filter(|made| matches!(made.how, How::Narrower(_)));
            if let (Some(made), Some(it)) = (narrower, JobFinished::read(raw)) {
                let (lane, position) = made.certificate.task(it.job.task).expect("it is certified");
                kept += u64::from(lane.bound(position, Nanos::ZERO) != Some(it.bound));
            }
        }
        kept
    }

    /// Every bound held, and the trace tells how it came.
    fn check(&self, counts: &mut Counts) {
        let records: Vec<RawRecord> =
            (0u32..).zip(&self.kept.0).map(|(number, raw)| raw.placed(0, number)).collect();
        let all = |kind: fn(&RawRecord) -> bool| records.iter().filter(|raw| kind(raw)).count() as u64;
        assert_eq!(all(|raw| AssumptionBroken::read(raw).is_some()), 0);
        self.check_account(&records, counts);
        for it in records.iter().filter_map(JobRefused::read) {
            assert_eq!(it.reason, Refusal::Stopping, "{it:?}");
            counts.stopping += 1;
        }
        for it in records.iter().filter_map(JobFinished::read) {
            assert!(it.standing == Standing::Covered && it.response <= it.bound, "{it:?}");
        }
        let (released, ended) =
            (all(|raw| JobReleased::read(raw).is_some()), all(|raw| JobFinished::read(raw).is_some()));
        assert_eq!(released, ended, "every accepted job ended");
        counts.jobs += ended;
        let starts = all(|raw| EngineStarted::read(raw).is_some());
        let made: Vec<Change<'_>> = self.expected.iter().map(|made| made.change(&self.policy)).collect();
        let (set, certificate) = &self.first;
        let boxed = Box::new(Arc::clone(&self.policy));
        let again = replay_changes(&records, set, certificate, boxed, &made).expect("an engine");
        assert_eq!((again.end, again.equal), (ReplayEnd::Identical, records.len() as u64));
        assert!(starts <= made.len() as u64 + 1);
    }
}

/// A first set, another one, and the tasks of the first in the scenario.
fn drawn(scenario: &Scenario, draw: &mut SplitMix) -> (TaskSet, TaskSet, Vec<usize>) {
    let role: Vec<u64> = scenario.set.tasks().iter().map(|_| draw.below(4)).collect();
    let old: Vec<usize> = (0..role.len()).filter(|&task| role[task] != 0).collect();
    let mut new: Vec<usize> = (0..role.len()).filter(|&task| role[task] != 1).collect();
    if draw.below(3) == 0 {
        new.reverse();
    }
    let mut second = chosen(&scenario.set, new.into_iter());
    if draw.below(6) == 0 && !second.tasks().is_empty() {
        // Something that may fit alone and cannot be changed at once.
        let mut tasks = second.tasks().to_vec();
        tasks[0].period = Nanos::new(tasks[0].period.get() * 2);
        second = TaskSet::new(tasks, second.platform().clone()).expect("a model");
    }
    (chosen(&scenario.set, old.iter().copied()), second, old)
}

#[test]
fn tasks_come_and_go_and_every_bound_holds() {
    let sets = from_environment("AEGIS_SIM_ONLINE", 200);
    let first = from_environment("AEGIS_SIM_SEED", 0);
    let mut counts = Counts::default();
    for seed in first..first + sets {
        let _named = Named(seed);
        let scenario = Scenario::generate(seed).expect("a model");
        if scenario.excludes() {
            continue;
        }
        let mut draw = SplitMix(seed ^ 0x4F4E_4C49_4E45);
        let (old, new, numbers) = drawn(&scenario, &mut draw);
        let Some(mut play) = Play::new(&scenario, old.clone(), &numbers) else { continue };
        let at = 30_000_000 + draw.below(90_000_000);
        play.serve(at, &mut counts);
        play.ask(&new, &mut counts);
        play.ask(&new, &mut counts);
        play.serve(at + 120_000_000, &mut counts);
        play.ask(&old, &mut counts);
        play.serve(END.get(), &mut counts);
        let Play { online, kept, .. } = &mut play;
        online.driver_mut().run(END, GRACE, kept);
        assert!(online.driver_mut().plant_mut().collisions.is_empty());
        assert_eq!(online.driver_mut().plant_mut().unanswered(), None);
        play.check(&mut counts);
    }
    println!("{counts:?}");
    let Counts { at_once, at_idle, refused, made, jobs, stopping, kept, left_behind } = counts;
    if sets >= 200 {
        assert!(at_once > sets / 2 && at_idle > 0 && made > sets / 3, "{at_once} {at_idle} {made}");
        assert!(kept > 0 && left_behind > sets / 4, "{kept} {left_behind}");
        assert!(jobs > 50 * sets && stopping > 0, "{jobs} {stopping} {refused}");
    }
}

#[test]
fn a_set_that_does_not_fit_disturbs_nobody() {
    for seed in 0..40 {
        let scenario = Scenario::generate(seed).expect("a model");
        let all: Vec<usize> = (0..scenario.set.tasks().len()).collect();
        let run = |ask: bool| {
            let mut play = Play::new(&scenario, scenario.set.clone(), &all)?;
            let mut counts = Counts::default();
            play.serve(50_000_000, &mut counts);
            if ask {
                let mut tasks = scenario.set.tasks().to_vec();
                let long = tasks[0].period;
                tasks[0].segments.iter_mut().for_each(|segment| segment.bound = long);
                tasks[0].deadline = long;
                let heavy = TaskSet::new(tasks, scenario.set.platform().clone()).expect("a model");
                let asked = play.online.ask(&heavy, &mut play.kept);
                assert!(matches!(asked, Err(OnlineError::Refused(_))));
            }
            play.serve(150_000_000, &mut counts);
            Some(play.kept.0)
        };
        if !scenario.excludes() {
            assert_eq!(run(true), run(false), "seed {seed}");
        }
    }
}

/// Names the seed when something panics.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let seed = self.0;
            eprintln!(
                "again: AEGIS_SIM_SEED={seed} AEGIS_SIM_ONLINE=1 cargo test -p aegisrt --test simulation -- online"
            );
        }
    }
}
