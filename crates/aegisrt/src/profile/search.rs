//! The search for the harshest mix: greedy first, then coordinate ascent over lanes, with restarts.
//!
//! Pairs do not add: two co-runners that each hurt little may hurt much together, and two that saturate the same unit
//! hurt no more than one. So no table of pairs replaces a measurement of the whole mix, and an ascent that looks at
//! one lane at a time may end on a hill that is not the highest; restarts make that less likely, nothing excludes it.

use aegis_types::{LaneId, Nanos};

use super::mix::{Mix, Role};
use crate::feed::SplitMix;

/// A lane beside the victim's, and what it may run; at least one role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The lane.
    pub lane: LaneId,
    /// What it may run.
    pub roles: Vec<Role>,
}

/// How hard to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Ascents from random mixes, after the one from the greedy mix.
    pub restarts: usize,
    /// Passes over all lanes in one ascent at most.
    pub passes: usize,
}

/// Looks for a mix with the largest score, starting from `idle`, a mix in which every lane idles. Every mix that is
/// tried is told to `score`, which keeps what it needs; the same mix may be asked for more than once.
///
/// # Errors
/// The first error of `score`.
pub fn hunt<E>(
    idle: &Mix,
    choices: &[Choice],
    effort: Effort,
    random: &mut SplitMix,
    mut score: impl FnMut(&Mix) -> Result<Nanos, E>,
) -> Result<(), E> {
    if choices.is_empty() {
        return Ok(());
    }
    let mut mix = idle.clone();
    for choice in choices {
        mix = harshest(&mix, choice, &mut score)?.0;
    }
    ascend(mix, choices, effort.passes, &mut score)?;
    for _ in 0..effort.restarts {
        let start = choices.iter().fold(idle.clone(), |mix, choice| {
            let role = choice.roles[random.below(choice.roles.len() as u64) as usize];
            mix.with(choice.lane, role)
        });
        ascend(start, choices, effort.passes, &mut score)?;
    }
    Ok(())
}

/// Changes one lane after the other as long as that hurts more.
fn ascend<E>(
    mut mix: Mix,
    choices: &[Choice],
    passes: usize,
    score: &mut impl FnMut(&Mix) -> Result<Nanos, E>,
) -> Result<(), E> {
    let mut best = score(&mix)?;
    for _ in 0..passes {
        let before = best;
        for choice in choices {
            let (found, scored) = harshest(&mix, choice, score)?;
            if scored > best {
                (mix, best) = (found, scored);
            }
        }
        if best == before {
            break;
        }
    }
    Ok(())
}

/// The mix with the role on that lane that hurts most; the first of equals.
fn harshest<E>(
    mix: &Mix,
    choice: &Choice,
    score: &mut impl FnMut(&Mix) -> Result<Nanos, E>,
) -> Result<(Mix, Nanos), E> {
    let mut best = (mix.clone(), Nanos::ZERO);
    for (position, &role) in choice.roles.iter().enumerate() {
        let tried = mix.clone().with(choice.lane, role);
        let scored = score(&tried)?;
        if position == 0 || scored > best.1 {
            best = (tried, scored);
        }
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use aegis_types::TaskId;
    use proptest::prelude::{ProptestConfig, any, proptest};

    use super::*;
    use crate::profile::Stratum;

    const LANES: u16 = 3;
    const TASKS: u16 = 4;

    /// Task 0 on lane 0 is the victim; lane l has the tasks 4 l to 4 l + 3.
    fn choices() -> Vec<Choice> {
        let task = |lane: u16, number: u16| Role::Task(TaskId::new(lane * TASKS + number));
        let roles = |lane| (0..TASKS).map(|number| task(lane, number)).collect();
        (1..=LANES).map(|lane| Choice { lane: LaneId::new(lane), roles: roles(lane) }).collect()
    }

    fn idle() -> Mix {
        Mix::idle(Stratum::Chosen, usize::from(LANES) + 1)
    }

    /// The largest score that was asked for, and the largest that there is over all full mixes.
    fn found_and_true(effort: Effort, seed: u64, score: impl Fn(&Mix) -> u64) -> (u64, u64) {
        let mut found = 0;
        let _: Result<(), Infallible> = hunt(&idle(), &choices(), effort, &mut SplitMix(seed), |mix| {
            let scored = score(mix);
            let is_full = mix.roles[1..].iter().all(|role| *role != Role::Idle);
            found = if is_full { found.max(scored) } else { found };
            Ok(Nanos::new(scored))
        });
        let choices = choices();
        let mut truth = 0;
        for &a in &choices[0].roles {
            for &b in &choices[1].roles {
                for &c in &choices[2].roles {
                    let mixed = choices.iter().zip([a, b, c]).fold(idle(), |m, (c, r)| m.with(c.lane, r));
                    truth = truth.max(score(&mixed));
                }
            }
        }
        (found, truth)
    }

    /// Additive harm of each task, from a seed.
    fn harm(seed: u64, role: Role) -> u64 {
        match role {
            Role::Task(task) => SplitMix(seed ^ u64::from(task.get())).below(1_000),
            Role::Idle | Role::Any | Role::Enemy(_) => 0,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn harm_that_adds_up_is_found_without_restarts(seed in any::<u64>()) {
            let additive = |mix: &Mix| 1 + mix.roles.iter().map(|role| harm(seed, *role)).sum::<u64>();
            let (found, truth) = found_and_true(Effort { restarts: 0, passes: 3 }, seed, additive);
            assert_eq!(found, truth, "seed {seed}");
        }

        #[test]
        fn a_pair_that_hurts_only_together_is_found_by_restarts(seed in any::<u64>()) {
            let mut random = SplitMix(seed);
            let planted = [
                Role::Task(TaskId::new(TASKS + random.below(4) as u16)),
                Role::Task(TaskId::new(2 * TASKS + random.below(4) as u16)),
            ];
            let together = |mix: &Mix| {
                let alone: u64 = mix.roles.iter().map(|role| harm(seed, *role)).sum();
                let pair = planted.iter().all(|role| mix.roles.contains(role));
                1 + alone + if pair { 100_000 } else { 0 }
            };
            // A restart holds one of the pair with probability 7/16 at least: 40 in a row without happen never.
            let (found, truth) = found_and_true(Effort { restarts: 40, passes: 4 }, seed, together);
            assert_eq!(found, truth, "seed {seed}");
        }
    }

    #[test]
    fn an_error_ends_the_search_and_no_choice_is_no_search() {
        let mut asked = 0;
        let result = hunt(&idle(), &choices(), Effort { restarts: 1, passes: 1 }, &mut SplitMix(1), |_| {
            asked += 1;
            if asked == 3 { Err("enough") } else { Ok(Nanos::new(1)) }
        });
        assert_eq!((result, asked), (Err("enough"), 3));
        let none: Result<(), Infallible> =
            hunt(&idle(), &[], Effort { restarts: 9, passes: 9 }, &mut SplitMix(1), |_| Ok(Nanos::ZERO));
        assert_eq!(none, Ok(()));
    }
}
