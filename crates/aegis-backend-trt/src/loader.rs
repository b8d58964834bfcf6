//! The loader: describes plans and loads them on lanes.

use std::fmt;
use std::sync::Arc;

use aegis_cuda::{
    BackendError, BackendLoader, Device, DeviceError, ModelDescription, ModelMemory, ModelRequest,
    RuntimeBackend, Stream,
};
use aegis_types::{LaneId, PartitionId};

use crate::library::TensorRt;
use crate::machine::{Gpu, Machine};
use crate::model::TensorRtModel;
use crate::plan::{self, Plan};
use crate::supply::Supply;

/// Makes models of plans. Shared between threads; each model belongs to the thread that loaded it.
#[derive(Clone)]
pub struct TensorRtLoader {
    library: TensorRt,
    machine: Arc<dyn Machine>,
}

impl TensorRtLoader {
    /// A loader on a library that the composition root loaded. Plans are inspected on the GPU of number `ordinal`,
    /// which is the one that they are to run on: a plan is made for one kind of GPU.
    pub fn new(library: TensorRt, ordinal: u32) -> Self {
        Self::on(library, Arc::new(Gpu { ordinal }))
    }

    pub(crate) fn on(library: TensorRt, machine: Arc<dyn Machine>) -> Self {
        Self { library, machine }
    }

    /// Reads a plan with the stream in the library's form.
    fn open(
        &self,
        request: &ModelRequest<'_>,
        stream: &mut dyn Stream,
        supply: Supply,
    ) -> Result<Plan, BackendError> {
        let mut supply = Some(supply);
        let mut opened = Err(DeviceError::Unsupported { what: "a plan of TensorRT" }.into());
        // A stream of another device leaves the refusal standing, before any call to the library.
        let _lent = self.machine.with_stream(stream, &mut |raw| {
            if let Some(supply) = supply.take() {
                opened = plan::open(&self.library, request, supply, raw);
            }
        });
        opened
    }

    fn look_into(
        &self,
        request: &ModelRequest<'_>,
        device: &Arc<dyn Device>,
    ) -> Result<ModelDescription, BackendError> {
        let mut stream = device.bind_lane(PartitionId::new(0), LaneId::new(0))?;
        let supply = Supply::bare(Arc::clone(&self.machine), Arc::clone(device));
        let plan = self.open(request, &mut *stream, supply)?;
        stream.synchronize()?;
        Ok(plan.description.clone())
    }
}

impl BackendLoader for TensorRtLoader {
    fn name(&self) -> &'static str {
        crate::NAME
    }

    /// Describes a plan. Only the library can read one, and only on the GPU that it was made for: the plan is loaded
    /// for the time of the call, outside of any budget, in a context of its own.
    fn inspect(&self, request: &ModelRequest<'_>) -> Result<ModelDescription, BackendError> {
        let mut described = None;
        self.machine.visit(&mut |device| {
            described = Some(self.look_into(request, device)?);
            Ok(())
        })?;
        described.ok_or_else(|| DeviceError::Unsupported { what: "a look into a plan" }.into())
    }

    fn load(
        &self,
        request: &ModelRequest<'_>,
        stream: &mut dyn Stream,
        memory: ModelMemory,
    ) -> Result<Box<dyn RuntimeBackend>, BackendError> {
        let supply = Supply::granted(Arc::clone(&self.machine), memory);
        let plan = self.open(request, stream, supply)?;
        Ok(Box::new(TensorRtModel::load(plan, Arc::clone(&self.machine), stream)?))
    }
}

impl fmt::Debug for TensorRtLoader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TensorRtLoader").field("library", &self.library).finish_non_exhaustive()
    }
}
