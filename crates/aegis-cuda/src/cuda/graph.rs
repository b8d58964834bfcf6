//! Graphs: what was recorded on a stream, instantiated and uploaded at load time, replayed as a whole.

use std::any::Any;
use std::sync::Arc;

use aegis_types::PartitionId;
use cudarc::driver::sys;

use super::chain::{Edge, order};
use super::driver::{Driver, Token};
use super::retire::Handle;
use super::stream::CudaStream;
use crate::error::DeviceError;
use crate::stream::{Graph, Stream};

/// A graph of one stream. Its operations come one after the other: parallel branches, which vendor libraries record
/// where they fork streams of their own, would occupy hardware queues that nobody counted, and share the lane's
/// multiprocessors in an order that no two replays have in common.
pub struct CudaGraph {
    driver: Arc<Driver>,
    partition: PartitionId,
    stream: u64,
    /// None if nothing was recorded.
    exec: Option<Token<sys::CUgraphExec_st>>,
    operations: usize,
    /// Regions and modules that its operations use.
    _kept: Vec<Box<dyn Any>>,
}

impl CudaGraph {
    /// Makes a recorded graph ready, and enqueues its upload.
    pub(super) fn instantiate(
        stream: &CudaStream,
        template: &Template,
        kept: Vec<Box<dyn Any>>,
    ) -> Result<Self, DeviceError> {
        let driver = Arc::clone(stream.driver());
        let operations = template.straighten()?;
        let mut made = Self {
            partition: stream.partition(),
            stream: stream.number(),
            exec: None,
            operations,
            _kept: kept,
            driver,
        };
        if operations == 0 {
            return Ok(made);
        }
        stream.enter()?;
        let api = &made.driver.api;
        let mut exec = std::ptr::null_mut();
        // SAFETY: `cuGraphInstantiateWithFlags` wants a place for the executable graph and a live graph: the template's.
        let code = unsafe { (api.graph_instantiate)(&raw mut exec, template.raw.0, 0) };
        made.driver.check(code, "cuGraphInstantiateWithFlags")?;
        made.exec = Some(Token(exec));
        // SAFETY: `cuGraphUpload` wants a live executable graph, just made, and a live stream.
        let code = unsafe { (api.graph_upload)(exec, stream.handle().0) };
        made.driver.check(code, "cuGraphUpload")?;
        Ok(made)
    }

    /// Whether this stream recorded it.
    pub(super) fn belongs_to(&self, stream: &CudaStream) -> bool {
        Arc::ptr_eq(&self.driver, stream.driver()) && self.stream == stream.number()
    }

    /// The driver's handle; none if it holds nothing.
    pub(super) const fn exec(&self) -> Option<Token<sys::CUgraphExec_st>> {
        self.exec
    }
}

