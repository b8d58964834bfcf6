//! A control without a GPU: how long it takes to visit memory that was left alone for a while.
//!
//! A launch visits some hundred lines of memory of the driver library. If those were evicted meanwhile, by whoever shares
//! the processor's caches, the launch is slow although nothing about it is. A walk of as many lines, at the same
//! distances and by the same kind of thread, shows how much of a tail is the memory's.

use aegis_cuda::HostClock;
use aegis_types::Nanos;

use super::floor::WARM_UP;
use super::spread::Spread;
use crate::sets::SplitMix;

/// Lines of a walk.
pub const LINES: usize = 1_024;

/// One line of memory: where the next step goes.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(usize);

/// A cycle through all lines in random order, which no prefetcher follows.
fn cycle(draw: &mut SplitMix) -> Vec<Line> {
    let mut order: Vec<usize> = (0..LINES).collect();
    for at in (1..LINES).rev() {
        order.swap(at, draw.between(0, at as u64) as usize);
    }
    let mut lines = vec![Line(0); LINES];
    for (position, line) in order.iter().enumerate() {
        lines[*line] = Line(order[(position + 1) % LINES]);
    }
    lines
}

/// Walks for so long, once every `pause`, and returns what each walk took.
pub fn measure(duration: Nanos, pause: Nanos) -> Spread {
    let clock = HostClock::start();
    let lines = cycle(&mut SplitMix(7));
    let mut spread = Spread::new();
    let (end, mut due) = (clock.now().saturating_add(duration), clock.now());
    for number in 0u64.. {
        due = due.saturating_add(pause).max(clock.now());
        let mut begun = clock.now();
        while begun < due {
            std::hint::spin_loop();
            begun = clock.now();
        }
        let mut line = 0;
        for _ in 0..LINES {
            line = lines[line].0;
        }
        std::hint::black_box(line);
        let took = clock.now().since(begun);
        if number >= WARM_UP {
            spread.add(took);
        }
        if clock.now() >= end {
            break;
        }
    }
    spread
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_visits_every_line_once() {
        let lines = cycle(&mut SplitMix(3));
        let mut seen = vec![false; LINES];
        let mut line = 0;
        for _ in 0..LINES {
            assert!(!std::mem::replace(&mut seen[line], true), "line {line} twice");
            line = lines[line].0;
        }
        assert!(line == 0 && seen.iter().all(|seen| *seen));
    }

    #[test]
    fn walks_are_counted_after_the_warm_up() {
        let pause = Nanos::from_micros(20);
        let spread = measure(Nanos::new(pause.get() * (WARM_UP + 200)), pause);
        assert!(spread.count() > 0 && spread.count() <= 201, "{}", spread.count());
    }
}
