//! The write side of a trace: hands out producers, drains their rings, closes the trace.
//!
//! The collector is made by the composition root and owned by whoever pumps it, usually a
//! [`TraceWriter`](crate::TraceWriter). It starts no thread and reads no clock.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aegis_types::{RawRecord, Schema, Time};

use crate::error::TraceError;
use crate::file::{self, CHUNK_HEAD_BYTES, ChunkKind, Header};
use crate::gap::Totals;
use crate::read::{Parts, Trace};
use crate::ring::{RECORDS_MAX, RingConsumer, RingProducer, ring};
use crate::schema::OwnedSchema;

/// Where a trace is kept.
#[derive(Clone, Debug)]
pub enum TraceMode {
    /// In a file, made anew.
    File(PathBuf),
    /// In memory: the last `records` of each producer. Older ones give way and are counted.
    Memory {
        /// Records kept per producer, from 1 to [`RECORDS_MAX`].
        records: usize,
    },
}

/// What a trace is made of before its first record.
#[derive(Clone, Debug)]
pub struct TraceOptions {
    /// Where it is kept.
    pub mode: TraceMode,
    /// What every record means that will be emitted. The same schema may be given twice.
    pub schemas: Vec<Schema>,
    /// What the clock on the wall showed at the epoch, for people.
    pub epoch: String,
    /// Named bytes that are known from the start: the fleet, its certificates, the names of its
    /// [tasks](crate::read::TASKS_BLOB). Of two blobs of one name the later is kept.
    pub blobs: BTreeMap<String, Vec<u8>>,
}

/// Collects the records of all producers of one run.
///
/// ```
/// use aegis_trace::{TraceCollector, TraceMode, TraceOptions};
/// use aegis_types::records::{SCHEMAS, TickHandled};
/// use aegis_types::{Record, Sink, Time};
///
/// let mut collector = TraceCollector::new(TraceOptions {
///     mode: TraceMode::Memory { records: 1_000 },
///     schemas: SCHEMAS.to_vec(),
///     epoch: "2031-01-01T00:00:00Z".to_owned(),
///     blobs: [("tasks".to_owned(), br#"["detector"]"#.to_vec())].into(),
/// })?;
/// let mut decisions = collector.producer("decisions", 64)?;
/// decisions.emit(TickHandled { cycle: 7 }.at(Time::new(5)));
/// let trace = collector.finish(Default::default())?.into_trace()?;
/// assert_eq!(trace.all::<TickHandled>().next().map(|(_, tick)| tick.cycle), Some(7));
/// # Ok::<(), aegis_trace::TraceError>(())
/// ```
#[derive(Debug)]
pub struct TraceCollector {
    channels: Vec<Channel>,
    header: Header,
    blobs: BTreeMap<String, Vec<u8>>,
    store: Store,
}

/// A trace that was closed.
#[derive(Clone, Debug)]
#[must_use = "a trace in memory is gone when this is dropped"]
pub enum Finished {
    /// It stands in this file.
    File(PathBuf),
    /// It stands here.
    Memory(Box<Trace>),
}

#[derive(Debug)]
struct Channel {
    name: String,
    consumer: RingConsumer,
    /// The last records, if the trace is kept in memory.
    kept: VecDeque<RawRecord>,
    overwritten: u64,
}

#[derive(Debug)]
enum Store {
    File(TraceFile),
    Memory { records: usize },
}

/// A file that is only appended to. There is no buffer that outlives a call.
#[derive(Debug)]
struct TraceFile {
    path: PathBuf,
    file: File,
    /// Bytes of whole chunks in the file.
    written: u64,
    /// Room to put a chunk together.
    chunk: Vec<u8>,
    /// Why the file takes no more bytes. Part of a chunk may stand at its end, so nothing may follow.
    broken: Option<TraceError>,
}

