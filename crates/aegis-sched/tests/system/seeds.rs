//! Random systems from a seed.

/// A generator of its own, so that a seed means the same system on every machine and version.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xA076_1D64_78BD_642F)
    }

    /// A number from `low` to `high`, both included.
    pub fn range(&mut self, low: u64, high: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        low + (z ^ (z >> 31)) % (high - low + 1)
    }

    pub fn index(&mut self, count: usize) -> usize {
        usize::try_from(self.range(0, count as u64 - 1)).expect("an index")
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.range(1, n) == 1
    }
}

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is `{text}`; legal is a whole number")),
        Err(_) => default,
    }
}

/// Whether the number of systems is the test's own, so that what must occur among them can be demanded.
pub fn counts_are_standard() -> bool {
    std::env::var("AEGIS_SETS").is_err()
}

/// Runs `check` on `count` seeds (or `AEGIS_SETS`), and names the command that repeats a failure.
pub fn for_seeds(test: &str, count: u64, mut check: impl FnMut(&mut Rng)) {
    let (first, count) = (number("AEGIS_SEED", 1), number("AEGIS_SETS", count));
    for seed in first..first + count {
        let guard = Repeat { test, seed };
        check(&mut Rng::new(seed));
        std::mem::forget(guard);
    }
}

struct Repeat<'a> {
    test: &'a str,
    seed: u64,
}

impl Drop for Repeat<'_> {
    fn drop(&mut self) {
        let Self { test, seed } = self;
        eprintln!("repeat: AEGIS_SEED={seed} AEGIS_SETS=1 cargo test -p aegis-sched --test system -- {test}");
    }
}

/// A file of the folder that `AEGIS_VECTORS` names, or `None` with a word about it.
pub fn vectors(path: &str) -> Option<serde_json::Value> {
    let Ok(folder) = std::env::var("AEGIS_VECTORS") else {
        eprintln!("skipped: AEGIS_VECTORS is not set, {path} is not read");
        return None;
    };
    let path = std::path::Path::new(&folder).join(path);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Some(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}
