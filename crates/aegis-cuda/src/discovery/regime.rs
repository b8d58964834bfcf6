//! The state in which budgets were measured, and whether a device has left it.
//!
//! A measured budget holds in its regime: these clocks, nothing that slows the device down, nobody else on it. Those
//! are assumptions that the runtime watches; when one breaks, every certificate of the device is void, because such a
//! cause is common to all lanes.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use aegis_types::Bytes;

use super::quantity::Hertz;
use super::reading::Reading;
use super::report::readings;

/// Millionths of one, the unit of a tolerance.
const ONE_PPM: u128 = 1_000_000;

readings! {
    /// What the speed of a device depends on at one instant. A plain value, kept beside what was measured under it.
    ///
    /// A reference is taken while the device works: the clocks of an idle device say nothing of its speed. In a
    /// container the sources may give the numbers that processes have on the host, where the own process cannot be
    /// told from others: a reference that is taken once the own context exists holds it as one of the processes that
    /// were there.
    pub struct Regime {
        /// Clock of the SMs.
        pub sm_clock: Hertz,
        /// Clock of the memory.
        pub memory_clock: Hertz,
        /// What holds the clocks down.
        pub throttle: BTreeSet<ThrottleReason>,
        /// The power mode that the board is set to, by its name.
        pub power_mode: String,
        /// Other processes that have a context on the device, by their numbers, ascending.
        pub others: Vec<u32>,
        /// What may still be taken of memory that the device shares with the system.
        pub headroom: Bytes,
    }
}

impl Regime {
    /// How a later state departs from this one, in words; empty if everything still holds.
    ///
    /// What became better is no departure: the analysis allows any execution up to the budget. A device that says of
    /// itself that it idles has not slowed down by its lower clocks. What could be read and no longer can is a
    /// departure, because an assumption that nobody watches is not kept. What could not be read in the first place
    /// departs from nothing; [`unwatched`](Self::unwatched) names it for the certificate.
    pub fn departs(&self, later: &Self) -> Vec<String> {
        self.departs_beyond(later, 0)
    }

    /// As [`departs`](Self::departs), but for clocks that are lower by at most `drop_ppm` millionths: the steps of a
    /// governor, which a margin on the budgets covers.
    pub fn departs_beyond(&self, later: &Self, drop_ppm: u32) -> Vec<String> {
        let mut departures = Vec::new();
        let idle = later.throttle.known().is_some_and(|reasons| reasons.contains(&ThrottleReason::Idle));
        let drop_ppm = if idle { u32::MAX } else { drop_ppm };
        departures.extend(slower("SM clock", &self.sm_clock, &later.sm_clock, drop_ppm));
        departures.extend(slower("memory clock", &self.memory_clock, &later.memory_clock, drop_ppm));
        departures.extend(changed("throttle reasons", &self.throttle, &later.throttle, |before, after| {
            let added: Vec<String> = after
                .difference(before)
                .filter(|reason| **reason != ThrottleReason::Idle)
                .map(ThrottleReason::to_string)
                .collect();
            (!added.is_empty()).then(|| format!("the clocks are held down: {}", added.join(", ")))
        }));
        departures.extend(changed("power mode", &self.power_mode, &later.power_mode, |before, after| {
            (before != after).then(|| format!("the power mode was {before} and is {after}"))
        }));
        departures.extend(changed("other processes", &self.others, &later.others, |before, after| {
            let came: Vec<String> =
                after.iter().filter(|pid| !before.contains(pid)).map(u32::to_string).collect();
            (!came.is_empty()).then(|| format!("another process is on the device: {}", came.join(", ")))
        }));
        departures.extend(changed("shared memory", &self.headroom, &later.headroom, |before, after| {
            let gone = after.is_zero() && !before.is_zero();
            gone.then(|| {
                format!(
                    "of the shared memory nothing may be taken, and it was {before}: the system runs short"
                )
            })
        }));
        departures
    }

    /// What cannot be watched on this machine, each with its reason.
    pub fn unwatched(&self) -> Vec<String> {
        let all = [
            ("SM clock", self.sm_clock.reason()),
            ("memory clock", self.memory_clock.reason()),
            ("throttle reasons", self.throttle.reason()),
            ("power mode", self.power_mode.reason()),
            ("other processes", self.others.reason()),
            ("shared memory", self.headroom.reason()),
        ];
        all.into_iter()
            .filter_map(|(what, reason)| reason.map(|reason| format!("{what} ({reason})")))
            .collect()
    }
}

/// How a clock fell by more than the tolerance; `u32::MAX` millionths tolerate any fall.
fn slower(what: &str, before: &Reading<Hertz>, after: &Reading<Hertz>, drop_ppm: u32) -> Option<String> {
    changed(what, before, after, |before, after| {
        let kept = ONE_PPM.saturating_sub(u128::from(drop_ppm));
        let fell = u128::from(after.get()) * ONE_PPM < u128::from(before.get()) * kept;
        fell.then(|| format!("the {what} was {before} and is {after}"))
    })
}

/// What `compare` says where both are known; that the value can no longer be read where it could be.
fn changed<T>(
    what: &str,
    before: &Reading<T>,
    after: &Reading<T>,
    compare: impl FnOnce(&T, &T) -> Option<String>,
) -> Option<String> {
    match (before, after) {
        (Reading::Known(before), Reading::Known(after)) => compare(before, after),
        (Reading::Known(_), Reading::Unknown(reason)) => {
            Some(format!("{what}: can no longer be watched ({reason})"))
        }
        (Reading::Unknown(_), _) => None,
    }
}