impl TraceCollector {
    /// Makes the trace. A file is made at once, with everything but records in it.
    ///
    /// # Errors
    /// [`TraceError::Open`], [`TraceError::Write`]; [`TraceError::Capacity`]; [`TraceError::SchemaClash`],
    /// [`TraceError::Header`], [`TraceError::NameTooLong`].
    pub fn new(options: TraceOptions) -> Result<Self, TraceError> {
        let header = Header { epoch: options.epoch, schemas: own_schemas(&options.schemas)? };
        let store = match options.mode {
            TraceMode::File(path) => Store::File(TraceFile::create(path, &header, &options.blobs)?),
            TraceMode::Memory { records } if (1..=RECORDS_MAX).contains(&records) => {
                Store::Memory { records }
            }
            TraceMode::Memory { records } => {
                let place = "trace in memory".to_owned();
                return Err(TraceError::Capacity { place, asked: records, limit: RECORDS_MAX });
            }
        };
        Ok(Self { channels: Vec::new(), header, blobs: options.blobs, store })
    }

    /// A new producer with a ring of at least `capacity` records. Size it for what it emits in two flush periods.
    ///
    /// # Errors
    /// [`TraceError::ProducerTaken`], [`TraceError::TooManyProducers`], [`TraceError::Capacity`],
    /// [`TraceError::NameTooLong`], [`TraceError::Write`].
    pub fn producer(&mut self, name: &str, capacity: usize) -> Result<RingProducer, TraceError> {
        if self.channels.iter().any(|c| c.name == name) {
            return Err(TraceError::ProducerTaken { name: name.to_owned() });
        }
        let id = u16::try_from(self.channels.len()).map_err(|_| TraceError::TooManyProducers {
            name: name.to_owned(),
            limit: usize::from(u16::MAX) + 1,
        })?;
        let (producer, consumer) = ring(id, capacity)?;
        let kept = match &mut self.store {
            Store::Memory { records } => touched(*records),
            Store::File(file) => {
                file.append(|out| file::push_producer(out, id, name))?;
                file.reserve(consumer.capacity());
                VecDeque::new()
            }
        };
        self.channels.push(Channel { name: name.to_owned(), consumer, kept, overwritten: 0 });
        Ok(producer)
    }

    /// Drains every ring once and returns how many records were kept. What was written when this returns survives the
    /// end of the process. After a failed write the rings are still drained, so that producers never see the
    /// difference, and the records are lost.
    ///
    /// # Errors
    /// [`TraceError::Write`], again at every call after the first failure.
    pub fn pump(&mut self) -> Result<usize, TraceError> {
        let mut count = 0;
        let mut failure = None;
        for (id, channel) in (0..=u16::MAX).zip(&mut self.channels) {
            match &mut self.store {
                Store::Memory { records } => count += channel.keep(*records),
                Store::File(file) => match file.append_records(id, &mut channel.consumer) {
                    Ok(appended) => count += appended,
                    Err(error) => failure = Some(error),
                },
            }
        }
        failure.map_or(Ok(count), Err)
    }

    /// What became of everything that was emitted, by producer. Exact for producers that have stopped and after a
    /// [`pump`](Self::pump).
    pub fn totals(&self) -> Vec<Totals> {
        self.channels.iter().map(Channel::totals).collect()
    }

    /// Drains the rings a last time, adds `blobs` and closes the trace. Producers must have stopped: what they emit
    /// from here on goes nowhere and is not counted.
    ///
    /// # Errors
    /// [`TraceError::Write`], [`TraceError::NameTooLong`], [`TraceError::Header`].
    pub fn finish(mut self, blobs: BTreeMap<String, Vec<u8>>) -> Result<Finished, TraceError> {
        self.pump()?;
        let totals = self.totals();
        match self.store {
            Store::File(mut file) => {
                for (name, bytes) in &blobs {
                    file.append(|out| file::push_blob(out, name, bytes))?;
                }
                file.append(|out| file::push_end(out, &totals))?;
                Ok(Finished::File(file.path))
            }
            Store::Memory { .. } => {
                self.blobs.extend(blobs);
                let producers = self.channels.into_iter().map(|c| (c.name, c.kept.into())).collect();
                let parts = Parts {
                    header: self.header,
                    producers,
                    blobs: self.blobs,
                    totals: Some(totals),
                    damages: Vec::new(),
                };
                Ok(Finished::Memory(Box::new(Trace::assemble(parts))))
            }
        }
    }
}

impl Finished {
    /// The trace, read back if it stands in a file.
    ///
    /// # Errors
    /// As [`Trace::open`].
    pub fn into_trace(self) -> Result<Trace, TraceError> {
        match self {
            Self::File(path) => Trace::open(&path),
            Self::Memory(trace) => Ok(*trace),
        }
    }

