//! Cause-effect chains of an admitted fleet: how late they answer, how old their data are, and which limits break.

use aegis_sched::chain::{Chain, ChainBounds, ChainError, Hop};
use aegis_sched::{Certificate, TaskSet};
use aegis_types::Nanos;
use serde_json::{Value, json};

use super::figures::{self, span};
use super::table::Grid;
use super::verdict;
use crate::config::{ChainConfig, Fleet};

/// A chain with its bounds, or the reason why it has none.
#[derive(Clone, Debug)]
pub struct JudgedChain<'a> {
    config: &'a ChainConfig,
    set: &'a TaskSet,
    found: Result<(Chain, ChainBounds), ChainError>,
}

/// Judges every chain of a fleet with the response bounds of its certificate.
pub fn judge<'a>(fleet: &'a Fleet, set: &'a TaskSet, certificate: &Certificate) -> Vec<JudgedChain<'a>> {
    let judged = |config: &'a ChainConfig| {
        let chain = Chain::certified(set, certificate, &config.steps);
        let found = chain.and_then(|chain| chain.bounds().map(|bounds| (chain, bounds)));
        JudgedChain { config, set, found }
    };
    fleet.chains().iter().map(judged).collect()
}

/// What a limit is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Reaction,
    Age,
}

impl End {
    const ALL: [Self; 2] = [Self::Reaction, Self::Age];

    const fn words(self) -> &'static str {
        match self {
            Self::Reaction => "a reaction takes",
            Self::Age => "data are",
        }
    }

    /// What each task adds: its bound is the sum.
    fn parts(self, hops: &[Hop]) -> Vec<Nanos> {
        let last = hops.len().saturating_sub(1);
        let part = |(position, hop): (usize, &Hop)| match self {
            Self::Age if position == last => hop.response,
            _ => hop.gap.saturating_add(hop.response),
        };
        hops.iter().enumerate().map(part).collect()
    }
}

impl JudgedChain<'_> {
    fn limit(&self, end: End) -> Option<Nanos> {
        match end {
            End::Reaction => self.config.reaction,
            End::Age => self.config.age,
        }
    }

    /// Why the chain is refused: every limit that is exceeded, with the task that adds most; empty if none is.
    pub fn refusals(&self) -> Vec<String> {
        let name = &self.config.name;
        let (chain, bounds) = match &self.found {
            Ok(found) => found,
            Err(error) => return vec![format!("chain `{name}`: {error}")],
        };
        let refusal = |end: End| {
            let bound = bound(bounds, end);
            let limit = self.limit(end).filter(|limit| bound > *limit)?;
            let parts = end.parts(chain.hops());
            // The first of equals, so that equal fleets are answered alike.
            let (hop, part) = chain.hops().iter().zip(&parts).rev().max_by_key(|(_, part)| **part)?;
            let (task, old) = (verdict::name(hop.task, self.set), if end == End::Age { " old" } else { "" });
            let how = if *part > hop.response {
                format!("{} between arrivals and {} to respond", span(hop.gap), span(hop.response))
            } else {
                format!("{} to respond", span(hop.response))
            };
            Some(format!(
                "chain `{name}`: {} up to {}{old}, the limit is {}; `{task}` adds most: {how}",
                end.words(),
                figures::span_up(bound),
                span(limit)
            ))
        };
        End::ALL.into_iter().filter_map(refusal).collect()
    }

    /// For people: what each task adds, and the sums beside their limits.
    pub fn text(&self) -> String {
        let name = &self.config.name;
        let (chain, bounds) = match &self.found {
            Ok(found) => found,
            Err(error) => return format!("chain `{name}`: no bounds: {error}\n"),
        };
        let header = ["task", "between arrivals", "response", "adds to reaction", "adds to age"];
        let mut grid = Grid::new(1, &header);
        let [reaction, age] = End::ALL.map(|end| end.parts(chain.hops()));
        for ((hop, reaction), age) in chain.hops().iter().zip(reaction).zip(age) {
            let task = verdict::name(hop.task, self.set);
            grid.row([task, span(hop.gap), span(hop.response), span(reaction), span(age)]);
        }
        let (dash, sum) = ("-".to_owned(), "sum".to_owned());
        grid.row([sum, dash.clone(), dash, figures::span_up(bounds.reaction), figures::span_up(bounds.age)]);
        let limit = |end| match self.limit(end) {
            Some(limit) if bound(bounds, end) > limit => format!(", limit {} EXCEEDED", span(limit)),
            Some(limit) => format!(", limit {} kept", span(limit)),
            None => String::new(),
        };
        format!(
            "chain `{name}`: reaction at most {}{}\ndata at most {} old{}; {} old when the next output comes\n{}",
            figures::span_up(bounds.reaction),
            limit(End::Reaction),
            figures::span_up(bounds.age),
            limit(End::Age),
            figures::span_up(bounds.held_age),
            grid.text()
        )
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let limits = (self.config.reaction.map(Nanos::get), self.config.age.map(Nanos::get));
        let mut json = json!({
            "chain": self.config.name, "holds": self.refusals().is_empty(), "refusals": self.refusals(),
            "reaction_limit_ns": limits.0, "age_limit_ns": limits.1,
            "reaction_ns": null, "age_ns": null, "held_age_ns": null, "hops": [],
        });
        let Ok((chain, bounds)) = &self.found else { return json };
        json["reaction_ns"] = bounds.reaction.get().into();
        json["age_ns"] = bounds.age.get().into();
        json["held_age_ns"] = bounds.held_age.get().into();
        let [reaction, age] = End::ALL.map(|end| end.parts(chain.hops()));
        let hop = |((hop, reaction), age): ((&Hop, &Nanos), &Nanos)| {
            json!({
                "task": verdict::name(hop.task, self.set), "gap_ns": hop.gap.get(),
                "response_ns": hop.response.get(), "reaction_ns": reaction.get(), "age_ns": age.get(),
            })
        };
        json["hops"] = chain.hops().iter().zip(&reaction).zip(&age).map(hop).collect();
        json
    }
}

const fn bound(bounds: &ChainBounds, end: End) -> Nanos {
    match end {
        End::Reaction => bounds.reaction,
        End::Age => bounds.age,
    }
}

#[cfg(test)]
mod tests {
    use aegis_types::TaskId;

    use super::*;

    /// What is shown as terms is what the bounds are made of.
    #[test]
    fn parts_add_up_to_the_bounds() {
        let spans = [(33, 20), (50, 45), (10, 3), (100, 1)];
        for count in 1..=spans.len() {
            let hop = |(index, (gap, response)): (usize, &(u64, u64))| Hop {
                task: TaskId::new(index as u16),
                gap: Nanos::from_millis(*gap),
                response: Nanos::from_millis(*response),
            };
            let chain = Chain::new(spans[..count].iter().enumerate().map(hop).collect()).expect("tasks");
            let bounds = chain.bounds().expect("small numbers");
            for end in End::ALL {
                let sum = end.parts(chain.hops()).into_iter().fold(Nanos::ZERO, Nanos::saturating_add);
                assert_eq!(sum, bound(&bounds, end), "{end:?} of {count} tasks");
            }
        }
    }
}
