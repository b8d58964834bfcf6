//! Paths between driver and launcher on a device whose work runs later than it is launched.
//!
//! Models run while the driver waits as it does in production, in three situations. One lane at a time, back to back:
//! how long a post takes to reach a launcher that has nothing else to do, which is the hand-off. All lanes back to back:
//! how long a post takes when the launcher is busy with others. And bursts: all lanes idle, a launch is posted on each at
//! once, and the last of them waits for the visits to all others.
//!
//! A launch is charged with the sum of M - 1 visits, so that sum is what is measured, and the charge for one visit is its
//! share. The longest single visit says nothing of the sum: it is one in which the thread did not run, and such a stall
//! does not come M - 1 times in a row.
//!
//! Where the driver launches, a post is a launch and a landing is its end, so that both are timed as they are; what is
//! charged for a launcher is zero then.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aegis_sched::Overheads;
use aegis_types::Nanos;

use super::laps::{Laps, Paths, Situation};
use super::rehearsal::Rehearsal;
use super::samples::{NONE, with_margin};
use super::steps::{Looks, Steps, Synthetic, Timed};
use super::turns::{self, Turns};
use super::{CalibrateOptions, Measured, enough, floors, wakeups};
use crate::carrier::{Crew, CrewOptions};
use crate::config::{Figure, LaunchMode};
use crate::error::RuntimeError;
use crate::launcher::GLANCE;
use crate::plant::{ControlRequest, HostPlant};
use crate::system::System;
use crate::waiting::Waiting;

/// How long one lane has the launcher to itself before the next does.
const SOLO: Nanos = Nanos::from_millis(5);

/// Calibrates the machine with this system's device, which `rehearsal` keeps busy.
///
/// # Errors
/// What the device refuses; a lane that is lost.
pub fn calibrate(
    system: &System,
    rehearsal: &Rehearsal,
    synthetic: &mut Synthetic,
    options: CalibrateOptions,
    carriers: CrewOptions,
) -> Result<Measured, RuntimeError> {
    let part = |share: u64| Nanos::new(options.duration.get() / 10 * share);
    let mut figures = floors::measure(system, &rehearsal.loader, &rehearsal.floor, part(2))?;
    let beside = rehearsal.system(system)?;
    let mut steps = Steps::new(synthetic, system.clock())?;
    let (mut paths, turns) = measure_paths(&beside, options, carriers, &mut steps)?;
    if carriers.waiting.sleeps() {
        paths.wakeup = paths.wakeup.with(wakeups::measure(system.clock(), part(1)));
        enough("wake-ups", &paths.wakeup, options)?;
    }
    let lanes = system.lane_count() as u64;
    let bursts = if lanes > 1 { &paths.burst } else { &paths.alone };
    for (what, samples) in [("handoff", &paths.alone), ("turns", &turns.launching), ("bursts", bursts)] {
        enough(what, samples, options)?;
    }
    if carriers.launch == LaunchMode::Driver {
        enough("landings", &paths.landing, options)?;
        enough("questions", &paths.question, options)?;
    }
    let tasks = system.models().len() as u64;
    let stalls = paths.gaps.stalls();
    let stall = options.stall.unwrap_or_else(|| with_margin(stalls.largest, options.margin_ppm));
    let charge = |steps: &Timed| {
        let facts =
            Facts { paths: &paths, turns: &turns, steps, stall, lanes, tasks, launch: carriers.launch };
        facts.charge(options.margin_ppm, carriers.waiting)
    };
    let all = steps.charged(None);
    // What serving would void is no step, where the driver watches itself. The limit only falls by what is left out, so that
    // all of it stays beyond the limit.
    let watched = (carriers.waiting != Waiting::Blocking).then(|| charge(&all).stall);
    let steps = watched.map_or(all, |watched| steps.charged(Some(watched)));
    let overheads = charge(&steps);
    figures.extend(paths.gaps.figure("look_to_look"));
    figures.extend(seen(&paths, &turns));
    let rounds = steps.rounds(options.margin_ppm);
    let spins = !carriers.waiting.sleeps();
    let samples = vec![
        ("poll", paths.poll),
        ("release", steps.tick),
        ("completion", steps.completion),
        ("landing", paths.landing),
        ("question", paths.question),
        ("decision", steps.decision),
        ("dispatch", paths.dispatch),
        ("handoff", paths.alone),
        ("wakeup", paths.wakeup),
    ];
    let turn = Some(with_margin(turns.mark, options.margin_ppm));
    Ok(Measured { overheads, samples, figures, turn, stalls: spins.then_some(stalls), rounds })
}

fn nanos(span: Duration) -> Nanos {
    Nanos::new(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX))
}

