//! The gated loop between the engine and the world: the one thread that decides.
//!
//! A cycle looks at every source once, takes the stamp *after* looking, takes away what landed, tells the engine at most one
//! event of each source in a fixed order (completions, timer, clients, operator), and then asks for one decision for each
//! free lane.
//! Its length is therefore bounded by structure, whatever arrives (section 3 of `docs/model.md`). The same loop runs in
//! production and in simulation; only the [`Plant`] differs.

use aegis_sched::engine::{Answer, Dispatch, Engine, Input, Mode, Outbox};
use aegis_types::records::{Control, SegmentOutcome};
use aegis_types::{DispatchSeq, LaneId, Nanos, Sink, TaskId, Time};

/// The world that a driver drives: lanes, clients and a clock.
pub trait Plant {
    /// The time. Never goes back.
    fn now(&self) -> Time;

    /// The last dispatch that a lane finished, and how. Only looks: the stamp is read behind it.
    fn landed(&mut self, lane: LaneId) -> (DispatchSeq, SegmentOutcome);

    /// Takes away what a dispatch left that was just seen to land, where that is for the driver to do.
    fn settle(&mut self, lane: LaneId) {
        let _every = lane;
    }

    /// The next submission of a client of `task`, if there is one: its token.
    fn arrival(&mut self, task: TaskId) -> Option<u64>;

    /// The operator's command, if there is one that was not told yet.
    fn control(&mut self) -> Option<Control>;

    /// Hands a dispatch to its lane, which is free.
    fn launch(&mut self, command: &Dispatch);

    /// Tells a client what became of its submission.
    fn answer(&mut self, answer: &Answer);

    /// Waits until something may have happened, at the latest at `until`. Returns how long after the event that ended
    /// the wait the thread ran again, as far as the plant can tell.
    fn wait(&mut self, until: Option<Time>) -> Nanos;

    /// The longest span between two readings of the time since this was asked last, where the plant looks again at once
    /// instead of sleeping: a driver that never sleeps is stalled when it is kept from looking, and so is a carrier that
    /// launches for several lanes. Zero where it sleeps.
    fn gap(&mut self) -> Nanos {
        Nanos::ZERO
    }

    /// Whether what is in flight on a lane will never land.
    fn is_lost(&self, lane: LaneId) -> bool {
        let _every = lane;
        false
    }
}

/// Drives one engine.
pub struct Driver<P> {
    engine: Engine,
    plant: P,
    outbox: Outbox,
    sporadic: Vec<TaskId>,
    in_flight: Vec<DispatchSeq>,
    landed: Vec<(LaneId, DispatchSeq, SegmentOutcome)>,
    arrived: Vec<(TaskId, u64)>,
    stall_limit: Nanos,
    stall: Nanos,
    /// When the engine's next timer expires; asked once after each cycle in which something happened.
    wake: Option<Time>,
    /// The stamp of the last cycle.
    looked: Time,
    cycles: u64,
}

impl<P: Plant> Driver<P> {
    /// A driver of `engine`, whose clients submit to the `sporadic` tasks. A stall longer than `stall_limit` is told
    /// to the engine as a broken assumption.
    pub fn new(engine: Engine, plant: P, sporadic: Vec<TaskId>, stall_limit: Nanos) -> Self {
        let lanes = engine.lanes().count();
        Self {
            outbox: engine.outbox(),
            in_flight: vec![DispatchSeq::NONE; lanes],
            landed: Vec::with_capacity(lanes),
            arrived: Vec::with_capacity(sporadic.len()),
            wake: engine.wake_at(),
            looked: engine.now(),
            engine,
            plant,
            sporadic,
            stall_limit,
            stall: Nanos::ZERO,
            cycles: 0,
        }
    }

    /// The engine, for looking.
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The world, for looking and for what the loop does not touch.
    pub const fn plant_mut(&mut self) -> &mut P {
        &mut self.plant
    }

    /// Cycles in which something happened.
    pub const fn cycles(&self) -> u64 {
        self.cycles
    }

    /// Runs cycles and waits until the engine is idle after `end`, or for at most `grace` more.
    pub fn run(&mut self, end: Time, grace: Nanos, sink: &mut dyn Sink) {
        self.begin();
        // When the run ends at the latest; known once it drains, by the clock or by the operator.
        let mut last: Option<Time> = None;
        loop {
            let happened = self.cycle(sink);
            let now = if happened { self.plant.now() } else { self.looked };
            if last.is_none() && now >= end {
                self.tell(now, Input::Control(Control::Drain), sink);
            }
            if self.engine.mode() != Mode::Serving {
                let last = *last.get_or_insert(now.saturating_add(grace));
                if self.engine.is_idle() || now >= last || self.is_hopeless() {
                    return;
                }
            }
            if !happened {
                self.rest(last.unwrap_or(end));
            }
        }
    }

    /// Waits for the engine's start, from which its time counts; whatever comes earlier is told then.
    pub fn begin(&mut self) {
        while self.plant.now() < self.engine.now() {
            let start = self.engine.now();
            let _late = self.plant.wait(Some(start));
        }
        // Whatever kept the thread from looking before the first cycle delayed nobody.
        let _before = self.plant.gap();
    }

