//! The loop of a carrier's thread: a visit to each of its lanes in turn, again and again.
//!
//! On a device whose work runs where it is launched, a thread carries one lane, and a visit lasts as long as a segment.
//! On an asynchronous device one thread carries every lane: launches are first in, first out by construction, and one
//! waits for a visit to each other lane at most, without a lock (rule 3 of `docs/model.md`). A visit looks at the
//! flag before the mailbox, because the driver may see the flag first and post the next launch: what the job before
//! left is then taken away before its buffers can be written again.

use std::sync::Arc;
use std::thread::Thread;
use std::time::Duration;

use aegis_cuda::{CompletionFlag, HostClock};
use aegis_types::records::{SegmentOutcome, SegmentRan};
use aegis_types::{DispatchSeq, LaneId, Nanos, Record, Sink, Time};

use crate::carrier::{LaneReport, Work};
use crate::mailbox::{Landing, Launch, Mailbox};
use crate::waiting::{Pause, Waiting};

/// How long a segment is in flight before its lane is asked whether it can still end, and between two questions.
const PATIENCE: Nanos = Nanos::from_millis(10);

/// How often a sleeping carrier looks at flags that a device stores without waking anybody.
const GLANCE: Duration = Duration::from_micros(50);

/// Why a lane will never land again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) lane: LaneId,
    pub(crate) reason: String,
}

/// What a carrier's thread has to do with the rest of the runtime.
pub(crate) struct Bridge {
    pub(crate) clock: HostClock,
    pub(crate) driver: Thread,
    pub(crate) waiting: Waiting,
    /// Whether work is still to run when its launch returns.
    pub(crate) asynchronous: bool,
}

impl Bridge {
    fn wake_driver(&self) {
        if self.waiting.sleeps() {
            self.driver.unpark();
        }
    }
}

/// A lane on its carrier's thread.
pub(crate) struct Carried {
    pub(crate) lane: LaneId,
    pub(crate) work: Box<dyn Work>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) flag: Arc<dyn CompletionFlag>,
    pub(crate) sink: Box<dyn Sink + Send>,
    last: DispatchSeq,
    flight: Option<Flight>,
}

/// A launch whose end was not seen yet.
#[derive(Clone, Copy)]
struct Flight {
    launch: Launch,
    outcome: SegmentOutcome,
    entered: Time,
    /// When the launch returned; on a synchronous device the work was done then.
    returned: Time,
    /// When the lane was last asked whether the segment can still end.
    asked: Time,
}

impl Carried {
    pub(crate) fn new(
        lane: LaneId,
        work: Box<dyn Work>,
        mailbox: Arc<Mailbox>,
        flag: Arc<dyn CompletionFlag>,
        sink: Box<dyn Sink + Send>,
    ) -> Self {
        Self { lane, work, mailbox, flag, sink, last: DispatchSeq::NONE, flight: None }
    }

    /// Ends what landed, then launches what was posted. Returns whether there was anything to do. Allocates nothing.
    fn visit(&mut self, bridge: &Bridge) -> Result<bool, Loss> {
        let landed = match self.flight {
            Some(flight) if self.flag.load() < flight.launch.dispatch => return Ok(false),
            other => other,
        };
        let posted = self.mailbox.take(self.last);
        let Some(latest) = posted.or(landed.map(|flight| flight.launch)) else { return Ok(false) };
        let begun = bridge.clock.now();
        if let Some(flight) = landed {
            bridge.wake_driver();
            self.flight = None;
            self.work.landed(&flight.launch, flight.outcome);
            self.record(&flight, begun);
        }
        if let Some(launch) = posted {
            self.launch(launch, bridge)?;
        }
        if bridge.asynchronous {
            self.work.turned(&latest, bridge.clock.now().since(begun));
        }
        Ok(true)
    }

