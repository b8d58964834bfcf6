//! Repair by ejection: a task that fits nowhere pushes out what stands in its way, which then looks for a place.
//!
//! The scheme is that of Nagata and Braysy (Operations Research Letters 37, 2009) for using fewer vehicles: whoever
//! was left out keeps count of its failures, and may push out tasks whose counts together are smaller than its own;
//! so hard tasks settle and easy ones move. Between pushes tasks change places at random wherever every lane still
//! fits. Failures of critical tasks weigh more.

use aegis_types::LaneId;

use super::order::{Draw, Loss};
use super::search::place;
use super::state::{Change, State};
use crate::model::Criticality;

/// Random changes after a push.
const DISTURBANCES: usize = 48;

/// Lanes of more tasks than this lose one task to a push and never two: there are too many pairs.
const PAIRED_MAX: usize = 24;

/// Where budgets depend on the company, one random change in so many may make them larger.
const UPHILL: usize = 16;

/// A search for places for those left out.
pub(super) struct Repair<'s, 'a> {
    state: &'s mut State<'a>,
    /// Those left out; the last is next.
    pool: Vec<usize>,
    /// By task: failures to find a place, by weight.
    failures: Vec<u64>,
    best: (Loss, Vec<Option<LaneId>>),
    draw: Draw,
}

/// Lanes, and whom a push would put out there.
struct Push {
    weight: u64,
    /// Breaks ties between equal weights.
    turn: usize,
    lane: LaneId,
    out: [Option<usize>; 2],
}

const fn weight(criticality: Criticality) -> u64 {
    match criticality {
        Criticality::Low => 1,
        Criticality::Medium => 8,
        Criticality::High => 64,
    }
}

impl<'s, 'a> Repair<'s, 'a> {
    pub(super) fn new(state: &'s mut State<'a>, draw: Draw) -> Self {
        let criticality = &state.terrain.criticality;
        let mut pool: Vec<usize> =
            (0..state.lanes.len()).filter(|&task| state.lanes[task].is_none()).collect();
        pool.sort_by_key(|&task| criticality[task]);
        let failures = criticality.iter().map(|&criticality| weight(criticality)).collect();
        let best = (Loss::of_state(state), state.lanes.clone());
        Self { state, pool, failures, best, draw }
    }

    /// The best lanes that were found before the steps were spent.
    pub(super) fn run(mut self) -> Vec<Option<LaneId>> {
        while self.state.steps > 0 {
            let Some(task) = self.pool.pop() else { break };
            let lanes = self.state.fullest_first(task);
            if !place(self.state, task, &lanes) {
                let own = weight(self.state.terrain.criticality[task]);
                self.failures[task] = self.failures[task].saturating_add(own);
                if !self.push(task) {
                    self.pool.insert(0, task);
                }
                self.disturb();
            }
            let loss = Loss::of_state(self.state);
            if loss < self.best.0 {
                self.best = (loss, self.state.lanes.clone());
            }
        }
        self.best.1
    }

    /// Puts the task where it pushes out least; returns whether there is such a place.
    fn push(&mut self, task: usize) -> bool {
        let mut pushes = self.pushes(task);
        pushes.sort_unstable_by_key(|push| (push.weight, push.turn));
        for push in pushes {
            if self.state.steps == 0 {
                return false;
            }
            let mut changes: Vec<Change> = push.out.into_iter().flatten().map(|out| (out, None)).collect();
            changes.push((task, Some(push.lane)));
            if self.state.attempt(&changes) {
                self.pool.extend(push.out.into_iter().flatten());
                return true;
            }
        }
        false
    }

    /// Whom the task may push out, one or two at a time, in random order.
    fn pushes(&mut self, task: usize) -> Vec<Push> {
        let limit = self.failures[task];
        let mut pushes = Vec::new();
        for &lane in &self.state.terrain.allowed[task] {
            let members = &self.state.members[lane.index()];
            for (at, &one) in members.iter().enumerate() {
                let single = self.failures[one];
                if single >= limit {
                    continue;
                }
                let turn = self.draw.below(1 << 20);
                pushes.push(Push { weight: single, turn, lane, out: [Some(one), None] });
                if members.len() > PAIRED_MAX {
                    continue;
                }
                for &two in &members[at + 1..] {
                    let weight = single.saturating_add(self.failures[two]);
                    if weight < limit {
                        let turn = self.draw.below(1 << 20);
                        pushes.push(Push { weight, turn, lane, out: [Some(one), Some(two)] });
                    }
                }
            }
        }
        if self.state.terrain.contended.is_some() {
            self.push_elsewhere(task, &mut pushes);
        }
        pushes
    }

    /// Where budgets depend on the company, who stands in the way may stand on another lane.
    fn push_elsewhere(&mut self, task: usize, pushes: &mut Vec<Push>) {
        for &lane in &self.state.terrain.allowed[task] {
            for (one, &at) in self.state.lanes.iter().enumerate() {
                let weight = self.failures[one];
                if at.is_some_and(|at| at != lane) && weight < self.failures[task] {
                    let turn = self.draw.below(1 << 20);
                    pushes.push(Push { weight, turn, lane, out: [Some(one), None] });
                }
            }
        }
    }

    /// Moves a task or exchanges two at random, a few times, wherever every lane still fits.
    fn disturb(&mut self) {
        for _ in 0..DISTURBANCES {
            let Some((changes, count)) = self.random_change() else { continue };
            if self.state.terrain.contended.is_none() {
                self.state.attempt(&changes[..count]);
                continue;
            }
            let energy = self.state.energy();
            let uphill = self.draw.below(UPHILL) == 0;
            self.state.attempt_if(&changes[..count], |state| uphill || state.energy() <= energy);
        }
    }

    fn random_change(&mut self) -> Option<([Change; 2], usize)> {
        let terrain = self.state.terrain;
        let one = self.draw.below(terrain.count());
        let from = self.state.lanes[one]?;
        if self.draw.below(2) == 0 {
            let lane = terrain.allowed[one][self.draw.below(terrain.allowed[one].len())];
            return (lane != from).then_some(([(one, Some(lane)); 2], 1));
        }
        let two = self.draw.below(terrain.count());
        let to = self.state.lanes[two]?;
        let may = |task: usize, lane: LaneId| terrain.allowed[task].binary_search(&lane).is_ok();
        let exchange = [(one, Some(to)), (two, Some(from))];
        (to != from && may(one, to) && may(two, from)).then_some((exchange, 2))
    }
}
