//! The real world as the driver sees it: carriers behind mailboxes, clients behind ports, the host clock.
//!
//! The driver blocks between events (it parks, and carriers and clients unpark it): it never spins on a core that a
//! lane owns. What waking costs is calibrated and charged.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use aegis_cuda::{CompletionFlag, HostClock};
use aegis_sched::engine::{Answer, Dispatch};
use aegis_types::records::{Control, SegmentOutcome};
use aegis_types::{DispatchSeq, LaneId, Nanos, TaskId, Time};

use crate::client::{Packet, Port};
use crate::driver::Plant;
use crate::mailbox::{Launch, Mailbox};

/// The longest single wait: in it the two clocks part by 10 µs at most (500 ppm).
const WAIT_MAX: Nanos = Nanos::from_millis(20);

/// A lane as the driver reaches it.
pub struct LanePort {
    /// Where commands are posted.
    pub mailbox: Arc<Mailbox>,
    /// Where the lane's stream stores what it finished.
    pub flag: Arc<dyn CompletionFlag>,
    /// The carrier, to wake.
    pub carrier: Thread,
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
}

impl HostPlant {
    /// A plant of these lanes, by number, and of these ports, by task; tasks without clients have none.
    pub fn new(
        clock: HostClock,
        lanes: Vec<LanePort>,
        ports: Vec<Option<Arc<Port>>>,
        control: Arc<ControlRequest>,
    ) -> Self {
        let held = ports.iter().map(|_| None).collect();
        Self { clock, lanes, ports, held, control, told: 0 }
    }

    /// The lanes.
    pub fn lanes(&self) -> &[LanePort] {
        &self.lanes
    }

    /// Posts a launch to a lane without an engine: for calibration and profiling, where no deadline is at stake.
    pub fn post(&self, lane: LaneId, launch: Launch) {
        let port = &self.lanes[lane.index()];
        port.mailbox.post(launch);
        port.carrier.unpark();
    }
}

impl Plant for HostPlant {
    fn now(&self) -> Time {
        self.clock.now()
    }

    fn landed(&mut self, lane: LaneId) -> (DispatchSeq, SegmentOutcome) {
        let port = &self.lanes[lane.index()];
        let dispatch = port.flag.load();
        (dispatch, port.mailbox.landing().outcome)
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

    /// Parks until somebody unparks the driver or `until` comes, but never long: the system counts the wait on a clock
    /// that time synchronisation slews, the stamps on one that it does not. The lateness behind `until` is the only delay that
    /// the thread can see of itself; that behind a carrier's flag is in the carrier's records.
    fn wait(&mut self, until: Option<Time>) -> Nanos {
        let now = self.clock.now();
        match until {
            None => {
                std::thread::park_timeout(Duration::from_nanos(WAIT_MAX.get()));
                Nanos::ZERO
            }
            Some(until) if until <= now => Nanos::ZERO,
            Some(until) => {
                let step = until.since(now).min(WAIT_MAX);
                std::thread::park_timeout(Duration::from_nanos(step.get()));
                self.clock.now().since(until)
            }
        }
    }
}
