//! What the benches of AegisRT share: a counting allocator, a percentile harness, and seeded task sets.
//!
//! Counts come first and times second: a count of allocations is the same on every machine, a time is not. Means are
//! criterion's; tails are ours, because a mean hides the one decision in a thousand that a deadline meets.
//!
//! | module | what it holds |
//! |---|---|
//! | [`counting`] | [`CountingAllocator`]: how often a thread allocates |
//! | [`percentile`] | [`Series`]: p50, p99, p99.9 and maximum, beside a limit |
//! | [`effort`] | how many samples: many by hand, few where only the code is tried |
//! | [`sets`] | the task sets that are decided on |
//! | [`capacity`] | certified capacity of synthetic fleets, printed by the program `aegis-capacity` |
//! | [`minimalloc`] | the published best placer, where the user has it, beside ours |
//! | [`sharing`] | what one memory plan for trained models is worth, printed by the program `aegis-memory` |
//! | [`gpu`] | experiments on a GPU, run by the program `aegis-gpu` |
//! | [`networks`] | networks and fleets made here, written by the program `aegis-networks` |

pub mod capacity;
pub mod counting;
pub mod effort;
pub mod gpu;
pub mod minimalloc;
pub mod networks;
pub mod percentile;
pub mod sets;
pub mod sharing;

pub use counting::CountingAllocator;
pub use percentile::Series;
