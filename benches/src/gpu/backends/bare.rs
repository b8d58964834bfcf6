//! The loop that a program without a runtime would write: one model on one stream, its inputs and outputs copied, a wait.

use std::rc::Rc;
use std::sync::Arc;

use aegis_cuda::conformance::CountingGrant;
use aegis_cuda::{
    BackendError, BindingId, Bindings, Device, DeviceMemory, DeviceSlice, Graph, HostClock, MemorySpace,
    ModelMemory, PartitionRequest, RuntimeBackend, Stream, TensorSpec, Units,
};
use aegis_types::{Bytes, DispatchSeq, Extent, LaneId, Nanos, PartitionId, SegmentIndex, Time};
use aegisrt::difference;
use aegisrt::feed::Feed;
use aegisrt::inventory::Model;

use super::super::between::Beat;
use super::super::card::{Gpu, Opened};
use super::super::error::ExperimentError;
use super::super::floor::WARM_UP;
use super::super::overhead::GAP;
use super::super::spread::Spread;

/// Work that takes longer than this hangs.
const HANG: Nanos = Nanos::from_millis(2_000);
/// Where tensors of I/O begin.
const ALIGNMENT: u64 = 256;
/// Jobs that a pause is chosen by.
const TRIED: usize = 200;
/// Jobs by the model's calls, of which as many as that only warm up.
const CALLED: usize = 1_200;

/// How the loop has a job done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The model's calls, then a wait for the stream.
    Calls,
    /// The graph where the model is captured, else the calls; then a flag is polled.
    Best,
}

/// What a model works on: buffers of the device and their twins on the host.
struct Io {
    device: Bindings,
    inputs: Vec<Option<Rc<DeviceSlice>>>,
    outputs: Vec<Rc<DeviceSlice>>,
    /// Outputs that are carried to inputs, by position.
    state: Vec<(usize, usize)>,
}

/// A model on a stream, ready to be run.
pub struct Job {
    /// Stands before what it was captured on.
    graph: Option<Box<dyn Graph>>,
    backend: Box<dyn RuntimeBackend>,
    binding: BindingId,
    io: Io,
    segments: u16,
    feed: Feed,
    stream: Box<dyn Stream>,
    sequence: DispatchSeq,
}

/// The loop on a device of its own.
pub struct Bare {
    job: Job,
    number: u64,
    device: Opened,
}

fn bytes_of<'a>(specs: impl IntoIterator<Item = &'a TensorSpec>) -> u64 {
    specs.into_iter().map(|spec| spec.bytes.get().next_multiple_of(ALIGNMENT)).sum()
}

/// Slices of a region one behind the other.
struct Carver {
    region: Arc<dyn DeviceMemory>,
    next: u64,
}

impl Carver {
    fn lend(&mut self, spec: &TensorSpec) -> Result<Rc<DeviceSlice>, ExperimentError> {
        let extent = Extent { offset: Bytes::new(self.next), len: spec.bytes };
        self.next += spec.bytes.get().next_multiple_of(ALIGNMENT);
        Ok(Rc::new(DeviceSlice::lend(&self.region, extent)?))
    }
}

impl Io {
    fn take(
        device: &dyn Device,
        region: Arc<dyn DeviceMemory>,
        at: u64,
        model: &Model,
    ) -> Result<Self, ExperimentError> {
        let (inputs, outputs) = (&model.description.inputs, &model.description.outputs);
        let position = |specs: &[TensorSpec], name: &str| specs.iter().position(|spec| spec.name == name);
        let pairs = model.config.state.iter();
        let state: Vec<(usize, usize)> = pairs
            .filter_map(|pair| Some((position(outputs, &pair.output)?, position(inputs, &pair.input)?)))
            .collect();
        let fed = |index: usize| state.iter().all(|(_, input)| *input != index);
        let mut carver = Carver { region, next: at };
        let mut lend = |specs: &[TensorSpec]| {
            specs.iter().map(|spec| carver.lend(spec)).collect::<Result<Vec<_>, ExperimentError>>()
        };
        let bindings = Bindings { inputs: lend(inputs)?, outputs: lend(outputs)? };
        let staged = bytes_of(inputs.iter().chain(outputs)).max(ALIGNMENT);
        let mut twins = Carver { region: device.reserve(MemorySpace::Staging, Bytes::new(staged))?, next: 0 };
        let mut host = Vec::new();
        for (index, spec) in inputs.iter().enumerate() {
            host.push(if fed(index) { Some(twins.lend(spec)?) } else { None });
        }
        let outputs = outputs.iter().map(|spec| twins.lend(spec)).collect::<Result<_, ExperimentError>>()?;
        Ok(Self { device: bindings, inputs: host, outputs, state })
    }

