//! The loader: describes compiled models and loads them on lanes.

use aegis_cuda::{
    BackendError, BackendLoader, MemoryNeeds, ModelDescription, ModelMemory, ModelRequest, RuntimeBackend,
    Stream, TensorSpec,
};
use aegis_types::{Bytes, ContentHash, ExecutionGraph};

use crate::artifact::{Artifact, Target, Tensor, bytes_of};
use crate::backend::TvmModel;
use crate::charge::Charge;
use crate::device::Processor;
use crate::runtime::TvmRuntime;

/// Makes models of files that `cargo xtask models --tvm` wrote. Shared between threads; each model belongs to the
/// thread that loaded it.
#[derive(Clone, Copy, Debug)]
pub struct TvmLoader {
    runtime: TvmRuntime,
}

impl TvmLoader {
    /// A loader on the libraries that the composition root loaded.
    pub const fn new(runtime: TvmRuntime) -> Self {
        Self { runtime }
    }
}

impl BackendLoader for TvmLoader {
    fn name(&self) -> &'static str {
        "tvm"
    }

    /// Describes a model from what its file says; nothing of it is executed.
    fn inspect(&self, request: &ModelRequest<'_>) -> Result<ModelDescription, BackendError> {
        describe(request, &Artifact::read(request.name, request.artifact)?)
    }

    fn load(
        &self,
        request: &ModelRequest<'_>,
        stream: &mut dyn Stream,
        memory: ModelMemory,
    ) -> Result<Box<dyn RuntimeBackend>, BackendError> {
        let artifact = Artifact::read(request.name, request.artifact)?;
        let description = describe(request, &artifact)?;
        let hooks = self.runtime.hooks();
        let processor = Processor::of(hooks.api, &*memory.region, stream)?;
        check_target(request.name, &artifact.description.target, processor)?;
        let charge = Charge::new(hooks, memory, processor);
        stream.synchronize()?;
        Ok(Box::new(TvmModel::load(charge, description, &artifact, stream)?))
    }
}

/// A module runs on what it was compiled for, and on nothing else.
fn check_target(model: &str, target: &Target, processor: Processor) -> Result<(), BackendError> {
    let invalid = |reason| Err(BackendError::InvalidModel { model: model.to_owned(), reason });
    match (target, processor) {
        (Target::Cpu { cpu }, Processor::Host) => {
            if has(cpu) {
                return Ok(());
            }
            invalid(format!("it was compiled for processors of the kind `{cpu}`, which this one is not"))
        }
        (Target::Cuda { source: true, .. }, Processor::Gpu { .. }) => Ok(()),
        (Target::Cuda { arch, source: false }, Processor::Gpu { capability, .. }) => {
            if runs_on(arch, capability) {
                return Ok(());
            }
            let (major, minor) = capability;
            invalid(format!("its kernels were compiled for {arch}; legal for this GPU is sm_{major}{minor}"))
        }
        (Target::Cpu { .. }, Processor::Gpu { .. }) => {
            invalid("it was compiled for the host's processor, and its lane is a GPU's".to_owned())
        }
        (Target::Cuda { arch, .. }, Processor::Host) => {
            invalid(format!("it was compiled for a GPU ({arch}), and its lane is the host's"))
        }
    }
}

/// Whether this processor can do what code for `cpu` needs. Names that are not known here are refused.
fn has(cpu: &str) -> bool {
    match cpu {
        "generic" | "x86-64" => true,
        #[cfg(target_arch = "x86_64")]
        "x86-64-v3" => {
            std::arch::is_x86_feature_detected!("avx2")
                && std::arch::is_x86_feature_detected!("fma")
                && std::arch::is_x86_feature_detected!("bmi2")
                && std::arch::is_x86_feature_detected!("f16c")
        }
        _ => false,
    }
}

/// Whether machine code for `arch` runs on a GPU: same major capability, and a minor one that is not newer. Code for
/// one architecture alone (`sm_90a`) runs on that one.
fn runs_on(arch: &str, (major, minor): (u32, u32)) -> bool {
    let Some(digits) = arch.strip_prefix("sm_") else { return false };
    let exact = digits.ends_with(['a', 'f']);
    let digits = digits.trim_end_matches(['a', 'f']);
    let Some((head, tail)) = digits.len().checked_sub(1).and_then(|end| digits.split_at_checked(end)) else {
        return false;
    };
    match (head.parse::<u32>(), tail.parse::<u32>()) {
        (Ok(own), Ok(least)) => own == major && if exact { least == minor } else { least <= minor },
        _ => false,
    }
}

fn describe(request: &ModelRequest<'_>, artifact: &Artifact) -> Result<ModelDescription, BackendError> {
    let said = &artifact.description;
    check_shapes(request, &said.inputs)?;
    let specs = |tensors: &[Tensor]| -> Result<Vec<TensorSpec>, BackendError> {
        tensors.iter().map(|tensor| spec(request, tensor)).collect()
    };
    let (inputs, outputs) = (specs(&said.inputs)?, specs(&said.outputs)?);
    let sizes = |specs: &[TensorSpec]| specs.iter().map(|spec| spec.bytes).collect::<Vec<_>>();
    let graph =
        ExecutionGraph::whole_model(request.name, &sizes(&inputs), &sizes(&outputs)).map_err(|error| {
            BackendError::InvalidModel { model: request.name.to_owned(), reason: error.to_string() }
        })?;
    Ok(ModelDescription {
        name: request.name.to_owned(),
        hash: ContentHash::of(request.artifact),
        graph,
        inputs,
        outputs,
        memory: MemoryNeeds { weights: Bytes::new(artifact.weights.len() as u64), scratch: None },
        operators: said.operators.clone(),
    })
}

fn spec(request: &ModelRequest<'_>, tensor: &Tensor) -> Result<TensorSpec, BackendError> {
    let Tensor { name, element, shape } = tensor.clone();
    match bytes_of(element, &shape) {
        Some(bytes) if bytes > 0 => Ok(TensorSpec { name, element, shape, bytes: Bytes::new(bytes) }),
        _ => Err(BackendError::Shape {
            model: request.name.to_owned(),
            tensor: name,
            reason: format!("shape {shape:?} has no bytes, or more than can be addressed"),
        }),
    }
}

/// The compiler fixed every shape; the request may say the same and nothing else.
fn check_shapes(request: &ModelRequest<'_>, inputs: &[Tensor]) -> Result<(), BackendError> {
    for (name, asked) in request.shapes {
        let refused =
            |reason| BackendError::Shape { model: request.name.to_owned(), tensor: name.clone(), reason };
        let Some(input) = inputs.iter().find(|input| input.name == *name) else {
            let known: Vec<String> = inputs.iter().map(|input| format!("`{}`", input.name)).collect();
            return Err(refused(format!("the model has no such input; its inputs are {}", known.join(", "))));
        };
        if *asked != input.shape {
            let legal = &input.shape;
            return Err(refused(format!("shape {asked:?}; legal is {legal:?}, which it was compiled for")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_code_runs_on_its_major_architecture_from_its_minor_one_on() {
        for (arch, capability, legal) in [
            ("sm_90", (9, 0), true),
            ("sm_80", (8, 6), true),
            ("sm_86", (8, 0), false),
            ("sm_80", (9, 0), false),
            ("sm_90a", (9, 0), true),
            ("sm_100a", (10, 3), false),
            ("sm_100", (10, 3), true),
            ("compute_90", (9, 0), false),
            ("sm_", (9, 0), false),
            ("sm_9x", (9, 0), false),
        ] {
            assert_eq!(runs_on(arch, capability), legal, "{arch} on {capability:?}");
        }
    }
}
