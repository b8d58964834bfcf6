//! The fewest cuts with which every piece keeps a limit, by times that are measured when they are needed.
//!
//! A longer piece is taken to cost more. Then the piece that starts at the last cut and reaches as far as the limit
//! allows is always a best next one, and taking it again and again gives the fewest pieces (the argument of Bertogna et
//! al. for equal costs of preemption points; here each piece is measured with whatever a cut costs it). Among all ways
//! to make as few pieces, a shortest path over what is known and estimated finds one that hands over fewer bytes. What
//! is returned has been measured piece by piece, whatever the estimates said.

use std::collections::BTreeMap;
use std::ops::Range;

use aegis_types::{Bytes, Nanos};

/// Cuts that keep the limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Numbers of atoms before each cut, rising; empty where the whole keeps the limit.
    pub cuts: Vec<usize>,
    /// What each piece costs, one more than cuts.
    pub costs: Vec<Nanos>,
    /// How many pieces were measured on the way.
    pub measured: usize,
}

/// Why there are no such cuts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoCuts<E> {
    /// An atom alone exceeds the limit: the longest of them.
    TooLong {
        /// Which.
        atom: usize,
        /// What it costs.
        cost: Nanos,
    },
    /// A piece could not be measured.
    Gauge(E),
}

/// For each number of atoms the fewest bytes of a way there, in some number of pieces, and where its last piece starts.
type Ways = Vec<Option<(u64, usize)>>;

/// An estimate must be below the limit by a twentieth to be believed.
const DOUBT: u64 = 20;

/// Cuts between `atoms` atoms so that no piece costs more than `limit`, as few as possible and then with few `bytes`
/// crossing. `bytes` is asked for cuts 1 to `atoms` - 1; `gauge` measures a piece once.
///
/// # Errors
/// [`NoCuts`].
pub fn fewest_cuts<E>(
    atoms: usize,
    limit: Nanos,
    bytes: &dyn Fn(usize) -> Bytes,
    gauge: &mut dyn FnMut(Range<usize>) -> Result<Nanos, E>,
) -> Result<Found, NoCuts<E>> {
    let mut search = Search { atoms, limit, bytes, gauge, known: BTreeMap::new(), sums: vec![0], whole: 0 };
    if search.fits(0, atoms)? {
        return search.found(Vec::new());
    }
    search.measure_atoms()?;
    let reached = search.reach()?;
    let cuts = search.lighten(reached)?;
    search.found(cuts)
}

struct Search<'a, E> {
    atoms: usize,
    limit: Nanos,
    bytes: &'a dyn Fn(usize) -> Bytes,
    gauge: &'a mut dyn FnMut(Range<usize>) -> Result<Nanos, E>,
    known: BTreeMap<(usize, usize), Nanos>,
    /// Sums of the costs of single atoms, from the first.
    sums: Vec<u64>,
    /// What the whole costs.
    whole: u64,
}