    /// Enqueues a whole job: inputs, segments, state, outputs.
    fn enqueue(
        &self,
        backend: &mut dyn RuntimeBackend,
        stream: &mut dyn Stream,
        (segments, binding): (u16, BindingId),
    ) -> Result<(), BackendError> {
        for (host, device) in self.inputs.iter().zip(&self.device.inputs) {
            if let Some(host) = host {
                stream.copy(host, device)?;
            }
        }
        for segment in 0..segments {
            backend.enqueue(stream, SegmentIndex::new(segment), binding)?;
        }
        for &(output, input) in &self.state {
            stream.copy(&self.device.outputs[output], &self.device.inputs[input])?;
        }
        for (device, host) in self.device.outputs.iter().zip(&self.outputs) {
            stream.copy(device, host)?;
        }
        Ok(())
    }
}

impl Job {
    /// Loads a model on a lane that nobody uses. `captured` says whether its job is made a graph, if it can be; one job
    /// is run before, as a library may make at its first call what must be there then.
    ///
    /// # Errors
    /// What device or backend refuse.
    pub fn load(
        device: &dyn Device,
        place: (PartitionId, LaneId),
        model: &Model,
        captured: bool,
    ) -> Result<Self, ExperimentError> {
        let io = bytes_of(model.description.inputs.iter().chain(&model.description.outputs));
        let own = model.config.budget.memory.get().next_multiple_of(4096);
        let region = device.reserve(MemorySpace::Device, Bytes::new(own + io.max(ALIGNMENT)))?;
        let mut stream = device.bind_lane(place.0, place.1)?;
        let grant = CountingGrant::new(Extent { offset: Bytes::ZERO, len: Bytes::new(own) });
        let memory = ModelMemory { grant: Box::new(grant), region: Arc::clone(&region) };
        let mut backend = model.loader.load(&model.request(), stream.as_mut(), memory)?;
        let io = Io::take(device, region, own, model)?;
        let binding = backend.bind(io.device.clone())?;
        let segments = u16::try_from(backend.describe().graph.segments()).unwrap_or(u16::MAX);
        let feed = model.feed()?;
        let sequence = DispatchSeq::NONE;
        let mut job = Self { graph: None, backend, binding, io, segments, feed, stream, sequence };
        if captured && (0..segments).all(|segment| job.backend.capturable(SegmentIndex::new(segment))) {
            job.calls()?;
            job.stream.synchronize()?;
            let Self { backend, io, stream, .. } = &mut job;
            let graph =
                stream.capture(&mut |stream| io.enqueue(backend.as_mut(), stream, (segments, binding)))?;
            job.graph = Some(graph);
        }
        Ok(job)
    }

    fn calls(&mut self) -> Result<(), BackendError> {
        let Self { backend, io, stream, segments, binding, .. } = self;
        io.enqueue(backend.as_mut(), stream.as_mut(), (*segments, *binding))
    }

    /// Brings the inputs of job `number`, has it done, and returns when its end was seen.
    ///
    /// # Errors
    /// What device or backend refuse; [`ExperimentError::Hung`] if the end does not come.
    pub fn run(&mut self, number: u64, way: Way, clock: &HostClock) -> Result<Time, ExperimentError> {
        let fed = self.io.inputs.iter().flatten();
        fed.zip(self.feed.sample(number)).for_each(|(slice, bytes)| slice.write(bytes));
        match (way, &self.graph) {
            (Way::Best, Some(graph)) => self.stream.replay(graph.as_ref())?,
            _ => self.calls()?,
        }
        if way == Way::Calls {
            self.stream.synchronize()?;
            return Ok(clock.now());
        }
        self.sequence = self.sequence.next();
        self.stream.signal(self.sequence)?;
        let (flag, begun) = (self.stream.flag(), clock.now());
        while flag.load() != self.sequence {
            if clock.now().since(begun) > HANG {
                let (what, seconds) = ("a job of the bare loop".to_owned(), HANG.get() / 1_000_000_000);
                return Err(ExperimentError::Hung { what, seconds });
            }
        }
        Ok(clock.now())
    }

    /// What the job that ran last answered.
    pub fn outputs(&self) -> Vec<Vec<u8>> {
        let read = |slice: &Rc<DeviceSlice>| {
            let mut bytes = vec![0; usize::try_from(slice.len().get()).unwrap_or(0)];
            slice.read(&mut bytes);
            bytes
        };
        self.io.outputs.iter().map(read).collect()
    }

    /// Whether it is replayed.
    pub const fn is_captured(&self) -> bool {
        self.graph.is_some()
    }

    /// What the backend says of how the model was loaded.
    pub fn remarks(&self) -> Vec<String> {
        self.backend.remarks()
    }
}

impl Bare {
    /// Loads a model on the one lane of a whole device.
    ///
    /// # Errors
    /// As [`Job::load`].
    pub fn on_whole_device(gpu: &Gpu, model: &Model) -> Result<Self, ExperimentError> {
        let opened = gpu.open()?;
        let device = opened.device();
        device.partition(&[PartitionRequest { name: "all".into(), units: Units::Count(gpu.sms) }])?;
        let job = Job::load(device.as_ref(), (PartitionId::new(0), LaneId::new(0)), model, true)?;
        Ok(Self { job, number: 0, device: opened })
    }

