//! A model that runs as several segments of one job: each piece is a model of its own, and memory between them carries
//! what crosses the cuts.

use std::rc::Rc;
use std::sync::Arc;

use aegis_cuda::{
    BackendError, BindingId, Bindings, DeviceMemory, DeviceSlice, ModelDescription, ModelMemory,
    ModelRequest, RuntimeBackend, SharedGrant, Stream, TensorSpec,
};
use aegis_types::{Bytes, Extent, MemoryClass, MemoryGrant, SegmentIndex};

use super::split::{Split, Wire};

/// Where a tensor between pieces starts: what the runtime aligns I/O to, on every device.
const ALIGN: Bytes = Bytes::new(256);

/// Loads one piece on the lane's thread.
pub(crate) type LoadPiece<'a> =
    &'a mut dyn FnMut(&ModelRequest<'_>, ModelMemory) -> Result<Box<dyn RuntimeBackend>, BackendError>;

/// A model in pieces. Fields are dropped in this order: pieces are bound to slices, slices lie in what was lent.
pub(crate) struct SegmentedModel {
    pieces: Vec<LoadedPiece>,
    bindings: Vec<Vec<BindingId>>,
    crossing: Vec<Rc<DeviceSlice>>,
    _lent: Lent,
    description: ModelDescription,
}

/// A piece and where its tensors lie.
struct LoadedPiece {
    model: Box<dyn RuntimeBackend>,
    inputs: Vec<Wire>,
    outputs: Vec<Wire>,
}

/// Memory between pieces, given back when dropped.
struct Lent {
    grant: SharedGrant,
    extents: Vec<Extent>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.extents.drain(..).for_each(|extent| self.grant.free(MemoryClass::Exchange, extent));
    }
}

impl SegmentedModel {
    /// Loads every piece with `load`, which knows the lane, and takes the memory between them.
    ///
    /// That memory is taken last: a piece may borrow buffers for its own I/O while it warms up, and gives them back.
    ///
    /// # Errors
    /// The first piece's refusal; [`BackendError::Memory`] if the budget has no room between pieces.
    pub(crate) fn load(
        request: &ModelRequest<'_>,
        split: Split,
        description: ModelDescription,
        memory: ModelMemory,
        load: LoadPiece<'_>,
    ) -> Result<Self, BackendError> {
        let grant = SharedGrant::new(memory.grant);
        let shapes = std::collections::BTreeMap::new();
        let mut pieces = Vec::with_capacity(split.parts.len());
        for part in split.parts {
            let piece = ModelRequest { artifact: &part.artifact, shapes: &shapes, ..*request };
            let lent = ModelMemory { grant: Box::new(grant.clone()), region: Arc::clone(&memory.region) };
            let model = load(&piece, lent)?;
            pieces.push(LoadedPiece { model, inputs: part.inputs, outputs: part.outputs });
        }
        let mut lent = Lent { grant, extents: Vec::with_capacity(split.crossing.len()) };
        let crossing = split
            .crossing
            .iter()
            .map(|spec| lent.slice(request.name, spec, &memory.region))
            .collect::<Result<_, _>>()?;
        Ok(Self { pieces, bindings: Vec::new(), crossing, _lent: lent, description })
    }

    fn execution(&self, reason: String) -> BackendError {
        BackendError::Execution { model: self.description.name.clone(), reason, started: true }
    }
}

impl Lent {
    fn slice(
        &mut self,
        model: &str,
        spec: &TensorSpec,
        region: &Arc<dyn DeviceMemory>,
    ) -> Result<Rc<DeviceSlice>, BackendError> {
        let lent = self.grant.allocate(MemoryClass::Exchange, spec.bytes, ALIGN);
        let extent = lent.map_err(|source| BackendError::Memory { model: model.to_owned(), source })?;
        self.extents.push(extent);
        // A grant may round up; a binding wants the tensor's own size.
        let exact = Extent { offset: extent.offset, len: spec.bytes };
        Ok(Rc::new(DeviceSlice::lend(region, exact)?))
    }
}

impl RuntimeBackend for SegmentedModel {
    fn describe(&self) -> &ModelDescription {
        &self.description
    }

    fn capturable(&self, segment: SegmentIndex) -> bool {
        let piece = self.pieces.get(segment.index());
        piece.is_some_and(|piece| piece.model.capturable(SegmentIndex::new(0)))
    }

    fn remarks(&self) -> Vec<String> {
        let pieces = self.pieces.iter().enumerate();
        let of = |(at, piece): (usize, &LoadedPiece)| {
            let said = piece.model.remarks().into_iter();
            said.map(move |remark| format!("segment {at}: {remark}")).collect::<Vec<_>>()
        };
        pieces.flat_map(of).collect()
    }

    fn outside(&self) -> Bytes {
        Bytes::new(self.pieces.iter().map(|piece| piece.model.outside().get()).sum())
    }

    /// Binds every piece. One set of memory between pieces serves all bindings, because jobs of a task run one after
    /// the other.
    fn bind(&mut self, bindings: Bindings) -> Result<BindingId, BackendError> {
        bindings.check_sizes(&self.description)?;
        bindings.check_overlap()?;
        let Bindings { inputs, outputs } = &bindings;
        let crossing = &self.crossing;
        let slice = |wire: &Wire| {
            Rc::clone(match *wire {
                Wire::Input(at) => &inputs[at],
                Wire::Output(at) => &outputs[at],
                Wire::Crossing(at) => &crossing[at],
            })
        };
        let bind = |piece: &mut LoadedPiece| {
            let inputs = piece.inputs.iter().map(slice).collect();
            let outputs = piece.outputs.iter().map(slice).collect();
            piece.model.bind(Bindings { inputs, outputs })
        };
        let bound = self.pieces.iter_mut().map(bind).collect::<Result<Vec<_>, _>>()?;
        let id = BindingId(u32::try_from(self.bindings.len()).unwrap_or(u32::MAX));
        self.bindings.push(bound);
        Ok(id)
    }

    fn enqueue(
        &mut self,
        stream: &mut dyn Stream,
        segment: SegmentIndex,
        binding: BindingId,
    ) -> Result<(), BackendError> {
        // Neither refusal below heals by being tried again, which `started` stands for.
        let count = self.pieces.len();
        let Some(bound) = self.bindings.get(binding.0 as usize) else {
            let made = self.bindings.len();
            return Err(self.execution(format!("binding {} was not made; there are {made}", binding.0)));
        };
        match (self.pieces.get_mut(segment.index()), bound.get(segment.index())) {
            (Some(piece), Some(&bound)) => piece.model.enqueue(stream, SegmentIndex::new(0), bound),
            _ => Err(self.execution(format!("{segment:?} asked for; the model has {count} segments from 0"))),
        }
    }
}
