//! A compiler out of Debian's packages, unpacked into one folder: nothing is installed, no architecture is added.
//!
//! Debian keeps a recent compiler for its browsers (`rustc-web`), built for several processors from one source, so that
//! the library for the board and the compiler of this machine fit together. Its version moves with Debian's updates:
//! it is printed, and one that is too old for the workspace is refused.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::TARGET;
use super::toolchain::Toolchain;
use crate::error::Error;
use crate::process;

/// The oldest compiler that the workspace's language and its libraries are known to do with.
const OLDEST: Version = Version { major: 1, minor: 92 };
/// The package of the compiler.
const COMPILER: &str = "rustc-web";

/// A version of the compiler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version {
    major: u32,
    minor: u32,
}

impl Version {
    /// The version at the start of a text such as `1.96.0+dfsg1-1~deb12u2`.
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split('.').map(str::parse::<u32>);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Some(Self { major, minor }),
            _ => None,
        }
    }

    /// # Errors
    /// [`Error::Jetson`] where it is too old.
    fn checked(self, place: &str) -> Result<Self, Error> {
        if self >= OLDEST {
            return Ok(self);
        }
        let (Self { major, minor }, oldest) = (self, OLDEST);
        Err(Error::Jetson(format!(
            "{place} is Rust {major}.{minor}; the build needs {}.{} or newer. Debian's security updates bring a newer \
             one where the machine's sources name them; `--std rustup` is the other way",
            oldest.major, oldest.minor
        )))
    }
}

/// Whether the compiler lies unpacked in `folder`.
pub fn is_present(folder: &Path) -> bool {
    programs(folder).join("rustc").is_file()
}

/// The compiler in `folder`, downloaded and unpacked if it is not there.
///
/// # Errors
/// Failures of apt and dpkg, [`Error::Io`], [`Error::Jetson`] where the compiler is too old or does not serve.
pub fn toolchain(folder: &Path) -> Result<Toolchain, Error> {
    if !is_present(folder) {
        unpack(folder)?;
    }
    let programs = programs(folder);
    let version = said(Command::new(programs.join("rustc")).arg("--version"))?;
    println!("compiler for {TARGET}: {} ({})", version.trim(), folder.display());
    let number = version.split_whitespace().nth(1).and_then(Version::parse);
    let unknown = || Error::Jetson(format!("{} says no version: {version}", programs.display()));
    number.ok_or_else(unknown)?.checked("the unpacked compiler")?;
    Ok(Toolchain::in_folder(programs))
}

/// Where the programs of an unpacked compiler lie.
fn programs(folder: &Path) -> PathBuf {
    folder.join("debian").join("programs")
}

/// Downloads the packages and unpacks them; the folder gets its name only when it is whole.
fn unpack(folder: &Path) -> Result<(), Error> {
    let apt = Apt { folder: folder.to_owned() };
    apt.make_ready()?;
    process::run(&mut apt.command("apt-get", &["update"]), None)?;
    let packages = apt.packages()?;
    let downloads = folder.join("packages");
    std::fs::create_dir_all(&downloads).map_err(Error::io("create", &downloads))?;
    let mut download = apt.command("apt-get", &["download"]);
    process::run(download.args(&packages).current_dir(&downloads), None)?;
    let scratch = tempfile::Builder::new()
        .prefix(".partial-")
        .tempdir_in(folder)
        .map_err(Error::io("create a scratch folder in", folder))?;
    let made = scratch.path().join("debian");
    std::fs::create_dir(&made).map_err(Error::io("create", &made))?;
    for package in newest(&downloads, &packages)? {
        process::run(Command::new("dpkg").arg("-x").arg(package).arg(&made), None)?;
    }
    let programs = made.join("programs");
    std::fs::create_dir(&programs).map_err(Error::io("create", &programs))?;
    for name in ["rustc", "rustdoc"] {
        write_wrapper(&programs.join(name), name)?;
    }
    let place = folder.join("debian");
    if place.exists() {
        std::fs::remove_dir_all(&place).map_err(Error::io("remove", &place))?;
    }
    std::fs::rename(&made, &place).map_err(Error::io("write", &place))
}

