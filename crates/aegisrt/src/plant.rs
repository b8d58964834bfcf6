//! The real world as the driver sees it: carriers behind mailboxes, clients behind ports, the host clock.
//!
//! Between events the driver waits as the user chose ([`Waiting`]): it parks, and carriers and clients unpark it, or it
//! looks again at once, on a core of its own. What waking costs is calibrated and charged. Where the fleet lets the driver
//! launch, a post is a launch, and settling a lane whose flag shows ends what was launched.

use std::cell::Cell;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use aegis_cuda::{CompletionFlag, HostClock};
use aegis_sched::engine::{Answer, Dispatch};
use aegis_types::records::{Control, SegmentOutcome};
use aegis_types::{DispatchSeq, LaneId, Nanos, TaskId, Time};

use crate::carrier::Crew;
use crate::client::{Packet, Port};
use crate::driven::Shared;
use crate::driver::Plant;
use crate::launcher::{PATIENCE, Visited};
use crate::mailbox::{Launch, Mailbox};
use crate::stall::Gap;
use crate::waiting::{Pause, Waiting};

/// A lane as the driver reaches it.
#[derive(Clone)]
pub struct LanePort {
    /// Where commands are posted.
    pub mailbox: Arc<Mailbox>,
    /// Where the lane's stream stores what it finished.
    pub flag: Arc<dyn CompletionFlag>,
    /// The carrier, to wake.
    pub carrier: Thread,
    /// Where the carrier tells that it did not run.
    pub gap: Arc<Gap>,
}

/// A request of the operator, set by a signal handler or another thread, seen by the driver in its next cycle.
#[derive(Debug, Default)]
pub struct ControlRequest {
    level: AtomicU8,
    /// Who sleeps until something happens.
    driver: OnceLock<Thread>,
}

impl ControlRequest {
    /// Asks for it. The stronger request wins: a stop is not undone by a later drain.
    pub fn ask(&self, control: Control) {
        let level = match control {
            Control::Drain => 1,
            Control::Stop => 2,
        };
        self.level.fetch_max(level, Ordering::Release);
        if let Some(driver) = self.driver.get() {
            driver.unpark();
        }
    }

    /// Names the thread to wake; one request serves one run.
    pub fn attach(&self, driver: Thread) {
        // A request that is already attached keeps its driver.
        let _attached = self.driver.set(driver);
    }

    fn level(&self) -> u8 {
        self.level.load(Ordering::Acquire)
    }

    /// Whether anything was asked.
    pub fn is_asked(&self) -> bool {
        self.level() > 0
    }
}

/// The host's lanes, clients and clock.
pub struct HostPlant {
    clock: HostClock,
    lanes: Vec<LanePort>,
    ports: Vec<Option<Arc<Port>>>,
    held: Vec<Option<Box<Packet>>>,
    control: Arc<ControlRequest>,
    told: u8,
    waiting: Waiting,
    /// What was posted to each lane and not seen to land.
    posted: Vec<DispatchSeq>,
    /// How many of them there are.
    flying: usize,
    /// When the time was last read.
    looked: Cell<Time>,
    /// The longest span between two readings that nobody has asked for yet.
    gap: Cell<Nanos>,
    /// The same of the carriers: one for each thread.
    carriers: Vec<Arc<Gap>>,
    /// The launcher, where the driver makes its visits.
    driven: Option<Shared>,
}

impl HostPlant {
    /// A plant of the lanes of a crew, by number, and of these ports, by task; tasks without clients have none. Its driver
    /// waits as `waiting` says, and has the thread on which the crew was started if it is to launch itself.
    pub fn new(
        clock: HostClock,
        crew: &Crew,
        ports: Vec<Option<Arc<Port>>>,
        control: Arc<ControlRequest>,
        waiting: Waiting,
    ) -> Self {
        let lanes = crew.ports();
        let held = ports.iter().map(|_| None).collect();
        let posted = vec![DispatchSeq::NONE; lanes.len()];
        let (looked, gap) = (Cell::new(clock.now()), Cell::new(Nanos::ZERO));
        let mut carriers: Vec<Arc<Gap>> = Vec::new();
        for lane in &lanes {
            if !carriers.iter().any(|known| Arc::ptr_eq(known, &lane.gap)) {
                carriers.push(Arc::clone(&lane.gap));
            }
        }
        Self {
            clock,
            lanes,
            ports,
            held,
            control,
            told: 0,
            waiting,
            posted,
            flying: 0,
            looked,
            gap,
            carriers,
            driven: crew.driven(),
        }
    }

    /// Whether the driver launches, in the middle of its cycle.
    pub(crate) const fn launches(&self) -> bool {
        self.driven.is_some()
    }

    /// Where the driver launches, asks a lane whose segment has been in flight for long at `now` whether it can still end.
    fn ask(&self, now: Time) -> bool {
        let driven = self.driven.as_ref().filter(|_| self.flying > 0);
        driven.is_some_and(|driven| driven.borrow_mut().ask(now))
    }