impl Graph for CudaGraph {
    fn operations(&self) -> usize {
        self.operations
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for CudaGraph {
    fn drop(&mut self) {
        if let Some(exec) = self.exec {
            self.driver.retire(Some(self.partition), Handle::Graph(exec));
        }
    }
}

/// What a capture recorded; thrown away once it is instantiated, which touches host memory only.
pub(super) struct Template {
    driver: Arc<Driver>,
    raw: Token<sys::CUgraph_st>,
}

/// A dependence between two operations.
struct RecordedEdge {
    from: sys::CUgraphNode,
    to: sys::CUgraphNode,
    kind: sys::CUgraphEdgeData,
}

impl Template {
    /// Takes over what a capture gave; null if it was broken.
    pub(super) fn own(driver: &Arc<Driver>, raw: sys::CUgraph) -> Self {
        Self { driver: Arc::clone(driver), raw: Token(raw) }
    }

    /// Makes one chain of what was recorded, in an order that every recorded dependence allows, and returns how many
    /// operations it has.
    ///
    /// # Errors
    /// The driver's refusal.
    fn straighten(&self) -> Result<usize, DeviceError> {
        let nodes = self.nodes()?;
        let recorded = self.recorded()?;
        let number = |node: sys::CUgraphNode| nodes.iter().position(|known| *known == node);
        let edges: Option<Vec<Edge>> =
            recorded.iter().map(|edge| Some((number(edge.from)?, number(edge.to)?))).collect();
        let Some(chain) = edges.as_ref().and_then(|edges| order(nodes.len(), edges)) else {
            return Err(DeviceError::Unsupported { what: "a captured graph without an order" });
        };
        let next = |edge: &Edge| chain.windows(2).any(|pair| (pair[0], pair[1]) == *edge);
        let edges = edges.unwrap_or_default();
        if edges.len() + 1 == nodes.len().max(1) && edges.iter().all(next) {
            return Ok(nodes.len());
        }
        for (_, superfluous) in edges.iter().zip(&recorded).filter(|(edge, _)| !next(edge)) {
            // A graph with allocations of its own may lose no dependence; one too many changes no order.
            let _refused = self.part(superfluous);
        }
        for pair in chain.windows(2).filter(|pair| !edges.contains(&(pair[0], pair[1]))) {
            self.join(nodes[pair[0]], nodes[pair[1]])?;
        }
        Ok(nodes.len())
    }

    fn nodes(&self) -> Result<Vec<sys::CUgraphNode>, DeviceError> {
        let (api, mut count) = (&self.driver.api, 0_usize);
        // SAFETY: `cuGraphGetNodes` wants a live graph and a place for the number; no room for nodes asks for it only.
        let code = unsafe { (api.graph_nodes)(self.raw.0, std::ptr::null_mut(), &raw mut count) };
        self.driver.check(code, "cuGraphGetNodes")?;
        let mut nodes = vec![std::ptr::null_mut(); count];
        if count > 0 {
            // SAFETY: as above, with room for as many nodes as there are.
            let code = unsafe { (api.graph_nodes)(self.raw.0, nodes.as_mut_ptr(), &raw mut count) };
            self.driver.check(code, "cuGraphGetNodes")?;
        }
        Ok(nodes)
    }

    fn recorded(&self) -> Result<Vec<RecordedEdge>, DeviceError> {
        let (mut count, none) = (0_usize, std::ptr::null_mut());
        // SAFETY: `edges` wants room for as many edges as it is told, or no room at all.
        unsafe { self.edges(none, none, none.cast(), &mut count) }?;
        let (mut from, mut to) = (vec![std::ptr::null_mut(); count], vec![std::ptr::null_mut(); count]);
        let plain = sys::CUgraphEdgeData { from_port: 0, to_port: 0, type_: 0, reserved: [0; 5] };
        let mut kinds = vec![plain; count];
        if count > 0 {
            // SAFETY: as above, and there is room for as many as there are.
            unsafe { self.edges(from.as_mut_ptr(), to.as_mut_ptr(), kinds.as_mut_ptr(), &mut count) }?;
        }
        let ends = from.into_iter().zip(to).zip(kinds);
        Ok(ends.map(|((from, to), kind)| RecordedEdge { from, to, kind }).collect())
    }

    /// Takes a dependence away.
    fn part(&self, edge: &RecordedEdge) -> Result<(), DeviceError> {
        let RecordedEdge { from, to, kind } = edge;
        let code = match &self.driver.edges {
            // SAFETY: `cuGraphRemoveDependencies_v2` wants a live graph and one edge of it, with its data.
            Some(api) => unsafe { (api.graph_part)(self.raw.0, from, to, kind, 1) },
            // SAFETY: `cuGraphRemoveDependencies` wants a live graph and one edge of it.
            None => unsafe { (self.driver.api.graph_part)(self.raw.0, from, to, 1) },
        };
        self.driver.check(code, "cuGraphRemoveDependencies")
    }

    /// Makes `to` wait for `from`.
    fn join(&self, from: sys::CUgraphNode, to: sys::CUgraphNode) -> Result<(), DeviceError> {
        // SAFETY: `cuGraphAddDependencies` wants a live graph, and two nodes of it that are not joined so yet.
        let code = unsafe { (self.driver.api.graph_join)(self.raw.0, &raw const from, &raw const to, 1) };
        self.driver.check(code, "cuGraphAddDependencies")
    }

    /// The graph's edges. Kernels of vendor libraries may begin before the one before them ends and wait for it on the
    /// device; such an edge has data, and only the newer query names it. What it orders is the chain all the same.
    ///
    /// # Safety
    /// There is room for `count` edges in each place, or the places are null.
    unsafe fn edges(
        &self,
        from: *mut sys::CUgraphNode,
        to: *mut sys::CUgraphNode,
        kinds: *mut sys::CUgraphEdgeData,
        count: &mut usize,
    ) -> Result<(), DeviceError> {
        let code = match &self.driver.edges {
            // SAFETY: `cuGraphGetEdges_v2` wants a live graph and room for as many edges as it is told, or none: the
            //  caller's promise.
            Some(api) => unsafe { (api.graph_edges)(self.raw.0, from, to, kinds, count) },
            // SAFETY: `cuGraphGetEdges` wants the same.
            None => unsafe { (self.driver.api.graph_edges)(self.raw.0, from, to, count) },
        };
        self.driver.check(code, "cuGraphGetEdges")
    }
}

impl Drop for Template {
    fn drop(&mut self) {
        if !self.raw.0.is_null() {
            // SAFETY: `cuGraphDestroy` wants a live graph: owned since the capture ended, destroyed here only. A
            //  refusal leaves host memory behind, no more.
            let _code = unsafe { (self.driver.api.graph_destroy)(self.raw.0) };
        }
    }
}
