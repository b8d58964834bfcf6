//! What is asked about a plan beyond the plan itself, and the files that it is drawn to.

use std::path::PathBuf;

use aegis_memory::{MemoryError, Thresholds};
use clap::Args;

use super::super::answer::CliError;
use super::super::target;
use super::drawing::Drawing;

/// Options of a plan, whatever is planned.
#[derive(Debug, Args)]
pub struct Options {
    /// Draw it: time across, offsets up.
    #[arg(long, value_name = "FILE.svg")]
    svg: Option<PathBuf>,
    /// For a fleet: say what the largest memory budget of this task is while every other task keeps what it has.
    #[arg(long, value_name = "TASK", conflicts_with = "svg")]
    headroom: Option<String>,
    /// For a fleet: the percentages of the device's memory at which levels of pressure begin [default: the fleet's].
    #[arg(long, value_name = "PERCENT,...", value_delimiter = ',')]
    pressure: Option<Vec<u8>>,
    /// For a fleet: show what scratch would take if every tensor inside the models were placed, beside one block for each
    /// task.
    #[arg(long, conflicts_with = "headroom")]
    tensors: bool,
}

impl Options {
    /// The task whose headroom is asked for.
    pub fn headroom(&self) -> Option<&str> {
        self.headroom.as_deref()
    }

    /// Whether tensors inside models are asked for.
    pub const fn tensors(&self) -> bool {
        self.tensors
    }

    /// Where levels of pressure begin, where it is given.
    ///
    /// # Errors
    /// [`MemoryError::BadThreshold`].
    pub fn thresholds(&self) -> Result<Option<Thresholds>, MemoryError> {
        self.pressure.clone().map(Thresholds::new).transpose()
    }

    /// The first option that is given, which single buffers have no use for.
    pub fn of_fleets(&self) -> Option<&'static str> {
        let options = [
            ("--headroom", self.headroom.is_some()),
            ("--pressure", self.pressure.is_some()),
            ("--tensors", self.tensors),
        ];
        options.into_iter().find(|&(_, given)| given).map(|(option, _)| option)
    }

    /// Checks, before any work is done, that the picture would replace nothing.
    ///
    /// # Errors
    /// As [`target::check`].
    pub fn check(&self, inputs: &[PathBuf]) -> Result<(), CliError> {
        self.svg.as_ref().map_or(Ok(()), |svg| target::check("--svg", svg, inputs))
    }

    /// Draws what `drawing` makes, if a picture is asked for, and says where it is.
    ///
    /// # Errors
    /// [`CliError::Unwritable`].
    pub fn draw(&self, drawing: impl FnOnce() -> Drawing) -> Result<String, CliError> {
        let Some(svg) = &self.svg else { return Ok(String::new()) };
        target::write(svg, drawing().svg())?;
        Ok(format!("wrote {}\n", svg.display()))
    }
}