    /// The file in which the trace stands, if it does.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Memory(_) => None,
        }
    }
}

impl Channel {
    /// Moves the ring's records into memory, at most `limit` of them in all.
    fn keep(&mut self, limit: usize) -> usize {
        let Self { consumer, kept, overwritten, .. } = self;
        consumer.drain(|record| {
            if kept.len() == limit {
                kept.pop_front();
                *overwritten += 1;
            }
            kept.push_back(record);
        })
    }

    fn totals(&self) -> Totals {
        Totals {
            emitted: self.consumer.emitted(),
            dropped: self.consumer.dropped(),
            overwritten: self.overwritten,
        }
    }
}

impl TraceFile {
    fn create(path: PathBuf, header: &Header, blobs: &BTreeMap<String, Vec<u8>>) -> Result<Self, TraceError> {
        let file =
            File::create(&path).map_err(|e| TraceError::Open { path: path.clone(), source: Arc::new(e) })?;
        let mut this = Self { path, file, written: 0, chunk: Vec::new(), broken: None };
        this.append(|out| {
            out.extend_from_slice(&file::file_head());
            file::push_header(out, header)?;
            blobs.iter().try_for_each(|(name, bytes)| file::push_blob(out, name, bytes))
        })?;
        Ok(this)
    }

    /// Makes room to put a chunk of `records` together, and touches it, so that a pump neither allocates nor grows.
    fn reserve(&mut self, records: usize) {
        let bytes = CHUNK_HEAD_BYTES + records * aegis_types::record::RECORD_BYTES;
        self.chunk.resize(bytes.max(self.chunk.capacity()), UNWRITTEN);
        self.chunk.clear();
    }

    /// Drains a ring into one chunk.
    fn append_records(&mut self, id: u16, consumer: &mut RingConsumer) -> Result<usize, TraceError> {
        self.chunk.clear();
        let mut count = 0;
        file::push_chunk(&mut self.chunk, ChunkKind::Records, id, |out| {
            count = consumer.drain(|record| file::push_record(out, &record));
        });
        if count == 0 && self.broken.is_none() {
            return Ok(0);
        }
        self.flush()?;
        Ok(count)
    }

    /// Appends whole chunks made by `body`.
    fn append(
        &mut self,
        body: impl FnOnce(&mut Vec<u8>) -> Result<(), TraceError>,
    ) -> Result<(), TraceError> {
        self.chunk.clear();
        body(&mut self.chunk)?;
        self.flush()
    }

    fn flush(&mut self) -> Result<(), TraceError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        if let Err(error) = self.file.write_all(&self.chunk) {
            // A part of the last chunk may stand there, and is read, too; a pipe cannot say.
            let written = self.file.stream_position().unwrap_or(self.written);
            let path = self.path.clone();
            let error = TraceError::Write { path, written, source: Arc::new(error) };
            self.broken = Some(error.clone());
            return Err(error);
        }
        self.written += self.chunk.len() as u64;
        Ok(())
    }
}

/// What room is touched with. Not zero: an allocator hands out zeros without touching memory, and an optimiser knows it.
const UNWRITTEN: u8 = 0xA5;

/// Room for so many records, touched: otherwise the process would grow while it serves, until the room is full once.
fn touched(records: usize) -> VecDeque<RawRecord> {
    let unwritten = RawRecord::new(Time::new(u64::MAX), u16::MAX, [u64::from(UNWRITTEN); 6]);
    let mut room = VecDeque::from(vec![unwritten; records]);
    room.clear();
    room
}

/// The schemas as the file carries them, each once.
fn own_schemas(schemas: &[Schema]) -> Result<Vec<OwnedSchema>, TraceError> {
    let mut by_kind: BTreeMap<u16, &Schema> = BTreeMap::new();
    for schema in schemas {
        let first = by_kind.entry(schema.kind).or_insert(schema);
        if *first != schema {
            return Err(TraceError::SchemaClash {
                kind: schema.kind,
                first: first.name.to_owned(),
                second: schema.name.to_owned(),
            });
        }
    }
    Ok(by_kind.into_values().map(OwnedSchema::from).collect())
}
