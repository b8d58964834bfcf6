//! `aegis segment`: cuts an ONNX model into segments that each keep a limit of time.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use aegis_backend_onnx::segment::{Candidate, Cutter, Found, NoCuts, fewest_cuts};
use aegis_backend_onnx::{OnnxLoader, OnnxRuntime, Reference};
use aegis_cuda::{BackendLoader as _, DeviceKind, ModelRequest};
use aegis_types::{Bytes, Nanos};
use clap::Args;
use serde_json::{Value, json};

use super::answer::{Answer, CliError, Exit};
use super::progress::line;
use super::table::Grid;
use super::{Environment, backends, figures, target};
use crate::error::RuntimeError;
use crate::intake;
use crate::inventory::read_beside;

mod apart;
mod gauge;

use gauge::{Gauge, Measurement};

/// Cut an ONNX model into segments, the fewest that each keep a limit of time, and write them into the model file.
#[derive(Debug, Args)]
pub(super) struct Segment {
    /// The model.
    model: PathBuf,
    /// The longest that a segment may take alone on a core of this machine.
    #[arg(long, value_name = "SPAN", required_unless_present = "at")]
    max: Option<Nanos>,
    /// Cut behind the node that makes this tensor, and do not search; once for each cut, in the order of the nodes.
    #[arg(long, value_name = "TENSOR", conflicts_with = "max")]
    at: Vec<String>,
    /// Where the model with its cuts goes [default: MODEL.segments.onnx beside the model].
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Shapes of inputs, such as `image=1x3x480x640`, where the model leaves axes open; a comma between two.
    #[arg(long, value_name = "INPUT=AxBxC", value_delimiter = ',')]
    shapes: Vec<String>,
    /// What a segment costs besides its own run: what `aegis calibrate` measured of a dispatch and its completion.
    #[arg(long, value_name = "SPAN", default_value = "0ns")]
    overhead: Nanos,
    /// How often a piece is run to learn what it takes.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: u32,
    /// Which percentile of those runs counts; 100 is the longest.
    #[arg(long, value_name = "P", default_value_t = 99, value_parser = clap::value_parser!(u32).range(1..=100))]
    percentile: u32,
    /// Memory that a piece may take while it is measured.
    #[arg(long, value_name = "SIZE", default_value = "3GiB")]
    memory: Bytes,
}

/// What was decided, with what each segment took alone where that was measured.
struct Decision {
    cuts: Vec<usize>,
    alone: Vec<Nanos>,
    measured: usize,
}

impl Segment {
    pub(super) fn perform(self, environment: &Environment) -> Result<Answer, CliError> {
        let out = self.out.clone().unwrap_or_else(|| beside(&self.model));
        target::check("--out", &out, std::slice::from_ref(&self.model))?;
        let shapes = shapes(&self.shapes)?;
        let artifact = intake::content(&self.model).map_err(|error| unreadable(&self.model, &error))?;
        let name = self.model.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let runtime = OnnxRuntime::load(&backends::find_onnx(environment, DeviceKind::Host)?)?;
        let mut read = |path: &str| read_beside(&self.model, path);
        let artifact = OnnxLoader::new(runtime.clone()).complete(&name, artifact, &mut read)?;
        let request =
            ModelRequest { name: &name, artifact: &artifact, shapes: &shapes, allow_control_flow: false };
        let cutter = Cutter::open(&runtime, &request)?;
        let wish = Measurement { runs: self.runs, percentile: self.percentile, overhead: self.overhead };
        let mut gauge = Gauge::new(&runtime, &name, wish, self.memory)?;
        let decision = self.decide(&cutter, &mut gauge)?;
        let cut = cutter.write(&decision.cuts)?;
        let in_place = gauge.segments(&cut, &shapes)?;
        let inputs = gauge::inputs(cutter.inputs());
        let mut whole = Reference::open_whole(&runtime, &artifact, &shapes)?;
        let apart =
            apart::largest(&in_place.outputs, &whole.run(&inputs)?, &gauge.run(&cut, &shapes, &inputs)?);
        let report = Report { segment: &self, cutter: &cutter, decision, in_place: in_place.costs, apart };
        if !report.agrees() {
            return Ok(Answer { text: report.disagreement(), json: report.json(None), exit: Exit::Violated });
        }
        target::write(&out, cut)?;
        Ok(Answer::done(report.text(&out), report.json(Some(&out))))
    }