/// What is written down and not charged as it is.
fn seen(paths: &Paths, turns: &Turns) -> Vec<Figure> {
    [
        paths.busy.figure("handoff_all_busy"),
        paths.burst.figure("handoff_burst"),
        paths.calls.figure("launch_call"),
        turns.launching.figure("turn_launching"),
        turns.ending.figure("turn_ending"),
        turns.both.figure("turn_both"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Everything that charges are made of.
struct Facts<'a> {
    paths: &'a Paths,
    turns: &'a Turns,
    steps: &'a Timed,
    /// The longest gap of a driver that spins: declared, or seen with the margin on it.
    stall: Nanos,
    lanes: u64,
    tasks: u64,
    launch: LaunchMode,
}

impl Facts<'_> {
    fn charge(&self, margin_ppm: u64, waiting: Waiting) -> Overheads {
        let Self { paths, turns, steps, .. } = self;
        let (poll, dispatch) = (&paths.poll, &paths.dispatch);
        let looks = Looks { poll, dispatch, landing: &paths.landing, question: &paths.question };
        let driver = steps.driver(looks, margin_ppm);
        let is_driver = self.launch == LaunchMode::Driver;
        // Where the driver launches, nothing is handed over and nobody's turn is waited for.
        let (handoff, turn) = if is_driver { Default::default() } else { self.launcher(margin_ppm) };
        let others = turn.checked_mul(self.lanes.saturating_sub(1)).unwrap_or(Nanos::MAX);
        let dispatch = driver.dispatch;
        let gap = self.stall;
        let woken = paths.wakeup.charged(margin_ppm);
        let (wakeup, client, stall) = match waiting {
            Waiting::Spin => (Nanos::ZERO, dispatch, gap),
            // It looks without pause while something is in flight, and sleeps otherwise.
            Waiting::Hybrid { .. } => (woken, woken, woken.max(gap)),
            Waiting::Blocking => (woken, woken, woken),
        };
        let (handoff, news) = match waiting.sleeps() && !is_driver {
            // A launcher that sleeps is woken by a post; lanes that are kept busy seldom let it. It glances at a flag that
            // wakes nobody, and is woken as the driver is.
            true => (
                handoff.saturating_add(wakeup),
                dispatch.saturating_add(wakeup).saturating_add(nanos(GLANCE)),
            ),
            false => (handoff, dispatch),
        };
        let mut overheads = Overheads {
            handoff,
            launch_lock: turn,
            wakeup,
            client,
            notify: others.saturating_add(turns.longest(margin_ppm)).saturating_add(news),
            stall,
            ..driver
        };
        if waiting != Waiting::Blocking {
            // Nobody handled anything between the looks that were timed; in a run, a cycle's work is no stall, but what
            // interrupts it is. Nor is a launch or an ending, whose usual length is left out of gaps.
            let apart = Looks { poll, dispatch: &NONE, landing: &NONE, question: &NONE };
            let cycle = if is_driver { steps.driver(apart, margin_ppm) } else { overheads };
            overheads.stall = stall.saturating_add(self.cycle(&cycle, paths.poll.charged(margin_ppm)));
        }
        overheads
    }

    /// The hand-off, and the turn of each other lane that comes on top of it.
    fn launcher(&self, margin_ppm: u64) -> (Nanos, Nanos) {
        let Self { paths, turns, .. } = self;
        let [alone, busy, burst] =
            [&paths.alone, &paths.busy, &paths.burst].map(|samples| samples.charged(margin_ppm));
        match self.lanes.saturating_sub(1) {
            // Nobody waits for another lane, and what was seen back to back is hand-off.
            0 => (alone.max(busy), turns.longest(margin_ppm)),
            others => {
                let waited = busy.max(burst).saturating_sub(alone);
                let share = Nanos::new(waited.get().div_ceil(others));
                (alone, share.max(with_margin(turns.median(), margin_ppm)))
            }
        }
    }

    /// The longest cycle of the decider with the tasks of the system, and a look that takes `poll`.
    fn cycle(&self, overheads: &Overheads, poll: Nanos) -> Nanos {
        let times = |span: Nanos, count: u64| span.checked_mul(count).unwrap_or(Nanos::MAX);
        let lane = overheads.completion.saturating_add(overheads.decision).saturating_add(overheads.dispatch);
        let releases = times(overheads.release.max(overheads.arrival), self.tasks);
        [releases, times(lane, self.lanes), overheads.control].into_iter().fold(poll, Nanos::saturating_add)
    }
}

fn measure_paths(
    beside: &System,
    options: CalibrateOptions,
    carriers: CrewOptions,
    steps: &mut Steps,
) -> Result<(Paths, Turns), RuntimeError> {
    let clock = beside.clock();
    let turns = Arc::new(Mutex::new(turns::Raw::default()));
    let lanes = turns::lanes(beside, &turns)?;
    let crew = Crew::start(beside.device(), clock, &std::thread::current(), carriers, lanes)?;
    let control = Arc::new(ControlRequest::default());
    let plant = HostPlant::new(clock, &crew, Vec::new(), control, carriers.waiting);
    let mut laps = Laps::new(plant, clock, beside.by_lane(), true)?;
    let lanes = laps.lanes();
    let mut next = (0..lanes).cycle().peekable();
    let part =
        |share: u64| Nanos::new(options.duration.get() / 10 / u64::from(options.rounds.max(1)) * share);
    // Each situation, and the driver's steps, meet the host at many times: it has bad seconds.
    let driven: Result<(), RuntimeError> = (0..options.rounds.max(1)).try_for_each(|_| {
        laps.round(Situation::Busy, part(3))?;
        laps.round(Situation::Burst, part(3))?;
        let end = clock.now().saturating_add(part(2));
        while let Some(lane) = next.next_if(|_| clock.now() < end) {
            laps.round(Situation::Alone(lane), SOLO)?;
        }
        steps.round();
        Ok(())
    });
    let paths = laps.finish();
    // A lane that was lost says why here, and says more than a driver that waited in vain.
    let reports = crew.join(Duration::from_secs(10))?;
    driven?;
    let raw = std::mem::take(&mut *turns.lock().unwrap_or_else(PoisonError::into_inner));
    Ok((paths, Turns::of(raw, &reports)))
}
