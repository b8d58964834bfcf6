//! Graphs: what was recorded on a stream, instantiated and uploaded at load time, replayed as a whole.

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::Arc;

use aegis_types::PartitionId;
use cudarc::driver::sys;

use super::driver::{Driver, Token};
use super::retire::Handle;
use super::stream::CudaStream;
use crate::error::DeviceError;
use crate::stream::{Graph, Stream};

/// A graph of one stream. A chain of operations: parallel branches would occupy hardware queues that nobody counted.
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
        let operations = template.operations()?;
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

impl Template {
    /// Takes over what a capture gave; null if it was broken.
    pub(super) fn own(driver: &Arc<Driver>, raw: sys::CUgraph) -> Self {
        Self { driver: Arc::clone(driver), raw: Token(raw) }
    }

    /// How many operations were recorded.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] if they are no chain.
    fn operations(&self) -> Result<usize, DeviceError> {
        let (mut nodes, mut edges) = (0_usize, 0_usize);
        let api = &self.driver.api;
        // SAFETY: `cuGraphGetNodes` wants a live graph and a place for the number; no room for nodes asks for it only.
        let code = unsafe { (api.graph_nodes)(self.raw.0, std::ptr::null_mut(), &raw mut nodes) };
        self.driver.check(code, "cuGraphGetNodes")?;
        let none = std::ptr::null_mut();
        // SAFETY: `edges` wants room for as many edges as it is told, or no room at all.
        unsafe { self.edges(none, none, none.cast(), &mut edges) }?;
        let (mut from, mut to) = (vec![std::ptr::null_mut(); edges], vec![std::ptr::null_mut(); edges]);
        let plain = sys::CUgraphEdgeData { from_port: 0, to_port: 0, type_: 0, reserved: [0; 5] };
        let mut kinds = vec![plain; edges];
        if edges > 0 {
            // SAFETY: as above, and there is room for as many as there are.
            unsafe { self.edges(from.as_mut_ptr(), to.as_mut_ptr(), kinds.as_mut_ptr(), &mut edges) }?;
        }
        if is_chain(nodes, &from, &to) {
            Ok(nodes)
        } else {
            Err(DeviceError::Unsupported { what: "a captured graph with parallel branches" })
        }
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

/// Whether an acyclic graph is one chain: one edge less than nodes, and no node is left or reached twice.
fn is_chain<N: Ord>(nodes: usize, from: &[N], to: &[N]) -> bool {
    let distinct = |ends: &[N]| ends.iter().collect::<BTreeSet<_>>().len() == ends.len();
    from.len() + 1 == nodes.max(1) && distinct(from) && distinct(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_chains_are_chains() {
        let check = |nodes, edges: &[(u32, u32)], expected| {
            let (from, to): (Vec<_>, Vec<_>) = edges.iter().copied().unzip();
            assert_eq!(is_chain(nodes, &from, &to), expected, "{nodes} nodes, {edges:?}");
        };
        check(0, &[], true);
        check(1, &[], true);
        check(3, &[(0, 1), (1, 2)], true);
        check(3, &[(1, 2), (2, 0)], true);
        check(2, &[], false);
        check(3, &[(0, 1), (0, 2)], false);
        check(3, &[(0, 2), (1, 2)], false);
        check(4, &[(0, 1), (0, 2), (1, 3), (2, 3)], false);
        check(4, &[(0, 1), (2, 3)], false);
    }
}
