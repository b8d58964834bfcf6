//! Compiles the mock library and its stubs.

use std::ffi::CString;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use libloading::Library;

use crate::library::TensorRt;

/// The classes that the vendor's library implements and the backend calls.
const CLASSES: [&str; 3] = ["Runtime", "CudaEngine", "ExecutionContext"];

/// A library of its own for one test, with its own counts.
pub struct Mock {
    pub library: TensorRt,
    handle: Library,
}

impl Mock {
    /// A fresh copy of the mock; `None`, with the reason printed, where it cannot be compiled.
    pub fn fresh() -> Option<Self> {
        static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mock/mock.cpp");
        let built = match BUILT.get_or_init(|| compile(&source, "mock", &[])) {
            Ok(built) => built,
            Err(reason) => {
                println!("skipped: {reason}");
                return None;
            }
        };
        // The loader takes equal files for one library only if they are the same file.
        let copy = named("copy");
        std::fs::copy(built, &copy).unwrap();
        let library = TensorRt::load(&copy).unwrap();
        // SAFETY: `new` runs initialisers: the mock's, which ran before.
        let handle = unsafe { Library::new(&copy) }.unwrap();
        std::fs::remove_file(&copy).unwrap();
        Some(Self { library, handle })
    }

    /// The vendor's objects that are alive, and recorders that are held.
    pub fn live(&self) -> (i32, i32) {
        (self.count(c"mock_live"), self.count(c"mock_references"))
    }

    fn count(&self, name: &std::ffi::CStr) -> i32 {
        // SAFETY: `get` wants the symbol's own type: the mock's source has it.
        let count = unsafe { self.handle.get::<unsafe extern "C" fn() -> i32>(CString::from(name)) }.unwrap();
        // SAFETY: the function takes nothing and reads a counter.
        unsafe { count() }
    }
}

/// A library that only tells a version and perhaps makes a runtime out of a number.
pub fn other(version: i32, runtime: Option<u32>) -> Result<PathBuf, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mock/other.cpp");
    let mut defined = vec![format!("-DOTHER_VERSION={version}")];
    defined.extend(runtime.map(|number| format!("-DOTHER_RUNTIME={number}")));
    compile(&source, "other", &defined)
}

/// Compiles a library for this processor.
fn compile(source: &Path, name: &str, defined: &[String]) -> Result<PathBuf, String> {
    let Some(include) = option_env!("AEGIS_TENSORRT_INCLUDE") else {
        return Err("built without TensorRT headers: `cargo xtask fetch` brings them".to_owned());
    };
    let implementation = Path::new(include).join("NvInferImpl.h");
    let header = std::fs::read_to_string(&implementation)
        .map_err(|error| format!("{} is not here: {error}", implementation.display()))?;
    if cfg!(not(any(tensorrt_10, tensorrt_11))) {
        return Err("the mock is written for headers of TensorRT 10 and 11".to_owned());
    }
    let compiler = compiler()?;
    let stubs = named("stubs");
    std::fs::create_dir_all(&stubs).unwrap();
    std::fs::write(stubs.join("stubs.h"), stubs_of(&header)).unwrap();
    let target = named(name);
    let mut command = Command::new(&compiler);
    command.args(["-std=c++17", "-O1", "-w", "-shared", "-fPIC", "-fvisibility-inlines-hidden", "-pthread"]);
    command.args(defined).arg("-I").arg(&stubs).arg("-isystem").arg(include);
    command.arg("-I").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/shim"));
    let output = command.arg(source).arg("-o").arg(&target).output().map_err(|error| error.to_string())?;
    std::fs::remove_dir_all(&stubs).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(target)
}

/// A name that no other test of any process has, in the build's own folder.
fn named(what: &str) -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    Path::new(env!("OUT_DIR")).join(format!("{what}-{}-{number}", std::process::id()))
}

/// A compiler whose programs run here: under an emulator, the machine's own makes others.
fn compiler() -> Result<String, String> {
    let own = std::env::consts::ARCH;
    let candidates =
        [std::env::var("CXX").unwrap_or_default(), "c++".to_owned(), format!("{own}-linux-gnu-g++")];
    let fits = |name: &&String| {
        let output = Command::new(name.as_str()).arg("-dumpmachine").output();
        output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).starts_with(own))
    };
    let found = candidates.iter().filter(|name| !name.is_empty()).find(fits);
    found
        .cloned()
        .ok_or_else(|| format!("no C++ compiler for {own} (CXX, c++ and {own}-linux-gnu-g++ were tried)"))
}

/// Classes that implement every function of the vendor's, each by ending the process with its name.
fn stubs_of(header: &str) -> String {
    let code: String =
        header.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join(" ");
    let mut text = String::from(
        "#pragma once\n#include <NvInferRuntime.h>\n#include <cstdio>\n#include <cstdlib>\n\
         [[noreturn]] inline void unexpected(char const *name) {\n    \
         std::fprintf(stderr, \"mock library: %s was called\\n\", name);\n    std::abort();\n}\n\
         namespace nvinfer1 {\n",
    );
    for class in CLASSES {
        let head = format!("class V{class} : public VRoot");
        let body = code.split(&head).nth(1).and_then(|rest| rest.split("};").next());
        let body = body.unwrap_or_else(|| panic!("the header has no {head}"));
        writeln!(text, "class Stub{class} : public apiv::V{class} {{\npublic:").unwrap();
        let pure = body.split(';').filter_map(|statement| statement.trim().strip_suffix("= 0"));
        for declaration in pure.filter_map(|statement| statement.split("virtual ").nth(1)) {
            writeln!(text, "    {declaration} override {{ unexpected(\"{class}: {declaration}\"); }}")
                .unwrap();
        }
        text.push_str("};\n");
    }
    text + "}\n"
}
