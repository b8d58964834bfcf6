//! Consecutive steps of the driver: what each is charged with, and what is charged once for all of them.
//!
//! A launch is charged with dozens of steps: a handling and two looks of all sources. Dozens of times the longest step is a
//! sum that never comes: on a host without guarantees the longest of some thousand steps is one that was interrupted for some
//! microseconds, and such an interruption, charged for each step, makes more than everything else together. Leaving
//! it out is no answer either: it does come, to one step in many. So a step is charged with what ninety-nine in a hundred do not
//! exceed, and by how much consecutive steps exceeded that together, as many as a launch is charged with, is charged once.
//! Memory that is slow for a while is in both. Only stalls are left out, as everywhere in calibration.

use aegis_types::Nanos;

use super::samples::{self, Samples, with_margin};
use crate::config::CalibrationRound;

/// A step of the driver's cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Timers, client submissions and commands.
    Tick,
    Completion,
    Decision,
}

impl Step {
    const ALL: [Self; 3] = [Self::Tick, Self::Completion, Self::Decision];
}

/// Looks that a launch is charged with: that of the cycle in which it is made, and two until its end is stamped.
const LOOKS: u64 = 3;
/// Looks that a release is charged with.
const LOOKS_MIN: u64 = 2;

/// How many steps of each kind a launch is charged with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window([u64; 3]);

impl Window {
    /// On so many lanes, of a fleet of so many tasks. A submission is handled in a look, a timer is not; either
    /// may be what a task has.
    pub(super) const fn of(tasks: u64, lanes: u64) -> Self {
        Self([LOOKS * (tasks + 1), LOOKS * lanes, (LOOKS - 1) * lanes])
    }

    /// The most of one kind.
    pub(super) fn longest(self) -> u64 {
        self.0.into_iter().fold(0, u64::max)
    }
}

/// The steps of one round, in their order, without stalls.
#[derive(Debug)]
pub(super) struct Series {
    steps: Vec<(Step, Nanos)>,
    /// How many were left out, by kind.
    stalls: [u64; 3],
}

impl Series {
    /// Leaves out what [is a stall](samples::sound), and whatever took longer than `watched`: the watch of a driver that
    /// spins sees each of those, and voids what it delayed.
    pub(super) fn new(mut steps: Vec<(Step, Nanos)>, watched: Option<Nanos>) -> Self {
        let mut stalls = [0; 3];
        for kind in Step::ALL {
            let mut sorted = of(&steps, kind);
            sorted.sort_unstable();
            let Some(last) = samples::sound(&sorted).checked_sub(1) else { continue };
            let limit = watched.map_or(sorted[last], |watched| watched.min(sorted[last]));
            let before = steps.len();
            steps.retain(|(step, took)| *step != kind || *took <= limit);
            stalls[kind as usize] = (before - steps.len()) as u64;
        }
        Self { steps, stalls }
    }

    /// What ninety-nine in a hundred steps do not exceed, by kind.
    fn marks(&self) -> [Nanos; 3] {
        Step::ALL.map(|kind| Samples::new(of(&self.steps, kind)).quantile(990))
    }

    /// By how much steps that follow each other exceed their marks together, in the worst of the shortest stretches that
    /// hold `window`.
    fn excess(&self, window: Window, marks: [Nanos; 3]) -> Nanos {
        let over = |(step, took): (Step, Nanos)| took.saturating_sub(marks[step as usize]);
        let (mut first, mut held) = (0, [0u64; 3]);
        let (mut sum, mut most) = (Nanos::ZERO, Nanos::ZERO);
        for &step in &self.steps {
            held[step.0 as usize] += 1;
            sum = sum.saturating_add(over(step));
            while let Some(&oldest) = self.steps.get(first) {
                let kind = oldest.0 as usize;
                if !holds(held, window) || held[kind] == window.0[kind] {
                    break;
                }
                held[kind] -= 1;
                sum = sum.saturating_sub(over(oldest));
                first += 1;
            }
            most = most.max(sum);
        }
        most
    }
}

fn of(steps: &[(Step, Nanos)], kind: Step) -> Vec<Nanos> {
    steps.iter().filter(|(step, _)| *step == kind).map(|(_, took)| *took).collect()
}

fn holds(held: [u64; 3], window: Window) -> bool {
    held.iter().zip(window.0).all(|(held, due)| *held >= due)
}

/// What is charged for the driver's steps.
#[derive(Debug)]
pub(super) struct Charged {
    window: Window,
    rounds: Vec<Series>,
    /// For each step of a kind, before the margin.
    marks: [Nanos; 3],
    /// Once for all steps of a launch, before the margin.
    excess: Nanos,
}

