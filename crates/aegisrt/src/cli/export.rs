//! `aegis export`: a trace for other programs.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use aegis_trace::{Trace, TraceError};
use clap::Args;
use serde_json::json;

use super::answer::{Answer, CliError};
use super::stored::{damages, damages_json};
use super::target;
use crate::config::whole;

/// Write a trace for other programs.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("to").required(true).multiple(true)))]
pub struct Export {
    /// The trace of a run.
    run: PathBuf,
    /// Write JSON for ui.perfetto.dev and chrome://tracing.
    #[arg(long, value_name = "FILE", group = "to")]
    perfetto: Option<PathBuf>,
    /// Write one JSON object for each record and line.
    #[arg(long, value_name = "FILE", group = "to")]
    json: Option<PathBuf>,
}

type Writing = fn(&Trace, &mut BufWriter<File>) -> Result<(), TraceError>;

impl Export {
    pub(super) fn perform(&self) -> Result<Answer, CliError> {
        for (option, path) in [("--perfetto", &self.perfetto), ("--json", &self.json)] {
            if let Some(path) = path {
                target::check(option, path, std::slice::from_ref(&self.run))?;
            }
        }
        if let (Some(perfetto), Some(json)) = (&self.perfetto, &self.json) {
            target::check("--json", json, std::slice::from_ref(perfetto))?;
        }
        let trace = Trace::open(&self.run)?;
        if trace.records().is_empty() && trace.damage().is_some() {
            let why = damages(&trace).join("; ");
            let path = self.run.display();
            return Err(CliError::Input(format!(
                "{path}: {why}; legal: a trace from which at least one record can be read"
            )));
        }
        let notes = damages(&trace);
        let mut text: String = notes.iter().map(|note| format!("note: {note}\n")).collect();
        let records = trace.records().len();
        let mut written = Vec::new();
        let targets: [(&Option<PathBuf>, Writing); 2] = [
            (&self.perfetto, |trace, out| trace.write_perfetto(out)),
            (&self.json, |trace, out| trace.write_json_lines(out)),
        ];
        for (path, writing) in targets {
            if let Some(path) = path {
                write(&trace, path, writing)?;
                text.push_str(&format!("wrote {} ({records} records)\n", path.display()));
                written.push(path);
            }
        }
        let json = json!({ "records": records, "written": written, "trace": damages_json(&trace) });
        Ok(Answer::done(text, json))
    }
}

fn write(trace: &Trace, path: &Path, writing: Writing) -> Result<(), CliError> {
    let failed = |reason: String| CliError::Unwritable { path: path.display().to_string(), reason };
    whole::write(path, |out| writing(trace, out).map_err(std::io::Error::other))
        .map_err(|error| failed(error.to_string()))
}
