//! Where a placement comes from. One file outside this crate is enough for another planner.

use crate::error::MemoryError;
use crate::problem::{Placement, Problem};

/// Assigns an offset to every buffer of a problem.
///
/// A planner is untrusted: [`crate::verify::check_placement`] judges what it returns, so a wrong planner costs a
/// refusal and never a byte of somebody else's memory. Equal problems should give equal placements, or plans are not
/// repeatable.
///
/// ```
/// use aegis_memory::{Demand, MemoryError, MemoryOrchestrator, Placed, Placement, Planner, Problem};
/// use aegis_types::{Bytes, LaneId, TaskId};
///
/// /// Puts every buffer behind the one before, so that nothing is ever shared.
/// struct Stack;
///
/// impl Planner for Stack {
///     fn name(&self) -> &str {
///         "stack"
///     }
///
///     fn place(&self, problem: &Problem) -> Result<Placement, MemoryError> {
///         let mut top = Bytes::ZERO;
///         let mut placed = Vec::new();
///         for buffer in problem.buffers() {
///             let overflow = || MemoryError::Overflow { place: buffer.id.to_string() };
///             let offset = top.checked_align_up(buffer.align).ok_or_else(overflow)?;
///             top = offset.checked_add(buffer.size).ok_or_else(overflow)?;
///             placed.push(Placed { buffer: buffer.id, offset });
///         }
///         Ok(Placement { placed })
///     }
/// }
///
/// let demand = Demand {
///     task: TaskId::new(0),
///     lane: LaneId::new(0),
///     persistent: Bytes::new(1000),
///     exchange: Bytes::new(100),
///     scratch: vec![Bytes::new(500)],
/// };
/// let plan = MemoryOrchestrator::new().plan(&[demand], Bytes::new(4096), &Stack)?;
/// assert_eq!(plan.peak(), Bytes::new(1024 + 128 + 512));
/// # Ok::<(), MemoryError>(())
/// ```
pub trait Planner {
    /// The name by which it is chosen and reported.
    fn name(&self) -> &str;

    /// Places every buffer of the problem: conflicting buffers apart (see [`crate::Buffer::conflict`]), each at a
    /// multiple of its alignment, at its fixed offset if it has one, and below the capacity.
    ///
    /// # Errors
    /// [`MemoryError::NoPlacement`] when it finds none. That is no proof that there is none.
    fn place(&self, problem: &Problem) -> Result<Placement, MemoryError>;
}
