//! Shapes of a plan's tensors: every axis fixed by the plan or by the fleet, inside a range that the plan was built for.

use std::fmt::Write;

use aegis_cuda::{BackendError, ElementType, ModelRequest, TensorSpec};
use aegis_types::Bytes;

use crate::vendor::Declared;

/// The least and the largest shape that a profile takes for an input.
pub(crate) type Range = (Vec<i64>, Vec<i64>);

/// The element type of the vendor's number.
///
/// # Errors
/// What the number stands for, in words.
pub(crate) fn element(number: i32) -> Result<ElementType, String> {
    Ok(match number {
        0 => ElementType::F32,
        1 => ElementType::F16,
        2 => ElementType::I8,
        3 => ElementType::I32,
        4 => ElementType::Bool,
        5 => ElementType::U8,
        7 => ElementType::Bf16,
        8 => ElementType::I64,
        6 => return Err("its elements are floats of 8 bits".to_owned()),
        9 => return Err("its elements are integers of 4 bits".to_owned()),
        10 => return Err("its elements are floats of 4 bits".to_owned()),
        11 => return Err("its elements are exponents of 8 bits".to_owned()),
        other => return Err(format!("its elements are of type {other}, which this backend does not know")),
    })
}

/// The shape of an input: the plan's, its open axes as the fleet fixes them.
///
/// # Errors
/// [`BackendError::Shape`] that says what would be legal.
pub(crate) fn input(request: &ModelRequest<'_>, name: &str, axes: &[i64]) -> Result<Vec<u64>, BackendError> {
    let asked = request.shapes.get(name);
    if let Some(asked) = asked.filter(|asked| asked.len() != axes.len()) {
        let reason = format!(
            "{} axes in the fleet, the plan has {}: {}; legal is a shape of this form",
            asked.len(),
            axes.len(),
            spelled(axes)
        );
        return Err(refusal(request, name, reason));
    }
    let fixed = axes.iter().enumerate().map(|(position, &axis)| {
        let asked = asked.map(|asked| asked[position]);
        match (u64::try_from(axis), asked) {
            (Ok(length), None) => Ok(length),
            (Ok(length), Some(asked)) if asked == length => Ok(length),
            (Ok(length), Some(asked)) => Err(format!(
                "axis {position} is {asked} in `shapes` but {length} in the plan; legal is {length}"
            )),
            (Err(_), Some(asked)) => Ok(asked),
            (Err(_), None) => Err(format!(
                "axis {position} is not fixed; `shapes` must give one of the form {}",
                spelled(axes)
            )),
        }
    });
    fixed.collect::<Result<_, _>>().map_err(|reason| refusal(request, name, reason))
}

/// An input that the fleet gives a shape for and the plan does not have.
///
/// # Errors
/// [`BackendError::Shape`] that names the inputs.
pub(crate) fn known(request: &ModelRequest<'_>, inputs: &[Declared]) -> Result<(), BackendError> {
    let names: Vec<_> = inputs.iter().map(|input| input.name.to_string_lossy()).collect();
    match request.shapes.keys().find(|asked| names.iter().all(|name| name != *asked)) {
        None => Ok(()),
        Some(unknown) => {
            let reason = format!("the plan has no such input; legal: {}", names.join(", "));
            Err(refusal(request, unknown, reason))
        }
    }
}

/// An input with open axes, as the fleet fixes them.
pub(crate) struct Fixed {
    pub(crate) name: String,
    pub(crate) shape: Vec<u64>,
    /// What each profile takes, where it tells.
    pub(crate) ranges: Vec<Option<Range>>,
}

/// The first profile that takes the shapes of all inputs with open axes.
///
/// # Errors
/// [`BackendError::Shape`] with the ranges of the first input that no profile takes, or, where each is taken by some,
/// of the first one.
pub(crate) fn profile(
    request: &ModelRequest<'_>,
    profiles: u32,
    inputs: &[Fixed],
) -> Result<u32, BackendError> {
    let takes = |profile: u32, input: &Fixed| {
        let range = usize::try_from(profile).ok().and_then(|profile| input.ranges.get(profile)?.as_ref());
        range.is_none_or(|range| lies_in(&input.shape, range))
    };
    if let Some(found) =
        (0..profiles.max(1)).find(|&profile| inputs.iter().all(|input| takes(profile, input)))
    {
        return Ok(found);
    }
    let none = |input: &&Fixed| !(0..profiles).any(|profile| takes(profile, input));
    let Some(Fixed { name, shape, ranges }) = inputs.iter().find(none).or(inputs.first()) else {
        return Ok(0);
    };
    let ranges: Vec<String> = ranges
        .iter()
        .flatten()
        .map(|(least, largest)| format!("{} to {}", spelled(least), spelled(largest)))
        .collect();
    let reason = format!(
        "the plan was not built for {shape:?} together with the other shapes; legal: {}",
        ranges.join(", or ")
    );
    Err(refusal(request, name, reason))
}

fn lies_in(shape: &[u64], (least, largest): &Range) -> bool {
    let inside = |(&length, (&least, &largest)): (&u64, (&i64, &i64))| {
        i64::try_from(length).is_ok_and(|length| least <= length && length <= largest)
    };
    shape.len() == least.len() && shape.iter().zip(least.iter().zip(largest)).all(inside)
}

/// A tensor with its size.
///
/// # Errors
/// [`BackendError::Shape`] if its bytes do not fit 63 bits.
pub(crate) fn spec(
    request: &ModelRequest<'_>,
    name: &str,
    element: ElementType,
    shape: Vec<u64>,
) -> Result<TensorSpec, BackendError> {
    let size = shape.iter().try_fold(element.size().get(), |size, &length| size.checked_mul(length));
    match size.filter(|&bytes| i64::try_from(bytes).is_ok()) {
        Some(bytes) => Ok(TensorSpec { name: name.to_owned(), element, shape, bytes: Bytes::new(bytes) }),
        None => Err(refusal(request, name, format!("shape {shape:?} has more bytes than can be addressed"))),
    }
}

/// A refusal of a tensor's shape.
pub(crate) fn refusal(request: &ModelRequest<'_>, tensor: &str, reason: String) -> BackendError {
    BackendError::Shape { model: request.name.to_owned(), tensor: tensor.to_owned(), reason }
}

/// Axes as a fleet writes them, `?` for an open one.
pub(crate) fn spelled(axes: &[i64]) -> String {
    let mut text = String::from("[");
    for (position, axis) in axes.iter().enumerate() {
        let comma = if position == 0 { "" } else { ", " };
        let written = match u64::try_from(*axis) {
            Ok(length) => write!(text, "{comma}{length}"),
            Err(_) => write!(text, "{comma}?"),
        };
        written.expect("a string takes everything");
    }
    text.push(']');
    text
}
