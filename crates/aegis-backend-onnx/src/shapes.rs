//! Fixes the axes of inputs and outputs: a job's time and memory are bounded for one shape, not for a family.

use std::collections::BTreeMap;

use aegis_cuda::{BackendError, ElementType, ModelRequest, TensorSpec};
use aegis_types::Bytes;

use crate::elements;
use crate::proto::{Dimension, ValueInfo};

/// Lengths of the axes that the model names, as the request fixes them.
pub(crate) type NamedAxes = BTreeMap<String, u64>;

/// An output as far as the file tells: `None` for an axis that only a run can tell.
pub(crate) struct OpenOutput {
    /// The model's name for it.
    pub name: String,
    /// Type of the elements.
    pub element: ElementType,
    /// Length of each axis; `None` where the file leaves even their number open.
    pub shape: Option<Vec<Option<u64>>>,
}

impl OpenOutput {
    /// The output, if the file fixes all of it.
    pub fn closed(&self) -> Option<Vec<u64>> {
        self.shape.as_ref()?.iter().copied().collect()
    }
}

/// One axis of the model.
enum Axis<'a> {
    Fixed(u64),
    Named(&'a str),
    Open,
}

impl<'a> Axis<'a> {
    /// Exporters write 0, -1 and `?` where they mean "any length"; two axes called `?` need not be equal.
    fn of(dimension: &'a Dimension) -> Self {
        match (dimension.value, dimension.param.as_deref()) {
            (Some(value), _) => match u64::try_from(value) {
                Ok(length) if length > 0 => Self::Fixed(length),
                _ => Self::Open,
            },
            (None, Some(name)) if !matches!(name, "" | "?") => Self::Named(name),
            _ => Self::Open,
        }
    }

    fn label(&self) -> String {
        match self {
            Self::Fixed(length) => length.to_string(),
            Self::Named(name) => (*name).to_owned(),
            Self::Open => "?".to_owned(),
        }
    }
}

/// The element type and, if the file tells, the axes of an input or output.
fn tensor_type<'a>(
    model: &str,
    value: &'a ValueInfo,
) -> Result<(ElementType, Option<Vec<Axis<'a>>>), BackendError> {
    let tensor = value.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref()).ok_or_else(|| {
        BackendError::InvalidModel {
            model: model.to_owned(),
            reason: format!("`{}` is not a dense tensor; nothing else can be bound to memory", value.name),
        }
    })?;
    let element = elements::from_code(model, &value.name, tensor.elem_type)?;
    Ok((element, tensor.shape.as_ref().map(|shape| shape.dim.iter().map(Axis::of).collect())))
}

/// Fixes every axis of the inputs by the request and collects what that says about named axes.
///
/// # Errors
/// [`BackendError::Shape`] naming the input, the axis and what would be legal.
pub(crate) fn fix_inputs(
    request: &ModelRequest<'_>,
    inputs: &[&ValueInfo],
) -> Result<(Vec<TensorSpec>, NamedAxes), BackendError> {
    if let Some(unknown) = request.shapes.keys().find(|name| inputs.iter().all(|input| input.name != **name))
    {
        let known: Vec<String> = inputs.iter().map(|input| format!("`{}`", input.name)).collect();
        let reason = format!("the model has no such input; its inputs are {}", known.join(", "));
        return Err(refusal(request, unknown, reason));
    }
    let mut named = NamedAxes::new();
    let specs = inputs.iter().map(|input| fix_input(request, input, &mut named)).collect::<Result<_, _>>()?;
    Ok((specs, named))
}

fn fix_input(
    request: &ModelRequest<'_>,
    input: &ValueInfo,
    named: &mut NamedAxes,
) -> Result<TensorSpec, BackendError> {
    let (element, axes) = tensor_type(request.name, input)?;
    let asked = request.shapes.get(&input.name);
    let shape = match (axes, asked) {
        (None, Some(asked)) => asked.clone(),
        (None, None) => {
            let reason =
                "the model leaves its number of axes open; `shapes` must give its whole shape".to_owned();
            return Err(refusal(request, &input.name, reason));
        }
        (Some(axes), asked) => fix_axes(request, &input.name, &axes, asked, named)?,
    };
    if let Some(axis) = shape.iter().position(|&length| length == 0) {
        let reason = format!("axis {axis} has length 0; legal is 1 or more");
        return Err(refusal(request, &input.name, reason));
    }
    spec(request, &input.name, element, shape)
}