    /// Whether jobs are replayed.
    pub const fn is_captured(&self) -> bool {
        self.job.is_captured()
    }

    /// What the backend says of how the model was loaded.
    pub fn remarks(&self) -> Vec<String> {
        self.job.remarks()
    }

    /// What a job takes that nothing delays, but for one in fifty.
    ///
    /// # Errors
    /// As [`Job::run`].
    pub fn job(&mut self) -> Result<Nanos, ExperimentError> {
        let mut tried = self.run(Way::Best, TRIED)?;
        tried.sort_unstable();
        Ok(tried[TRIED * 98 / 100])
    }

    /// Runs some jobs by the model's calls, one after the other, without the first.
    ///
    /// # Errors
    /// As [`Job::run`].
    pub fn calls(&mut self) -> Result<Spread, ExperimentError> {
        let mut spread = Spread::new();
        self.run(Way::Calls, CALLED)?.into_iter().skip(TRIED).for_each(|took| spread.add(took));
        Ok(spread)
    }

    fn run(&mut self, way: Way, count: usize) -> Result<Vec<Nanos>, ExperimentError> {
        let clock = HostClock::start();
        let mut took = Vec::with_capacity(count);
        for _ in 0..count {
            let begun = clock.now();
            let ended = self.job.run(self.number, way, &clock)?;
            self.number += 1;
            took.push(ended.since(begun));
        }
        Ok(took)
    }

    /// Runs jobs at their best between those of a run, `pause` apart as they are; `job` is what one takes. Counted is from when a job was due to when its end was seen.
    ///
    /// # Errors
    /// As [`Job::run`].
    pub fn measure_between(
        &mut self,
        beat: Beat<'_>,
        pause: Nanos,
        job: Nanos,
    ) -> Result<Spread, ExperimentError> {
        let clock = HostClock::start();
        let mut spread = Spread::new();
        for (number, due) in (0..).zip(beat.dues(&clock, pause, job)) {
            while clock.now() < due {
                std::hint::spin_loop();
            }
            let ended = self.job.run(self.number, Way::Best, &clock)?;
            self.number += 1;
            if number >= WARM_UP {
                spread.add(ended.since(due));
            }
        }
        Ok(spread)
    }

    /// Gives the device up.
    ///
    /// # Errors
    /// As [`Opened::close`].
    pub fn close(self) -> Result<(), ExperimentError> {
        let Self { job, device, .. } = self;
        drop(job);
        device.close()
    }
}

/// A distance of jobs that leaves room for one of the loop between two of the runtime, and more: a multiple of [`GAP`], at
/// least three times what a job takes.
pub fn pause_for(job: Nanos) -> Nanos {
    let thrice = job.get().saturating_mul(3);
    Nanos::new(GAP.get() * thrice.div_ceil(GAP.get()).max(1))
}

/// Nothing where two answers are equal bit for bit, else their largest [`difference`]; infinite where one has no number.
pub fn distance(specs: &[TensorSpec], one: &[Vec<u8>], other: &[Vec<u8>]) -> Option<f64> {
    let outputs = specs.iter().zip(one.iter().zip(other)).filter(|(_, (one, other))| one != other);
    let far = outputs.map(|(spec, (one, other))| difference::of_one(spec.element, other, one));
    far.map(|far| if far.is_nan() { f64::INFINITY } else { far }).reduce(f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aegis_cuda::ElementType;

    #[test]
    fn pauses_leave_room_and_share_no_divisor_with_a_millisecond() {
        assert_eq!(pause_for(Nanos::from_micros(12)), GAP);
        let long = pause_for(Nanos::from_micros(1_750));
        assert!(
            long >= Nanos::from_micros(5_250)
                && long.get().is_multiple_of(GAP.get())
                && !long.get().is_multiple_of(1_000)
        );
    }

    #[test]
    fn answers_are_compared_by_bits_first_and_numbers_then() {
        let spec = |element| TensorSpec { name: "y".into(), element, shape: vec![2], bytes: Bytes::new(8) };
        let bytes =
            |numbers: [f32; 2]| vec![numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>()];
        let (one, near, wrong) = (bytes([1.0, -4.0]), bytes([1.0, -4.000_004]), bytes([f32::NAN, 0.0]));
        let real = [spec(ElementType::F32)];
        assert_eq!(distance(&real, &one, &one), None);
        assert!(distance(&real, &near, &one).is_some_and(|far| far > 0.0 && far < 2e-6));
        assert_eq!(distance(&real, &wrong, &one), Some(f64::INFINITY));
        assert_eq!(distance(&[spec(ElementType::I32)], &near, &one), Some(1.0));
    }
}
