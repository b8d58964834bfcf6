//! Which overhead is charged with which samples, and how they were taken: what users read beside the numbers.
//!
//! `launch_lock` is the one charge that is made of a sum. A launch waits at the launcher for a visit to each of the M - 1
//! other lanes, and what the analysis charges is that sum, (M - 1) `launch_lock`. M - 1 times the longest single visit
//! would be a sum that never comes: on a host without guarantees the longest of many thousand visits is one in which the
//! thread was preempted, which happens to one of M - 1 visits in a row and is declared as a stall. So the sum is what is
//! timed, in the situation in which it is largest: all lanes are posted to at once, the last one waits for all others.
//!
//! The same holds for the steps of the driver's cycle, dozens of which a launch is charged with: `release`, `completion` and
//! `decision` are what ninety-nine in a hundred do not exceed, and what consecutive steps exceed that by together is shared
//! by the looks, in `poll`.

use aegis_types::Nanos;

use super::samples::Samples;
use crate::config::{CalibrationMethod, LaunchMode};

/// One overhead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The field of [`Overheads`](aegis_sched::Overheads).
    pub overhead: &'static str,
    /// The samples it is charged with; `None` where it is none or follows from others.
    pub from: Option<&'static str>,
    /// How they were taken, for people.
    pub method: &'static str,
}

const fn charge(overhead: &'static str, from: Option<&'static str>, method: &'static str) -> Charge {
    Charge { overhead, from, method }
}

/// Steps that are the same on every device.
const RELEASE: Charge = charge(
    "release",
    Some("release"),
    "one timer input to an engine of 32 tasks or the fleet's, its records counted and traced: the 99th percentile of the \
     slowest round",
);
const ARRIVAL: Charge =
    charge("arrival", Some("release"), "charged as a timer release, which does the same and more");
const COMPLETION: Charge = charge(
    "completion",
    Some("completion"),
    "one completion told to that engine, its records counted and traced: the 99th percentile of the slowest round",
);
const DECISION: Charge = charge(
    "decision",
    Some("decision"),
    "one decision of that engine for all lanes together, its records counted and traced: the 99th percentile of the \
     slowest round",
);
const CONTROL: Charge = charge("control", Some("release"), "charged as a timer release");
const POLL: Charge = charge(
    "poll",
    Some("poll"),
    "one look at every lane while all lanes are busy, and half of what consecutive steps, as many as a launch is charged with, \
     or a single look or post took at most beyond what they are charged with",
);

/// Work runs where it is launched, and the driver sleeps.
const SYNCHRONOUS: [Charge; 13] = [
    POLL,
    RELEASE,
    ARRIVAL,
    COMPLETION,
    DECISION,
    charge("dispatch", Some("dispatch"), "posting a launch and waking its carrier"),
    CONTROL,
    charge("handoff", Some("handoff"), "from the post to the carrier's entry, all lanes busy"),
    charge("launch_lock", None, "launches take no lock on this device"),
    charge("wakeup", Some("wakeup"), "from a flag or a timer to the driver looking, all lanes busy"),
    charge("client", Some("wakeup"), "charged as a wake-up of the driver"),
    charge("notify", Some("dispatch"), "charged as waking a carrier"),
    charge(
        "stall",
        Some("wakeup"),
        "the charged wake-up: a timed wait that ends later is a stall; declared, not charged",
    ),
];

const HANDOFF: Charge = charge(
    "handoff",
    Some("handoff"),
    "from the post to the launcher's entry, the other lanes idle; of a single lane also back to back",
);
const LAUNCH_LOCK: Charge = charge(
    "launch_lock",
    None,
    "what a launch waits for at the launcher beyond the hand-off, over the number of other lanes: the longest from the \
     first post of a burst on all idle lanes to the last entry, or from a post to its entry with all lanes busy, each \
     without its largest thousandth; at least the median turn; of a single lane the longest turn",
);
const NOTIFY: Charge = charge(
    "notify",
    None,
    "a turn of every other lane, the longest of the own, and a post: clients hear from it",
);

