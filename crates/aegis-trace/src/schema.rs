//! Schemas as a file carries them. A trace outlives the build that wrote it, so what its records mean travels with it.

use std::fmt;

use aegis_types::record::{FieldType, PAYLOAD_WORDS, Word};
use aegis_types::{
    Bytes, DispatchSeq, JobId, LaneId, Nanos, PartitionId, RawRecord, Schema, SegmentIndex, TaskId, Time,
};
use serde::{Deserialize, Serialize};

/// What a kind of record means, read from a file or copied from a [`Schema`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnedSchema {
    /// The number in the record's head.
    pub kind: u16,
    /// The name by which it is queried.
    pub name: String,
    /// The fields, in the order of the payload.
    pub fields: Vec<OwnedField>,
}

/// One field of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnedField {
    /// The field's name.
    pub name: String,
    /// How to read it.
    pub kind: FieldKind,
}

/// How a field's word is to be read. The order is part of the file format: a kind is only ever added at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum FieldKind {
    /// A plain number.
    Count,
    /// A span in nanoseconds.
    Span,
    /// An instant in nanoseconds since the epoch.
    Instant,
    /// A size in bytes.
    Size,
    /// A task.
    Task,
    /// A lane.
    Lane,
    /// A partition.
    Partition,
    /// A job: 16 bits of task, 48 bits of number.
    Job,
    /// A segment's index in its job.
    Segment,
    /// A dispatch's number on its lane.
    Dispatch,
    /// A choice; the names in the order of their numbers.
    Choice(Vec<String>),
}

/// A field's word, read through its schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Value<'a> {
    /// A plain number.
    Count(u64),
    /// A span.
    Span(Nanos),
    /// An instant.
    Instant(Time),
    /// A size.
    Size(Bytes),
    /// A task.
    Task(TaskId),
    /// A lane.
    Lane(LaneId),
    /// A partition.
    Partition(PartitionId),
    /// A job.
    Job(JobId),
    /// A segment's index in its job.
    Segment(SegmentIndex),
    /// A dispatch's number on its lane.
    Dispatch(DispatchSeq),
    /// A choice, by name.
    Choice(&'a str),
    /// A word outside its field's range.
    Illegal(u64),
}

impl OwnedSchema {
    /// The fields of `record` by name, in the order of the schema. The record's kind is not compared.
    pub fn values<'a>(&'a self, record: &RawRecord) -> impl Iterator<Item = (&'a str, Value<'a>)> {
        let payload: [u64; PAYLOAD_WORDS] = record.payload;
        self.fields.iter().zip(payload).map(|(field, word)| (field.name.as_str(), field.kind.value(word)))
    }

    /// Whether this schema, as written, means what `schema` means in this build.
    pub fn matches(&self, schema: &Schema) -> bool {
        self.kind == schema.kind
            && self.name == schema.name
            && self.fields.len() == schema.fields.len()
            && self.fields.iter().zip(schema.fields).all(|(a, b)| a.name == b.name && a.kind.matches(b.kind))
    }
}

impl From<&Schema> for OwnedSchema {
    fn from(schema: &Schema) -> Self {
        let field =
            |f: &aegis_types::record::Field| OwnedField { name: f.name.to_owned(), kind: f.kind.into() };
        Self {
            kind: schema.kind,
            name: schema.name.to_owned(),
            fields: schema.fields.iter().map(field).collect(),
        }
    }
}

impl FieldKind {
    /// The word as a value of this kind.
    fn value(&self, word: u64) -> Value<'_> {
        fn or_illegal<'a, W: Word>(word: u64, value: impl Fn(W) -> Value<'a>) -> Value<'a> {
            W::from_word(word).map_or(Value::Illegal(word), value)
        }
        match self {
            Self::Count => Value::Count(word),
            Self::Span => Value::Span(Nanos::new(word)),
            Self::Instant => Value::Instant(Time::new(word)),
            Self::Size => Value::Size(Bytes::new(word)),
            Self::Task => or_illegal(word, Value::Task),
            Self::Lane => or_illegal(word, Value::Lane),
            Self::Partition => or_illegal(word, Value::Partition),
            Self::Job => Value::Job(JobId::from_word(word)),
            Self::Segment => or_illegal(word, Value::Segment),
            Self::Dispatch => Value::Dispatch(DispatchSeq::new(word)),
            Self::Choice(names) => usize::try_from(word)
                .ok()
                .and_then(|i| names.get(i))
                .map_or(Value::Illegal(word), |name| Value::Choice(name)),
        }
    }

    fn matches(&self, kind: FieldType) -> bool {
        match (self, kind) {
            (Self::Choice(a), FieldType::Choice(b)) => a.iter().eq(b.iter()),
            _ => *self == Self::from(kind),
        }
    }
}

impl From<FieldType> for FieldKind {
    fn from(kind: FieldType) -> Self {
        match kind {
            FieldType::Span => Self::Span,
            FieldType::Instant => Self::Instant,
            FieldType::Size => Self::Size,
            FieldType::Task => Self::Task,
            FieldType::Lane => Self::Lane,
            FieldType::Partition => Self::Partition,
            FieldType::Job => Self::Job,
            FieldType::Segment => Self::Segment,
            FieldType::Dispatch => Self::Dispatch,
            FieldType::Choice(names) => Self::Choice(names.iter().map(|&name| name.to_owned()).collect()),
            // A kind that this crate does not know is still a word.
            _ => Self::Count,
        }
    }
}

impl Value<'_> {
    /// The task that the value names, by itself or through a job.
    pub const fn task(&self) -> Option<TaskId> {
        match self {
            Self::Task(task) => Some(*task),
            Self::Job(job) => Some(job.task),
            _ => None,
        }
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(n) => n.fmt(f),
            Self::Span(v) => v.fmt(f),
            Self::Instant(v) => v.fmt(f),
            Self::Size(v) => v.fmt(f),
            Self::Task(v) => v.fmt(f),
            Self::Lane(v) => v.fmt(f),
            Self::Partition(v) => v.fmt(f),
            Self::Job(v) => v.fmt(f),
            Self::Segment(v) => v.fmt(f),
            Self::Dispatch(v) => v.get().fmt(f),
            Self::Choice(name) => f.pad(name),
            Self::Illegal(word) => write!(f, "illegal({word})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aegis_types::Record;
    use aegis_types::records::{JobFinished, SCHEMAS};

    #[test]
    fn a_copied_schema_means_the_same_and_a_changed_one_does_not() {
        for schema in SCHEMAS {
            let mut owned = OwnedSchema::from(schema);
            assert!(owned.matches(schema));
            owned.fields[0].kind = FieldKind::Choice(vec!["Other".to_owned()]);
            assert!(!owned.matches(schema), "{}", schema.name);
        }
    }

    #[test]
    fn words_out_of_range_are_shown_as_such() {
        let owned = OwnedSchema::from(&JobFinished::SCHEMA);
        let record = RawRecord::new(Time::ZERO, owned.kind, [7, 99, 5, 6, 0, 0]);
        let values: Vec<_> = owned.values(&record).collect();
        assert_eq!(values[1], ("outcome", Value::Illegal(99)));
        assert_eq!(values[2], ("response", Value::Span(Nanos::new(5))));
        assert_eq!(values[4], ("standing", Value::Choice("Covered")));
    }
}
