//! Certified capacity of synthetic fleets: how much of a device's work can be promised, by number of lanes and by the
//! way tasks get their lanes. Needs no device.
//!
//! | module | what it holds |
//! |---|---|
//! | [`synthetic`] | the fleets, what lanes do to them, and a table of who hurts whom |
//! | [`method`] | the ways to certify one, from one factor for all to budgets by company |
//! | [`price`] | what one search costs |
//! | [`table`] | medians, quartiles and means over many fleets |
//!
//! Load is counted as execution alone over period, summed over the tasks, in thousandths: 1,000 is a device that one
//! job at a time keeps busy.

pub mod method;
pub mod price;
pub mod synthetic;
pub mod table;