/// A launcher serves all lanes, and driver and launcher spin.
const SPINNING: [Charge; 13] = [
    POLL,
    RELEASE,
    ARRIVAL,
    COMPLETION,
    DECISION,
    charge("dispatch", Some("dispatch"), "posting a launch"),
    CONTROL,
    HANDOFF,
    LAUNCH_LOCK,
    charge("wakeup", None, "nobody sleeps"),
    charge("client", Some("dispatch"), "charged as a post: the driver looks without being woken"),
    NOTIFY,
    charge(
        "stall",
        None,
        "the longest time between two looks of the driver, or what --stall says, and a cycle; declared, not charged",
    ),
];

/// A launcher serves all lanes, and driver and launcher may sleep.
const SLEEPING: [Charge; 13] = [
    POLL,
    RELEASE,
    ARRIVAL,
    COMPLETION,
    DECISION,
    charge("dispatch", Some("dispatch"), "posting a launch and waking the launcher"),
    CONTROL,
    charge(
        "handoff",
        Some("handoff"),
        "from the post to the launcher's entry, the other lanes idle, and a wake-up of the launcher",
    ),
    LAUNCH_LOCK,
    charge(
        "wakeup",
        Some("wakeup"),
        "from a call that wakes a sleeping thread, or a timer, to the thread looking",
    ),
    charge("client", Some("wakeup"), "charged as a wake-up of the driver"),
    charge(
        "notify",
        None,
        "a turn of every other lane, the longest of the own, a post, a wake-up, and a glance of a launcher that sleeps",
    ),
    charge(
        "stall",
        Some("wakeup"),
        "the charged wake-up, and where the driver also spins not less than its longest gap and a cycle; declared, not charged",
    ),
];

/// The same charge where the driver launches.
const fn of_driver(charged: Charge) -> Charge {
    let Charge { overhead, from, method } = charged;
    match overhead.as_bytes() {
        b"poll" => charge(
            overhead,
            from,
            "the same as beside a launcher, and one question whether a segment can still end",
        ),
        b"completion" => {
            charge(overhead, from, "the same as beside a launcher, and one visit that takes what landed")
        }
        b"dispatch" => charge(overhead, from, "posting a launch, and the visit that launches it"),
        b"handoff" => charge(overhead, None, "nothing is handed over"),
        b"launch_lock" => charge(overhead, None, "every launch is in its cycle"),
        b"notify" => charge(
            overhead,
            None,
            "the longest turn and a post: clients hear from the visit that takes what landed",
        ),
        _ => charge(overhead, from, method),
    }
}

/// The charges of a device, in the order of [`Calibration::OVERHEADS`](crate::config::Calibration::OVERHEADS).
pub fn charges(asynchronous: bool, launch: LaunchMode, sleeps: bool) -> [Charge; 13] {
    match (asynchronous, sleeps) {
        (false, _) => return SYNCHRONOUS,
        (true, false) => SPINNING,
        (true, true) => SLEEPING,
    }
    .map(|charge| if launch == LaunchMode::Driver { of_driver(charge) } else { charge })
}

/// The samples of that name.
pub fn samples_of<'a>(samples: &'a [(&'static str, Samples)], name: &str) -> Option<&'a Samples> {
    samples.iter().find(|(of, _)| *of == name).map(|(_, samples)| samples)
}

/// A charge as the file tells it.
pub fn method(charge: &Charge, samples: &[(&'static str, Samples)]) -> CalibrationMethod {
    let of = charge.from.and_then(|from| samples_of(samples, from));
    CalibrationMethod {
        overhead: charge.overhead.to_owned(),
        method: charge.method.to_owned(),
        samples: of.map_or(0, |of| of.count() as u64),
        p50: of.map_or(Nanos::ZERO, |of| of.quantile(500)),
        p99: of.map_or(Nanos::ZERO, |of| of.quantile(990)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Calibration;

    #[test]
    fn every_overhead_has_its_charge_on_every_device() {
        for (asynchronous, sleeps) in [(false, false), (false, true), (true, false), (true, true)] {
            for launch in LaunchMode::ALL {
                let names = charges(asynchronous, launch, sleeps).map(|charge| charge.overhead);
                assert_eq!(names, Calibration::OVERHEADS);
            }
        }
    }
}
