//! Checker 9: what each fault must leave standing, said beforehand.
//!
//! | fault | the lane that it strikes | every other lane |
//! |---|---|---|
//! | overrun up to the tolerance | every deadline, R(X), nothing dropped | untouched |
//! | overrun beyond it, a hang | void until it idles | untouched |
//! | a segment fails, or does not start | one job each, nothing else | untouched |
//! | a flood of arrivals | untouched: what exceeds the contract is refused | untouched |
//! | late timers, a stall, two lanes at once | judged by checker 1 alone | the same |
//! | an overrun or a hang where tasks exclude each other | judged by checker 1 alone | the same |
//!
//! Lanes that exclude each other wait for each other, so what overruns on one may be an overrun on the next.
//!
//! "Untouched" is: every job covered. That a struck lane is whole again in its next busy period follows from checker 1,
//! which compares the engine's standings with an account of its own.

use aegis_types::LaneId;

use super::check::LaneCounts;
use super::episode::Outcome;
use super::faults::{FaultClass, FaultPlan};

/// What the fault did not leave standing, for people. `excludes`: whether some tasks must not run beside each other.
pub fn check(plan: &FaultPlan, outcome: &Outcome, excludes: bool) -> Vec<String> {
    let overruns = |class| {
        matches!(
            class,
            FaultClass::Exactly(..) | FaultClass::Tolerated | FaultClass::Excessive | FaultClass::Hang
        )
    };
    if excludes && overruns(plan.class) {
        return Vec::new();
    }
    let struck = match plan.class {
        FaultClass::Exactly(lane, _) => Some(lane),
        FaultClass::None | FaultClass::Flood => None,
        FaultClass::Tolerated
        | FaultClass::Excessive
        | FaultClass::Hang
        | FaultClass::Fails
        | FaultClass::NotStarted => plan.only_lane(),
        FaultClass::HostStall | FaultClass::LateTick | FaultClass::TwoLanes => return Vec::new(),
    };
    let mut found = Vec::new();
    for (lane, counts) in &outcome.lanes {
        let stands = if Some(*lane) == struck {
            stands_struck(plan.class, outcome.struck, counts)
        } else {
            counts.void + counts.tolerated + counts.misses + counts.dropped == 0
        };
        if !stands {
            found.push(format!(
                "{:?} on {} did not leave standing what it must on {lane}: {counts:?}",
                plan.class,
                name(struck)
            ));
        }
    }
    found
}

fn stands_struck(class: FaultClass, struck: u64, counts: &LaneCounts) -> bool {
    match class {
        FaultClass::Tolerated | FaultClass::Exactly(..) => counts.void + counts.misses + counts.dropped == 0,
        FaultClass::Fails | FaultClass::NotStarted => {
            counts.void <= struck && counts.tolerated + counts.misses + counts.dropped == 0
        }
        FaultClass::Excessive
        | FaultClass::Hang
        | FaultClass::None
        | FaultClass::HostStall
        | FaultClass::LateTick
        | FaultClass::Flood
        | FaultClass::TwoLanes => true,
    }
}

fn name(lane: Option<LaneId>) -> String {
    lane.map_or("no lane".into(), |lane| lane.to_string())
}

#[cfg(test)]
mod tests {
    use aegis_types::Nanos;

    use super::*;

    #[test]
    fn what_should_stand_and_does_not_is_found() {
        let (lane, other) = (LaneId::new(0), LaneId::new(1));
        let whole = LaneCounts::default();
        let void = LaneCounts { void: 2, ..whole };
        let missed = LaneCounts { tolerated: 3, misses: 1, ..whole };
        let exactly = FaultClass::Exactly(lane, Nanos::new(1));
        let table = [
            (FaultClass::None, whole, whole, 0),
            (FaultClass::None, void, whole, 1),
            (FaultClass::Flood, whole, missed, 1),
            (exactly, LaneCounts { tolerated: 3, ..whole }, whole, 0),
            (exactly, missed, whole, 1),
            (exactly, void, void, 2),
            (FaultClass::TwoLanes, void, missed, 0),
        ];
        for (class, first, second, expected) in table {
            let plan = FaultPlan { class, ..FaultPlan::none() };
            let outcome = Outcome { lanes: vec![(lane, first), (other, second)], ..Outcome::default() };
            assert_eq!(check(&plan, &outcome, false).len(), expected, "{class:?} {first:?} {second:?}");
        }
    }
}
