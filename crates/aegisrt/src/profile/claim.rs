//! What a campaign's samples allow to claim.
//!
//! A budget is the longest occupancy seen in any stratum of its level, times one plus the margin. The statement about
//! the next occupancy rests on confirmed strata only and on each by itself: samples of two mixes are never pooled, and
//! what was seen while exploring may raise a budget but never counts as a sample, because the mixes were chosen by it.
//!
//! With n_m samples in stratum m, none above the budget, and S strata: with 95 % confidence, in all of them at once,
//! the next occupancy exceeds the budget with probability at most p_m = 1 - (0.05 / S)^(1 / n_m), hence with at most
//! the largest p_m in any mixture of these strata. A budget that a confirm sample raised is covered as well: for any
//! budget at or above the largest of a fixed number of samples the same inequality holds (Wilks 1941), so that the
//! fresh round that follows is caution and not what the claim rests on.

use aegis_types::Nanos;

use super::mix::Stratum;
use super::state::{Confirmed, Summary, TaskCampaign};
use crate::config::Exceedance;
use crate::config::profile::{Level, LevelBudget, SegmentProfile};

/// A high-water mark with the margin on it, rounded up; `None` on overflow.
pub fn with_margin(high_water: Nanos, margin_ppm: u64) -> Option<Nanos> {
    high_water.scale_ppm_up(margin_ppm.checked_add(1_000_000)?)
}

/// The confirmed strata that speak for a level.
fn strata(task: &TaskCampaign, level: Level) -> impl Iterator<Item = &Confirmed> {
    // Where there is no other lane, the fleet's own mix is all there is, and stands for every level.
    let alone = task.confirmed.iter().all(is_company_of_none);
    task.confirmed.iter().filter(move |confirmed| alone || confirmed.mix.stratum.speaks_for(level))
}

fn is_company_of_none(confirmed: &Confirmed) -> bool {
    confirmed.mix.stratum == Stratum::Fleet && confirmed.mix.roles.len() == 1
}

/// The budget of a segment at a level; `None` if no stratum of the level was confirmed, if enemies were asked for and
/// none was confirmed, or on overflow.
pub fn level_budget(
    task: &TaskCampaign,
    level: Level,
    segment: usize,
    margin_ppm: u64,
) -> Option<LevelBudget> {
    let claimed: Vec<&Confirmed> = strata(task, level).collect();
    let decisive = match level {
        Level::Fleet => Stratum::Fleet,
        Level::Enemy => Stratum::Enemy,
    };
    let is_decisive =
        |confirmed: &&Confirmed| confirmed.mix.stratum == decisive || is_company_of_none(confirmed);
    if !claimed.iter().any(is_decisive) {
        return None;
    }
    let samples =
        claimed.iter().filter_map(|confirmed| Some(confirmed.segments.get(segment)?.samples)).min()?;
    let own = claimed.iter().filter_map(|confirmed| confirmed.high_water.get(segment).copied()).max()?;
    let high_water = task.high_water(level, segment).max(own);
    // Both levels are claimed from the same samples, so all confirmed strata share the confidence.
    let all = task.confirmed.len() as u64;
    Some(LevelBudget {
        level,
        budget: with_margin(high_water, margin_ppm)?,
        high_water,
        strata: u32::try_from(claimed.len()).unwrap_or(u32::MAX),
        samples,
        exceedance: Exceedance::of_clean_samples(samples, all),
    })
}

/// What a profile says of a segment at the chosen level, with the other levels beside it. `words` go into the text of
/// the certificate after what is counted. `None` as for [`level_budget`].
pub fn segment_profile(
    task: &TaskCampaign,
    level: Level,
    segment: usize,
    margin_ppm: u64,
    words: &str,
) -> Option<SegmentProfile> {
    let chosen = level_budget(task, level, segment, margin_ppm)?;
    let levels = Level::ALL.iter().filter_map(|level| level_budget(task, *level, segment, margin_ppm));
    let of = |figure: fn(&Summary) -> Nanos| {
        let segments = strata(task, level).filter_map(|confirmed| confirmed.segments.get(segment));
        segments.map(figure).max().unwrap_or(Nanos::ZERO)
    };
    Some(SegmentProfile {
        budget: chosen.budget,
        samples: chosen.samples,
        high_water: chosen.high_water,
        margin_ppm,
        exceedance: chosen.exceedance,
        level: format!("{}; {words}", chosen.words()),
        p50: of(|summary| summary.p50),
        p99: of(|summary| summary.p99),
        levels: levels.collect(),
    })
}

