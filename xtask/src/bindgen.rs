//! `cargo xtask bindgen`: the Rust side of the TensorRT shim's C header, written or compared with what is committed.
//!
//! The generator loads a C compiler's library, which it finds through an environment variable: this program fetches
//! that library and calls itself with the variable set. The header reads nothing but `stdint.h` of the C library.

use std::process::{Command, Stdio};

use bindgen::{Builder, Formatter};

use crate::error::Error;
use crate::fetch::{self, Pip};
use crate::workspace::Workspace;
use crate::{process, ptx};

/// What is read, and what is committed. Paths are from the root of the checkout.
const HEADER: &str = "crates/aegis-backend-trt/src/shim/shim.h";
const OUTPUT: &str = "crates/aegis-backend-trt/src/bindings.rs";

/// The argument with which this program calls itself.
const PRINT: &str = "--print";

/// Writes the bindings, with `--check` compares them with the committed file; `--print`, which wants `LIBCLANG_PATH`
/// to name the folder of libclang, writes them to the terminal.
///
/// # Errors
/// [`Error::Usage`] for other arguments, [`Error::Fetch`] where libclang cannot be had or cannot read the header,
/// [`Error::Stale`] where the committed file is another one.
pub fn run(arguments: &[String]) -> Result<(), Error> {
    let workspace = Workspace::current();
    match arguments {
        [] => write(&workspace, &generated(&workspace)?),
        [word] if word == "--check" => compare(&workspace, &generated(&workspace)?),
        [word] if word == PRINT => {
            print!("{}", generate(&workspace)?);
            Ok(())
        }
        _ => {
            let given = arguments.join(" ");
            Err(Error::Usage(format!("legal: `cargo xtask bindgen [--check | {PRINT}]`, got `{given}`")))
        }
    }
}

/// What this program prints when it is called with the library at hand.
fn generated(workspace: &Workspace) -> Result<String, Error> {
    let cache = workspace.cache();
    fetch::ensure(&cache, &[fetch::tensorrt::libclang()?], &mut Pip::new())?;
    let program =
        std::env::current_exe().map_err(|source| Error::Start { command: "xtask".into(), source })?;
    let mut command = Command::new(program);
    command.args(["bindgen", PRINT]).env("LIBCLANG_PATH", cache.join(fetch::tensorrt::CLANG));
    let line = process::line(&command);
    println!("$ {line}");
    command.stderr(Stdio::inherit());
    let output = command.output().map_err(|source| Error::Start { command: line.clone(), source })?;
    match process::code_of(output.status) {
        0 => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        code => Err(Error::Failed { command: line, code }),
    }
}

/// The bindings as text, in the project's own format.
fn generate(workspace: &Workspace) -> Result<String, Error> {
    let header = workspace.root().join(HEADER);
    let head =
        format!("// Generated from {HEADER} by `cargo xtask bindgen`: change that file, not this one.");
    let bindings = Builder::default()
        .header(header.to_string_lossy())
        .allowlist_type("Shim.*")
        .allowlist_function("aegis_trt_.*")
        .allowlist_var("SHIM_.*")
        .prepend_enum_name(false)
        .use_core()
        .wrap_unsafe_ops(true)
        .disable_header_comment()
        .raw_line(head)
        .formatter(Formatter::Rustfmt)
        .rustfmt_configuration_file(Some(workspace.root().join(".rustfmt.toml")))
        .generate()
        .map_err(|error| Error::Fetch(format!("{HEADER}: {error}")))?;
    Ok(house_style(&bindings.to_string()))
}

/// What the project asks of every file: foreign functions with the reason why they may be called, and no lint that is
/// switched off in place (`lib.rs` expects them for the whole file).
fn house_style(text: &str) -> String {
    let reason = "// SAFETY: the declaration is the header's; the function takes nothing and returns a constant's address.";
    text.replace("unsafe extern \"C\" {", &format!("{reason}\nunsafe extern \"C\" {{"))
        .replace("#[allow(clippy::unnecessary_operation, clippy::identity_op)]\n", "")
}

fn write(workspace: &Workspace, text: &str) -> Result<(), Error> {
    let output = workspace.root().join(OUTPUT);
    std::fs::write(&output, text).map_err(Error::io("write", &output))?;
    println!("wrote {OUTPUT}, {} lines", text.lines().count());
    Ok(())
}

fn compare(workspace: &Workspace, text: &str) -> Result<(), Error> {
    let output = workspace.root().join(OUTPUT);
    let committed = std::fs::read_to_string(&output).map_err(Error::io("read", &output))?;
    match ptx::first_difference(&committed, text) {
        None => {
            println!("{OUTPUT} is what {HEADER} gives");
            Ok(())
        }
        Some((line, found, wanted)) => {
            Err(Error::Stale { file: OUTPUT, line, found, wanted, command: "cargo xtask bindgen" })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_arguments_are_answered_with_the_legal_ones() {
        let error = run(&["--chek".to_owned()]).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains("--check"), "{error}");
    }

    #[test]
    fn the_committed_bindings_have_what_the_header_declares() {
        let root = Workspace::current().root().to_owned();
        let header = std::fs::read_to_string(root.join(HEADER)).unwrap();
        let bindings = std::fs::read_to_string(root.join(OUTPUT)).unwrap();
        let declared = header.lines().filter_map(|line| line.split("(*").nth(1)?.split(')').next());
        let missing: Vec<&str> = declared.filter(|name| !bindings.contains(&format!("pub {name}"))).collect();
        assert!(missing.iter().all(|name| name.starts_with("Shim")), "{missing:?}");
    }
}
