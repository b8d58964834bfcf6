//! Progress on standard error: a bar in a terminal, plain lines where it is piped.

use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};

/// Steps of something that takes a while.
pub struct Progress {
    bar: Option<ProgressBar>,
    steps: usize,
    done: usize,
}

impl Progress {
    /// Progress over so many steps.
    pub fn new(steps: usize) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| bar(steps as u64));
        Self { bar, steps, done: 0 }
    }

    /// The next step begins.
    pub fn begin(&mut self, what: &str) {
        match &self.bar {
            Some(bar) => {
                bar.set_position(self.done as u64);
                bar.set_message(what.to_owned());
            }
            None => line(&format!("[{}/{}] {what}", self.done + 1, self.steps)),
        }
        self.done += 1;
    }

    /// Every step is done; the bar goes away.
    pub fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A bar of plain ASCII over so many steps.
pub fn bar(steps: u64) -> ProgressBar {
    let bar = ProgressBar::new(steps);
    // A template that does not parse is a defect of this line; the library's own bar is as good.
    match ProgressStyle::with_template("[{bar:30}] {pos}/{len} {msg}") {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
}

/// Writes a line to standard error. Nobody is owed progress, so a closed pipe is no failure.
pub fn line(text: &str) {
    let _closed = writeln!(std::io::stderr(), "{text}");
}
