//! Types and shapes of tensors inside a model, as the library finds them when it runs the whole once.
//!
//! A file need not say what its inner tensors are, and where axes are open only a run can tell. So the model is opened
//! with the tensors in question as further outputs, which a file may list by name alone, and run on given inputs.

use std::collections::BTreeMap;

use aegis_cuda::{BackendError, ElementType, ModelRequest, TensorSpec};
use ort::value::{Outlet, ValueType};
use prost::Message;

use super::anatomy::invalid;
use crate::elements;
use crate::inspect::Inspected;
use crate::library::OnnxRuntime;
use crate::loader;
use crate::proto::ValueInfo;
use crate::reference::Reference;
use crate::session::{self, ModelFile, Tensors};
use crate::shapes;
use crate::wire;

/// Field numbers of the file format.
const GRAPH: u32 = 7;
const OUTPUT: u32 = 12;

/// Makes the bytes of an input.
pub(super) type Fill = fn(&TensorSpec) -> Vec<u8>;

/// What the tensors are that `names` lists, outputs of the model among them. Left out are those that are no dense
/// tensors of a legal element type, and those whose shape is not the same for the inputs of `more` as for zeros.
///
/// # Errors
/// What the library refuses. That it cannot run on the inputs of `more` is no error: they may be illegal.
pub(super) fn learn(
    runtime: &OnnxRuntime,
    request: &ModelRequest<'_>,
    inspected: &Inspected,
    names: &[String],
    more: Option<Fill>,
) -> Result<BTreeMap<String, TensorSpec>, BackendError> {
    let known = |name: &&String| inspected.outputs.iter().all(|output| output.name != **name);
    let widened = widen(request, &names.iter().filter(known).collect::<Vec<_>>())?;
    let session = session::open(runtime, ModelFile::Brought(&widened), &inspected.named, Tensors::Plain)
        .map_err(|message| session::load_error(request.name, &inspected.nodes, &message))?;
    let typed = |outlet: &Outlet| {
        let ValueType::Tensor { ty, .. } = outlet.dtype() else { return None };
        let code = ort::sys::ONNXTensorElementDataType::from(*ty) as i32;
        let element = elements::from_code(request.name, outlet.name(), code).ok()?;
        names.iter().any(|name| name == outlet.name()).then(|| (outlet.name().to_owned(), element))
    };
    let outputs: Vec<(String, ElementType)> = session.outputs().iter().filter_map(typed).collect();
    let mut plain = Reference::around(runtime, request.name, session, &inspected.inputs, &outputs)?;
    let found = loader::run_on(&mut plain, &inspected.inputs, loader::zeros)?;
    let again = more.and_then(|fill| loader::run_on(&mut plain, &inspected.inputs, fill).ok());
    let again = again.unwrap_or_else(|| found.clone());
    let mut specs = BTreeMap::new();
    for ((name, element), (shape, again)) in outputs.into_iter().zip(found.into_iter().zip(again)) {
        if shape == again {
            let spec = shapes::spec(request, &name, element, shape)?;
            specs.insert(name, spec);
        }
    }
    Ok(specs)
}

/// The model with further outputs, listed by name.
fn widen(request: &ModelRequest<'_>, names: &[&String]) -> Result<Vec<u8>, BackendError> {
    let broken = || invalid(request.name, "the file is cut or is no ONNX model".to_owned());
    let mut widened = Vec::with_capacity(request.artifact.len());
    for field in wire::fields(request.artifact).ok_or_else(broken)? {
        if field.number != GRAPH {
            widened.extend_from_slice(field.whole);
            continue;
        }
        let mut graph = field.payload.to_vec();
        for name in names {
            let output = ValueInfo { name: (*name).clone(), r#type: None };
            wire::put(&mut graph, OUTPUT, &output.encode_to_vec());
        }
        wire::put(&mut widened, GRAPH, &graph);
    }
    Ok(widened)
}

/// An input of nothing but ones.
pub(super) fn ones(spec: &TensorSpec) -> Vec<u8> {
    let one: &[u8] = match spec.element {
        ElementType::F16 => &[0x00, 0x3C],
        ElementType::Bf16 => &[0x80, 0x3F],
        ElementType::F32 => &[0, 0, 0x80, 0x3F],
        ElementType::F64 => &[0, 0, 0, 0, 0, 0, 0xF0, 0x3F],
        ElementType::I8 | ElementType::U8 | ElementType::Bool => &[1],
        ElementType::I16 | ElementType::U16 => &[1, 0],
        ElementType::I32 | ElementType::U32 => &[1, 0, 0, 0],
        ElementType::I64 | ElementType::U64 => &[1, 0, 0, 0, 0, 0, 0, 0],
    };
    one.repeat(loader::zeros(spec).len() / one.len())
}

/// Whether tensors of this type may be handed from piece to piece. Wider integers and booleans are shapes, indices and
/// masks: a piece that gets them as an input knows less of its shapes than the whole did, wants them in host memory
/// whatever the device is, and may refuse to run on the zeros that a model is warmed up with.
pub(super) const fn may_cross(element: ElementType) -> bool {
    match element {
        ElementType::F16
        | ElementType::Bf16
        | ElementType::F32
        | ElementType::F64
        | ElementType::I8
        | ElementType::U8 => true,
        ElementType::I16
        | ElementType::I32
        | ElementType::I64
        | ElementType::U16
        | ElementType::U32
        | ElementType::U64
        | ElementType::Bool => false,
    }
}
