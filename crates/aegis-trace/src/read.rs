//! The read side of a trace: what every question is asked of.
//!
//! A [`Trace`] is whole in memory: records of all producers merged by stamp (then by producer and sequence), the
//! schemas that say what they mean, and an honest account of what is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use aegis_types::{RawRecord, Record, TaskId, Time};

use crate::error::TraceError;
use crate::file::{
    self, CHUNK_HEAD_BYTES, ChunkHead, ChunkKind, Damage, DamageKind, FILE_HEAD_BYTES, Header,
};
use crate::gap::{self, Gap, Totals};
use crate::schema::OwnedSchema;

/// The blob that holds the names of the tasks: a JSON array of strings, in the order of the task numbers.
pub const TASKS_BLOB: &str = "tasks";

/// A trace, ready to be asked.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    epoch: String,
    schemas: BTreeMap<u16, OwnedSchema>,
    producers: Vec<ProducerInfo>,
    blobs: BTreeMap<String, Vec<u8>>,
    records: Vec<RawRecord>,
    gaps: Vec<Gap>,
    damages: Vec<Damage>,
}

#[derive(Clone, Debug)]
struct ProducerInfo {
    name: String,
    /// The first sequence number that is left; the order of emission is told by the distance from it.
    first: u32,
    totals: Option<Totals>,
}

/// The parts of a trace before they are merged.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    pub(crate) header: Header,
    /// Name and records of each producer, in the order of the numbers; records as they were emitted.
    pub(crate) producers: Vec<(String, Vec<RawRecord>)>,
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
    /// In the order of the producers; `None` if the trace was not closed.
    pub(crate) totals: Option<Vec<Totals>>,
    pub(crate) damages: Vec<Damage>,
}

impl Trace {
    /// Reads a trace from a file. A damaged or cut file is read as far as it can be: see [`Trace::damages`].
    ///
    /// # Errors
    /// [`TraceError::Open`]; [`TraceError::NotATrace`]; [`TraceError::Version`].
    pub fn open(path: &Path) -> Result<Self, TraceError> {
        let failed = |error| TraceError::Open { path: path.to_owned(), source: Arc::new(error) };
        let place = path.display().to_string();
        let mut file = File::open(path).map_err(failed)?;
        let mut bytes = Vec::new();
        // The head alone first: a device that is no trace need not end.
        file.by_ref().take(FILE_HEAD_BYTES as u64).read_to_end(&mut bytes).map_err(failed)?;
        file::check_file_head(&place, &bytes)?;
        file.read_to_end(&mut bytes).map_err(failed)?;
        Self::parse(&place, &bytes)
    }