impl Charged {
    /// The largest of all rounds: nobody can tell whether the host will be as it was in the calmest.
    pub(super) fn of(rounds: Vec<Series>, window: Window) -> Self {
        let marks = rounds.iter().map(Series::marks).fold([Nanos::ZERO; 3], |most, marks| {
            let mut largest = most;
            largest.iter_mut().zip(marks).for_each(|(most, mark)| *most = mark.max(*most));
            largest
        });
        let excess = rounds.iter().map(|round| round.excess(window, marks)).fold(Nanos::ZERO, Nanos::max);
        Self { window, rounds, marks, excess }
    }

    /// The charge of one step.
    pub(super) fn step(&self, step: Step, margin_ppm: u64) -> Nanos {
        with_margin(self.marks[step as usize], margin_ppm)
    }

    /// What each look is charged with besides its own steps, so that launches and releases are both charged the excess
    /// once; `others` are what other steps of the driver's thread were not charged with.
    pub(super) fn look(&self, others: [Nanos; 4], margin_ppm: u64) -> Nanos {
        share(others.into_iter().fold(self.excess, Nanos::max), margin_ppm)
    }

    /// All samples of a step.
    pub(super) fn samples(&self, step: Step) -> Samples {
        let all = self.rounds.iter().flat_map(|round| of(&round.steps, step)).collect();
        Samples::without(all, self.rounds.iter().map(|round| round.stalls[step as usize]).sum())
    }

    /// What each round would charge by itself.
    pub(super) fn rounds(&self, margin_ppm: u64) -> Vec<CalibrationRound> {
        let of = |round: &Series| {
            let marks = round.marks();
            let looks = share(round.excess(self.window, marks), margin_ppm).checked_mul(LOOKS);
            let steps = marks
                .into_iter()
                .zip(self.window.0)
                .map(|(mark, count)| with_margin(mark, margin_ppm).checked_mul(count).unwrap_or(Nanos::MAX));
            let steps = steps.fold(looks.unwrap_or(Nanos::MAX), Nanos::saturating_add);
            CalibrationRound { steps, stalls: round.stalls.iter().sum() }
        };
        self.rounds.iter().map(of).collect()
    }
}

