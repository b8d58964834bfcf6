//! Tables of all pairs of state and event, as documentation that cannot go stale.

use std::fmt::Display;

use aegis_types::{DispatchSeq, SegmentIndex};

use super::{ExecutionEvent, ExecutionState, LaneEvent, LaneState};
use crate::io::Slot;

/// The text of `docs/state-machines.md`: every pair of state and event of every machine.
pub fn state_machines_markdown() -> String {
    let mut text = String::from(
        "# State machines\n\n\
         Generated from the code; regenerate with `AEGIS_REGENERATE=1 cargo test -p aegis-context`. A row is a state, \
         a column an event, a cell the state that follows; `-` is illegal and changes nothing. Numbers are examples: \
         2 stands for the dispatch in flight, 1 for an older one, 3 for a later one.\n",
    );
    let lane = |state: LaneState, event| state.next(event).ok();
    section(&mut text, "Lane", &lane_states(), &lane_events(), lane);
    let execution = |state: ExecutionState, event| state.next(event).ok();
    section(&mut text, "Execution context", &execution_states(), &execution_events(), execution);
    text
}

fn section<S: Display + Copy, E: Display + Copy>(
    text: &mut String,
    title: &str,
    states: &[S],
    events: &[E],
    next: impl Fn(S, E) -> Option<S>,
) {
    let row = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    text.push_str(&format!("\n## {title}\n\n"));
    let head = std::iter::once(String::new()).chain(events.iter().map(|event| event.to_string()));
    text.push_str(&row(head.collect()));
    text.push_str(&format!("|{}\n", "---|".repeat(events.len() + 1)));
    for &state in states {
        let cell = |event: &E| next(state, *event).map_or("-".to_owned(), |after| after.to_string());
        let cells = std::iter::once(format!("**{state}**")).chain(events.iter().map(cell));
        text.push_str(&row(cells.collect()));
    }
}

fn lane_states() -> [LaneState; 4] {
    let seq = DispatchSeq::new(2);
    [LaneState::Unbound, LaneState::Idle(seq), LaneState::Launched(seq), LaneState::Lost]
}

fn lane_events() -> [LaneEvent; 8] {
    let [older, own, later] = [1, 2, 3].map(DispatchSeq::new);
    [
        LaneEvent::Bind,
        LaneEvent::Launch(older),
        LaneEvent::Launch(own),
        LaneEvent::Launch(later),
        LaneEvent::Complete(older),
        LaneEvent::Complete(own),
        LaneEvent::Complete(later),
        LaneEvent::Lose,
    ]
}

fn execution_states() -> [ExecutionState; 6] {
    let [first, second] = [0, 1].map(SegmentIndex::new);
    let slot = Slot(0);
    [
        ExecutionState::Loaded,
        ExecutionState::Ready,
        ExecutionState::Running { segment: first, slot },
        ExecutionState::Running { segment: second, slot },
        ExecutionState::Suspended { next: second, slot },
        ExecutionState::Poisoned,
    ]
}

fn execution_events() -> [ExecutionEvent; 10] {
    let launch =
        |segment, slot| ExecutionEvent::Launch { segment: SegmentIndex::new(segment), slot: Slot(slot) };
    [
        ExecutionEvent::Bind,
        launch(0, 0),
        launch(0, 1),
        launch(1, 0),
        launch(1, 1),
        ExecutionEvent::Done { more: true },
        ExecutionEvent::Done { more: false },
        ExecutionEvent::NotStarted,
        ExecutionEvent::Fail,
        ExecutionEvent::Panic,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn legal<S: Copy + PartialEq, E: Copy>(states: &[S], events: &[E], next: impl Fn(S, E) -> bool) -> usize {
        states.iter().map(|&s| events.iter().filter(|&&e| next(s, e)).count()).sum()
    }

    #[test]
    fn every_pair_of_a_lane_is_decided() {
        let legal = legal(&lane_states(), &lane_events(), |state, event| state.next(event).is_ok());
        // Bind; Launch(3); Complete(2); Lose from three states.
        assert_eq!(legal, 6);
        for event in lane_events() {
            let lost = LaneState::Lost.next(event);
            assert!(lost.is_err() || lost == Ok(LaneState::Lost), "a lost lane comes back by {event}");
        }
    }

    #[test]
    fn every_pair_of_an_execution_context_is_decided() {
        let next = |state: ExecutionState, event| state.next(event).is_ok();
        let legal = legal(&execution_states(), &execution_events(), next);
        // Bind; two launches from Ready; five ends from each Running; three launches from Suspended.
        assert_eq!(legal, 1 + 2 + 2 * 5 + 3);
        for event in execution_events() {
            assert!(ExecutionState::Poisoned.next(event).is_err(), "a poisoned context takes {event}");
        }
    }

    #[test]
    fn an_illegal_event_names_both_sides() {
        let error = LaneState::Launched(DispatchSeq::new(2)).next(LaneEvent::Launch(DispatchSeq::new(3)));
        let text = error.expect_err("busy").to_string();
        assert_eq!(text, "Launch(3) is illegal while Launched(2)");
    }
}
