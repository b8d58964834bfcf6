//! The steps of a segment: what each is called, what it takes, and what of it is legal.

use aegis_types::{Bytes, Nanos};

use crate::text_model::{Fault, quantity};

/// Launches that the steps of one segment may come to: each is a node of the segment's graph.
pub(super) const LAUNCHES_MAX: u64 = 10_000;
/// Whole accesses of the widest load.
pub(super) const QUAD: Bytes = Bytes::new(16);
/// Shared memory that a block may have without a request of its own to the driver.
const SHARED_MAX: u64 = 48 << 10;
/// A step that waits for the clock ends some time, so that a device that was made to overrun comes back.
const WAIT_MAX: Nanos = Nanos::new(60_000_000_000);

/// A line inside a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Its first word.
    pub(super) name: &'static str,
    /// How often it is launched in a row.
    pub(super) repeat: u32,
    pub(super) work: Work,
}

/// A grid of one dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grid {
    pub(super) blocks: u32,
    pub(super) threads: u32,
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Arithmetic.
    Compute { grid: Grid, rounds: u32 },
    /// Arithmetic in blocks that hold shared memory.
    Fill { grid: Grid, rounds: u32, shared: Bytes },
    /// Reads and writes the first bytes of scratch.
    Stream { grid: Grid, rounds: u32, bytes: Bytes },
    /// Reads weights from an offset.
    Read { grid: Grid, rounds: u32, offset: Bytes, bytes: Bytes },
    /// Waits for the clock in every block.
    Hold { grid: Grid, length: Nanos },
    /// Copies constants into the first bytes of scratch, by the device's own copy.
    Copy { bytes: Bytes },
    /// Empty launches.
    Storm { launches: u32 },
    /// Waits for the clock at one execution only.
    Overrun { length: Nanos, at: u32 },
    /// Writes to an illegal address at one execution only.
    Stray { at: u32 },
}

impl Step {
    /// Launches or copies that it comes to.
    pub(super) fn launches(&self) -> u64 {
        let each = if let Work::Storm { launches } = self.work { u64::from(launches) } else { 1 };
        each * u64::from(self.repeat)
    }

    /// Whether it counts its executions, in a counter of its own.
    pub(super) const fn is_counted(&self) -> bool {
        matches!(self.work, Work::Overrun { .. } | Work::Stray { .. })
    }
}

/// Where the steps of a segment may reach.
pub(super) struct Reach {
    pub(super) weights: Bytes,
    pub(super) scratch: Bytes,
    /// Where the next `read` begins: a network reads each weight once.
    pub(super) cursor: Bytes,
}

impl Reach {
    /// The step that the words of a line name; `None` for a line that is none.
    pub(super) fn step(&mut self, words: &[&str]) -> Option<Result<Step, Fault>> {
        let (&name, rest) = words.split_first()?;
        let (name, legal) = LEGAL.iter().find(|(word, _)| *word == name)?;
        let read = Parameters::of(rest, legal).and_then(|mut parameters| {
            let repeat = parameters.number("repeat", 1, 1..=1000)?;
            let work = self.work(name, &mut parameters)?;
            parameters.finish()?;
            Ok(Step { name, repeat, work })
        });
        Some(read)
    }

    fn work(&mut self, name: &str, given: &mut Parameters<'_>) -> Result<Work, Fault> {
        Ok(match name {
            "compute" => Work::Compute { grid: given.grid()?, rounds: given.rounds()? },
            "fill" => Work::Fill { grid: given.grid()?, rounds: given.rounds()?, shared: given.shared()? },
            "stream" | "cache" => {
                let bytes = given.bytes("scratch", self.scratch)?;
                Work::Stream { grid: given.grid()?, rounds: given.rounds()?, bytes }
            }
            "read" => {
                let bytes = given.bytes("weights", self.weights)?;
                let offset = self.place(bytes);
                Work::Read { grid: given.grid()?, rounds: given.rounds()?, offset, bytes }
            }
            "hold" => Work::Hold { length: given.length()?, grid: given.grid()? },
            "copy" => {
                let bytes = given.positional("SIZE").and_then(quantity)?;
                let bytes = given.within(bytes, "scratch", self.scratch)?;
                match given.positional("on-device")? {
                    "on-device" => Work::Copy { bytes },
                    other => {
                        return Err(Fault::Line(format!(
                            "`{other}`: legal: on-device; inputs and outputs are what crosses to the host"
                        )));
                    }
                }
            }
            "storm" => {
                Work::Storm { launches: given.positional("COUNT").and_then(|text| count(text, 1000))? }
            }
            "overrun" => Work::Overrun { length: given.length()?, at: given.at()? },
            _ => match given.positional("stray")? {
                "stray" => Work::Stray { at: given.at()? },
                other => return Err(Fault::Line(format!("`{other}` is no fault; legal: stray"))),
            },
        })
    }

    /// Where a read of so many bytes begins: behind the one before, from the start where it would not fit.
    fn place(&mut self, bytes: Bytes) -> Bytes {
        let end = self.cursor.get().saturating_add(bytes.get());
        let offset = if end <= self.weights.get() { self.cursor } else { Bytes::ZERO };
        self.cursor = Bytes::new(offset.get().saturating_add(bytes.get()));
        offset
    }
}

