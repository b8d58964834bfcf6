//! Cases until a number of them or a time is reached, over texts that grow by whatever answers in a new way.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use super::generate::Rng;
use super::mutate;

/// Texts that are kept besides the files.
const KEPT_MAX: usize = 2_000;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs `case` on seeds, and names the one that fails.
pub fn seeds(name: &str, cases: u64, mut case: impl FnMut(&mut Rng)) {
    let first = variable("AEGIS_SEED").unwrap_or(1);
    let until = variable("AEGIS_FUZZ_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let (mut done, mut slowest) = (0, (Duration::ZERO, 0));
    while until.map_or(done < cases, |until| Instant::now() < until) {
        let (seed, start) = (first + done, Instant::now());
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| case(&mut Rng::new(seed)))) {
            eprintln!("{name}: case {done} of AEGIS_SEED={first} fails");
            resume_unwind(panic);
        }
        slowest = slowest.max((start.elapsed(), done));
        done += 1;
    }
    println!("{name}: {done} cases, the slowest {} took {:?}", slowest.1, slowest.0);
}

/// Texts of a corpus, and in which ways they were answered.
pub struct Corpus {
    pub texts: Vec<String>,
    answers: BTreeSet<String>,
}

impl Corpus {
    /// The files of a folder of the corpus, by name.
    pub fn of(folder: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(folder);
        let entries = std::fs::read_dir(&folder).expect("the corpus is part of the checkout");
        let mut paths: Vec<_> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
        paths.sort();
        let texts = paths.iter().map(|path| std::fs::read_to_string(path).expect("a text")).collect();
        Self { texts, answers: BTreeSet::new() }
    }

    /// A mutation of a text.
    pub fn draw(&self, rng: &mut Rng) -> String {
        let text = rng.pick(&self.texts);
        mutate::text(rng, text, &self.texts)
    }

    /// Keeps a text whose answer is new; numbers and quotations in an answer do not make it so.
    pub fn keep(&mut self, text: &str, answer: &str) {
        let mut shape = String::new();
        let mut quoted = false;
        for character in answer.chars().take(160) {
            quoted ^= matches!(character, '`' | '"');
            if !(quoted || (character.is_ascii_digit() && shape.ends_with('0'))) {
                shape.push(if character.is_ascii_digit() { '0' } else { character });
            }
        }
        if self.texts.len() < KEPT_MAX && self.answers.insert(shape) {
            self.texts.push(text.to_owned());
        }
    }

    /// How many answers of different shape there were.
    pub fn answers(&self) -> usize {
        self.answers.len()
    }
}

/// Runs `case` on a text, and prints the text if it fails.
pub fn on_text(text: &str, case: impl FnOnce() -> String) -> String {
    catch_unwind(AssertUnwindSafe(case)).unwrap_or_else(|panic| {
        eprintln!("---- input\n{text}\n---- end of input");
        resume_unwind(panic)
    })
}