    fn decide(&self, cutter: &Cutter<'_>, gauge: &mut Gauge) -> Result<Decision, CliError> {
        let Some(limit) = self.max else {
            let cuts = self.at.iter().map(|tensor| cutter.behind(tensor)).collect::<Result<Vec<_>, _>>()?;
            if let Some(at) = cuts.windows(2).position(|pair| pair[0] >= pair[1]) {
                let (before, tensor) = (&self.at[at], &self.at[at + 1]);
                return Err(CliError::Input(format!(
                    "--at {tensor} does not lie behind --at {before}; legal are cuts in the order of the nodes"
                )));
            }
            return Ok(Decision { cuts, alone: Vec::new(), measured: 0 });
        };
        line(&format!("{} places to cut; measuring pieces", cutter.candidates().len()));
        let bytes = |cut: usize| cutter.candidates().get(cut - 1).map_or(Bytes::ZERO, |at| at.bytes);
        let mut measure = |atoms: Range<usize>| gauge.piece(&cutter.piece(atoms)?);
        match fewest_cuts(cutter.atoms(), limit, &bytes, &mut measure) {
            Ok(Found { cuts, costs, measured }) => Ok(Decision { cuts, alone: costs, measured }),
            Err(NoCuts::Gauge(error)) => Err(error),
            Err(NoCuts::TooLong { atom, cost }) => Err(self.too_long(cutter, atom, (limit, cost))),
        }
    }

    /// A refusal that names the piece which cannot be made smaller.
    fn too_long(&self, cutter: &Cutter<'_>, atom: usize, (limit, cost): (Nanos, Nanos)) -> CliError {
        let nodes = cutter.nodes(atom..atom + 1);
        let named = match nodes.as_slice() {
            [one] => format!("node {one} alone takes"),
            [first, .., last] => {
                format!(
                    "{} nodes from {first} to {last}, between which nothing can be cut, take",
                    nodes.len()
                )
            }
            [] => "a piece without nodes takes".to_owned(),
        };
        let (percentile, runs) = (self.percentile, self.runs);
        CliError::Refused(format!(
            "{named} {} (percentile {percentile} of {runs} runs and {} overhead); --max is {}, legal is {} or more",
            figures::span(cost),
            figures::span(self.overhead),
            figures::span(limit),
            figures::span_up(cost),
        ))
    }
}

/// What the command found, for people and programs.
struct Report<'a> {
    segment: &'a Segment,
    cutter: &'a Cutter<'a>,
    decision: Decision,
    /// What each segment takes in the chain, the others before it.
    in_place: Vec<Nanos>,
    apart: apart::Apart,
}