/// The file of each package among the downloads; of several versions that which came last.
fn newest(downloads: &Path, packages: &[String]) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(downloads).map_err(Error::io("read", downloads))? {
        let entry = entry.map_err(Error::io("read", downloads))?;
        let path = entry.path();
        let modified = entry.metadata().and_then(|facts| facts.modified());
        files.push((modified.map_err(Error::io("read", &path))?, path));
    }
    files.sort();
    let of = |package: &String| {
        let (name, processor) = package.split_once(':').unwrap_or((package, "amd64"));
        let is_it = |path: &Path| {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            file.starts_with(&format!("{name}_")) && file.ends_with(&format!("_{processor}.deb"))
        };
        let found = files.iter().rev().find(|(_, path)| is_it(path));
        found
            .map(|(_, path)| path.clone())
            .ok_or_else(|| Error::Jetson(format!("apt left no file of {package}")))
    };
    packages.iter().map(of).collect()
}

/// A program that is started with the libraries of its own folder, wherever that lies.
fn write_wrapper(path: &Path, name: &str) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    let text = format!(
        "#!/bin/sh\nhere=${{0%/*}}/../usr\n\
         LD_LIBRARY_PATH=$here/lib/x86_64-linux-gnu${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}\n\
         export LD_LIBRARY_PATH\nexec \"$here/bin/{name}\" \"$@\"\n"
    );
    std::fs::write(path, text).map_err(Error::io("write", path))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).map_err(Error::io("write", path))
}

/// Apt with lists and a cache of its own, which knows two processors whatever the system's does.
struct Apt {
    folder: PathBuf,
}

impl Apt {
    fn state(&self) -> PathBuf {
        self.folder.join("apt")
    }

    /// # Errors
    /// [`Error::Io`].
    fn make_ready(&self) -> Result<(), Error> {
        for part in ["lists/partial", "archives/partial"] {
            let folder = self.state().join(part);
            std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        }
        // An empty list of installed packages: nothing here depends on what the system has.
        let status = self.state().join("status");
        std::fs::write(&status, "").map_err(Error::io("write", &status))
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let state = self.state();
        let mut command = Command::new(program);
        for (option, place) in [
            ("Dir::State", ""),
            ("Dir::State::Lists", "lists"),
            ("Dir::State::status", "status"),
            ("Dir::Cache", ""),
            ("Dir::Cache::archives", "archives"),
        ] {
            command.arg("-o").arg(format!("{option}={}", state.join(place).display()));
        }
        // The download belongs to this user: apt's own user could not write below a home folder.
        for option in ["APT::Sandbox::User=root", "APT::Architecture=amd64"] {
            command.args(["-o", option]);
        }
        for processor in ["amd64", "arm64"] {
            command.args(["-o", &format!("APT::Architectures::={processor}")]);
        }
        command.args(arguments);
        command
    }

    /// The packages of the newest compiler, with what it needs to start.
    ///
    /// # Errors
    /// [`Error::Jetson`] where there is none, or it is too old.
    fn packages(&self) -> Result<Vec<String>, Error> {
        let compiler = self.fields(COMPILER)?;
        let none =
            || Error::Jetson(format!("apt knows no package {COMPILER}; `--std rustup` is the other way"));
        let text = field(&compiler, "Version").ok_or_else(none)?;
        let version = Version::parse(text).ok_or_else(none)?.checked(&format!("{COMPILER} {text}"))?;
        println!("{COMPILER} {text}");
        let driver = format!("libstd-rust-web-{}.{}", version.major, version.minor);
        let backend = self.fields(&driver)?;
        let dependencies = field(&backend, "Depends").unwrap_or_default();
        let mut names = dependencies.split(',').map(|one| one.split_whitespace().next().unwrap_or_default());
        let backend = names.find(|name| name.starts_with("libllvm"));
        let backend = backend.ok_or_else(|| Error::Jetson(format!("{driver} names no code generator")))?;
        let libraries = ["libstd-rust-web-dev", "libstd-rust-web-dev:arm64"];
        let all = [COMPILER, &driver, backend].into_iter().chain(libraries);
        Ok(all.map(str::to_owned).collect())
    }

