//! `cargo xtask ptx`: the project's kernels as PTX, written or compared with what is committed.
//!
//! The compiler is NVRTC 11.8 out of its wheel: it needs no GPU, and what it writes is loaded by every driver from
//! CUDA 11.8 on. A plain comparison is possible because one compiler writes one text.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::Error;
use crate::fetch::{self, Pip};
use crate::process;
use crate::workspace::Workspace;

/// A file of kernels. Paths are from the root of the checkout.
struct Unit {
    /// What is compiled, by the name that the committed file tells.
    name: &'static str,
    source: &'static str,
    /// What is committed.
    output: &'static str,
}

/// The kernels of the built-in workload, and the one that the device itself copies with.
const UNITS: [Unit; 2] = [
    Unit {
        name: "kernels.cu",
        source: "crates/aegis-cuda/src/kernel/kernels.cu",
        output: "crates/aegis-cuda/src/kernel/kernels.ptx",
    },
    Unit {
        name: "copy.cu",
        source: "crates/aegis-cuda/src/cuda/copy.cu",
        output: "crates/aegis-cuda/src/cuda/copy.ptx",
    },
];

/// The first devices of the generation that the project supports; later ones compile it at load time.
const OPTIONS: [&str; 1] = ["--gpu-architecture=compute_80"];

/// Calls the compiler through its C interface.
const CALLER: &str = include_str!("ptx/nvrtc.py");

/// Writes the PTX, or with `--check` compares it with the committed file.
///
/// # Errors
/// [`Error::Usage`] for other arguments, [`Error::Fetch`] where the compiler cannot be had,
/// [`Error::Failed`] with the compiler's own message printed, and [`Error::Stale`] where the committed
/// file is another one.
pub fn run(arguments: &[String]) -> Result<(), Error> {
    let check = match arguments {
        [] => false,
        [word] if word == "--check" => true,
        _ => {
            let given = arguments.join(" ");
            return Err(Error::Usage(format!("legal: `cargo xtask ptx [--check]`, got `{given}`")));
        }
    };
    let workspace = Workspace::current();
    let cache = workspace.cache();
    fetch::ensure(&cache, &[fetch::nvrtc()?], &mut Pip::new())?;
    let compiler = cache.join(fetch::NVRTC_FOLDER);
    UNITS.iter().try_for_each(|unit| {
        let text = unit.compiled(&workspace, &compiler)?;
        if check { unit.compare(&workspace, &text) } else { unit.write(&workspace, &text) }
    })
}

impl Unit {
    /// What it compiles to, by the compiler in a folder.
    fn compiled(&self, workspace: &Workspace, compiler: &Path) -> Result<String, Error> {
        let source = workspace.root().join(self.source);
        let text = std::fs::read_to_string(&source).map_err(Error::io("read", &source))?;
        headed(self.name, &self.compile(compiler, &text)?)
    }

    fn write(&self, workspace: &Workspace, text: &str) -> Result<(), Error> {
        let output = workspace.root().join(self.output);
        std::fs::write(&output, text).map_err(Error::io("write", &output))?;
        println!("wrote {}, {} lines", self.output, text.lines().count());
        Ok(())
    }

    fn compare(&self, workspace: &Workspace, text: &str) -> Result<(), Error> {
        let output = workspace.root().join(self.output);
        let committed = std::fs::read_to_string(&output).map_err(Error::io("read", &output))?;
        match first_difference(&committed, text) {
            None => {
                println!("{} is what {} compiles to", self.output, self.source);
                Ok(())
            }
            Some((line, found, wanted)) => {
                let command = "cargo xtask ptx";
                Err(Error::Stale { file: self.output, line, found, wanted, command })
            }
        }
    }

    /// Runs the compiler on `source` and returns what it wrote.
    fn compile(&self, library: &Path, source: &str) -> Result<String, Error> {
        let mut command = Command::new("python3");
        command.args(["-c", CALLER]).arg(library).arg(self.name).args(OPTIONS);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let (folder, options) = (library.display(), OPTIONS.join(" "));
        let line = format!("python3 xtask/src/ptx/nvrtc.py {folder} {} {options}", self.name);
        println!("$ {line} < {}", self.source);
        let failed = |source| Error::Start { command: line.clone(), source };
        let mut child = command.spawn().map_err(failed)?;
        if let Some(mut input) = child.stdin.take() {
            // A compiler that ended early says why itself; the broken pipe is only its echo.
            let _read_by_the_child = input.write_all(source.as_bytes());
        }
        let output = child.wait_with_output().map_err(failed)?;
        match process::code_of(output.status) {
            0 => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            code => Err(Error::Failed { command: line, code }),
        }
    }
}

/// Puts the project's own head before what the compiler wrote, in place of the compiler's: that names a build of it,
/// which differs between processors where the code does not.
fn headed(name: &str, written: &str) -> Result<String, Error> {
    let start = written.find(".version").ok_or_else(|| {
        Error::Fetch("the compiler's output has no line `.version`: it is no PTX".to_owned())
    })?;
    let head = format!(
        "// Generated from {name} by `cargo xtask ptx` (NVRTC 11.8.89): change that file, not this one."
    );
    let body: Vec<&str> = written[start..].lines().map(str::trim_end).collect();
    Ok(format!("{head}\n\n{}\n", body.join("\n").trim_end()))
}

/// The first line, counted from 1, in which two texts differ, and what stands there in each.
pub fn first_difference(left: &str, right: &str) -> Option<(usize, String, String)> {
    let (mut left, mut right) = (left.lines(), right.lines());
    (1..).find_map(|line| match (left.next(), right.next()) {
        (None, None) => Some(None),
        (a, b) if a == b => None,
        (a, b) => Some(Some((line, spelled(a), spelled(b)))),
    })?
}

fn spelled(line: Option<&str>) -> String {
    line.map_or_else(|| "the end of the file".to_owned(), |line| format!("`{}`", line.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_differing_line_is_named_with_both_texts() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        let found = first_difference("a\nb\nc\n", "a\nx\ny\n");
        assert_eq!(found, Some((2, "`b`".to_owned(), "`x`".to_owned())));
        let found = first_difference("a\n", "a\nb\n");
        assert_eq!(found, Some((2, "the end of the file".to_owned(), "`b`".to_owned())));
    }

    #[test]
    fn the_compilers_head_is_replaced_and_its_absence_refused() {
        let text =
            headed("copy.cu", "//\n// Compiler Build ID: CL-1\n//\n\n.version 7.8\n.target sm_80  \n\n")
                .unwrap();
        assert!(text.starts_with("// Generated from copy.cu by"), "{text}");
        assert!(text.ends_with("\n\n.version 7.8\n.target sm_80\n"), "{text}");
        assert!(headed("copy.cu", "no code").is_err());
    }

    #[test]
    fn the_committed_files_are_for_old_drivers_and_the_oldest_devices() {
        for unit in &UNITS {
            let text = std::fs::read_to_string(Workspace::current().root().join(unit.output)).unwrap();
            assert!(
                text.contains("\n.version 7.8\n") && text.contains("\n.target sm_80\n"),
                "{}",
                unit.output
            );
        }
    }

    #[test]
    fn other_arguments_are_answered_with_the_legal_ones() {
        let error = run(&["--chek".to_owned()]).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains("--check"), "{error}");
    }
}