#[cfg(test)]
mod tests {
    use aegis_types::{LaneId, TaskId};

    use super::*;
    use crate::profile::{Mix, Observed, Role};

    fn summary(samples: u64, max: u64) -> Summary {
        let span = Nanos::new(max);
        Summary { samples, p50: span, p90: span, p99: span, max: span }
    }

    fn confirmed(stratum: Stratum, role: Role, samples: u64, max: u64) -> Confirmed {
        let mix = Mix::idle(stratum, 2).with(LaneId::new(1), role);
        let segments = vec![summary(samples, max)];
        Confirmed { mix, segments, high_water: vec![Nanos::new(max)], rounds: 1 }
    }

    /// S2 of 300 samples to 100, S3 of 200 to 90, S4 of 100 to 130; explored S3 to 95, alone to 500.
    fn campaign() -> TaskCampaign {
        let observed =
            |stratum, max| Observed { mix: Mix::idle(stratum, 2), segments: vec![summary(9, max)] };
        TaskCampaign {
            explored: vec![observed(Stratum::Alone, 500), observed(Stratum::Fleet, 95)],
            confirmed: vec![
                confirmed(Stratum::Fleet, Role::Any, 200, 90),
                confirmed(Stratum::Chosen, Role::Task(TaskId::new(1)), 300, 100),
                confirmed(Stratum::Enemy, Role::Enemy(0), 100, 130),
            ],
            ..TaskCampaign::default()
        }
    }

    #[test]
    fn levels_are_made_of_their_own_strata() {
        let fleet = level_budget(&campaign(), Level::Fleet, 0, 250_000).unwrap();
        assert_eq!((fleet.high_water, fleet.budget), (Nanos::new(100), Nanos::new(125)));
        assert_eq!((fleet.strata, fleet.samples), (2, 200));
        // 1 - (0.05 / 3)^(1 / 200) = 2.0264e-2
        assert_eq!(fleet.exceedance.probability_ppm, 20_264);
        let enemy = level_budget(&campaign(), Level::Enemy, 0, 250_000).unwrap();
        assert_eq!((enemy.high_water, enemy.budget), (Nanos::new(130), Nanos::new(163)));
        assert_eq!((enemy.strata, enemy.samples), (3, 100));
    }

    #[test]
    fn the_enemy_level_is_no_less_than_what_the_fleet_did() {
        let mut campaign = campaign();
        campaign.confirmed[0].high_water = vec![Nanos::new(170)];
        let enemy = level_budget(&campaign, Level::Enemy, 0, 0).unwrap();
        assert_eq!((enemy.high_water, enemy.budget), (Nanos::new(170), Nanos::new(170)));
    }

    #[test]
    fn what_was_explored_raises_budgets_and_counts_as_no_sample() {
        let mut campaign = campaign();
        campaign.explored[1].segments = vec![summary(1_000_000, 110)];
        let fleet = level_budget(&campaign, Level::Fleet, 0, 0).unwrap();
        assert_eq!((fleet.budget, fleet.samples), (Nanos::new(110), 200));
    }

    #[test]
    fn nothing_is_claimed_of_what_was_not_confirmed() {
        let mut without = campaign();
        without.confirmed.pop();
        assert_eq!(level_budget(&without, Level::Enemy, 0, 0), None, "no enemy was confirmed");
        assert!(level_budget(&without, Level::Fleet, 0, 0).is_some());
        without.confirmed.clear();
        assert_eq!(level_budget(&without, Level::Fleet, 0, 0), None);
        assert_eq!(level_budget(&campaign(), Level::Fleet, 0, u64::MAX), None, "a margin out of range");
    }

    #[test]
    fn a_profile_holds_every_level_beside_the_chosen_one() {
        let segment = segment_profile(&campaign(), Level::Fleet, 0, 250_000, "words").unwrap();
        assert_eq!(
            (segment.budget, segment.p50, segment.p99),
            (Nanos::new(125), Nanos::new(100), Nanos::new(100))
        );
        let levels: Vec<(Level, u64)> = segment.levels.iter().map(|l| (l.level, l.budget.get())).collect();
        assert_eq!(levels, [(Level::Fleet, 125), (Level::Enemy, 163)]);
        for part in ["fleet level", "2 strata", "200 samples", "2.0264%", "words"] {
            assert!(segment.level.contains(part), "`{part}` was due: {}", segment.level);
        }
    }
}
