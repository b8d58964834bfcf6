//! Seeded instances: tight ones with a known solution, and runs of layered models on a few lanes' time.

use aegis_memory::Buffer;

use crate::verifier::scratch;

/// SplitMix64 (Steele, Lea, Flood 2014).
pub struct Draw(pub u64);

impl Draw {
    pub fn below(&mut self, count: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (word ^ (word >> 31)) % count
    }
}

/// A rectangle of `time` by `space`, cut and pinwheeled into about `count` pieces, some of which are left out: a
/// placement within `space` exists.
pub fn cut_up(seed: u64, count: usize, time: u64, space: u64, left_out: u64) -> Vec<Buffer> {
    let mut draw = Draw(seed);
    let mut pieces = vec![(0, time, 0, space)];
    for _ in 0..100 * count {
        if pieces.len() >= count {
            break;
        }
        let picks = [draw.below(pieces.len() as u64) as usize, draw.below(pieces.len() as u64) as usize];
        let area = |at: &usize| (pieces[*at].1 - pieces[*at].0) * (pieces[*at].3 - pieces[*at].2);
        let at = picks.into_iter().max_by_key(area).expect("two picks");
        let (l, h, p, q) = pieces[at];
        let (width, height) = (h - l, q - p);
        let way = draw.below(10);
        if way < 2 && width >= 3 && height >= 3 {
            let x1 = l + 1 + draw.below(width - 2);
            let x2 = x1 + 1 + draw.below(h - x1 - 1);
            let y1 = p + 1 + draw.below(height - 2);
            let y2 = y1 + 1 + draw.below(q - y1 - 1);
            pieces.swap_remove(at);
            pieces.extend([(l, x2, p, y1), (x2, h, p, y2), (x1, h, y2, q), (l, x1, y1, q), (x1, x2, y1, y2)]);
        } else if way < 8 && height >= 2 {
            let y = p + 1 + draw.below(height - 1);
            pieces[at] = (l, h, p, y);
            pieces.push((l, h, y, q));
        } else if width >= 2 {
            let x = l + 1 + draw.below(width - 1);
            pieces[at] = (l, x, p, q);
            pieces.push((x, h, p, q));
        }
    }
    pieces.retain(|_| draw.below(100) >= left_out);
    (0..).zip(pieces).map(|(id, (l, h, p, q))| scratch(id, 0, l, h, q - p)).collect()
}

/// Runs of layered models on `queues` queues: each layer's output lives until the next has read it, some reach
/// further, inputs wait and outputs linger.
pub fn fleet(seed: u64, runs: u64, queues: usize) -> Vec<Buffer> {
    let mut draw = Draw(seed);
    let mut free = vec![100u64; queues];
    let mut buffers: Vec<Buffer> = Vec::new();
    for _ in 0..runs {
        let queue = draw.below(queues as u64) as usize;
        let (mut now, layers) = (free[queue], 20 + draw.below(180));
        let scale = 1 << (4 + draw.below(8));
        let mut push = |lower, upper, size: u64| {
            let id = u16::try_from(buffers.len()).expect("few buffers");
            buffers.push(scratch(id, 0, lower, upper, 256 * size.max(1)));
        };
        push(now - 5 - draw.below(55), now + 3, scale);
        for layer in 0..layers {
            let (step, size) = (1 + draw.below(4), scale * (layers - layer) / layers + draw.below(scale));
            let reach = if draw.below(6) == 0 { 4 + draw.below(40) } else { 0 };
            push(now, now + step + 3 + reach, size);
            if draw.below(3) == 0 {
                push(now, now + step, scale / 2 + draw.below(scale));
            }
            now += step;
        }
        push(now, now + 20 + draw.below(380), 4);
        free[queue] = now;
    }
    buffers
}
