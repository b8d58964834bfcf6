//! The campaign: explore, freeze, confirm (section 10 of `docs/model.md`).
//!
//! Exploration tries mixes and keeps what it saw; then the strata to be claimed are frozen, the harshest first; then
//! each of them is measured afresh. The order of everything follows from the options' seed and from what was measured,
//! so that a campaign that was interrupted asks the same questions again, is answered from its state, and goes on
//! where it stopped.

use aegis_types::{ContentHash, LaneId, Nanos, TaskId, Time};

use super::bed::TestBed;
use super::claim::with_margin;
use super::closed_loop::{ClosedLoop, Quota, Taken};
use super::mix::{Mix, Role, Stratum};
use super::search::{Choice, Effort, hunt};
use super::state::{CampaignState, Confirmed, Observed, Summary, TaskCampaign};
use super::{Enemy, FailedInProfile, ProfileOptions, Victim};
use crate::config::profile::Level;
use crate::feed::SplitMix;

/// Why a stage did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// The time of this stretch is over; what is known is kept, and the same call goes on.
    #[error("the time of this stretch is over")]
    TimeUp,
    /// Something that ran failed.
    #[error(transparent)]
    Failed(#[from] FailedInProfile),
    /// The strata of the task are not frozen yet.
    #[error("{task} was not explored, so that there is nothing to confirm")]
    NotExplored {
        /// The task.
        task: TaskId,
    },
}

/// Why exploration of a task ended early.
enum Cut {
    Stop(Stop),
    /// Its share of the time is spent: what was found until then is frozen.
    Share,
}

/// Measures the tasks of a fleet in the company of each other and of enemies.
pub struct Campaign<B> {
    ring: ClosedLoop<B>,
    victims: Vec<Victim>,
    kinds: Vec<u16>,
    enemies: Vec<Enemy>,
    options: ProfileOptions,
    state: CampaignState,
    until: Time,
}

