//! Experiments on a GPU: what the runtime costs there, what it certifies, and whether the certificate holds.
//!
//! The pure parts (searches, analysis with terms switched off, launching rules in virtual time) are tested without a
//! device; the stages put them on one. Every stage writes one file and goes on from it when it is started again.
//!
//! | module | what it holds |
//! |---|---|
//! | [`case`], [`contention`], [`loss`] | capacity without a device: fits, searches, terms switched off |
//! | [`ranks`], [`anatomy`] | deadlines under which bounds can be seen, and what bounds are made of |
//! | [`circuit`], [`saturation`], [`pace`] | jobs on lanes without an engine |
//! | [`floor`], [`copies`], [`walk`] | one thread's launches, or none, without a runtime |
//! | [`between`], [`overhead`] | the runtime and a floor at the same time |
//! | [`spread`], [`store`], [`error`] | results |
//! | [`card`], [`fleet`], [`workload`], [`recipe`], [`bed`] | the device, and models on it |
//! | [`serve`] | a certified set in the whole runtime |
//! | [`backends`] | a job over its backend's own loop; outputs of a served fleet |
//! | [`rivals`] | a fleet of networks beside other ways to share the device |

pub mod anatomy;
pub mod backends;
pub mod bed;
pub mod between;
pub mod capacity;
pub mod card;
pub mod case;
pub mod certify;
pub mod circuit;
pub mod contention;
pub mod copies;
pub mod determinism;
pub mod error;
pub mod fleet;
pub mod floor;
pub mod isolation;
pub mod jobs;
pub mod loss;
pub mod overhead;
pub mod pace;
pub mod ranks;
pub mod recipe;
pub mod rivals;
pub mod saturation;
pub mod serve;
pub mod soak;
pub mod spread;
pub mod stages;
pub mod store;
pub mod tables;
pub mod walk;
pub mod wide;
pub mod workload;
