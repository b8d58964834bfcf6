//! Creates vendor sessions: one thread, the caller's; no spinning; every axis fixed.

use std::collections::BTreeMap;
use std::path::Path;

use aegis_cuda::BackendError;
use ort::AsPointer;
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};

use crate::cuda::provider::{self, Target};
use crate::library::OnnxRuntime;
use crate::raw::{self, Reason};
use crate::shapes::NamedAxes;
use crate::words;

/// Where a session's tensors come from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tensors {
    /// Our allocator, charged to the task at work.
    Charged,
    /// The library's own arena, charged to nobody: for inspection and comparison.
    Plain,
    /// Our allocators of host and device, on a GPU.
    OnDevice(Target),
    /// The library's own arenas on a GPU, charged to nobody: for comparison.
    PlainOnDevice(Target),
}

/// A model file on its way to the library.
#[derive(Clone, Copy)]
pub(crate) enum ModelFile<'a> {
    /// As it was brought: the library optimizes it.
    Brought(&'a [u8]),
    /// As the library optimized it before, and to be run as it stands.
    Optimized(&'a [u8]),
}

/// Creates a session from a model file's bytes.
///
/// Execution is sequential on the calling thread, so that time is the lane's and allocations can be charged. The
/// memory pattern is on: after the first run the library takes its temporaries as one block of known size.
///
/// # Errors
/// The library's message.
pub(crate) fn open(
    runtime: &OnnxRuntime,
    file: ModelFile<'_>,
    named: &NamedAxes,
    tensors: Tensors,
) -> Result<Session, Reason> {
    let (artifact, optimizes) = match file {
        ModelFile::Brought(artifact) => (artifact, runtime.is_optimized()),
        ModelFile::Optimized(artifact) => (artifact, false),
    };
    let create = || -> ort::Result<Result<Session, Reason>> {
        let mut builder = builder(runtime, optimizes, named)?;
        if let Tensors::OnDevice(target) | Tensors::PlainOnDevice(target) = tensors {
            builder = builder.with_config_entry(provider::RECORD_ASSIGNMENT, "1")?;
            if let Err(reason) = provider::append(&mut builder, target) {
                return Ok(Err(reason));
            }
        }
        if matches!(tensors, Tensors::Charged | Tensors::OnDevice(_)) {
            builder = builder.with_env_allocators()?;
            // The library's arena would keep memory of one task and lend it to another behind the ledger's back.
            // SAFETY: wants live options, which the builder owns.
            let status = unsafe { (ort::api().DisableCpuMemArena)(builder.ptr_mut()) };
            if let Err(reason) = raw::check(status) {
                return Ok(Err(reason));
            }
        }
        builder.commit_from_memory(artifact).map(Ok)
    };
    create().map_err(|error| words::plain(error.message())).and_then(|session| session)
}

/// Has the library optimize a model, on its own memory, and write it to `path`.
///
/// # Errors
/// The library's message.
pub(crate) fn write_optimized(
    runtime: &OnnxRuntime,
    artifact: &[u8],
    named: &NamedAxes,
    path: &Path,
) -> Result<(), Reason> {
    let create = || -> ort::Result<()> {
        // It is not run, so nothing need be prepared for its kernels.
        let builder = builder(runtime, true, named)?.with_config_entry("session.disable_prepacking", "1")?;
        builder.with_optimized_model_path(path)?.commit_from_memory(artifact).map(drop)
    };
    create().map_err(|error| words::plain(error.message()))
}

/// What every session is made with.
fn builder(runtime: &OnnxRuntime, optimizes: bool, named: &NamedAxes) -> ort::Result<SessionBuilder> {
    let level = if optimizes { GraphOptimizationLevel::All } else { GraphOptimizationLevel::Disable };
    let mut builder = Session::builder(runtime.environment())?
        .with_optimization_level(level)?
        .with_parallel_execution(false)?
        .with_intra_threads(1)?
        // Some kernels add up in the order in which blocks happen to end, unless they are told not to.
        .with_deterministic_compute(true)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?
        .with_memory_pattern(true)?;
    for (name, &length) in named {
        builder = builder.with_dimension_override(name, i64::try_from(length).unwrap_or(i64::MAX))?;
    }
    Ok(builder)
}

/// Classes the library's refusal to create a session, naming the node where the library names only its operator.
pub(crate) fn load_error(model: &str, nodes: &BTreeMap<String, String>, message: &str) -> BackendError {
    let unregistered = operator_before(message, " is not a registered function/op");
    let after = ["No Op registered for ", "Could not find an implementation for "];
    let named = || after.iter().find_map(|marker| operator_after(message, marker));
    match unregistered.or_else(named) {
        Some(operator) => {
            let known =
                nodes.get_key_value(&operator).or_else(|| nodes.get_key_value(standard_name(&operator)));
            BackendError::UnsupportedNode {
                model: model.to_owned(),
                node: known.map_or_else(|| "(unknown)".to_owned(), |(_, node)| node.clone()),
                operator,
                reason: format!("ONNX Runtime has no such operator for these types: {message}"),
            }
        }
        None => BackendError::InvalidModel {
            model: model.to_owned(),
            reason: format!("ONNX Runtime refuses it: {message}"),
        },
    }
}

/// The word before `marker`, without the version in parentheses: `ai.onnx:Frob(-1) is not ...` gives `ai.onnx.Frob`.
fn operator_before(message: &str, marker: &str) -> Option<String> {
    let (before, _) = message.split_once(marker)?;
    operator_word(before.split_whitespace().next_back()?)
}

/// The word after `marker`, in the same form.
fn operator_after(message: &str, marker: &str) -> Option<String> {
    let (_, after) = message.split_once(marker)?;
    operator_word(after.split_whitespace().next()?)
}

fn operator_word(word: &str) -> Option<String> {
    let name = word.split('(').next().unwrap_or(word).replace(':', ".");
    (!name.is_empty()).then_some(name)
}

fn standard_name(operator: &str) -> &str {
    operator.strip_prefix("ai.onnx.").or_else(|| operator.strip_prefix('.')).unwrap_or(operator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_names_an_operator_and_we_name_the_node() {
        let nodes = BTreeMap::from([
            ("Frob".to_owned(), "block/frob".to_owned()),
            ("acme.Twist".to_owned(), "twist_1".to_owned()),
        ]);
        for (message, node) in [
            (
                "Load model failed: Fatal error: ai.onnx:Frob(-1) is not a registered function/op",
                "block/frob",
            ),
            ("Fatal error: acme:Twist(-1) is not a registered function/op", "twist_1"),
            ("In Node, ... , Error No Op registered for Frob with domain_version of 17", "block/frob"),
            (
                "NOT_IMPLEMENTED : Could not find an implementation for Frob(1) node with name 'x'",
                "block/frob",
            ),
        ] {
            match load_error("m", &nodes, message) {
                BackendError::UnsupportedNode { node: found, .. } => assert_eq!(found, node, "{message}"),
                other => panic!("{message}: {other}"),
            }
        }
        assert!(matches!(
            load_error("m", &nodes, "Protobuf parsing failed."),
            BackendError::InvalidModel { .. }
        ));
    }
}
