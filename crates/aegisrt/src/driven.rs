//! A launcher on the driver's own thread: the fleet says `launch = "driver"`.
//!
//! One thread decides and launches, so that a launch is handed to nobody and nobody's look is waited for, and a machine
//! gives one core instead of two. The price is in the cycle: it holds the launches that it decides and the endings that it
//! sees, each of which is charged to whatever waits for the cycle (section 3 of `docs/model.md`); and a launch call that
//! hangs hangs the driver, which then tells nobody.

use std::cell::RefCell;
use std::rc::Rc;

use aegis_types::{LaneId, Nanos, Time};

use crate::carrier::LaneReport;
use crate::launcher::{Bridge, Carried, Launcher, Loss, Visited};

/// What the crew gives back in the end and the plant makes visits with: both are the driver's.
pub(crate) type Shared = Rc<RefCell<Driven>>;

/// The lanes of a device on the driver's thread.
pub(crate) struct Driven {
    /// None once everything was given back.
    launcher: Option<Launcher>,
    lost: Option<Loss>,
}

impl Driven {
    /// These lanes, loaded on the calling thread, which drives.
    pub(crate) fn new(lanes: Vec<Carried>, bridge: Bridge) -> Self {
        let mut launcher = Launcher::new(lanes, bridge);
        launcher.begin();
        Self { launcher: Some(launcher), lost: None }
    }

    /// Ends what landed on a lane, and launches what was posted to it; `None` if there was nothing to do, or lanes are lost.
    /// Allocates nothing.
    pub(crate) fn visit(&mut self, lane: LaneId) -> Option<Visited> {
        self.unless_lost(|launcher| launcher.visit(lane)).flatten()
    }

    /// Asks one lane whose segment has been in flight for long at `now` whether it can still end. Returns whether there was
    /// one.
    pub(crate) fn ask(&mut self, now: Time) -> bool {
        self.unless_lost(|launcher| launcher.ask(now)).unwrap_or_default()
    }

    /// Waits for at most `grace` for what is in flight, and gives everything back.
    ///
    /// # Errors
    /// The first lane that was lost, or whose segment does not end.
    pub(crate) fn end(&mut self, grace: Nanos) -> Result<Vec<LaneReport>, Loss> {
        let _drained = self.unless_lost(|launcher| launcher.drain(grace));
        let served = self.lost.take().map_or(Ok(()), Err);
        self.launcher.take().map_or(Ok(Vec::new()), |launcher| launcher.end(served))
    }

    fn unless_lost<R>(&mut self, work: impl FnOnce(&mut Launcher) -> Result<R, Loss>) -> Option<R> {
        let launcher = self.launcher.as_mut().filter(|_| self.lost.is_none())?;
        match work(launcher) {
            Ok(done) => Some(done),
            Err(loss) => {
                launcher.give_up();
                self.lost = Some(loss);
                None
            }
        }
    }
}
