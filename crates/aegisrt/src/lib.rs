//! The runtime of AegisRT: puts device, backends, memory, scheduler and trace together and runs a fleet.
//!
//! | module | what it is |
//! |---|---|
//! | [`config`] | what users write and tools measure: fleet, profile and platform files |
//! | [`system`] | the composition root: the one place that chooses |
//! | [`inventory`] | the fleet's models, described before they are loaded |
//! | [`driver`] | the gated loop between engine and world, the one thread that decides |
//! | [`plant`], [`waiting`] | the real world as the driver sees it, and how its threads wait |
//! | [`carrier`], [`mailbox`], `launcher`, `driven`, `models` | who carries lanes, one command at a time, and what is carried |
//! | `stall`, `realtime`, [`machine`] | what the host does to threads, what is asked of it, and its name |
//! | [`client`], [`feed`] | where jobs and their inputs come from |
//! | [`calibrate`], [`profile`], [`measure`] | what the runtime and the models cost here, and both for a system |
//! | [`groups`] | what groups of tasks ask for and may, and what came of their agreements |
//! | [`online`] | tasks added and removed while a driver serves |
//! | [`run`], [`tally`], [`live`] | a run, and what is counted of it |
//! | [`difference`] | how far outputs of two runs are apart |
//! | [`simulate`] | the simulated world in place of the real one, and its checkers |
//! | [`cli`] | the command line `aegis` |
#![forbid(unsafe_code)]

mod breath;
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
mod intake;
pub mod inventory;
mod launcher;
pub mod live;
pub mod machine;
pub mod mailbox;
pub mod measure;
mod models;
pub mod online;
pub mod plant;
pub mod profile;
mod realtime;
pub mod run;
pub mod simulate;
mod stall;
pub mod system;
pub mod tally;
pub mod waiting;

pub use error::RuntimeError;
