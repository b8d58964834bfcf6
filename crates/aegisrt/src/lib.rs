//! The runtime of AegisRT: puts device, backends, memory, scheduler and trace together and runs a fleet.
//!
//! | module | what it is |
//! |---|---|
//! | [`config`] | what users write and tools measure: fleet, profile and platform files |
//! | [`system`] | the composition root: the one place that chooses |
//! | [`inventory`] | the fleet's models, described before they are loaded |
//! | [`driver`] | the gated loop between engine and world, the one thread that decides |
//! | [`plant`], [`mailbox`], [`carrier`], [`models`] | the real world: a thread for each lane, and what it carries |
//! | [`client`], [`feed`] | where jobs and their inputs come from |
//! | [`calibrate`], [`profile`] | what the runtime and the models cost here |
//! | [`groups`] | what groups of tasks ask for and may, and what came of their agreements |
//! | [`online`] | tasks added and removed while a driver serves |
//! | [`run`], [`tally`], [`live`] | a run, and what is counted of it |
//! | [`difference`] | how far outputs of two runs are apart |
//! | [`cli`] | the command line `aegis` |
#![forbid(unsafe_code)]

pub mod calibrate;
pub mod carrier;
pub mod cli;
pub mod client;
pub mod config;
pub mod difference;
mod driven;
pub mod driver;
pub mod error;
pub mod feed;
pub mod groups;
pub mod inventory;
mod launcher;
pub mod live;
pub mod machine;
pub mod mailbox;
pub mod measure;
pub mod models;
pub mod online;
pub mod plant;
pub mod profile;
pub mod realtime;
pub mod run;
pub mod simulate;
pub mod stall;
pub mod system;
pub mod tally;
pub mod waiting;

pub use error::RuntimeError;
