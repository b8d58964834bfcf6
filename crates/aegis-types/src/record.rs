//! How anything is traced: fixed-size records whose meaning stands in a schema beside the type.
//!
//! A record is eight words. Each crate declares its records with [`record!`](crate::record!), hands them to the
//! [`Sink`] it was given, and never learns where they go.

use crate::{Bytes, DispatchSeq, JobId, LaneId, Nanos, PartitionId, SegmentIndex, TaskId, Time};

/// Words of payload in one record.
pub const PAYLOAD_WORDS: usize = 6;
/// Bytes of one record in a ring and in a file.
pub const RECORD_BYTES: usize = 64;

/// A record as it travels: stamp, head word and six words of payload. Little-endian in files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RawRecord {
    /// When it happened, on the host clock.
    pub stamp: Time,
    /// The schema's number (16 bits), the producer (16 bits), the producer's sequence number (32 bits, wrapping).
    pub head: u64,
    /// The fields, in the order of the schema; unused words are zero.
    pub payload: [u64; PAYLOAD_WORDS],
}

impl RawRecord {
    /// A record of schema `kind`; the ring fills in producer and sequence number.
    pub const fn new(stamp: Time, kind: u16, payload: [u64; PAYLOAD_WORDS]) -> Self {
        Self { stamp, head: (kind as u64) << 48, payload }
    }

    /// The number of the schema.
    pub const fn kind(&self) -> u16 {
        (self.head >> 48) as u16
    }

    /// The ring that the record came through.
    pub const fn producer(&self) -> u16 {
        (self.head >> 32) as u16
    }

    /// The position in the producer's sequence, modulo 2^32. A jump is a counted gap.
    pub const fn sequence(&self) -> u32 {
        self.head as u32
    }

    /// The same record with its place in a producer's sequence.
    pub const fn placed(self, producer: u16, sequence: u32) -> Self {
        let kind = self.head & 0xFFFF_0000_0000_0000;
        Self { head: kind | ((producer as u64) << 32) | sequence as u64, ..self }
    }

    /// The record as eight words.
    pub const fn to_words(&self) -> [u64; 8] {
        let p = &self.payload;
        [self.stamp.get(), self.head, p[0], p[1], p[2], p[3], p[4], p[5]]
    }

    /// The record in eight words.
    pub const fn from_words(w: [u64; 8]) -> Self {
        Self { stamp: Time::new(w[0]), head: w[1], payload: [w[2], w[3], w[4], w[5], w[6], w[7]] }
    }

    /// The record as little-endian bytes.
    pub fn to_bytes(&self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(self.to_words()) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// The record in little-endian bytes.
    pub fn from_bytes(bytes: &[u8; RECORD_BYTES]) -> Self {
        let mut words = [0; 8];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            let mut le = [0; 8];
            le.copy_from_slice(chunk);
            *word = u64::from_le_bytes(le);
        }
        Self::from_words(words)
    }
}

/// How a field's word is to be read and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FieldType {
    /// A plain number.
    Count,
    /// A span in nanoseconds.
    Span,
    /// An instant in nanoseconds since the epoch.
    Instant,
    /// A size in bytes.
    Size,
    /// A [`TaskId`].
    Task,
    /// A [`LaneId`].
    Lane,
    /// A [`PartitionId`].
    Partition,
    /// A [`JobId`], 16 bits of task and 48 bits of number.
    Job,
    /// A [`SegmentIndex`].
    Segment,
    /// A [`DispatchSeq`].
    Dispatch,
    /// A choice; the names stand here, in the order of their numbers.
    Choice(&'static [&'static str]),
}

/// One field of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    /// The field's name.
    pub name: &'static str,
    /// How to read it.
    pub kind: FieldType,
}

/// What a kind of record means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Schema {
    /// The number in the record's head, unique in a trace.
    pub kind: u16,
    /// The name by which it is queried.
    pub name: &'static str,
    /// The fields, in the order of the payload.
    pub fields: &'static [Field],
}

/// A type that can be recorded.
pub trait Record: Copy {
    /// What it means.
    const SCHEMA: Schema;

    /// The fields as words.
    fn to_payload(&self) -> [u64; PAYLOAD_WORDS];

    /// The record in the words, or `None` if a word is outside its field's range.
    fn from_payload(payload: &[u64; PAYLOAD_WORDS]) -> Option<Self>;

    /// The record with its stamp, ready for a sink.
    fn at(&self, stamp: Time) -> RawRecord {
        RawRecord::new(stamp, Self::SCHEMA.kind, self.to_payload())
    }

    /// Reads a raw record of this kind; `None` if it is of another kind or out of range.
    fn read(raw: &RawRecord) -> Option<Self> {
        if raw.kind() == Self::SCHEMA.kind { Self::from_payload(&raw.payload) } else { None }
    }
}