    /// Where the driver launches, asks one lane with something in flight although it is not for long. Returns whether there
    /// was one.
    pub(crate) fn ask_at_once(&self) -> bool {
        self.ask(self.looked.get().saturating_add(PATIENCE))
    }

    /// Where the driver launches, does it on this lane, and ends what landed there. A visit is no stall, as none is of a
    /// launcher that spins: only what is unusual of it counts.
    fn visit(&self, lane: LaneId) {
        let visited = self.driven.as_ref().and_then(|driven| driven.borrow_mut().visit(lane));
        if let Some(Visited { begun, ended, excess }) = visited {
            let gap = begun.since(self.looked.replace(ended)).max(excess);
            self.gap.set(self.gap.get().max(gap));
        }
    }

    /// The lanes.
    pub fn lanes(&self) -> &[LanePort] {
        &self.lanes
    }

    /// Posts a launch to a lane: what an engine decides, and without one what calibration and profiling want.
    pub fn post(&mut self, lane: LaneId, launch: Launch) {
        let port = &self.lanes[lane.index()];
        port.mailbox.post(launch);
        if self.waiting.sleeps() {
            port.carrier.unpark();
        }
        self.flying += usize::from(self.posted[lane.index()] == DispatchSeq::NONE);
        self.posted[lane.index()] = launch.dispatch;
        self.visit(lane);
    }
}

impl Plant for HostPlant {
    fn now(&self) -> Time {
        let now = self.clock.now();
        let gap = now.since(self.looked.replace(now));
        self.gap.set(self.gap.get().max(gap));
        now
    }

    fn landed(&mut self, lane: LaneId) -> (DispatchSeq, SegmentOutcome) {
        let dispatch = self.lanes[lane.index()].flag.load();
        if dispatch != DispatchSeq::NONE && dispatch == self.posted[lane.index()] {
            self.posted[lane.index()] = DispatchSeq::NONE;
            self.flying -= 1;
        }
        (dispatch, self.lanes[lane.index()].mailbox.landing().outcome)
    }

    fn settle(&mut self, lane: LaneId) {
        self.visit(lane);
    }

    fn arrival(&mut self, task: TaskId) -> Option<u64> {
        let packet = self.ports.get(task.index())?.as_ref()?.next_submission()?;
        let token = packet.token();
        self.held[task.index()] = Some(packet);
        Some(token)
    }

    fn control(&mut self) -> Option<Control> {
        // A dead carrier leaves its lane busy for ever: the run ends, and says why.
        if self.lanes.iter().any(|lane| lane.mailbox.is_dead()) {
            self.control.ask(Control::Stop);
        }
        let level = self.control.level();
        if level <= self.told {
            return None;
        }
        self.told = level;
        Some(if level >= 2 { Control::Stop } else { Control::Drain })
    }

    fn launch(&mut self, command: &Dispatch) {
        self.post(command.lane, Launch::from(command));
    }

    fn answer(&mut self, answer: &Answer) {
        let port = self.ports.get(answer.task.index()).and_then(Option::as_ref);
        let packet = self.held.get_mut(answer.task.index()).and_then(Option::take);
        if let (Some(port), Some(packet)) = (port, packet) {
            port.settle(packet, answer);
        }
    }

    /// Sleeps until somebody wakes the driver or `until` comes, but never long: the system counts the wait on a clock
    /// that time synchronisation slews, the stamps on one that it does not. The lateness behind `until` is the only delay
    /// that a thread that sleeps can see of itself; that behind a carrier's flag is in the carrier's records.
    fn wait(&mut self, until: Option<Time>) -> Nanos {
        let _asked = self.ask(self.looked.get());
        // Who never sleeps needs no time to look again.
        let left = until.filter(|_| self.waiting.sleeps()).map(|until| until.since(self.clock.now()));
        match self.waiting.pause(left, self.flying > 0) {
            Pause::Look => {
                std::hint::spin_loop();
                Nanos::ZERO
            }
            Pause::Sleep(span) => {
                std::thread::park_timeout(Duration::from_nanos(span.get()));
                let awake = self.clock.now();
                self.looked.set(awake);
                until.map_or(Nanos::ZERO, |until| awake.since(until))
            }
        }
    }

    fn gap(&mut self) -> Nanos {
        let own = self.gap.replace(Nanos::ZERO);
        let gap = self.carriers.iter().fold(own, |longest, carrier| longest.max(carrier.take()));
        match self.waiting {
            Waiting::Spin | Waiting::Hybrid { .. } => gap,
            // Its limit is that of a wake-up, which says nothing of the length of a cycle.
            Waiting::Blocking => Nanos::ZERO,
        }
    }

    fn is_lost(&self, lane: LaneId) -> bool {
        self.lanes.get(lane.index()).is_some_and(|lane| lane.mailbox.is_dead())
    }
}
