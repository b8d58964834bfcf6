//! Segments that were captured at load time, by the slot whose buffers they use.

use aegis_cuda::Graph;
use aegis_types::SegmentIndex;

/// One graph for each slot and each segment that can be captured.
#[derive(Default)]
pub(crate) struct Graphs {
    segments: usize,
    /// Slot after slot, segment after segment; empty where nothing was captured.
    graphs: Vec<Option<Box<dyn Graph>>>,
}

impl Graphs {
    pub(crate) fn new(slots: usize, segments: usize) -> Self {
        Self { segments, graphs: (0..slots * segments).map(|_| None).collect() }
    }

    pub(crate) fn put(&mut self, slot: usize, segment: SegmentIndex, graph: Box<dyn Graph>) {
        let place = slot * self.segments + segment.index();
        if let Some(place) = self.graphs.get_mut(place) {
            *place = Some(graph);
        }
    }

    /// The graph of a segment that was captured with the buffers of a slot.
    pub(crate) fn get(&self, slot: usize, segment: SegmentIndex) -> Option<&dyn Graph> {
        self.graphs.get(slot * self.segments + segment.index())?.as_deref()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.graphs.iter().flatten().count()
    }
}