impl Report<'_> {
    fn agrees(&self) -> bool {
        self.apart.is_within_tolerance()
    }

    fn disagreement(&self) -> String {
        format!(
            "output `{}` of the segments differs from the whole model's by {:.1e} of its largest number; legal is {:.1e}. \
             Nothing was written\n",
            self.apart.output, self.apart.difference, self.apart.tolerance
        )
    }

    /// The atoms of each segment.
    fn ranges(&self) -> Vec<Range<usize>> {
        let cuts = &self.decision.cuts;
        let starts = std::iter::once(0).chain(cuts.iter().copied());
        let ends = cuts.iter().copied().chain([self.cutter.atoms()]);
        starts.zip(ends).map(|(start, end)| start..end).collect()
    }

    fn text(&self, out: &Path) -> String {
        let percentile = format!("p{}", self.segment.percentile);
        let mut grid = Grid::new(1, &["segment", "nodes", "alone", &percentile, "hands on", "cut behind"]);
        for (at, range) in self.ranges().into_iter().enumerate() {
            let candidate = self.cutter.candidates().get(range.end - 1);
            let candidate = candidate.filter(|_| range.end < self.cutter.atoms());
            grid.row([
                at.to_string(),
                self.cutter.nodes(range).len().to_string(),
                figures::maybe(self.decision.alone.get(at).copied()),
                figures::maybe(self.in_place.get(at).copied()),
                candidate.map_or_else(|| "-".to_owned(), |cut| figures::size(cut.bytes)),
                candidate.map_or_else(|| "-".to_owned(), |cut| cut.tensor.clone()),
            ]);
        }
        let mut text = grid.text();
        text.push_str(&format!(
            "\n{} of {} places to cut, {} pieces measured; \"alone\" is a piece by itself, {percentile} is in its place, \
             both with {} overhead\n",
            self.decision.cuts.len(),
            self.cutter.candidates().len(),
            self.decision.measured,
            figures::span(self.segment.overhead),
        ));
        let longer = |limit: &Nanos| self.in_place.iter().filter(|cost| *cost > limit).count();
        if let Some(count) = self.segment.max.as_ref().map(longer).filter(|count| *count > 0) {
            text.push_str(&format!("{count} of them took longer than --max in place\n"));
        }
        text.push_str(&format!(
            "largest difference to the whole model: {:.1e} of the output's largest number\nwrote {}\n",
            self.apart.difference,
            out.display()
        ));
        text
    }

    fn json(&self, out: Option<&Path>) -> Value {
        let segment = |(at, range): (usize, Range<usize>)| {
            let candidate = self.cutter.candidates().get(range.end - 1);
            let candidate = candidate.filter(|_| range.end < self.cutter.atoms());
            let crossing =
                |cut: &Candidate| cut.crossing.iter().map(|spec| spec.name.clone()).collect::<Vec<_>>();
            json!({
                "nodes": self.cutter.nodes(range),
                "alone_ns": self.decision.alone.get(at).map(|cost| cost.get()),
                "in_place_ns": self.in_place.get(at).map(|cost| cost.get()),
                "cut_behind": candidate.map(|cut| cut.tensor.clone()),
                "crossing": candidate.map(crossing),
                "crossing_bytes": candidate.map(|cut| cut.bytes.get()),
            })
        };
        let place = |cut: &Candidate| json!({ "tensor": cut.tensor, "crossing_bytes": cut.bytes.get() });
        json!({
            "segments": self.ranges().into_iter().enumerate().map(segment).collect::<Vec<_>>(),
            "places": self.cutter.candidates().iter().map(place).collect::<Vec<_>>(),
            "pieces_measured": self.decision.measured,
            "max_ns": self.segment.max.map(|limit| limit.get()),
            "overhead_ns": self.segment.overhead.get(),
            "percentile": self.segment.percentile,
            "runs": self.segment.runs,
            "difference": self.apart.difference,
            "written": out.map(|out| out.display().to_string()),
        })
    }
}

/// `name.segments.onnx` beside `name.onnx`.
fn beside(model: &Path) -> PathBuf {
    let stem = model.file_stem().unwrap_or_default().to_string_lossy();
    model.with_file_name(format!("{stem}.segments.onnx"))
}

fn unreadable(path: &Path, error: &std::io::Error) -> CliError {
    let (path, reason) = (path.display().to_string(), format!("cannot be read: {error}"));
    RuntimeError::File { path, reason }.into()
}

/// Shapes by input name.
fn shapes(given: &[String]) -> Result<BTreeMap<String, Vec<u64>>, CliError> {
    let mut shapes = BTreeMap::new();
    for text in given {
        let bad = || {
            CliError::Input(format!(
                "--shapes: `{text}` is no shape of an input; legal is a name and lengths of axes, such as `image=1x3x480x640`"
            ))
        };
        let (name, axes) = text.rsplit_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(bad)?;
        let axes: Vec<u64> = axes.split('x').map(str::parse).collect::<Result<_, _>>().map_err(|_| bad())?;
        if shapes.insert(name.to_owned(), axes).is_some() {
            return Err(CliError::Input(format!("--shapes: `{name}` has two shapes; legal is one")));
        }
    }
    Ok(shapes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_read_or_refused_by_name() {
        let read = |texts: &[&str]| shapes(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        let legal = read(&["x=1x3x480x640", "a=b=7"]).expect("legal");
        assert_eq!(legal["x"], [1, 3, 480, 640]);
        assert_eq!(legal["a=b"], [7]);
        for (texts, word) in [
            (["x", "y=1"], "`x`"),
            (["=1x2", "y=1"], "`=1x2`"),
            (["x=1xa", "y=1"], "`x=1xa`"),
            (["x=", "y=1"], "`x=`"),
            (["x=1", "x=2"], "two shapes"),
        ] {
            let said = read(&texts).expect_err("illegal").to_string();
            assert!(said.contains(word), "{said}");
        }
    }

    #[test]
    fn the_file_goes_beside_the_model() {
        assert_eq!(beside(Path::new("a/net.onnx")), Path::new("a/net.segments.onnx"));
    }
}