impl<B: TestBed> Campaign<B> {
    /// A campaign on lanes that have loaded all of them; it knows nothing yet. Victims stand in the order of their
    /// numbers.
    pub fn new(bed: B, victims: &[Victim], enemies: &[Enemy], options: ProfileOptions) -> Self {
        let mut kinds: Vec<u16> =
            enemies.iter().filter(|enemy| !enemy.flushes).map(|enemy| enemy.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        Self {
            ring: ClosedLoop::new(bed, victims, enemies),
            victims: victims.to_vec(),
            kinds,
            enemies: enemies.to_vec(),
            options,
            state: CampaignState::new(ContentHash::of(&[]), victims.len()),
            until: Time::new(u64::MAX),
        }
    }

    /// Goes on from what an earlier campaign knew, of the same tasks in the same circumstances.
    #[must_use]
    pub fn resume(self, state: CampaignState) -> Self {
        Self { state, ..self }
    }

    /// Ends every stage at that time at the latest, with [`Stop::TimeUp`].
    #[must_use]
    pub fn until(self, until: Time) -> Self {
        Self { until, ..self }
    }

    /// What is known.
    pub const fn result(&self) -> &CampaignState {
        &self.state
    }

    /// What is known, at the end.
    pub fn into_result(self) -> CampaignState {
        self.state
    }

    /// Runs the task at `position` of the table once, so that its carrier learns what memory it takes.
    ///
    /// # Errors
    /// Why it was cut.
    pub fn touch(&mut self, position: usize) -> Result<(), Stop> {
        let mix = self.uniform(position, Stratum::Own, Role::Idle);
        let end = self.ring.now();
        self.stretch(position, &mix, 1, end, 0).map(drop)
    }

    /// Whether something runs between two measured segments of the task at `position`.
    pub fn has_mates(&self, position: usize) -> bool {
        self.ring.has_mates(position)
    }

    /// Tries mixes for the task at `position` of the table and freezes its strata; done at once if they are frozen.
    ///
    /// # Errors
    /// Why it was cut; what was tried until then is kept.
    pub fn explore(&mut self, position: usize) -> Result<(), Stop> {
        if self.state.tasks[position].frozen.is_some() {
            return Ok(());
        }
        for (stratum, role) in
            [(Stratum::Alone, Role::Idle), (Stratum::Own, Role::Idle), (Stratum::Fleet, Role::Any)]
        {
            let mix = self.uniform(position, stratum, role);
            self.look(position, &mix)?;
        }
        if let Some(burst) = self.burst(position) {
            self.look(position, &burst)?;
        }
        match self.search(position) {
            Ok(()) | Err(Cut::Share) => {}
            Err(Cut::Stop(stop)) => return Err(stop),
        }
        let frozen = self.freeze(position);
        self.state.tasks[position].frozen = Some(frozen);
        Ok(())
    }

    /// Measures every frozen stratum of the task at `position` afresh; done at once where that was done.
    ///
    /// # Errors
    /// Why it was cut; strata that were confirmed until then are kept.
    pub fn confirm(&mut self, position: usize) -> Result<(), Stop> {
        let task = self.victims[position].task;
        let frozen = self.state.tasks[position].frozen.clone().ok_or(Stop::NotExplored { task })?;
        let share = self.options.time_per_task.saturating_sub(self.options.exploration());
        for number in self.state.tasks[position].confirmed.len()..frozen.len() {
            let spent = self.state.tasks[position].confirming;
            // What earlier strata left over is shared out among the later ones.
            let left = share.saturating_sub(spent).get() / (frozen.len() - number) as u64;
            let start = self.ring.now();
            let confirmed = self.confirm_stratum(position, &frozen[number], Nanos::new(left))?;
            let took = self.ring.now().since(start);
            let known = &mut self.state.tasks[position];
            known.confirmed.push(confirmed);
            known.confirming = known.confirming.saturating_add(took);
        }
        Ok(())
    }

    /// Rounds of fresh samples until none exceeds the budget as it stood before the round, so many at most, and as long
    /// as there is time for a whole one.
    fn confirm_stratum(&mut self, position: usize, mix: &Mix, share: Nanos) -> Result<Confirmed, Stop> {
        let count = usize::from(self.victims[position].segments);
        let mut high_water = vec![Nanos::ZERO; count];
        let mut limits = self.limits(position, mix, &high_water);
        let end = self.ring.now().saturating_add(share);
        let mut rounds = 0;
        loop {
            rounds += 1;
            let start = self.ring.now();
            let taken = self.stretch(position, mix, self.options.samples, end, rounds)?;
            let longest = |samples: &Vec<Nanos>| samples.iter().max().copied().unwrap_or(Nanos::ZERO);
            for (mark, samples) in high_water.iter_mut().zip(&taken.segments) {
                *mark = longest(samples).max(*mark);
            }
            let breached = high_water.iter().zip(&limits).any(|(mark, limit)| mark > limit);
            // A round that could not be finished would count fewer samples than the one at hand, whose samples all lie
            // below the budget that they raised.
            let now = self.ring.now();
            let is_time_up = now.saturating_add(now.since(start)) > end;
            if !breached || rounds >= self.options.rounds || is_time_up {
                let segments = taken.segments.into_iter().map(Summary::of).collect();
                return Ok(Confirmed { mix: mix.clone(), segments, high_water, rounds });
            }
            limits = self.limits(position, mix, &high_water);
        }
    }

    /// The budgets of the segments as they stand: the smaller of the levels that the mix speaks for.
    fn limits(&self, position: usize, mix: &Mix, seen: &[Nanos]) -> Vec<Nanos> {
        let known = &self.state.tasks[position];
        let limit = |(segment, seen): (usize, &Nanos)| {
            let levels = Level::ALL.iter().filter(|level| mix.stratum.speaks_for(**level));
            let mark = levels.map(|level| known.high_water(*level, segment)).min();
            with_margin(mark.unwrap_or(Nanos::ZERO).max(*seen), self.options.margin_ppm).unwrap_or(Nanos::MAX)
        };
        seen.iter().enumerate().map(limit).collect()
    }

    /// S1, S4 and S2, as far as the share of the time allows.
    fn search(&mut self, position: usize) -> Result<(), Cut> {
        for choice in self.choices(position) {
            for role in choice.roles {
                let mix = Mix::idle(Stratum::Screen, self.ring.lanes()).with(choice.lane, role);
                self.observe(position, &mix)?;
            }
        }
        for mix in self.enemy_mixes(position) {
            self.observe(position, &mix)?;
        }
        let choices = self.screened(position);
        let idle = Mix::idle(Stratum::Chosen, self.ring.lanes());
        let effort = Effort { restarts: self.options.restarts, passes: self.options.passes };
        let mut random = SplitMix(self.options.seed ^ position as u64);
        hunt(&idle, &choices, effort, &mut random, |mix| self.observe(position, mix))
    }

    /// How harsh a mix is: known, or measured if the share of the time allows.
    fn observe(&mut self, position: usize, mix: &Mix) -> Result<Nanos, Cut> {
        let known = &self.state.tasks[position];
        match known.tried(mix) {
            Some(observed) => Ok(observed.harshness()),
            None if known.exploring >= self.options.exploration() => Err(Cut::Share),
            None => self.look(position, mix).map_err(Cut::Stop),
        }
    }

    /// How harsh a mix is: known, or measured.
    pub(super) fn look(&mut self, position: usize, mix: &Mix) -> Result<Nanos, Stop> {
        if let Some(observed) = self.state.tasks[position].tried(mix) {
            return Ok(observed.harshness());
        }
        let start = self.ring.now();
        let share = self.options.exploration().saturating_sub(self.state.tasks[position].exploring);
        let taken = self.stretch(position, mix, self.options.probe, start.saturating_add(share), 0)?;
        let took = self.ring.now().since(start);
        let segments = taken.segments.into_iter().map(Summary::of).collect();
        let observed = Observed { mix: mix.clone(), segments };
        let harshness = observed.harshness();
        let known = &mut self.state.tasks[position];
        known.explored.push(observed);
        known.exploring = known.exploring.saturating_add(took);
        Ok(harshness)
    }

    /// One stretch of samples. What the campaign's own end would cut is not begun or not kept.
    fn stretch(
        &mut self,
        position: usize,
        mix: &Mix,
        samples: usize,
        end: Time,
        round: u32,
    ) -> Result<Taken, Stop> {
        if self.ring.now() >= self.until {
            return Err(Stop::TimeUp);
        }
        let quota = Quota {
            samples,
            warm_up: self.options.warm_up,
            until: end.min(self.until),
            pause_max: self.options.pause_max,
            // Equal mixes draw equal orders wherever a campaign was interrupted; rounds draw their own.
            seed: self.options.seed ^ mix.word() ^ (position as u64) << 32 ^ u64::from(round) << 48,
        };
        let taken = self.ring.measure(position, mix, quota)?;
        self.state.tasks[position].stalled += taken.stalled;
        if self.until < end && self.ring.now() >= self.until {
            return Err(Stop::TimeUp);
        }
        Ok(taken)
    }

    /// Every other lane that has tasks or, for enemies, every other lane at all, in one role.
    fn uniform(&self, position: usize, stratum: Stratum, role: Role) -> Mix {
        let home = self.victims[position].lane;
        let lanes = (0..self.ring.lanes() as u16).map(LaneId::new).filter(|lane| *lane != home);
        let can = |lane: &LaneId| match role {
            Role::Any => self.victims.iter().any(|victim| victim.lane == *lane),
            Role::Enemy(kind) => {
                self.enemies.iter().any(|enemy| enemy.kind == kind && enemy.load.lane == *lane)
            }
            Role::Idle | Role::Task(_) => true,
        };
        let idle = Mix::idle(stratum, self.ring.lanes());
        lanes.filter(can).fold(idle, |mix, lane| mix.with(lane, role))
    }

    /// All lanes at once, where occupancies hold what a launch waits for and there is anybody to wait for.
    fn burst(&self, position: usize) -> Option<Mix> {
        let mix = self.uniform(position, Stratum::Burst, Role::Any);
        (self.ring.counts_from_post() && mix.roles.contains(&Role::Any)).then_some(mix)
    }

    /// S4: every enemy on all other lanes, and all of them side by side.
    fn enemy_mixes(&self, position: usize) -> Vec<Mix> {
        let mix = |kind: &u16| self.uniform(position, Stratum::Enemy, Role::Enemy(*kind));
        let mut mixes: Vec<Mix> = self.kinds.iter().map(mix).collect();
        if self.kinds.len() > 1 {
            let uniform = mixes.clone();
            let role = |(index, role): (usize, &Role)| match role {
                Role::Idle => Role::Idle,
                _ => uniform[index % uniform.len()].roles[index],
            };
            let roles = mixes[0].roles.iter().enumerate().map(role).collect();
            mixes.push(Mix { stratum: Stratum::Enemy, roles });
        }
        mixes.retain(|mix| mix.roles.iter().any(|role| *role != Role::Idle));
        mixes
    }

    /// The tasks of every other lane, in the order of the fleet; lanes without tasks are left out.
    fn choices(&self, position: usize) -> Vec<Choice> {
        let home = self.victims[position].lane;
        let choice = |lane: LaneId| {
            let tasks = self.victims.iter().filter(|victim| victim.lane == lane);
            Choice { lane, roles: tasks.map(|victim| Role::Task(victim.task)).collect() }
        };
        let lanes = (0..self.ring.lanes() as u16).map(LaneId::new).filter(|lane| *lane != home);
        lanes.map(choice).filter(|choice| !choice.roles.is_empty()).collect()
    }

    /// The choices in the order of harm that the screen found, the worst lane and the worst task first.
    fn screened(&self, position: usize) -> Vec<Choice> {
        let known = &self.state.tasks[position];
        let harm = |lane: LaneId, role: Role| {
            let mix = Mix::idle(Stratum::Screen, self.ring.lanes()).with(lane, role);
            std::cmp::Reverse(known.tried(&mix).map_or(Nanos::ZERO, Observed::harshness))
        };
        let mut choices = self.choices(position);
        for choice in &mut choices {
            let lane = choice.lane;
            choice.roles.sort_by_key(|role| harm(lane, *role));
        }
        choices.sort_by_key(|choice| choice.roles.first().map(|role| harm(choice.lane, *role)));
        choices
    }

    /// The strata to be confirmed: the fleet's own mix, bursts of it, and then in turn the harshest chosen mix and the
    /// harshest enemies, so that both levels are claimed.
    fn freeze(&self, position: usize) -> Vec<Mix> {
        let known = &self.state.tasks[position];
        let screened = self.screened(position).into_iter();
        let worst = screened.fold(Mix::idle(Stratum::Chosen, self.ring.lanes()), |mix, choice| {
            // Every choice has a role.
            choice.roles.first().map_or(mix.clone(), |role| mix.with(choice.lane, *role))
        });
        let busy = |mix: &Mix| mix.roles.iter().filter(|role| **role != Role::Idle).count();
        let full = busy(&worst);
        let mut chosen: Vec<Mix> = Vec::new();
        let mut enemies = self.enemy_mixes(position);
        for observed in &known.explored {
            if observed.mix.stratum == Stratum::Chosen && busy(&observed.mix) == full {
                chosen.push(observed.mix.clone());
            }
        }
        if full > 0 && !chosen.contains(&worst) {
            chosen.push(worst);
        }
        for mixes in [&mut chosen, &mut enemies] {
            sort_by_harshness(mixes, known);
        }
        let fleet = self.uniform(position, Stratum::Fleet, Role::Any);
        let mut frozen = vec![fleet];
        frozen.extend(self.burst(position));
        let (mut chosen, mut enemies) = (chosen.into_iter(), enemies.into_iter());
        loop {
            let pair = [chosen.next(), enemies.next()];
            if pair.iter().all(Option::is_none) {
                break;
            }
            frozen.extend(pair.into_iter().flatten());
        }
        frozen.truncate(self.options.strata_max.max(1));
        frozen
    }
}

/// The harshest first; what was not tried comes last, equals in the order of their texts.
fn sort_by_harshness(mixes: &mut [Mix], known: &TaskCampaign) {
    let harm = |mix: &Mix| known.tried(mix).map_or(Nanos::ZERO, Observed::harshness);
    mixes.sort_by(|a, b| harm(b).cmp(&harm(a)).then_with(|| a.cmp(b)));
}