/// Where records go. Never blocks and never fails: a sink that is full counts the loss.
pub trait Sink {
    /// Takes one record.
    fn emit(&mut self, record: RawRecord);
}

/// The sink of those who are not traced.
#[derive(Clone, Copy, Debug, Default)]
pub struct Discard;

impl Sink for Discard {
    fn emit(&mut self, _: RawRecord) {}
}

impl Sink for Vec<RawRecord> {
    fn emit(&mut self, record: RawRecord) {
        self.push(record);
    }
}

/// A value that fits one word of a record.
pub trait Word: Copy {
    /// How the word is to be read.
    const KIND: FieldType;

    /// The value as a word.
    fn to_word(self) -> u64;

    /// The value in a word, or `None` if out of range.
    fn from_word(word: u64) -> Option<Self>;
}

macro_rules! word {
    ($($type:ty: $kind:ident, $to:expr, $from:expr;)*) => {$(
        impl Word for $type {
            const KIND: FieldType = FieldType::$kind;
            fn to_word(self) -> u64 {
                let to: fn(Self) -> u64 = $to;
                to(self)
            }
            fn from_word(word: u64) -> Option<Self> {
                let from: fn(u64) -> Option<Self> = $from;
                from(word)
            }
        }
    )*};
}

word! {
    u64: Count, |v| v, Some;
    Nanos: Span, |v| v.get(), |w| Some(Self::new(w));
    Time: Instant, |v| v.get(), |w| Some(Self::new(w));
    Bytes: Size, |v| v.get(), |w| Some(Self::new(w));
    TaskId: Task, |v| v.get().into(), |w| u16::try_from(w).ok().map(Self::new);
    LaneId: Lane, |v| v.get().into(), |w| u16::try_from(w).ok().map(Self::new);
    PartitionId: Partition, |v| v.get().into(), |w| u16::try_from(w).ok().map(Self::new);
    SegmentIndex: Segment, |v| v.get().into(), |w| u16::try_from(w).ok().map(Self::new);
    JobId: Job, |v| v.to_word(), |w| Some(Self::from_word(w));
    DispatchSeq: Dispatch, |v| v.get(), |w| Some(Self::new(w));
}

/// Declares a record: a struct of one to six [`Word`] fields with its schema.
///
/// ```
/// aegis_types::record! {
///     /// A lane became idle.
///     pub struct LaneIdle(900) { /// The lane.
///         lane: aegis_types::LaneId }
/// }
/// use aegis_types::{LaneId, Record, Time};
/// let raw = LaneIdle { lane: LaneId::new(2) }.at(Time::new(5));
/// assert_eq!(LaneIdle::read(&raw).map(|r| r.lane), Some(LaneId::new(2)));
/// ```
#[macro_export]
macro_rules! record {
    ($(#[$doc:meta])* pub struct $name:ident($kind:literal) { $($(#[$fdoc:meta])* $field:ident: $type:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name { $($(#[$fdoc])* pub $field: $type),* }

        impl $crate::record::Record for $name {
            const SCHEMA: $crate::record::Schema = $crate::record::Schema {
                kind: $kind,
                name: stringify!($name),
                fields: &[$($crate::record::Field {
                    name: stringify!($field),
                    kind: <$type as $crate::record::Word>::KIND,
                }),*],
            };

            fn to_payload(&self) -> [u64; $crate::record::PAYLOAD_WORDS] {
                let mut words = [0; $crate::record::PAYLOAD_WORDS];
                let fields = [$($crate::record::Word::to_word(self.$field)),*];
                const { assert!($name::SCHEMA.fields.len() <= $crate::record::PAYLOAD_WORDS) };
                words[..fields.len()].copy_from_slice(&fields);
                words
            }

            fn from_payload(payload: &[u64; $crate::record::PAYLOAD_WORDS]) -> Option<Self> {
                let mut words = payload.iter().copied();
                Some(Self { $($field: $crate::record::Word::from_word(words.next()?)?),* })
            }
        }
    };
}

/// Declares an enum whose variants are the choices of a field, numbered from zero.
#[macro_export]
macro_rules! choice {
    ($(#[$doc:meta])* pub enum $name:ident { $($(#[$vdoc:meta])* $variant:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant),* }

        impl $name {
            /// Every choice, in the order of the numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];
        }

        impl $crate::record::Word for $name {
            const KIND: $crate::record::FieldType =
                $crate::record::FieldType::Choice(&[$(stringify!($variant)),*]);
            fn to_word(self) -> u64 {
                self as u64
            }
            fn from_word(word: u64) -> Option<Self> {
                usize::try_from(word).ok().and_then(|i| Self::ALL.get(i).copied())
            }
        }
    };
}