    fn launch(&mut self, launch: Launch, bridge: &Bridge) -> Result<(), Loss> {
        self.last = launch.dispatch;
        let entered = bridge.clock.now();
        let outcome = SegmentOutcome::Failed;
        let mut flight = Flight { launch, outcome, entered, returned: entered, asked: entered };
        let mailbox = &self.mailbox;
        self.work.run(&launch, &mut |outcome| {
            flight.returned = bridge.clock.now();
            flight.outcome = outcome;
            mailbox.land(Landing { outcome, entered, left: flight.returned });
        });
        self.still_there()?;
        if bridge.asynchronous {
            self.flight = Some(flight);
        } else {
            bridge.wake_driver();
            self.record(&flight, flight.returned);
        }
        Ok(())
    }

    fn record(&mut self, flight: &Flight, left: Time) {
        let Launch { job, segment, dispatch, .. } = flight.launch;
        let (lane, entered) = (self.lane, flight.entered);
        self.sink.emit(SegmentRan { job, lane, segment, dispatch, entered, left }.at(left));
        self.work.watch(&flight.launch, left.since(entered), left, self.sink.as_mut());
    }

    /// Asks a lane whose segment has been in flight for long whether it can still end.
    fn ask(&mut self, now: Time) -> Result<(), Loss> {
        if let Some(flight) = &mut self.flight
            && now.since(flight.asked) >= PATIENCE
        {
            flight.asked = now;
            self.work.probe();
            self.still_there()?;
        }
        Ok(())
    }

    fn still_there(&self) -> Result<(), Loss> {
        match self.work.lost() {
            None => Ok(()),
            Some(reason) => Err(Loss { lane: self.lane, reason: reason.to_owned() }),
        }
    }
}

/// The lanes of one thread.
pub(crate) struct Launcher {
    lanes: Vec<Carried>,
    bridge: Bridge,
}

impl Launcher {
    pub(crate) const fn new(lanes: Vec<Carried>, bridge: Bridge) -> Self {
        Self { lanes, bridge }
    }

    /// Serves until every mailbox is closed and empty and nothing is in flight, then gives everything back.
    ///
    /// # Errors
    /// The first lane that was lost. Every lane of the thread is marked as dead then: the device is lost with it.
    pub(crate) fn serve(mut self) -> Result<Vec<LaneReport>, Loss> {
        let now = self.bridge.clock.now();
        self.lanes.iter_mut().for_each(|lane| lane.work.loaded(now, lane.sink.as_mut()));
        let mailboxes = self.lanes.iter().map(|lane| Arc::clone(&lane.mailbox)).collect();
        let obituary = Obituary { mailboxes, driver: self.bridge.driver.clone() };
        let served = self.rounds();
        if served.is_err() {
            obituary.publish();
        }
        // Also after a loss, because clients wait for what they submitted.
        let reports = self.lanes.into_iter().map(|lane| lane.work.finish()).collect();
        served.map(|()| reports)
    }

    fn rounds(&mut self) -> Result<(), Loss> {
        loop {
            // Read before the mailboxes: whoever closes them posts nothing afterwards.
            let closed = self.lanes.iter().all(|lane| lane.mailbox.is_closed());
            let mut acted = false;
            for lane in &mut self.lanes {
                acted |= lane.visit(&self.bridge)?;
            }
            if acted {
                continue;
            }
            let flying = self.lanes.iter().any(|lane| lane.flight.is_some());
            if closed && !flying {
                return Ok(());
            }
            if flying {
                let now = self.bridge.clock.now();
                self.lanes.iter_mut().try_for_each(|lane| lane.ask(now))?;
            }
            match self.bridge.waiting.pause(None, flying) {
                Pause::Look => std::hint::spin_loop(),
                Pause::Sleep(_) if flying => std::thread::park_timeout(GLANCE),
                // Whoever posts or closes wakes this thread.
                Pause::Sleep(_) => std::thread::park(),
            }
        }
    }
}

/// Tells the driver that lanes are dead, also if their carrier panics.
struct Obituary {
    mailboxes: Vec<Arc<Mailbox>>,
    driver: Thread,
}

impl Obituary {
    fn publish(&self) {
        self.mailboxes.iter().for_each(|mailbox| mailbox.mark_dead());
        self.driver.unpark();
    }
}

impl Drop for Obituary {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.publish();
        }
    }
}
