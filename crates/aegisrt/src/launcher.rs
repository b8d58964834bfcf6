//! The loop of a carrier's thread: a visit to each of its lanes in turn, again and again.
//!
//! On a device whose work runs where it is launched, a thread carries one lane, and a visit lasts as long as a segment.
//! On an asynchronous device one thread carries every lane that the fleet does not give a carrier of its own: launches
//! are first in, first out by construction, and one waits for a visit to each other lane of its thread at most and for
//! one question after a long segment, without a lock (section 3 of `docs/model.md`). A visit looks at the flag before the
//! mailbox, because the driver may see the flag first and post the next launch: what the job before left is then taken
//! away before its buffers can be written again.
//!
//! Where the fleet lets the driver launch, there is no such thread: the driver makes the visits itself
//! ([`driven`](crate::driven)).

use std::sync::Arc;
use std::thread::Thread;
use std::time::Duration;

use aegis_cuda::{CompletionFlag, HostClock};
use aegis_types::records::{SegmentOutcome, SegmentRan};
use aegis_types::{DispatchSeq, LaneId, Nanos, Record, Sink, Time};

use crate::carrier::{LaneReport, Work};
use crate::mailbox::{Landing, Launch, Mailbox};
use crate::stall::{Gap, Watch};
use crate::waiting::{Pause, Waiting};

/// How long a segment is in flight before its lane is asked whether it can still end, and between two questions.
pub(crate) const PATIENCE: Nanos = Nanos::from_millis(10);

/// How long lanes are kept at most after a loss for what is still in flight on them: shorter than whoever joins the
/// carrier waits, so that the loss is told and not the wait.
const FAREWELL: Nanos = Nanos::from_millis(1_000);

/// How often a sleeping carrier looks at flags that a device stores without waking anybody.
pub(crate) const GLANCE: Duration = Duration::from_micros(50);

/// Why a lane will never land again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) lane: LaneId,
    pub(crate) reason: String,
}

impl Loss {
    /// The reason where a segment goes on and on.
    pub(crate) const ENDLESS: &str = "its segment does not end";
}

/// What a carrier's thread has to do with the rest of the runtime.
#[derive(Clone)]
pub(crate) struct Bridge {
    pub(crate) clock: HostClock,
    /// Whom a landing or a loss wakes; nobody where the driver makes the visits itself.
    pub(crate) driver: Option<Thread>,
    pub(crate) waiting: Waiting,
    /// Whether work is still to run when its launch returns.
    pub(crate) asynchronous: bool,
    /// Where gaps of this thread are told.
    pub(crate) gap: Arc<Gap>,
    /// The mailboxes of all lanes that are lost with one of this thread's.
    pub(crate) fellows: Vec<Arc<Mailbox>>,
}

impl Bridge {
    /// Whoever sleeps, or runs segments himself, does not look all the time.
    fn watch(&self) -> Option<Watch> {
        let spins = self.asynchronous && self.waiting == Waiting::Spin;
        spins.then(|| Watch::new(Arc::clone(&self.gap), self.clock.now()))
    }

    fn wake_driver(&self) {
        if self.waiting.sleeps()
            && let Some(driver) = &self.driver
        {
            driver.unpark();
        }
    }

