//! Device timestamps on the host's clock, each with an error bar. For blame only: no verdict looks at them.
//!
//! The two clocks meet at an *anchor*: an event whose instant lies between the host's clock read before it was enqueued
//! and the read after it was seen. The tightest of several tries is kept. Other events are told by their device time
//! from the anchor; their error grows with the distance by the drift between the clocks.

use aegis_types::{Nanos, Time};

use super::event::Event;
use super::stream::CudaStream;
use crate::clock::HostClock;
use crate::error::DeviceError;

/// Tries for one anchor.
const TRIES: u32 = 32;
/// The driver's stated resolution of an event's time.
const RESOLUTION: Nanos = Nanos::new(500);
/// Before a second anchor has measured it, clocks are taken to drift apart by this much, in parts per million: ten
/// times what crystals do.
const DRIFT_ASSUMED: u64 = 500;

/// Maps the instants of events to the host's clock.
pub struct DeviceClock {
    host: HostClock,
    anchor: Anchor,
    event: Event,
    spare: Event,
    drift_ppm: u64,
}

/// An instant known on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Anchor {
    /// Middle of the interval in which it lies.
    at: Time,
    /// Half of that interval.
    error: Nanos,
}

impl DeviceClock {
    /// Anchors the device's clock on `stream`, which has nothing in flight. Load time only.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn new(stream: &mut CudaStream, host: HostClock) -> Result<Self, DeviceError> {
        let (mut event, mut spare) = (Event::new(stream)?, Event::new(stream)?);
        let anchor = drop_anchor(stream, host, &mut event, &mut spare)?;
        Ok(Self { host, anchor, event, spare, drift_ppm: DRIFT_ASSUMED })
    }

    /// Anchors anew, which keeps the error small over a long run, and measures the drift since the last anchor. Only
    /// while `stream` has nothing in flight.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn anchor(&mut self, stream: &mut CudaStream) -> Result<(), DeviceError> {
        let mut event = Event::new(stream)?;
        let anchor = drop_anchor(stream, self.host, &mut event, &mut self.spare)?;
        if let Some(elapsed) = event.milliseconds_since(&self.event)? {
            self.drift_ppm = drift(self.anchor, anchor, f64::from(elapsed)).unwrap_or(self.drift_ppm);
        }
        (self.anchor, self.event) = (anchor, event);
        Ok(())
    }

    /// When the device reached the event's last mark, and by how much that may be wrong either way; `None` while it has
    /// not.
    ///
    /// # Errors
    /// Those of the work before the mark, or [`DeviceError::Refused`] for an event that was never marked.
    pub fn map(&self, event: &Event) -> Result<Option<(Time, Nanos)>, DeviceError> {
        let elapsed = event.milliseconds_since(&self.event)?;
        Ok(elapsed.map(|milliseconds| place(self.anchor, f64::from(milliseconds), self.drift_ppm)))
    }
}

/// Brackets an event between two reads of the host's clock, several times; `best` becomes the tightest.
fn drop_anchor(
    stream: &mut CudaStream,
    host: HostClock,
    best: &mut Event,
    spare: &mut Event,
) -> Result<Anchor, DeviceError> {
    let mut anchor: Option<Anchor> = None;
    for _ in 0..TRIES {
        let before = host.now();
        stream.mark(spare)?;
        while !spare.reached()? {
            std::hint::spin_loop();
        }
        let found = between(before, host.now());
        if anchor.is_none_or(|anchor| found.error < anchor.error) {
            anchor = Some(found);
            std::mem::swap(best, spare);
        }
    }
    Ok(anchor.unwrap_or(Anchor { at: host.now(), error: Nanos::MAX }))
}

fn between(before: Time, after: Time) -> Anchor {
    let half = after.since(before).get().div_ceil(2);
    Anchor { at: before.saturating_add(Nanos::new(half)), error: Nanos::new(half) }
}

/// The instant so many milliseconds of device time after the anchor, or before it.
fn place(anchor: Anchor, milliseconds: f64, drift_ppm: u64) -> (Time, Nanos) {
    let distance = nanos(milliseconds.abs());
    let at = if milliseconds < 0.0 {
        anchor.at.saturating_sub(distance)
    } else {
        anchor.at.saturating_add(distance)
    };
    // The driver tells the distance in a number of 24 significant bits.
    let rounding = Nanos::new(distance.get() >> 23);
    let drifted = Nanos::new(distance.get().saturating_mul(drift_ppm) / 1_000_000);
    let error = [RESOLUTION, rounding, drifted];
    (at, error.into_iter().fold(anchor.error, Nanos::saturating_add))
}

/// The largest drift, in parts per million, that two anchors and the device time between them allow; `None` if they are
/// too close to tell.
fn drift(first: Anchor, second: Anchor, milliseconds: f64) -> Option<u64> {
    let device = nanos(milliseconds.abs()).get();
    let host = second.at.since(first.at).get();
    let unsure = first.error.saturating_add(second.error).saturating_add(RESOLUTION).get() + (device >> 23);
    let apart = host.abs_diff(device).saturating_add(unsure);
    let ppm = apart.saturating_mul(1_000_000).checked_div(device)?;
    (ppm <= DRIFT_ASSUMED).then_some(ppm.max(1))
}

fn nanos(milliseconds: f64) -> Nanos {
    // Rounds to the nearest and saturates; a number that is none gives zero.
    Nanos::new((milliseconds * 1e6).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_covers_the_true_instant() {
        // A device whose clock runs fast by 40 ppm, seen through anchors of some microseconds.
        let truth = |device: f64| device / 1.000_040;
        let first = between(Time::new(1_000_000_000), Time::new(1_000_007_000));
        let start = 1_000_002_000.0;
        let second_device = 2_000_000_000.0;
        let second_true = start + truth(second_device);
        let second = between(Time::new(second_true as u64 - 4_000), Time::new(second_true as u64 + 1_000));
        let measured = drift(first, second, second_device / 1e6).expect("two seconds apart");
        assert!((40..100).contains(&measured), "{measured} ppm");
        for ppm in [DRIFT_ASSUMED, measured] {
            for device in [-900_000.0_f64, 0.0, 5_000.0, 33_000_000.0, 10_000_000_000.0] {
                let (at, error) = place(first, device / 1e6, ppm);
                let exact = start + truth(device);
                let off = (at.get() as f64 - exact).abs();
                assert!(off <= error.get() as f64, "{device} ns: {at:?} is off by {off}, bar {error:?}");
            }
        }
    }

    #[test]
    fn anchors_too_close_tell_no_drift() {
        let first = between(Time::new(0), Time::new(8_000));
        let second = between(Time::new(100_000), Time::new(108_000));
        assert_eq!(drift(first, second, 0.1), None);
        assert_eq!(drift(first, first, 0.0), None);
    }

    #[test]
    fn an_anchor_is_the_middle_of_its_bracket() {
        let anchor = between(Time::new(10), Time::new(17));
        assert_eq!(anchor, Anchor { at: Time::new(14), error: Nanos::new(4) });
    }
}
