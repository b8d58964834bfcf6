//! Strata: which company a victim is measured in, lane by lane.

use std::fmt;
use std::str::FromStr;

use aegis_types::{LaneId, TaskId};
use serde::{Deserialize, Serialize};

use crate::config::profile::Level;

/// What a lane does while a victim is measured on another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Nothing.
    Idle,
    /// One task of the fleet, back to back.
    Task(TaskId),
    /// Tasks of its own, in random order and with random pauses.
    Any,
    /// The enemy of that number, back to back.
    Enemy(u16),
}

/// How a mix came about; it decides which budget levels the mix speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stratum {
    /// The device to itself, nothing in between: for comparison only, never in a budget.
    Alone,
    /// Every other lane idle, lane-mates in between.
    Own,
    /// S1: one other lane runs one task; a screen.
    Screen,
    /// S2: every other lane runs one task each, chosen to hurt.
    Chosen,
    /// S3: every other lane runs its tasks in random order and phases.
    Fleet,
    /// Every lane idles, then all are launched on at once, the victim's last: nothing waits longer for its launch.
    Burst,
    /// S4: every other lane runs an enemy.
    Enemy,
}

impl Stratum {
    const NAMES: [(Self, &'static str); 7] = [
        (Self::Alone, "alone"),
        (Self::Own, "own"),
        (Self::Screen, "s1"),
        (Self::Chosen, "s2"),
        (Self::Fleet, "s3"),
        (Self::Burst, "burst"),
        (Self::Enemy, "s4"),
    ];

    /// Whether what is seen in such a mix belongs to the budget of that level: the fleet's rests on S2 and S3, the
    /// enemy's on those and S4, because it stands in for the fleet's; lighter company and bursts belong to both.
    pub fn speaks_for(self, level: Level) -> bool {
        match (self, level) {
            (Self::Alone, _) | (Self::Enemy, Level::Fleet) => false,
            (Self::Own | Self::Screen | Self::Chosen | Self::Fleet | Self::Burst, _)
            | (Self::Enemy, Level::Enemy) => true,
        }
    }
}

/// One stratum of a victim: the role of every lane. Its own lane is [`Role::Idle`] here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Mix {
    /// How it came about.
    pub stratum: Stratum,
    /// By lane.
    pub roles: Vec<Role>,
}

impl Mix {
    /// Every other lane idle.
    pub fn idle(stratum: Stratum, lanes: usize) -> Self {
        Self { stratum, roles: vec![Role::Idle; lanes] }
    }

    /// The same mix with another role on one lane.
    #[must_use]
    pub fn with(mut self, lane: LaneId, role: Role) -> Self {
        self.roles[lane.index()] = role;
        self
    }

    /// A number for seeding that only equal mixes share, as far as 64 bits go.
    pub fn word(&self) -> u64 {
        aegis_types::ContentHash::of(self.to_string().as_bytes()).to_word()
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Stratum::NAMES.iter().find(|(stratum, _)| *stratum == self.stratum);
        f.write_str(name.map_or("", |(_, name)| name))?;
        for (index, role) in self.roles.iter().enumerate() {
            f.write_str(if index == 0 { ":" } else { "," })?;
            match role {
                Role::Idle => f.write_str("-")?,
                Role::Task(task) => write!(f, "t{}", task.get())?,
                Role::Any => f.write_str("*")?,
                Role::Enemy(kind) => write!(f, "e{kind}")?,
            }
        }
        Ok(())
    }
}

/// A text that is no mix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no mix; legal: a stratum and the role of each lane, such as `s2:-,t3,*,e0`")]
pub struct BadMix(String);

impl FromStr for Mix {
    type Err = BadMix;

    fn from_str(text: &str) -> Result<Self, BadMix> {
        let bad = || BadMix(text.to_owned());
        let (name, roles) = text.split_once(':').ok_or_else(bad)?;
        let stratum = Stratum::NAMES.iter().find(|(_, known)| *known == name).ok_or_else(bad)?.0;
        let number = |digits: &str| digits.parse::<u16>().map_err(|_| bad());
        let role = |word: &str| match word.split_at_checked(1) {
            Some(("-", "")) => Ok(Role::Idle),
            Some(("*", "")) => Ok(Role::Any),
            Some(("t", digits)) => Ok(Role::Task(TaskId::new(number(digits)?))),
            Some(("e", digits)) => Ok(Role::Enemy(number(digits)?)),
            _ => Err(bad()),
        };
        let roles = roles.split(',').map(role).collect::<Result<_, _>>()?;
        Ok(Self { stratum, roles })
    }
}

impl From<Mix> for String {
    fn from(mix: Mix) -> Self {
        mix.to_string()
    }
}

impl TryFrom<String> for Mix {
    type Error = BadMix;

    fn try_from(text: String) -> Result<Self, BadMix> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixes_are_written_and_read_back() {
        let mix = Mix::idle(Stratum::Chosen, 4)
            .with(LaneId::new(1), Role::Task(TaskId::new(3)))
            .with(LaneId::new(2), Role::Any)
            .with(LaneId::new(3), Role::Enemy(12));
        assert_eq!(mix.to_string(), "s2:-,t3,*,e12");
        assert_eq!(mix.to_string().parse(), Ok(mix));
        for text in ["", "s2", "s9:-", "s2:", "s2:t", "s2:t3,", "s2:tx", "s2:t70000", "s2:--", "s2:ü"] {
            assert!(text.parse::<Mix>().is_err(), "{text}");
        }
    }
}