/// Why a device runs below its highest clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ThrottleReason {
    /// Nothing runs.
    Idle,
    /// An operator set the clocks.
    ClockSetting,
    /// The display's clocks.
    DisplayClock,
    /// The power limit.
    PowerCap,
    /// Another device of the same boost group is slower.
    SyncBoost,
    /// Slowed down by software because of heat.
    Heat,
    /// Slowed down by hardware because of heat.
    HardwareHeat,
    /// Slowed down by hardware because of the power supply.
    PowerBrake,
    /// Slowed down by hardware for heat, power supply or current.
    HardwareSlowdown,
    /// A reason that has no name here.
    Unnamed,
}

impl fmt::Display for ThrottleReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "idle",
            Self::ClockSetting => "clocks set by an operator",
            Self::DisplayClock => "display clock",
            Self::PowerCap => "power cap",
            Self::SyncBoost => "sync boost",
            Self::Heat => "heat",
            Self::HardwareHeat => "heat (hardware)",
            Self::PowerBrake => "power brake (hardware)",
            Self::HardwareSlowdown => "hardware slowdown",
            Self::Unnamed => "a reason without a name",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference() -> Regime {
        Regime {
            sm_clock: Reading::Known(Hertz::from_megahertz(1_980)),
            memory_clock: Reading::Known(Hertz::from_megahertz(2_619)),
            throttle: Reading::Known(BTreeSet::new()),
            power_mode: Reading::Known("0 (MAXN)".into()),
            others: Reading::Known(vec![7]),
            headroom: Reading::Known(Bytes::new(4 << 30)),
        }
    }

    fn after(change: impl FnOnce(&mut Regime)) -> Vec<String> {
        let mut later = reference();
        change(&mut later);
        reference().departs(&later)
    }

    fn reasons(all: &[ThrottleReason]) -> Reading<BTreeSet<ThrottleReason>> {
        Reading::Known(all.iter().copied().collect())
    }

    #[test]
    fn the_same_state_and_a_better_one_depart_from_nothing() {
        assert_eq!(after(|_| ()), Vec::<String>::new());
        assert_eq!(after(|later| later.sm_clock = Reading::Known(Hertz::from_megahertz(2_000))).len(), 0);
        assert_eq!(after(|later| later.others = Reading::Known(Vec::new())).len(), 0);
        let mut throttled = reference();
        throttled.throttle = reasons(&[ThrottleReason::PowerCap]);
        assert_eq!(throttled.departs(&reference()).len(), 0);
    }

    #[test]
    fn each_watched_assumption_fires_alone() {
        let megahertz = |value| Reading::Known(Hertz::from_megahertz(value));
        let cases = [
            (after(|later| later.sm_clock = megahertz(1_965)), "the SM clock was 1980 MHz and is 1965 MHz"),
            (after(|later| later.memory_clock = megahertz(5)), "the memory clock was 2619 MHz and is 5 MHz"),
            (
                after(|later| later.throttle = reasons(&[ThrottleReason::Heat, ThrottleReason::PowerCap])),
                "the clocks are held down: power cap, heat",
            ),
            (
                after(|later| later.power_mode = Reading::Known("2 (30W)".into())),
                "the power mode was 0 (MAXN) and is 2 (30W)",
            ),
            (after(|later| later.others = Reading::Known(vec![7, 9])), "another process is on the device: 9"),
            (
                after(|later| later.headroom = Reading::Known(Bytes::ZERO)),
                "of the shared memory nothing may be taken, and it was 4GiB: the system runs short",
            ),
            (
                after(|later| later.others = Reading::Unknown("the device is lost".into())),
                "other processes: can no longer be watched (the device is lost)",
            ),
        ];
        for (said, expected) in cases {
            assert_eq!(said, [expected]);
        }
    }

    #[test]
    fn a_tolerance_covers_clock_steps_and_not_more() {
        let mut later = reference();
        later.sm_clock = Reading::Known(Hertz::new(1_960_200_000));
        assert_eq!(reference().departs_beyond(&later, 10_000), Vec::<String>::new());
        assert_eq!(reference().departs_beyond(&later, 9_999).len(), 1);
    }

    #[test]
    fn an_idle_device_has_not_slowed_down() {
        let low = Reading::Known(Hertz::from_megahertz(345));
        assert_eq!(after(|later| later.sm_clock = low.clone()).len(), 1);
        let idle = after(|later| {
            later.sm_clock = low;
            later.throttle = reasons(&[ThrottleReason::Idle]);
        });
        assert_eq!(idle, Vec::<String>::new());
    }

    #[test]
    fn what_was_never_readable_is_named_and_departs_from_nothing() {
        let mut blind = reference();
        blind.power_mode = Reading::Unknown("no power modes".into());
        assert_eq!(blind.departs(&reference()), Vec::<String>::new());
        assert_eq!(blind.unwatched(), ["power mode (no power modes)"]);
        assert_eq!(reference().unwatched(), Vec::<String>::new());
    }

    #[test]
    fn it_survives_a_file() {
        let mut regime = reference();
        regime.throttle = reasons(&[ThrottleReason::HardwareHeat]);
        regime.memory_clock = Reading::Unknown("not offered".into());
        let text = serde_json::to_string(&regime).unwrap();
        assert!(text.contains(r#""throttle":{"known":["hardware-heat"]}"#), "{text}");
        assert_eq!(serde_json::from_str::<Regime>(&text).unwrap(), regime);
    }
}