impl<E> Search<'_, E> {
    fn cost(&mut self, from: usize, to: usize) -> Result<Nanos, NoCuts<E>> {
        if let Some(known) = self.known.get(&(from, to)) {
            return Ok(*known);
        }
        let cost = (self.gauge)(from..to).map_err(NoCuts::Gauge)?;
        self.known.insert((from, to), cost);
        Ok(cost)
    }

    fn fits(&mut self, from: usize, to: usize) -> Result<bool, NoCuts<E>> {
        Ok(self.cost(from, to)? <= self.limit)
    }

    fn measure_atoms(&mut self) -> Result<(), NoCuts<E>> {
        let mut longest = (Nanos::ZERO, 0);
        for atom in 0..self.atoms {
            let cost = self.cost(atom, atom + 1)?;
            if cost > longest.0 {
                longest = (cost, atom);
            }
            let sum = self.sums[atom].saturating_add(cost.get());
            self.sums.push(sum);
        }
        if longest.0 > self.limit {
            return Err(NoCuts::TooLong { atom: longest.1, cost: longest.0 });
        }
        self.whole = self.cost(0, self.atoms)?.get();
        Ok(())
    }

    /// What a piece should cost: the share of its atoms in the whole. Atoms alone pay for a start each.
    fn estimate(&self, from: usize, to: usize) -> u64 {
        let total = u128::from(self.sums[self.atoms].max(1));
        let part = u128::from(self.sums[to] - self.sums[from]);
        u64::try_from(part * u128::from(self.whole) / total).unwrap_or(u64::MAX)
    }

    /// Cuts as far apart as the limit allows, from the start.
    fn reach(&mut self) -> Result<Vec<usize>, NoCuts<E>> {
        let mut cuts = Vec::new();
        let mut at = 0;
        loop {
            at = self.farthest(at)?;
            if at == self.atoms {
                return Ok(cuts);
            }
            cuts.push(at);
        }
    }

    /// The end of the longest piece from `from` that keeps the limit: around the estimate in growing steps, then by
    /// halves. One atom always does.
    fn farthest(&mut self, from: usize) -> Result<usize, NoCuts<E>> {
        let limit = self.limit.get();
        let within = |to: &usize| self.estimate(from, *to) <= limit;
        let guess = (from + 1..=self.atoms).take_while(within).last().unwrap_or(from + 1);
        let (mut good, mut bad) = (from + 1, self.atoms + 1);
        let mut step = 1;
        if self.fits(from, guess)? {
            good = guess;
            while good < self.atoms && bad > self.atoms {
                let next = (good + step).min(self.atoms);
                if self.fits(from, next)? {
                    good = next
                } else {
                    bad = next
                }
                step *= 2;
            }
        } else {
            bad = guess;
            while bad > good + 1 {
                let next = bad.saturating_sub(step).max(from + 1);
                if next == good || self.fits(from, next)? {
                    good = next;
                    break;
                }
                bad = next;
                step *= 2;
            }
        }
        while bad > good + 1 && bad <= self.atoms {
            let middle = good.midpoint(bad);
            if self.fits(from, middle)? { good = middle } else { bad = middle }
        }
        Ok(good)
    }

    /// As many cuts with fewer bytes crossing, if some are found in as many trials as pieces and a few more.
    fn lighten(&mut self, reached: Vec<usize>) -> Result<Vec<usize>, NoCuts<E>> {
        let weight =
            |cuts: &[usize]| cuts.iter().fold(0u64, |sum, &cut| sum.saturating_add((self.bytes)(cut).get()));
        let before = weight(&reached);
        let trials = reached.len() + 8;
        for _ in 0..trials {
            let Some((lighter, cuts)) = self.lightest(reached.len() + 1) else { break };
            if lighter >= before {
                break;
            }
            let mut fit = true;
            for (from, to) in pieces(&cuts, self.atoms) {
                fit &= self.fits(from, to)?;
            }
            if fit {
                return Ok(cuts);
            }
        }
        Ok(reached)
    }

    /// The cuts into so many pieces that hand over the fewest bytes, if every piece keeps the limit as far as is known
    /// or estimated.
    fn lightest(&self, count: usize) -> Option<(u64, Vec<usize>)> {
        let mut ways: Vec<Ways> = vec![vec![None; self.atoms + 1]];
        ways[0][0] = Some((0, 0));
        for _ in 0..count {
            let next = ways.last().map(|before| self.one_more(before))?;
            ways.push(next);
        }
        let (bytes, _) = ways[count][self.atoms]?;
        let mut cuts = Vec::with_capacity(count);
        let mut at = self.atoms;
        for made in (1..=count).rev() {
            at = ways[made][at]?.1;
            cuts.push(at);
        }
        cuts.pop();
        cuts.reverse();
        Some((bytes, cuts))
    }

    /// The best ways that have one piece more than those given.
    fn one_more(&self, before: &Ways) -> Ways {
        let mut next: Ways = vec![None; self.atoms + 1];
        for (from, way) in before.iter().enumerate() {
            let Some((bytes, _)) = *way else { continue };
            for (to, best) in next.iter_mut().enumerate().skip(from + 1) {
                // Estimates only rise from here.
                if self.estimate(from, to) / 2 > self.limit.get() {
                    break;
                }
                let crossing = if to == self.atoms { 0 } else { (self.bytes)(to).get() };
                let bytes = bytes.saturating_add(crossing);
                if self.may_fit(from, to) && best.is_none_or(|known| bytes < known.0) {
                    *best = Some((bytes, from));
                }
            }
        }
        next
    }

    fn may_fit(&self, from: usize, to: usize) -> bool {
        match self.known.get(&(from, to)) {
            Some(cost) => *cost <= self.limit,
            None => {
                let estimate = self.estimate(from, to);
                estimate.saturating_add(estimate / DOUBT) <= self.limit.get()
            }
        }
    }

    fn found(mut self, cuts: Vec<usize>) -> Result<Found, NoCuts<E>> {
        let mut costs = Vec::with_capacity(cuts.len() + 1);
        for (from, to) in pieces(&cuts, self.atoms) {
            costs.push(self.cost(from, to)?);
        }
        Ok(Found { cuts, costs, measured: self.known.len() })
    }
}