    /// Runs cycles until one in which nothing happened, or until `until`. Returns whether that lies ahead still; whoever
    /// has nothing else to do then [rests](Self::rest).
    pub fn serve(&mut self, until: Time, sink: &mut dyn Sink) -> bool {
        loop {
            let happened = self.cycle(sink);
            let now = if happened { self.plant.now() } else { self.looked };
            if now >= until {
                return false;
            }
            if !happened {
                return true;
            }
        }
    }

    /// Lets another engine take over between two cycles: one that this driver's engine was followed by, so that it has
    /// the same lanes and knows what is in flight. `sporadic` are its tasks with clients. It decides at once, so that its
    /// start is recorded. Allocates.
    ///
    /// # Panics
    /// If the engine has another number of lanes.
    pub fn follow(&mut self, engine: Engine, sporadic: Vec<TaskId>, sink: &mut dyn Sink) {
        assert_eq!(engine.lanes().count(), self.in_flight.len(), "an engine follows one of the same lanes");
        if self.cycles == 0 {
            // An engine that was told nothing has not recorded its start.
            self.decide(self.engine.now(), sink);
        }
        self.outbox = engine.outbox();
        self.arrived = Vec::with_capacity(sporadic.len());
        let start = engine.now();
        (self.engine, self.sporadic) = (engine, sporadic);
        self.cycles += 1;
        self.decide(start, sink);
    }

    /// Waits until something may have happened, at the latest until `limit`.
    pub fn rest(&mut self, limit: Time) {
        let until = self.wake.map_or(limit, |wake| wake.min(limit));
        let stall = self.plant.wait(Some(until));
        self.stall = self.stall.max(stall);
    }

    /// Whether everything that is still in flight is on lanes that were lost, after a stop: nothing will happen any more.
    fn is_hopeless(&self) -> bool {
        let flying = |(_, dispatch): &(u16, &DispatchSeq)| **dispatch != DispatchSeq::NONE;
        let mut flying = (0..).zip(&self.in_flight).filter(flying).peekable();
        self.engine.mode() == Mode::Stopped
            && flying.peek().is_some()
            && flying.all(|(lane, _)| self.plant.is_lost(LaneId::new(lane)))
    }

    /// One cycle. Returns whether anything happened.
    pub fn cycle(&mut self, sink: &mut dyn Sink) -> bool {
        self.landed.clear();
        self.arrived.clear();
        for (index, in_flight) in self.in_flight.iter_mut().enumerate() {
            if *in_flight == DispatchSeq::NONE {
                continue;
            }
            // Lanes are numbered by u16 from the fleet, so the index fits.
            let lane = LaneId::new(index as u16);
            let (dispatch, outcome) = self.plant.landed(lane);
            if dispatch == *in_flight {
                *in_flight = DispatchSeq::NONE;
                self.landed.push((lane, dispatch, outcome));
            }
        }
        for &task in &self.sporadic {
            if let Some(token) = self.plant.arrival(task) {
                self.arrived.push((task, token));
            }
        }
        let control = self.plant.control();
        // E1: the stamp is read after looking, so that nothing seen is stamped before it happened.
        let now = self.plant.now();
        self.looked = now;
        let due = self.wake.is_some_and(|wake| wake <= now);
        self.stall = self.stall.max(self.plant.gap());
        let stalled = std::mem::take(&mut self.stall);
        let stalled = (stalled > self.stall_limit).then_some(stalled);
        if self.landed.is_empty() && self.arrived.is_empty() && !due && control.is_none() && stalled.is_none()
        {
            return false;
        }
        self.cycles += 1;
        // Behind the stamp, since what landed had ended when it was seen, and before anybody hears of it.
        for &(lane, ..) in &self.landed {
            self.plant.settle(lane);
        }
        if let Some(gap) = stalled {
            self.engine.handle(now, Input::Stall { gap, limit: self.stall_limit }, &mut self.outbox);
        }
        for &(lane, dispatch, outcome) in &self.landed {
            self.engine.handle(now, Input::Completed { lane, dispatch, outcome }, &mut self.outbox);
        }
        if due {
            self.engine.handle(now, Input::Tick, &mut self.outbox);
        }
        for &(task, token) in &self.arrived {
            self.engine.handle(now, Input::Arrival { task, token }, &mut self.outbox);
        }
        if let Some(control) = control {
            self.engine.handle(now, Input::Control(control), &mut self.outbox);
        }
        self.decide(now, sink);
        true
    }

    fn tell(&mut self, now: Time, input: Input, sink: &mut dyn Sink) {
        self.engine.handle(now, input, &mut self.outbox);
        self.decide(now, sink);
    }

    /// The end of a cycle: every input of its stamp was told.
    fn decide(&mut self, now: Time, sink: &mut dyn Sink) {
        self.engine.handle(now, Input::Decide, &mut self.outbox);
        self.deliver(sink);
        self.wake = self.engine.wake_at();
    }

    /// Answers first, because a launch may need the data that its answer hands over; then launches; then records, for
    /// which nobody waits.
    fn deliver(&mut self, sink: &mut dyn Sink) {
        for answer in self.outbox.answers() {
            self.plant.answer(answer);
        }
        for command in self.outbox.commands() {
            self.in_flight[command.lane.index()] = command.dispatch;
            self.plant.launch(command);
        }
        for record in self.outbox.records() {
            sink.emit(*record);
        }
        self.outbox.clear();
    }
}