    /// Reads a trace from bytes, as [`Trace::open`] does.
    ///
    /// # Errors
    /// [`TraceError::NotATrace`]; [`TraceError::Version`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TraceError> {
        Self::parse("trace in memory", bytes)
    }

    fn parse(place: &str, bytes: &[u8]) -> Result<Self, TraceError> {
        let mut parts = Parts::default();
        match file::check_file_head(place, bytes)? {
            Some(what) => parts.damage(bytes.len().min(FILE_HEAD_BYTES), what),
            None => parts.read_chunks(bytes),
        }
        Ok(Self::assemble(parts))
    }

    /// The trace as a file holds it. A trace read back from these bytes has the same records, gaps and blobs; damage
    /// is not carried over, and a trace that was not closed stays so.
    ///
    /// # Errors
    /// [`TraceError::Header`] and [`TraceError::NameTooLong`], which only a trace that never was a file can cause.
    pub fn to_bytes(&self) -> Result<Vec<u8>, TraceError> {
        let mut out = file::file_head().to_vec();
        let schemas = self.schemas.values().cloned().collect();
        file::push_header(&mut out, &Header { epoch: self.epoch.clone(), schemas })?;
        for (name, bytes) in &self.blobs {
            file::push_blob(&mut out, name, bytes)?;
        }
        for (id, producer) in (0..=u16::MAX).zip(&self.producers) {
            file::push_producer(&mut out, id, &producer.name)?;
            let mut own: Vec<_> = self.records.iter().filter(|r| r.producer() == id).collect();
            own.sort_by_key(|r| r.sequence().wrapping_sub(producer.first));
            if !own.is_empty() {
                let body = |out: &mut Vec<u8>| own.iter().for_each(|r| file::push_record(out, r));
                file::push_chunk(&mut out, ChunkKind::Records, id, body);
            }
        }
        if let Some(totals) = self.producers.iter().map(|p| p.totals).collect::<Option<Vec<_>>>() {
            file::push_end(&mut out, &totals)?;
        }
        Ok(out)
    }

    pub(crate) fn assemble(parts: Parts) -> Self {
        let mut gaps = Vec::new();
        let mut producers = Vec::new();
        let mut records = Vec::with_capacity(parts.producers.iter().map(|(_, own)| own.len()).sum());
        for (id, (name, own)) in (0..=u16::MAX).zip(parts.producers) {
            let totals = parts.totals.as_ref().and_then(|all| all.get(usize::from(id)).copied());
            gaps.extend(gap::of(id, &own, totals));
            producers.push(ProducerInfo { name, first: own.first().map_or(0, RawRecord::sequence), totals });
            records.extend(own);
        }
        // The sort is stable and the producers were appended in order, so equal stamps stay in the order of producer
        // and sequence.
        records.sort_by_key(|r| r.stamp);
        let schemas = parts.header.schemas.into_iter().map(|s| (s.kind, s)).collect();
        Self {
            epoch: parts.header.epoch,
            schemas,
            producers,
            blobs: parts.blobs,
            records,
            gaps,
            damages: parts.damages,
        }
    }

    /// Every record, by stamp, then producer, then sequence.
    pub fn records(&self) -> &[RawRecord] {
        &self.records
    }

    /// The records stamped in `[start, end)`.
    pub fn between(&self, range: Range<Time>) -> &[RawRecord] {
        &self.records[self.positions(range)]
    }

    /// Where the records stamped in `[start, end)` stand among [`Trace::records`].
    pub(crate) fn positions(&self, range: Range<Time>) -> Range<usize> {
        let start = self.records.partition_point(|r| r.stamp < range.start);
        let end = self.records.partition_point(|r| r.stamp < range.end);
        start..end.max(start)
    }

    /// The record as an `R`, if it is one and this trace means by it what this build does.
    pub fn read<R: Record>(&self, raw: &RawRecord) -> Option<R> {
        if raw.kind() != R::SCHEMA.kind || !self.schema(raw.kind())?.matches(&R::SCHEMA) {
            return None;
        }
        R::read(raw)
    }

    /// Every record that is an `R`, in the order of [`Trace::records`].
    pub fn all<R: Record>(&self) -> impl Iterator<Item = (&RawRecord, R)> {
        let known = self.schema(R::SCHEMA.kind).is_some_and(|s| s.matches(&R::SCHEMA));
        let records = if known { self.records.as_slice() } else { &[] };
        records.iter().filter_map(|raw| Some((raw, R::read(raw)?)))
    }

    /// What records of number `kind` mean; `None` if the trace does not say.
    pub fn schema(&self, kind: u16) -> Option<&OwnedSchema> {
        self.schemas.get(&kind)
    }

    /// What records of the kind named `name` mean; `None` if the trace does not say.
    pub fn schema_named(&self, name: &str) -> Option<&OwnedSchema> {
        self.schemas.values().find(|s| s.name == name)
    }

    /// Every schema, by number.
    pub fn schemas(&self) -> impl Iterator<Item = &OwnedSchema> {
        self.schemas.values()
    }

    /// The name of the kind of `record`, or its number.
    pub(crate) fn kind_name(&self, record: &RawRecord) -> String {
        self.schema(record.kind()).map_or_else(|| format!("kind{}", record.kind()), |s| s.name.clone())
    }

    /// The names of the producers, in the order of their numbers.
    pub fn producers(&self) -> impl Iterator<Item = &str> {
        self.producers.iter().map(|p| p.name.as_str())
    }

    /// The name of the producer numbered `id`, or its number.
    pub fn producer_name(&self, id: u16) -> String {
        self.producers.get(usize::from(id)).map_or_else(|| format!("producer{id}"), |p| p.name.clone())
    }

    /// What became of everything that the producer numbered `id` emitted; `None` if the trace was not closed.
    pub fn totals(&self, id: u16) -> Option<Totals> {
        self.producers.get(usize::from(id))?.totals
    }

    /// What the clock on the wall showed at the epoch, as the writer put it.
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// The bytes stored under `name`.
    pub fn blob(&self, name: &str) -> Option<&[u8]> {
        self.blobs.get(name).map(Vec::as_slice)
    }

    /// The names of all blobs, sorted.
    pub fn blob_names(&self) -> impl Iterator<Item = &str> {
        self.blobs.keys().map(String::as_str)
    }

    /// What is missing, by producer, then by place.
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// The first damage of the file, if any.
    pub fn damage(&self) -> Option<&Damage> {
        self.damages.first()
    }

    /// Every damage of the file, by place.
    pub fn damages(&self) -> &[Damage] {
        &self.damages
    }

    /// The names of the tasks, in the order of their numbers; empty if the trace has no blob [`TASKS_BLOB`].
    ///
    /// # Errors
    /// [`TraceError::Blob`] if the blob is no JSON array of strings.
    pub fn tasks(&self) -> Result<Vec<String>, TraceError> {
        let Some(bytes) = self.blob(TASKS_BLOB) else { return Ok(Vec::new()) };
        serde_json::from_slice(bytes).map_err(|error| TraceError::Blob {
            name: TASKS_BLOB.to_owned(),
            reason: format!("must be a JSON array of task names: {error}"),
        })
    }

    /// Whether `record` names `task` in one of its fields, by itself or through a job.
    pub fn names_task(&self, record: &RawRecord, task: TaskId) -> bool {
        self.schema(record.kind())
            .is_some_and(|schema| schema.values(record).any(|(_, value)| value.task() == Some(task)))
    }

    /// The records at which a producer resumes after a gap, as (producer, sequence).
    pub(crate) fn resumptions(&self) -> BTreeSet<(u16, u32)> {
        self.gaps.iter().filter_map(|gap| Some((gap.producer, gap.resumes?))).collect()
    }
}