/// Start and end of each piece.
fn pieces(cuts: &[usize], atoms: usize) -> Vec<(usize, usize)> {
    let starts = std::iter::once(0).chain(cuts.iter().copied());
    starts.zip(cuts.iter().copied().chain([atoms])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SplitMix64.
    struct Seeded(u64);

    impl Seeded {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            (z ^ (z >> 31)) % limit
        }
    }

    fn search(spans: &[u64], bytes: &[u64], start: u64, limit: u64) -> Result<Found, NoCuts<()>> {
        let weigh = |cut: usize| Bytes::new(bytes[cut - 1]);
        let mut gauge = |piece: Range<usize>| Ok(Nanos::new(start + spans[piece].iter().sum::<u64>()));
        fewest_cuts(spans.len(), Nanos::new(limit), &weigh, &mut gauge)
    }

    /// The fewest pieces, and with so many the fewest bytes, by trying every set of cuts.
    fn exhaustive(spans: &[u64], bytes: &[u64], start: u64, limit: u64) -> Option<(usize, u64)> {
        let gaps = spans.len() - 1;
        let legal = |set: &u32| {
            let cuts: Vec<usize> = (1..=gaps).filter(|cut| set >> (cut - 1) & 1 == 1).collect();
            pieces(&cuts, spans.len())
                .iter()
                .all(|&(from, to)| start + spans[from..to].iter().sum::<u64>() <= limit)
        };
        let key = |set: u32| {
            let weight = (0..gaps).filter(|gap| set >> gap & 1 == 1).map(|gap| bytes[gap]).sum();
            (set.count_ones() as usize, weight)
        };
        (0..1u32 << gaps).filter(legal).map(key).min()
    }

    #[test]
    fn no_search_of_every_set_of_cuts_finds_fewer() {
        for seed in 0..2_000 {
            let mut random = Seeded(seed);
            let atoms = 1 + random.below(11) as usize;
            let spans: Vec<u64> = (0..atoms).map(|_| 1 + random.below(100)).collect();
            let bytes: Vec<u64> = (1..atoms).map(|_| random.below(1_000)).collect();
            let (start, limit) = (random.below(10), 20 + random.below(300));
            let again = format!("seed {seed}: {spans:?} start {start} limit {limit}");
            match (search(&spans, &bytes, start, limit), exhaustive(&spans, &bytes, start, limit)) {
                (Ok(found), Some((cuts, fewest))) => {
                    assert_eq!(found.cuts.len(), cuts, "{again}");
                    let weight: u64 = found.cuts.iter().map(|cut| bytes[cut - 1]).sum();
                    assert!(weight >= fewest, "{again}");
                    assert!(found.costs.iter().all(|cost| cost.get() <= limit), "{again}");
                    assert_eq!(found.costs.len(), cuts + 1, "{again}");
                }
                (Err(NoCuts::TooLong { atom, cost }), None) => {
                    assert_eq!(cost.get(), start + spans[atom], "{again}");
                    assert!(cost.get() > limit && spans.iter().all(|span| *span <= spans[atom]), "{again}");
                }
                (found, best) => panic!("{again}: {found:?} but {best:?}"),
            }
        }
    }

    #[test]
    fn of_equal_numbers_of_cuts_the_lightest_is_taken() {
        // Two pieces of at most 60: any of the three middle gaps does, and one is far lighter.
        let found = search(&[10; 10], &[9, 9, 9, 90, 5, 90, 9, 9, 9], 0, 63).expect("fits");
        assert_eq!(found.cuts, [5]);
        let found = search(&[10; 10], &[9, 9, 9, 3, 50, 90, 9, 9, 9], 0, 63).expect("fits");
        assert_eq!(found.cuts, [4]);
    }

    #[test]
    fn few_pieces_are_measured() {
        let spans: Vec<u64> = (0..400).map(|at| 5 + at % 7).collect();
        let found = search(&spans, &[1; 399], 3, 400).expect("fits");
        assert!(found.measured <= 400 + 12 * (found.cuts.len() + 1), "{}", found.measured);
    }

    #[test]
    fn what_cannot_be_measured_ends_the_search() {
        let mut gauge =
            |piece: Range<usize>| if piece.len() > 1 { Ok(Nanos::new(100)) } else { Err(piece.start) };
        let refused = fewest_cuts(3, Nanos::new(10), &|_| Bytes::ZERO, &mut gauge);
        assert_eq!(refused, Err(NoCuts::Gauge(0)));
    }
}