fn share(excess: Nanos, margin_ppm: u64) -> Nanos {
    Nanos::new(with_margin(excess, margin_ppm).get().div_ceil(LOOKS_MIN))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::calibrate::gaps::STALL;
    use crate::feed::SplitMix;

    const MARGIN: u64 = 200_000;

    /// Slow and obvious: every stretch, and of those that hold no more than a launch is charged with the worst.
    fn oracle(steps: &[(Step, Nanos)], window: Window, marks: [Nanos; 3]) -> Nanos {
        let mut most = Nanos::ZERO;
        for first in 0..steps.len() {
            let (mut held, mut sum) = ([0; 3], Nanos::ZERO);
            for (step, took) in &steps[first..] {
                held[*step as usize] += 1;
                if held.iter().zip(window.0).any(|(held, most)| *held > most) {
                    break;
                }
                sum = sum.saturating_add(took.saturating_sub(marks[*step as usize]));
                most = most.max(sum);
            }
        }
        most
    }

    fn step() -> impl Strategy<Value = (Step, Nanos)> {
        (0usize..3, prop_oneof![9 => 1u64..400, 1 => 400u64..60_000])
            .prop_map(|(kind, took)| (Step::ALL[kind], Nanos::new(took)))
    }

    proptest! {
        /// A launch of any stretch of steps is covered, the largest sample included, unless it is a stall.
        #[test]
        fn what_is_charged_covers_every_stretch(
            steps in prop::collection::vec(step(), 1..120), tasks in 0u64..3, lanes in 1u64..4,
        ) {
            let window = Window::of(tasks, lanes);
            let series = Series::new(steps.clone(), None);
            prop_assert_eq!(&series.steps, &steps, "so few samples hold no thousandth");
            let marks = series.marks();
            let due = oracle(&steps, window, marks);
            let found = series.excess(window, marks);
            prop_assert!(found >= due, "{found} for {due}");
            let charged = Charged::of(vec![series], window);
            for (step, took) in steps {
                let once = charged.look([Nanos::ZERO; 4], MARGIN).checked_mul(LOOKS_MIN).expect("it is short");
                prop_assert!(charged.step(step, MARGIN).saturating_add(once) > took, "{took} is not covered");
            }
        }
    }

    /// Rounds of steps as a fleet's engine has them, of which `gap` says how long each is interrupted.
    fn rounds(watched: Option<Nanos>, mut gap: impl FnMut(u64, Nanos) -> Nanos) -> Vec<Series> {
        let typical = [(Step::Completion, 260), (Step::Tick, 145), (Step::Decision, 136)];
        let mut random = SplitMix(7);
        let mut step = |round: u64, (step, took): (Step, u64)| {
            let took = Nanos::new(took + random.below(took / 2));
            (step, took.saturating_add(gap(round, took)))
        };
        let series = |round| {
            Series::new((0..24_000).map(|index: usize| step(round, typical[index % 3])).collect(), watched)
        };
        (0..5).map(series).collect()
    }

    /// Interruptions of this length, on average so far apart.
    fn interrupted(seed: u64, length: Nanos, apart: Nanos) -> impl FnMut(Nanos) -> Nanos {
        let mut random = SplitMix(seed);
        move |took| if random.below(apart.get()) < took.get() { length } else { Nanos::ZERO }
    }

    fn launch(charged: &Charged) -> u64 {
        let looks = charged.look([Nanos::ZERO; 4], MARGIN).get() * LOOKS;
        Step::ALL
            .iter()
            .zip(charged.window.0)
            .fold(looks, |sum, (step, count)| sum + charged.step(*step, MARGIN).get() * count)
    }

    /// What the largest sample of each step makes, without its largest thousandth, when it is charged for each step.
    fn multiplied(rounds: &[Series], window: Window) -> u64 {
        let charge = |kind| {
            let all = rounds.iter().flat_map(|round| of(&round.steps, kind)).collect();
            Samples::trimmed(all).charged(MARGIN).get()
        };
        Step::ALL.iter().zip(window.0).map(|(kind, count)| charge(*kind) * count).sum()
    }

    #[test]
    fn an_interruption_is_charged_once_and_not_for_each_step() {
        let window = Window::of(30, 8);
        let mut host = interrupted(1, Nanos::from_micros(11), Nanos::from_micros(200));
        let rounds = rounds(None, |_, took| host(took));
        let before = multiplied(&rounds, window);
        let charged = Charged::of(rounds, window);
        let now = launch(&charged);
        assert!(before > 300_000, "{before} ns: of each step one in a thousand is interrupted");
        assert!(now < before / 2, "{now} ns beside {before} ns");
        // Interruptions within a stretch add up: there are no fewer than what was seen together.
        assert!(charged.excess >= Nanos::from_micros(22), "{}", charged.excess);
    }

    #[test]
    fn a_slow_episode_is_charged_and_told() {
        let window = Window::of(30, 8);
        let slow = |round, took: Nanos| if round == 2 { Nanos::new(9 * took.get()) } else { Nanos::ZERO };
        let charged = Charged::of(rounds(None, slow), window);
        let calm = Charged::of(rounds(None, |_, _| Nanos::ZERO), window);
        assert!(charged.step(Step::Tick, MARGIN) >= Nanos::new(145 * 10), "{:?}", charged.marks);
        assert!(launch(&charged) > 9 * launch(&calm), "one round of five is no thousandth");
        let steps: Vec<Nanos> = charged.rounds(MARGIN).iter().map(|round| round.steps).collect();
        assert!(steps[2].get() > 8 * steps[1].get() && steps[1].get() < 2 * steps[0].get(), "{steps:?}");
    }

    #[test]
    fn stalls_are_left_out_and_counted_unless_they_are_how_the_host_is() {
        let window = Window::of(30, 8);
        let planted = |every: u64, watched| {
            let mut count = 0;
            let stalled = move |_, _| {
                count += 1;
                if count % every == 0 { STALL.saturating_add(Nanos::from_micros(300)) } else { Nanos::ZERO }
            };
            Charged::of(rounds(watched, stalled), window)
        };
        let seldom = planted(5_000, None);
        assert!(seldom.excess < Nanos::from_micros(2), "{}", seldom.excess);
        let told: u64 = seldom.rounds(MARGIN).iter().map(|round| round.stalls).sum();
        assert_eq!(told, 5 * 24_000 / 5_000);
        assert!(planted(500, None).excess > Nanos::from_micros(300), "one in five hundred is how it is");
        // Unless serving would void what they meet.
        let watched = planted(500, Some(Nanos::from_micros(250)));
        assert!(watched.excess < Nanos::from_micros(2), "{}", watched.excess);
        let told: u64 = watched.rounds(MARGIN).iter().map(|round| round.stalls).sum();
        assert_eq!(told, 5 * 24_000 / 500);
        let below = planted(500, Some(Nanos::from_micros(350)));
        assert!(below.excess > Nanos::from_micros(300), "nobody would see these: {}", below.excess);
        let all = Samples::figure(&seldom.samples(Step::Tick), "tick").expect("there are samples");
        assert_eq!(all.samples + all.stalls, 5 * 8_000);
    }

    #[test]
    fn rounds_without_steps_charge_nothing() {
        let charged = Charged::of(vec![Series::new(Vec::new(), None)], Window::of(3, 2));
        assert_eq!(launch(&charged), 0);
        assert_eq!(charged.rounds(MARGIN), [CalibrationRound { steps: Nanos::ZERO, stalls: 0 }]);
        let others = [Nanos::new(10), Nanos::new(7), Nanos::ZERO, Nanos::new(3)];
        assert_eq!(
            charged.look(others, 0),
            Nanos::new(5),
            "other steps of the thread are interrupted as well"
        );
    }
}
