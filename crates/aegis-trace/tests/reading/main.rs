//! The crate from outside: rings, collector, file, query and export together.
#![cfg(not(loom))]

// The modules say that they are tests because the lint on `unwrap` asks whether they are.
#[cfg(test)]
mod collecting;
#[cfg(test)]
mod exporting;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod story;
#[cfg(test)]
mod telling;
