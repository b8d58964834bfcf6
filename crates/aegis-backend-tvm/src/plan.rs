//! Where the temporaries of a run lie: decided once from what a first run asked for, and the same for ever after.
//!
//! A compiled module asks for the same pieces in the same order in every run, because its shapes are fixed and its
//! path does not depend on data. Pieces that are never alive together share bytes.

/// What a first run saw of one piece of memory. Times are counts of what the run asked for and gave back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interval {
    /// Its size.
    pub bytes: u64,
    /// When it was asked for.
    pub born: u32,
    /// When it was given back; [`u32::MAX`] if it outlived the run.
    pub died: u32,
    /// The output whose elements it holds, to be served from the caller's own buffer.
    pub output: Option<usize>,
}

/// Where a piece lies in every later run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// At this offset of the segment's scratch.
    Scratch(u64),
    /// In the buffer that is bound to this output.
    Output(usize),
}

/// One piece of memory of every run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// What is asked for.
    pub bytes: u64,
    /// Where it lies.
    pub place: Place,
}

/// The memory of every run, in the order in which it is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The pieces.
    pub slots: Vec<Slot>,
    /// Scratch that holds all of them.
    pub scratch: u64,
}

impl Plan {
    /// Lays the pieces out, each at the lowest offset that no piece alive at the same time takes; `None` on overflow.
    pub(crate) fn lay_out(intervals: &[Interval], align: u64) -> Option<Self> {
        let mut plan = Self::default();
        for (index, interval) in intervals.iter().enumerate() {
            let place = match interval.output {
                Some(output) => Place::Output(output),
                None => {
                    let offset = plan.lowest(&intervals[..index], interval, align)?;
                    let end = offset.checked_add(interval.bytes)?.checked_next_multiple_of(align)?;
                    plan.scratch = plan.scratch.max(end);
                    Place::Scratch(offset)
                }
            };
            plan.slots.push(Slot { bytes: interval.bytes, place });
        }
        Some(plan)
    }

    /// The lowest offset for one more piece among those that were placed.
    fn lowest(&self, placed: &[Interval], piece: &Interval, align: u64) -> Option<u64> {
        let mut taken: Vec<(u64, u64)> = placed
            .iter()
            .zip(&self.slots)
            .filter(|(other, _)| other.born < piece.died && piece.born < other.died)
            .filter_map(|(other, slot)| match slot.place {
                Place::Scratch(offset) => Some((offset, offset + other.bytes)),
                Place::Output(_) => None,
            })
            .collect();
        taken.sort_unstable();
        let mut offset: u64 = 0;
        for (start, end) in taken {
            if offset.checked_add(piece.bytes)? <= start {
                break;
            }
            offset = offset.max(end.checked_next_multiple_of(align)?);
        }
        Some(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(bytes: u64, born: u32, died: u32) -> Interval {
        Interval { bytes, born, died, output: None }
    }

    #[test]
    fn pieces_share_bytes_only_with_those_that_are_gone() {
        let intervals =
            [interval(100, 0, 3), interval(50, 1, 5), interval(64, 4, u32::MAX), interval(200, 6, 7)];
        let plan = Plan::lay_out(&intervals, 64).expect("small");
        let places: Vec<Place> = plan.slots.iter().map(|slot| slot.place).collect();
        assert_eq!(
            places,
            [Place::Scratch(0), Place::Scratch(128), Place::Scratch(0), Place::Scratch(64)],
            "the third takes the place of the first, the fourth follows what is alive"
        );
        assert_eq!(plan.scratch, 320);
    }

    /// Compares every pair of pieces, which the layout itself never does.
    #[test]
    fn no_two_pieces_that_live_together_overlap() {
        let mut seed = 7_u64;
        let mut next = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for round in 0..200 {
            let intervals: Vec<Interval> = (0..20)
                .map(|born| {
                    interval(1 + next(5000), born, born + 1 + u32::try_from(next(12)).expect("small"))
                })
                .collect();
            let plan = Plan::lay_out(&intervals, 256).expect("small");
            for (a, first) in intervals.iter().enumerate() {
                for (b, second) in intervals.iter().enumerate().skip(a + 1) {
                    let (Place::Scratch(x), Place::Scratch(y)) = (plan.slots[a].place, plan.slots[b].place)
                    else {
                        panic!("round {round}: nothing is an output");
                    };
                    let together = first.born < second.died && second.born < first.died;
                    let apart = x + first.bytes <= y || y + second.bytes <= x;
                    assert!(!together || apart, "round {round}: {first:?} at {x}, {second:?} at {y}");
                    assert!(x % 256 == 0 && x + first.bytes <= plan.scratch, "round {round}");
                }
            }
        }
    }

    #[test]
    fn outputs_take_no_scratch() {
        let output = Interval { output: Some(1), ..interval(4096, 1, u32::MAX) };
        let plan = Plan::lay_out(&[interval(64, 0, 2), output], 64).expect("small");
        assert_eq!(plan.slots[1].place, Place::Output(1));
        assert_eq!(plan.scratch, 64);
    }

    #[test]
    fn sizes_that_overflow_are_refused() {
        let intervals = [interval(u64::MAX - 10, 0, 5), interval(64, 1, 2)];
        assert_eq!(Plan::lay_out(&intervals, 64), None);
    }
}
