//! Draining and stopping.

use aegis_types::Time;
use aegis_types::records::{Control, JobOutcome};

use super::Engine;
use super::job::{JobEvent, JobState};
use super::outbox::Outbox;

/// Whether the engine accepts and runs jobs.
///
/// ```text
///   Serving --Drain--> Draining --Stop--> Stopped
///      +----------------Stop----------------^
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Jobs are accepted.
    Serving,
    /// No job is accepted; queued ones run.
    Draining,
    /// No job is accepted; only segments in flight run to their ends.
    Stopped,
}

impl Mode {
    /// The one door: the mode after a command. Asking again, or for less than is under way, changes nothing.
    #[must_use = "the command has no effect otherwise"]
    pub(super) const fn next(self, control: Control) -> Self {
        match (self, control) {
            (Self::Serving | Self::Draining, Control::Drain) => Self::Draining,
            (Self::Serving | Self::Draining | Self::Stopped, Control::Stop)
            | (Self::Stopped, Control::Drain) => Self::Stopped,
        }
    }
}

impl Engine {
    pub(super) fn control(&mut self, now: Time, control: Control, out: &mut Outbox) {
        self.mode = self.mode.next(control);
        if self.mode != Mode::Stopped {
            return;
        }
        for task in 0..self.tasks.len() {
            if self.tasks[task].head().is_some_and(|job| job.state == JobState::Between) {
                self.stop_head(task, now, out);
            }
            self.drop_unstarted(task, JobEvent::Stop, JobOutcome::Stopped, now, out);
        }
        for lane in 0..self.lanes.len() {
            self.settle(lane, now, out);
        }
    }

    /// Ends a job that waits between two segments.
    fn stop_head(&mut self, task: usize, now: Time, out: &mut Outbox) {
        if let Some(mut job) = self.tasks[task].queue.pop() {
            job.advance(JobEvent::Stop);
            self.end(job, JobOutcome::Stopped, now, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_is_decided() {
        use Mode::{Draining, Serving, Stopped};
        let table = [
            (Serving, Control::Drain, Draining),
            (Serving, Control::Stop, Stopped),
            (Draining, Control::Drain, Draining),
            (Draining, Control::Stop, Stopped),
            (Stopped, Control::Drain, Stopped),
            (Stopped, Control::Stop, Stopped),
        ];
        for (mode, control, expected) in table {
            assert_eq!(mode.next(control), expected, "{mode:?} {control:?}");
        }
    }
}