/// The legal form of each step.
const LEGAL: [(&str, &str); 10] = [
    ("compute", "compute [blocks=N] [threads=N] [rounds=N] [repeat=N]"),
    ("fill", "fill [blocks=N] [threads=N] [shared=SIZE] [rounds=N] [repeat=N]"),
    ("stream", "stream bytes=SIZE [blocks=N] [threads=N] [rounds=N] [repeat=N]"),
    ("cache", "cache bytes=SIZE [blocks=N] [threads=N] [rounds=N] [repeat=N]"),
    ("read", "read bytes=SIZE [blocks=N] [threads=N] [rounds=N] [repeat=N]"),
    ("hold", "hold DURATION [blocks=N] [threads=N] [repeat=N]"),
    ("copy", "copy SIZE on-device [repeat=N]"),
    ("storm", "storm COUNT [repeat=N]"),
    ("overrun", "overrun DURATION at=N [repeat=N]"),
    ("fault", "fault stray at=N [repeat=N]"),
];

/// The first words of all steps.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    LEGAL.iter().map(|(name, _)| *name)
}

/// The words behind a step's name.
struct Parameters<'a> {
    positional: std::vec::IntoIter<&'a str>,
    named: Vec<(&'a str, &'a str)>,
    legal: &'static str,
}

impl<'a> Parameters<'a> {
    fn of(words: &[&'a str], legal: &'static str) -> Result<Self, Fault> {
        let (mut positional, mut named): (Vec<&str>, Vec<(&str, &str)>) = (Vec::new(), Vec::new());
        for &word in words {
            let Some((key, value)) = word.split_once('=') else {
                positional.push(word);
                continue;
            };
            if named.iter().any(|(other, _)| *other == key) {
                return Err(Fault::Line(format!("`{key}` stands twice; legal: `{legal}`")));
            }
            named.push((key, value));
        }
        Ok(Self { positional: positional.into_iter(), named, legal })
    }

    fn take(&mut self, key: &str) -> Option<&'a str> {
        let at = self.named.iter().position(|(other, _)| *other == key)?;
        Some(self.named.swap_remove(at).1)
    }

    fn missing(&self, what: &str) -> Fault {
        Fault::Line(format!("`{what}` is missing; legal: `{}`", self.legal))
    }

    fn positional(&mut self, what: &str) -> Result<&'a str, Fault> {
        self.positional.next().ok_or_else(|| self.missing(what))
    }

    fn number(
        &mut self,
        key: &str,
        default: u32,
        legal: std::ops::RangeInclusive<u32>,
    ) -> Result<u32, Fault> {
        let Some(text) = self.take(key) else { return Ok(default) };
        let number = text.parse().ok().filter(|number| legal.contains(number));
        number.ok_or_else(|| {
            Fault::Line(format!("`{key}={text}`: legal: {} to {}", legal.start(), legal.end()))
        })
    }

    fn grid(&mut self) -> Result<Grid, Fault> {
        let blocks = self.number("blocks", 1, 1..=1 << 20)?;
        Ok(Grid { blocks, threads: self.number("threads", 256, 1..=1024)? })
    }

    fn rounds(&mut self) -> Result<u32, Fault> {
        self.number("rounds", 1, 1..=1_000_000_000)
    }

    fn at(&mut self) -> Result<u32, Fault> {
        if self.named.iter().all(|(key, _)| *key != "at") {
            return Err(self.missing("at=N"));
        }
        self.number("at", 1, 1..=u32::MAX)
    }

    fn shared(&mut self) -> Result<Bytes, Fault> {
        let Some(text) = self.take("shared") else { return Ok(Bytes::ZERO) };
        let bytes: Bytes = quantity(text)?;
        if bytes.get() > SHARED_MAX || !bytes.get().is_multiple_of(4) {
            let most = Bytes::new(SHARED_MAX);
            return Err(Fault::Line(format!("`shared={text}`: legal: multiples of 4 B up to {most}")));
        }
        Ok(bytes)
    }

    fn bytes(&mut self, place: &str, most: Bytes) -> Result<Bytes, Fault> {
        let Some(text) = self.take("bytes") else { return Err(self.missing("bytes=SIZE")) };
        self.within(quantity(text)?, place, most)
    }

    fn within(&self, bytes: Bytes, place: &str, most: Bytes) -> Result<Bytes, Fault> {
        let fits = !bytes.is_zero() && bytes <= most && bytes.get().is_multiple_of(QUAD.get());
        let fault = || {
            Fault::Line(format!("{bytes}: legal: multiples of {QUAD} up to {most}, the {place} stated above"))
        };
        if fits { Ok(bytes) } else { Err(fault()) }
    }

    fn length(&mut self) -> Result<Nanos, Fault> {
        let length: Nanos = self.positional("DURATION").and_then(quantity)?;
        let legal = !length.is_zero() && length <= WAIT_MAX;
        if legal { Ok(length) } else { Err(Fault::Line(format!("{length}: legal: 1ns to {WAIT_MAX}"))) }
    }

    /// Refuses what no one asked for.
    fn finish(mut self) -> Result<(), Fault> {
        let left = self.positional.next().or_else(|| self.named.first().map(|(key, _)| *key));
        match left {
            Some(word) => Err(Fault::Line(format!("`{word}` is too much; legal: `{}`", self.legal))),
            None => Ok(()),
        }
    }
}

fn count(text: &str, most: u32) -> Result<u32, Fault> {
    let number = text.parse().ok().filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| Fault::Line(format!("`{text}`: legal: 1 to {most}")))
}