    fn fields(&self, package: &str) -> Result<String, Error> {
        said(&mut self.command("apt-cache", &["show", "--no-all-versions", package]))
    }
}

/// The value of a field of a package's description.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// What a program writes.
fn said(command: &mut Command) -> Result<String, Error> {
    let line = process::line(command);
    let output = command.output().map_err(|source| Error::Start { command: line.clone(), source })?;
    match process::code_of(output.status) {
        0 => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        code => {
            eprint!("{}", String::from_utf8_lossy(&output.stderr));
            Err(Error::Failed { command: line, code })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_packages_are_read_and_old_ones_refused() {
        let version = Version::parse("1.96.0+dfsg1-1~deb12u2").unwrap();
        assert_eq!(version, Version { major: 1, minor: 96 });
        assert!(version.checked("x").is_ok());
        assert!(Version::parse("1.92.0").unwrap().checked("x").is_ok());
        let error =
            Version::parse("1.85.0+dfsg3").unwrap().checked("rustc-web 1.85.0").unwrap_err().to_string();
        for word in ["rustc-web 1.85.0", "1.92", "`--std rustup`"] {
            assert!(error.contains(word), "{error}");
        }
        assert_eq!(Version::parse("unknown"), None);
    }

    #[test]
    fn fields_are_read_by_their_whole_name() {
        let text = "Package: p\nVersion: 1.96\nDepends: libc6 (>= 2.34), libllvm22\n";
        assert_eq!(field(text, "Version"), Some("1.96"));
        assert_eq!(field(text, "Depend"), None);
    }

    #[test]
    fn the_last_download_of_each_processor_counts() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        for name in ["p_1_amd64.deb", "p_2_amd64.deb", "p_2_arm64.deb", "p-dev_2_amd64.deb"] {
            std::fs::write(file(name), "").unwrap();
            let stamp = std::time::SystemTime::UNIX_EPOCH
                + std::time::Duration::from_secs(if name.contains("_1_") { 1 } else { 2 });
            std::fs::File::options().write(true).open(file(name)).unwrap().set_modified(stamp).unwrap();
        }
        let wanted = ["p".to_owned(), "p:arm64".to_owned()];
        let found = newest(folder.path(), &wanted).unwrap();
        assert_eq!(found, [file("p_2_amd64.deb"), file("p_2_arm64.deb")]);
        let error = newest(folder.path(), &["q".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("no file of q"), "{error}");
    }

    #[test]
    fn a_wrapper_starts_the_program_beside_it_wherever_the_folder_lies() {
        let folder = tempfile::tempdir().unwrap();
        for place in ["usr/bin", "programs"] {
            std::fs::create_dir_all(folder.path().join(place)).unwrap();
        }
        write_wrapper(&folder.path().join("programs/rustc"), "rustc").unwrap();
        let program = folder.path().join("usr/bin/rustc");
        write_wrapper(&program, "unused").unwrap();
        std::fs::write(&program, "#!/bin/sh\necho \"$LD_LIBRARY_PATH|$1\"\n").unwrap();
        let mut command = Command::new(folder.path().join("programs/rustc"));
        let text = said(command.arg("two words").env_remove("LD_LIBRARY_PATH")).unwrap();
        assert!(text.ends_with("usr/lib/x86_64-linux-gnu|two words\n"), "{text}");
    }
}