impl Parts {
    fn damage(&mut self, offset: usize, what: DamageKind) {
        let recovered_records = self.producers.iter().map(|(_, own)| own.len() as u64).sum();
        self.damages.push(Damage { offset: offset as u64, what, recovered_records });
    }

    fn read_chunks(&mut self, bytes: &[u8]) {
        let mut at = FILE_HEAD_BYTES;
        loop {
            let rest = &bytes[at..];
            let Some((head, rest)) = rest.split_first_chunk::<CHUNK_HEAD_BYTES>() else {
                let what = if rest.is_empty() { DamageKind::NotClosed } else { DamageKind::ChunkHeadCut };
                return self.damage(bytes.len(), what);
            };
            let Some(head) = ChunkHead::parse(head) else {
                return self.damage(at, DamageKind::ChunkHeadFlipped);
            };
            let whole = usize::try_from(head.len).ok().and_then(|len| rest.get(..len));
            let Some(body) = whole else {
                self.recover(&head, rest);
                return self.damage(bytes.len(), DamageKind::BodyCut(head.kind));
            };
            let body_at = at + CHUNK_HEAD_BYTES;
            at = body_at + body.len();
            if crc32fast::hash(body) != head.body_crc {
                self.damage(body_at, DamageKind::BodyFlipped(head.kind));
            } else if let Err(why) = self.take(&head, body) {
                self.damage(body_at, DamageKind::Malformed(head.kind, why));
            }
            if head.kind == ChunkKind::End {
                if at < bytes.len() {
                    self.damage(at, DamageKind::AfterEnd);
                }
                return;
            }
        }
    }

    /// Takes in the body of a chunk whose checks hold, or says why it makes no sense.
    fn take(&mut self, head: &ChunkHead, body: &[u8]) -> Result<(), String> {
        match head.kind {
            ChunkKind::Header => self.header = file::decode(body)?,
            ChunkKind::Producer => {
                let name = str::from_utf8(body).map_err(|e| format!("the name is no UTF-8: {e}"))?.to_owned();
                self.reach(head.tag);
                self.producers[usize::from(head.tag)].0 = name;
            }
            ChunkKind::Records => {
                if !body.len().is_multiple_of(aegis_types::record::RECORD_BYTES) {
                    return Err(format!("{} bytes are no whole number of records", body.len()));
                }
                if file::records(body).any(|r| r.producer() != head.tag) {
                    return Err(format!("it holds records of others than producer {}", head.tag));
                }
                self.reach(head.tag);
                self.producers[usize::from(head.tag)].1.extend(file::records(body));
            }
            ChunkKind::Blob => {
                let (name, bytes) = file::blob(head.tag, body)?;
                self.blobs.insert(name.to_owned(), bytes.to_vec());
            }
            ChunkKind::End => self.totals = Some(file::decode(body)?),
            ChunkKind::Other(_) => {}
        }
        Ok(())
    }

    /// Takes the whole records at the start of a records chunk that was cut. Its check cannot be made; a record of
    /// another producer ends the part that is believed.
    fn recover(&mut self, head: &ChunkHead, rest: &[u8]) {
        if head.kind == ChunkKind::Records {
            self.reach(head.tag);
            let own = file::records(rest).take_while(|r| r.producer() == head.tag);
            self.producers[usize::from(head.tag)].1.extend(own);
        }
    }

    /// Makes the table of producers long enough for `id`. One whose name was lost is called by its number.
    fn reach(&mut self, id: u16) {
        for missing in self.producers.len()..=usize::from(id) {
            self.producers.push((format!("producer{missing}"), Vec::new()));
        }
    }
}