    /// Tells the driver that lanes are dead.
    fn publish_loss(&self) {
        self.fellows.iter().for_each(|mailbox| mailbox.mark_dead());
        if let Some(driver) = &self.driver {
            driver.unpark();
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

/// A visit in which something was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Visited {
    pub(crate) begun: Time,
    /// Its end; on a device whose work runs where it is launched, its beginning again.
    pub(crate) ended: Time,
    /// By how much it was longer than such visits usually are, if it was more than twice as long.
    pub(crate) excess: Nanos,
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

    /// Ends what landed, then launches what was posted; `None` if there was nothing to do. Allocates nothing.
    fn visit(&mut self, bridge: &Bridge, watch: &mut Option<Watch>) -> Result<Option<Visited>, Loss> {
        let landed = match self.flight {
            Some(flight) if self.flag.load() < flight.launch.dispatch => return Ok(None),
            other => other,
        };
        let posted = self.mailbox.take(self.last);
        let Some(latest) = posted.or(landed.map(|flight| flight.launch)) else { return Ok(None) };
        let begun = bridge.clock.now();
        if let Some(watch) = watch {
            watch.look(begun);
        }
        if let Some(flight) = landed {
            bridge.wake_driver();
            self.end(&flight, begun);
        }
        if let Some(launch) = posted {
            self.launch(launch, bridge)?;
        }
        let (mut ended, mut excess) = (begun, Nanos::ZERO);
        if bridge.asynchronous {
            ended = bridge.clock.now();
            excess = self.work.turned(&latest, ended.since(begun));
            if let Some(watch) = watch {
                watch.worked(ended, excess);
            }
        }
        Ok(Some(Visited { begun, ended, excess }))
    }

    /// Takes away what a launch left whose flag was seen at `seen`.
    fn end(&mut self, flight: &Flight, seen: Time) {
        self.flight = None;
        self.work.landed(&flight.launch, flight.outcome);
        self.record(flight, seen);
    }

    /// Ends what landed, and launches nothing any more.
    fn end_shown(&mut self, now: Time) {
        if let Some(flight) = self.flight
            && self.flag.load() >= flight.launch.dispatch
        {
            self.end(&flight, now);
        }
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

    /// `left` is the visit that saw the flag, which on an asynchronous device may be a visit to each other lane later
    /// than the flag: good for blame, too long for a verdict.
    fn record(&mut self, flight: &Flight, left: Time) {
        let Launch { job, segment, dispatch, .. } = flight.launch;
        let (lane, entered) = (self.lane, flight.entered);
        self.sink.emit(SegmentRan { job, lane, segment, dispatch, entered, left }.at(left));
        self.work.watch(&flight.launch, left.since(entered), left, self.sink.as_mut());
    }

    /// When a segment that has been in flight for long was asked after last; `None` for others.
    fn overdue(&self, now: Time) -> Option<Time> {
        self.flight.map(|flight| flight.asked).filter(|asked| now.since(*asked) >= PATIENCE)
    }

    /// Asks at `now` whether what is in flight can still end.
    fn ask(&mut self, now: Time, clock: HostClock) -> Result<(), Loss> {
        if let Some(flight) = &mut self.flight {
            flight.asked = now;
            self.work.probe();
            self.work.asked(&flight.launch, clock.now().since(now));
        }
        self.still_there()
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
    /// The first lane that was lost. All fellows are marked as dead then: on an asynchronous device these are the lanes of
    /// every carrier, because the device is lost with one of its lanes. The other carriers hear of it when they call the
    /// device, and end what still lands when they are closed.
    pub(crate) fn serve(mut self) -> Result<Vec<LaneReport>, Loss> {
        self.begin();
        let _last_words = Obituary(self.bridge.clone());
        let served = self.rounds();
        if served.is_err() {
            self.give_up();
        }
        self.end(served)
    }

    /// Records what was loaded.
    pub(crate) fn begin(&mut self) {
        let now = self.bridge.clock.now();
        self.lanes.iter_mut().for_each(|lane| lane.work.loaded(now, lane.sink.as_mut()));
    }

    /// A lane is lost: ends what landed, and tells the driver.
    pub(crate) fn give_up(&mut self) {
        // Before anybody hears of the loss: the engine may have been told already of what shows.
        self.end_shown();
        self.bridge.publish_loss();
    }

    /// Gives everything back, after a loss as soon as the device is done with it.
    ///
    /// # Errors
    /// The loss.
    pub(crate) fn end(mut self, served: Result<(), Loss>) -> Result<Vec<LaneReport>, Loss> {
        if served.is_err() {
            self.take_leave();
        }
        // Also after a loss, because clients wait for what they submitted.
        let reports = self.lanes.into_iter().map(|lane| lane.work.finish()).collect();
        served.map(|()| reports)
    }

    fn rounds(&mut self) -> Result<(), Loss> {
        let mut watch = self.bridge.watch();
        loop {
            // Read before the mailboxes: whoever closes them posts nothing afterwards.
            let closed = self.lanes.iter().all(|lane| lane.mailbox.is_closed());
            let mut acted = false;
            for lane in &mut self.lanes {
                acted |= lane.visit(&self.bridge, &mut watch)?.is_some();
            }
            if acted {
                continue;
            }
            let flying = self.lanes.iter().any(|lane| lane.flight.is_some());
            if closed && !flying {
                return Ok(());
            }
            let now = self.bridge.clock.now();
            if let Some(watch) = &mut watch {
                watch.look(now);
            }
            if flying {
                self.ask(now)?;
            }
            match self.bridge.waiting.pause(None, flying) {
                Pause::Look => std::hint::spin_loop(),
                Pause::Sleep(_) if flying => std::thread::park_timeout(GLANCE),
                // Whoever posts or closes wakes this thread.
                Pause::Sleep(_) => std::thread::park(),
            }
        }
    }

    /// Ends what landed on one lane, then launches what was posted to it; `None` if there was nothing to do.
    ///
    /// # Errors
    /// That the lane is lost.
    pub(crate) fn visit(&mut self, lane: LaneId) -> Result<Option<Visited>, Loss> {
        let found = self.lanes.iter_mut().find(|carried| carried.lane == lane);
        found.map_or(Ok(None), |carried| carried.visit(&self.bridge, &mut None))
    }

    /// Waits until nothing is in flight any more; nothing is posted meanwhile.
    ///
    /// # Errors
    /// The first lane that is lost, or whose segment does not end within `grace`.
    pub(crate) fn drain(&mut self, grace: Nanos) -> Result<(), Loss> {
        let last = self.bridge.clock.now().saturating_add(grace);
        loop {
            let now = self.bridge.clock.now();
            self.end_shown();
            let Some(flying) = self.lanes.iter().find(|lane| lane.flight.is_some()) else { return Ok(()) };
            if now >= last {
                return Err(Loss { lane: flying.lane, reason: Loss::ENDLESS.to_owned() });
            }
            self.ask(now)?;
            std::thread::sleep(GLANCE);
        }
    }

    /// Asks the lane that waits longest of those whose segments have been in flight for long. One at a time: lanes that
    /// were launched together would be asked together, and a launch that comes meanwhile waits for all of it. Returns whether
    /// there was one.
    ///
    /// # Errors
    /// That the lane is lost.
    pub(crate) fn ask(&mut self, now: Time) -> Result<bool, Loss> {
        let longest = self.lanes.iter_mut().filter_map(|lane| Some((lane.overdue(now)?, lane)));
        match longest.min_by_key(|(asked, _)| *asked) {
            Some((_, lane)) => lane.ask(now, self.bridge.clock).map(|()| true),
            None => Ok(false),
        }
    }

    fn end_shown(&mut self) {
        let now = self.bridge.clock.now();
        self.lanes.iter_mut().for_each(|lane| lane.end_shown(now));
    }

    /// Keeps the lanes until the device is done with their buffers, and ends what still lands. A device that is lost is
    /// done at once.
    fn take_leave(&mut self) {
        let last = self.bridge.clock.now().saturating_add(FAREWELL);
        loop {
            let settled = self.lanes.iter_mut().all(|lane| lane.work.settled());
            // Looked at after asking: flags are stored before their lanes are done.
            self.end_shown();
            if settled || self.bridge.clock.now() >= last {
                return;
            }
            std::thread::sleep(GLANCE);
        }
    }
}

/// Tells the driver that lanes are dead if their carrier panics.
struct Obituary(Bridge);

impl Drop for Obituary {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.publish_loss();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use aegis_types::record::Discard;
    use aegis_types::{JobId, SegmentIndex, TaskId};

    use super::*;

    #[derive(Default)]
    struct Flag(AtomicU64);

    impl Flag {
        fn show(&self, dispatch: u64) {
            self.0.store(dispatch, Ordering::Release);
        }
    }

    impl CompletionFlag for Flag {
        fn load(&self) -> DispatchSeq {
            DispatchSeq::new(self.0.load(Ordering::Acquire))
        }
    }

    type Log = Rc<RefCell<Vec<String>>>;

    /// Work that does what its test says and writes down what it is asked for.
    struct Told {
        name: char,
        log: Log,
        /// Returns why the lane is lost, if this launch loses it.
        runs: Box<dyn FnMut() -> Option<String>>,
        settles: Box<dyn FnMut() -> bool>,
        lost: Option<String>,
    }

    impl Told {
        fn new(name: char, log: &Log, runs: impl FnMut() -> Option<String> + 'static) -> Self {
            let settles = Box::new(|| true);
            Self { name, log: Rc::clone(log), runs: Box::new(runs), settles, lost: None }
        }

        fn note(&self, what: &str) {
            self.log.borrow_mut().push(format!("{} {what}", self.name));
        }
    }

    impl Work for Told {
        fn run(&mut self, _: &Launch, ended: &mut dyn FnMut(SegmentOutcome)) {
            ended(SegmentOutcome::Done);
            self.lost = (self.runs)();
        }

        fn landed(&mut self, _: &Launch, outcome: SegmentOutcome) {
            assert_eq!(outcome, SegmentOutcome::Done);
            self.note("landed");
        }

        fn probe(&mut self) {
            self.note("probe");
        }

        fn asked(&mut self, launch: &Launch, _: Nanos) {
            self.note(&format!("asked {}", launch.dispatch.get()));
        }

        fn turned(&mut self, _: &Launch, _: Nanos) -> Nanos {
            Nanos::ZERO
        }

        fn settled(&mut self) -> bool {
            (self.settles)()
        }

        fn lost(&self) -> Option<&str> {
            self.lost.as_deref()
        }

        fn loaded(&self, _: Time, _: &mut dyn Sink) {}

        fn watch(&mut self, _: &Launch, _: Nanos, _: Time, _: &mut dyn Sink) {}

        fn finish(self: Box<Self>) -> LaneReport {
            self.note("finish");
            LaneReport::default()
        }
    }

    fn launch(lane: u16) -> Launch {
        let job = JobId::new(TaskId::new(lane), 0);
        Launch { job, segment: SegmentIndex::new(0), slot: 0, dispatch: DispatchSeq::new(1) }
    }

    fn launcher(works: Vec<(Told, Arc<Mailbox>, Arc<Flag>)>) -> Launcher {
        let carried = |(lane, (work, mailbox, flag)): (u16, (Told, Arc<Mailbox>, Arc<Flag>))| {
            Carried::new(LaneId::new(lane), Box::new(work), mailbox, flag, Box::new(Discard))
        };
        let lanes: Vec<Carried> = (0..).zip(works).map(carried).collect();
        let (clock, driver, waiting) = (HostClock::start(), Some(std::thread::current()), Waiting::Spin);
        let (gap, fellows) = (Arc::default(), lanes.iter().map(|lane| Arc::clone(&lane.mailbox)).collect());
        Launcher::new(lanes, Bridge { clock, driver, waiting, asynchronous: true, gap, fellows })
    }

    /// Lane `a` is lost at a launch that comes when `b` and `c` are in flight. The flag of `b` shows by then, that of `c`
    /// when the device is asked for the third time.
    #[test]
    fn a_loss_takes_nothing_from_what_landed_and_keeps_what_is_in_flight() {
        let log = Log::default();
        let (mailboxes, flags): (Vec<Arc<Mailbox>>, Vec<Arc<Flag>>) =
            (0..3).map(|_| (Arc::<Mailbox>::default(), Arc::<Flag>::default())).unzip();
        let shown = Arc::clone(&flags[1]);
        let a = Told::new('a', &log, move || {
            shown.show(1);
            Some("unplugged".into())
        });
        let next = Arc::clone(&mailboxes[0]);
        let b = Told::new('b', &log, move || {
            next.post(launch(0));
            None
        });
        let mut c = Told::new('c', &log, || None);
        let (late, mut questions) = (Arc::clone(&flags[2]), 0);
        let (dead, told) = (Arc::clone(&mailboxes[2]), Rc::new(Cell::new(false)));
        let heard = Rc::clone(&told);
        c.settles = Box::new(move || {
            heard.set(dead.is_dead());
            questions += 1;
            if questions == 3 {
                late.show(1);
            }
            questions == 3
        });
        mailboxes[1].post(launch(1));
        mailboxes[2].post(launch(2));
        let works = [a, b, c].into_iter().zip(mailboxes).zip(flags);
        let works = works.map(|((work, mailbox), flag)| (work, mailbox, flag)).collect();
        let loss = launcher(works).serve().expect_err("lane 0 is lost");
        assert_eq!(loss, Loss { lane: LaneId::new(0), reason: "unplugged".into() });
        assert!(told.get(), "the driver hears of it before anybody waits");
        assert_eq!(*log.borrow(), ["b landed", "c landed", "a finish", "b finish", "c finish"]);
    }

    #[test]
    fn lanes_that_were_launched_together_are_asked_one_at_a_time_and_counted() {
        let log = Log::default();
        let work = |name| (Told::new(name, &log, || None), Arc::default(), Arc::<Flag>::default());
        let mut launcher = launcher(['a', 'b', 'c'].map(work).into());
        for (index, lane) in launcher.lanes.iter_mut().enumerate() {
            lane.mailbox.post(launch(index as u16));
            assert!(lane.visit(&launcher.bridge, &mut None).is_ok_and(|visited| visited.is_some()));
        }
        let early = launcher.bridge.clock.now();
        let late = early.saturating_add(PATIENCE);
        for lane in &mut launcher.lanes {
            lane.flight.as_mut().expect("it was launched").asked = early;
        }
        launcher.ask(late.saturating_sub(Nanos::new(1))).expect("nothing is lost");
        assert!(log.borrow().is_empty(), "nobody has waited for long");
        for expected in
            [&["a probe", "a asked 1"][..], &["b probe", "b asked 1"], &["c probe", "c asked 1"], &[]]
        {
            launcher.ask(late).expect("nothing is lost");
            assert_eq!(log.borrow_mut().drain(..).collect::<Vec<_>>(), expected);
        }
    }
}
