//! How programs for the board are run on this machine: by qemu, in a root that looks like a board's.
//!
//! The root holds the libraries of the target and a description of the processor. Without the latter ONNX Runtime reads
//! this machine's, which is another architecture's, and dies.

use std::ffi::OsString;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::packages::{EMULATOR, LIBRARIES};
use crate::error::Error;

/// The processor that is emulated. Orin's cores (Cortex-A78AE) are of the same generation.
const PROCESSOR: &str = "cortex-a76";

/// One core as the kernel of an Arm board describes it; part 0xd42 is the Cortex-A78AE.
const CORE: &str = "\
BogoMIPS\t: 62.50
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd42
CPU revision\t: 1

";

/// An emulator with its root, in a folder.
#[derive(Debug)]
pub struct Emulator {
    folder: PathBuf,
}

impl Emulator {
    /// Writes the root for a machine of `cores` cores, and the wrapper that starts programs in it, into `folder`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn prepare(folder: &Path, cores: usize) -> Result<Self, Error> {
        let root = folder.join("root");
        let system = root.join("proc");
        std::fs::create_dir_all(&system).map_err(Error::io("create", &system))?;
        let description = system.join("cpuinfo");
        std::fs::write(&description, described(cores)).map_err(Error::io("write", &description))?;
        let libraries = root.join("lib");
        if libraries.symlink_metadata().is_err() {
            symlink(LIBRARIES, &libraries).map_err(Error::io("link", &libraries))?;
        }
        Ok(Self { folder: folder.to_owned() })
    }

    /// What the emulator is told, for every program that it starts.
    pub fn variables(&self) -> Vec<(&'static str, OsString)> {
        vec![("QEMU_LD_PREFIX", self.folder.join("root").into_os_string()), ("QEMU_CPU", PROCESSOR.into())]
    }

    /// A program of this machine that starts `program` of the board's, for those who start it by its path.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn wrapper(&self, name: &str, program: &Path) -> Result<PathBuf, Error> {
        let path = self.folder.join(name);
        let program = program.display();
        let text = format!("#!/bin/sh\nexec {EMULATOR} '{program}' \"$@\"\n");
        std::fs::write(&path, text).map_err(Error::io("write", &path))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
            .map_err(Error::io("write", &path))?;
        Ok(path)
    }
}

/// Cores of this machine that the emulated one has too.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn described(cores: usize) -> String {
    (0..cores).map(|core| format!("processor\t: {core}\n{CORE}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_describes_a_board_and_can_be_made_twice() {
        let folder = tempfile::tempdir().unwrap();
        Emulator::prepare(folder.path(), 2).unwrap();
        let emulator = Emulator::prepare(folder.path(), 3).unwrap();
        let text = std::fs::read_to_string(folder.path().join("root/proc/cpuinfo")).unwrap();
        assert_eq!(text.matches("processor\t: ").count(), 3);
        assert_eq!(text.matches("CPU part\t: 0xd42").count(), 3);
        let libraries = std::fs::read_link(folder.path().join("root/lib")).unwrap();
        assert_eq!(libraries, Path::new(LIBRARIES));
        let root = emulator.variables()[0].1.clone();
        assert_eq!(PathBuf::from(root), folder.path().join("root"));
    }
}
