//! The command line of `cargo xtask bundle`.

use std::path::PathBuf;

use super::build::Features;
use super::fatbin;
use crate::error::Error;

/// What it takes, for a user who typed something else.
pub const USAGE: &str = "\
usage: cargo xtask bundle [options]

  --out DIR          where the folder goes; target/bundle/<name> unless told
  --with-tests       the test programs of every crate that reaches the device, and run-tests.sh
  --package NAME     test programs of this crate instead; may be given several times
  --with-benches     the bench programs, run-benches.sh, and run-experiments.sh for those on a GPU
  --with-models      the models of the demo, and its fleets
  --fleets DIR       every fleet file (*.toml) of this folder with the models and inputs that it names; may be given
                     several times
  --onnx-cuda ARCH   the runtime library with its CUDA provider, reduced to code for GPUs such as sm_90
  --strip            without symbols and line tables: a fraction of the size, backtraces without names
  --part-size SIZE   also one archive in parts of this size, such as 48MiB, and assemble.sh
  --target TRIPLE    for another processor; cargo has to be set up to build for it
  --features LIST    further backends, separated by commas; with tvm, its libraries too, and with --with-models those
                     that its tests read
  --no-default-features
                     without the backends that are built unless told";

/// Below this a part is mostly its own name.
const SMALLEST_PART: u64 = 1024;

/// What to build and where to put it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Where the folder goes; `None` for the usual place.
    pub out: Option<PathBuf>,
    /// The target triple; `None` for what cargo builds for by itself.
    pub target: Option<String>,
    /// Whether test programs are wanted.
    pub tests: bool,
    /// Crates whose test programs are wanted; empty for those that reach the device.
    pub packages: Vec<String>,
    /// Whether bench programs are wanted.
    pub benches: bool,
    /// Whether the models of the demo are wanted.
    pub models: bool,
    /// Folders of further fleet files.
    pub fleets: Vec<PathBuf>,
    /// For which architecture of GPUs the runtime library's CUDA provider goes in; `None` for the library of hosts.
    pub onnx_cuda: Option<u32>,
    /// Whether symbols and line tables are taken out.
    pub strip: bool,
    /// Size of one part in bytes; `None` for the folder alone.
    pub part_bytes: Option<u64>,
    /// Which backends are built.
    pub features: Features,
}

impl Options {
    /// Reads the arguments that follow the command's name.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the argument that is unknown, lacks its value or has an illegal one.
    pub fn parse(arguments: &[String]) -> Result<Self, Error> {
        let mut options = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value =
                || rest.next().ok_or_else(|| Error::Usage(format!("`{argument}` wants a value\n{USAGE}")));
            match argument.as_str() {
                "--out" => options.out = Some(PathBuf::from(value()?)),
                "--target" => options.target = Some(value()?.clone()),
                "--package" => options.packages.push(value()?.clone()),
                "--fleets" => options.fleets.push(PathBuf::from(value()?)),
                "--features" => options.features.chosen.extend(value()?.split(',').map(str::to_owned)),
                "--no-default-features" => options.features.without_default = true,
                "--part-size" => options.part_bytes = Some(bytes(value()?)?),
                "--onnx-cuda" => options.onnx_cuda = Some(fatbin::architecture(value()?)?),
                "--with-tests" => options.tests = true,
                "--with-benches" => options.benches = true,
                "--with-models" => options.models = true,
                "--strip" => options.strip = true,
                other => return Err(Error::Usage(format!("there is no option `{other}`\n{USAGE}"))),
            }
        }
        options.tests |= !options.packages.is_empty();
        Ok(options)
    }
}

/// Bytes of a size such as `48MiB`.
fn bytes(text: &str) -> Result<u64, Error> {
    let illegal = || {
        Error::Usage(format!("`{text}` is no size of a part; legal are whole KiB, MiB or GiB from 1KiB on"))
    };
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(illegal)?;
    let (number, unit) = text.split_at(split);
    let scale: u64 = match unit {
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(illegal()),
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(scale));
    bytes.filter(|&bytes| bytes >= SMALLEST_PART).ok_or_else(illegal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, Error> {
        Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn every_option_is_read() {
        let line = "--out a --with-benches --with-models --fleets f --fleets g --onnx-cuda sm_90 --strip --part-size 48MiB \
                    --target t --package p --package q --no-default-features --features a,b";
        let wanted = Options {
            out: Some(PathBuf::from("a")),
            target: Some("t".to_owned()),
            tests: true,
            packages: vec!["p".to_owned(), "q".to_owned()],
            benches: true,
            models: true,
            fleets: vec![PathBuf::from("f"), PathBuf::from("g")],
            onnx_cuda: Some(90),
            strip: true,
            part_bytes: Some(48 << 20),
            features: Features { without_default: true, chosen: vec!["a".to_owned(), "b".to_owned()] },
        };
        assert_eq!(parse(line).unwrap(), wanted);
        assert_eq!(parse("").unwrap(), Options::default());
    }

    #[test]
    fn what_is_unknown_incomplete_or_illegal_is_named() {
        for (line, word) in [
            ("--with-test", "`--with-test`"),
            ("--strip --out", "`--out` wants a value"),
            ("--onnx-cuda 90", "sm_90"),
            ("--part-size 48", "`48`"),
            ("--part-size 48MB", "`48MB`"),
            ("--part-size 0MiB", "`0MiB`"),
            ("--part-size MiB", "`MiB`"),
            ("--part-size 99999999999999GiB", "legal are"),
        ] {
            let error = parse(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(word), "{line}: {error}");
        }
    }
}
