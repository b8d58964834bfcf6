//! The command line of `cargo xtask jetson`.

use std::path::PathBuf;

use super::standard::Source;
use crate::bundle::Features;
use crate::error::Error;

/// What it takes, for a user who typed something else.
pub const USAGE: &str = "\
usage: cargo xtask jetson [options]

  --test             instead a bundle with test programs, made to be built quickly, and all of it run under
                     qemu-aarch64: tests, a fleet of real models, traces from and to this machine
  --std SOURCE       where the standard library of the target comes from, if it is not installed:
                     debian (packages, unpacked below target; the default on Debian) or rustup
  --features LIST    further backends, separated by commas
  --no-default-features
                     without the backends that are built unless told
  --out DIR          where the bundle goes; target/bundle/aegis-<version>-jetson unless told, and
                     target/jetson-trial/bundle for a test";

/// What to build, from what, and whether to try it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether tests and a fleet are run under emulation.
    pub test: bool,
    /// Where the standard library comes from; `None` leaves it to what is there.
    pub standard: Option<Source>,
    /// Which backends are built.
    pub features: Features,
    /// Where the bundle goes; `None` for the usual place.
    pub out: Option<PathBuf>,
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
                "--test" => options.test = true,
                "--std" => options.standard = Some(source(value()?)?),
                "--features" => options.features.chosen.extend(value()?.split(',').map(str::to_owned)),
                "--no-default-features" => options.features.without_default = true,
                "--out" => options.out = Some(PathBuf::from(value()?)),
                other => return Err(Error::Usage(format!("there is no option `{other}`\n{USAGE}"))),
            }
        }
        Ok(options)
    }
}

fn source(text: &str) -> Result<Source, Error> {
    match text {
        "debian" => Ok(Source::Debian),
        "rustup" => Ok(Source::Rustup),
        other => {
            Err(Error::Usage(format!("`--std {other}` names no source; legal are `debian` and `rustup`")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, Error> {
        Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn every_option_is_read() {
        let line = "--test --std rustup --features a,b --no-default-features --out d";
        let features = Features { without_default: true, chosen: vec!["a".to_owned(), "b".to_owned()] };
        let (standard, out) = (Some(Source::Rustup), Some(PathBuf::from("d")));
        assert_eq!(parse(line).unwrap(), Options { test: true, standard, features, out });
        assert_eq!(parse("--std debian").unwrap().standard, Some(Source::Debian));
        assert_eq!(parse("").unwrap(), Options::default());
    }

    #[test]
    fn what_is_unknown_incomplete_or_illegal_is_named() {
        for (line, word) in [
            ("--tests", "`--tests`"),
            ("--std", "`--std` wants a value"),
            ("--std nightly", "`--std nightly` names no source; legal are `debian` and `rustup`"),
        ] {
            let error = parse(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(word), "{line}: {error}");
        }
    }
}