fn fix_axes(
    request: &ModelRequest<'_>,
    input: &str,
    axes: &[Axis<'_>],
    asked: Option<&Vec<u64>>,
    named: &mut NamedAxes,
) -> Result<Vec<u64>, BackendError> {
    let labels: Vec<String> = axes.iter().map(Axis::label).collect();
    let declared = labels.join(", ");
    if let Some(asked) = asked.filter(|asked| asked.len() != axes.len()) {
        let reason =
            format!("`shapes` gives {} axes, the model has {}: [{declared}]", asked.len(), axes.len());
        return Err(refusal(request, input, reason));
    }
    let mut shape = Vec::with_capacity(axes.len());
    for (position, axis) in axes.iter().enumerate() {
        let asked = asked.map(|asked| asked[position]);
        let length = match (axis, asked) {
            (Axis::Fixed(length), None) => Ok(*length),
            (Axis::Fixed(length), Some(asked)) if asked == *length => Ok(asked),
            (Axis::Fixed(length), Some(asked)) => Err(format!(
                "axis {position} is {asked} in `shapes` but {length} in the model; legal is {length}"
            )),
            (Axis::Named(_) | Axis::Open, None) => Err(format!(
                "axis {position} (`{}`) is not fixed; `shapes` must give one of the form [{declared}]",
                axis.label()
            )),
            (Axis::Named(name), Some(asked)) => match named.insert((*name).to_owned(), asked) {
                Some(earlier) if earlier != asked => Err(format!(
                    "axis {position} (`{name}`) is {asked}, but `{name}` is {earlier} elsewhere; legal is {earlier}"
                )),
                _ => Ok(asked),
            },
            (Axis::Open, Some(asked)) => Ok(asked),
        };
        shape.push(length.map_err(|reason| refusal(request, input, reason))?);
    }
    Ok(shape)
}

/// An output with the named axes filled in.
///
/// # Errors
/// [`BackendError::InvalidModel`] if it is no dense tensor of a legal element type.
pub(crate) fn open_output(
    model: &str,
    output: &ValueInfo,
    named: &NamedAxes,
) -> Result<OpenOutput, BackendError> {
    let (element, axes) = tensor_type(model, output)?;
    let length = |axis: &Axis<'_>| match axis {
        Axis::Fixed(length) => Some(*length),
        Axis::Named(name) => named.get(*name).copied(),
        Axis::Open => None,
    };
    let shape = axes.map(|axes| axes.iter().map(length).collect());
    Ok(OpenOutput { name: output.name.clone(), element, shape })
}

/// An output with its size. One without elements has nothing to take, and is mostly one whose length depends on the data:
/// a run to learn it has found nothing.
///
/// # Errors
/// [`BackendError::InvalidModel`] if it has no elements, and as [`spec`].
pub(crate) fn output(
    request: &ModelRequest<'_>,
    name: &str,
    element: ElementType,
    shape: Vec<u64>,
) -> Result<TensorSpec, BackendError> {
    match shape.iter().position(|&length| length == 0) {
        None => spec(request, name, element, shape),
        Some(axis) => {
            let reason = format!(
                "output `{name}`: axis {axis} has length 0, or a length that depends on the data; legal is 1 or more, the \
                 same in every run"
            );
            Err(BackendError::InvalidModel { model: request.name.to_owned(), reason })
        }
    }
}

/// A tensor with its size.
///
/// # Errors
/// [`BackendError::Shape`] if the size in bytes does not fit the vendor library's signed 64 bits.
pub(crate) fn spec(
    request: &ModelRequest<'_>,
    name: &str,
    element: ElementType,
    shape: Vec<u64>,
) -> Result<TensorSpec, BackendError> {
    let bytes = shape
        .iter()
        .try_fold(element.size().get(), |size, &length| size.checked_mul(length))
        .filter(|&bytes| i64::try_from(bytes).is_ok());
    match bytes {
        Some(bytes) => Ok(TensorSpec { name: name.to_owned(), element, shape, bytes: Bytes::new(bytes) }),
        None => Err(refusal(request, name, format!("shape {shape:?} has more bytes than can be addressed"))),
    }
}

fn refusal(request: &ModelRequest<'_>, tensor: &str, reason: String) -> BackendError {
    BackendError::Shape { model: request.name.to_owned(), tensor: tensor.to_owned(), reason }
}
