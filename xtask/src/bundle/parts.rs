//! One compressed archive of a folder, cut into parts of a given size, and the script that puts
//! them together again where only a shell, the core utilities, tar and gzip are.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use tar::{Builder, Header};

use super::folder::{self, Folder};
use crate::error::Error;
use crate::fetch::hexadecimal;

const ASSEMBLE: &str = include_str!("scripts/assemble.sh");

/// One part that was written.
#[derive(Debug, PartialEq, Eq)]
pub struct Part {
    /// Its file name.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
}

/// Writes the archive of `source`, in which everything lies below `name`, in parts into `target`,
/// with the list of their hashes and the script.
///
/// Equal folders give equal parts: names are sorted, and neither times nor owners are carried.
///
/// # Errors
/// [`Error::Io`].
pub fn write(source: &Path, name: &str, part_bytes: u64, target: &Path) -> Result<Vec<Part>, Error> {
    std::fs::create_dir_all(target).map_err(Error::io("create", target))?;
    let splitter = Splitter::new(target, &format!("{name}.tar.gz.part-"), part_bytes);
    let failed = |error| Error::io("write the parts in", target)(error);
    let parts = archive(source, name, splitter)?.finish().map_err(failed)?;
    let list: String = parts.iter().map(|part| format!("{}  {}\n", part.sha256, part.name)).collect();
    let target = Folder::at(target);
    target.text("PARTS.sha256", &list)?;
    target.script("assemble.sh", &ASSEMBLE.replace("@NAME@", name))?;
    Ok(parts)
}

fn archive(source: &Path, name: &str, splitter: Splitter) -> Result<Splitter, Error> {
    let mut builder = Builder::new(GzEncoder::new(splitter, Compression::default()));
    for path in folder::files_below(source)? {
        let file = source.join(&path);
        let facts = std::fs::metadata(&file).map_err(Error::io("read", &file))?;
        let mut header = Header::new_gnu();
        header.set_size(facts.len());
        header.set_mode(folder::mode(&facts));
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        let content = File::open(&file).map_err(Error::io("open", &file))?;
        let place = Path::new(name).join(&path);
        builder.append_data(&mut header, place, content).map_err(Error::io("pack", &file))?;
    }
    let packed = builder.into_inner().and_then(GzEncoder::finish);
    packed.map_err(Error::io("pack", source))
}

/// Writes a stream of bytes into files of at most a given size.
struct Splitter {
    folder: PathBuf,
    prefix: String,
    part_bytes: u64,
    open: Option<OpenPart>,
    parts: Vec<Part>,
}

struct OpenPart {
    name: String,
    file: BufWriter<File>,
    digest: Sha256,
    bytes: u64,
}

impl Splitter {
    fn new(folder: &Path, prefix: &str, part_bytes: u64) -> Self {
        let (folder, prefix) = (folder.to_owned(), prefix.to_owned());
        Self { folder, prefix, part_bytes, open: None, parts: Vec::new() }
    }

    fn start(&self) -> std::io::Result<OpenPart> {
        let name = format!("{}{:03}", self.prefix, self.parts.len() + 1);
        let file = BufWriter::new(File::create(self.folder.join(&name))?);
        Ok(OpenPart { name, file, digest: Sha256::new(), bytes: 0 })
    }

    fn finish(mut self) -> std::io::Result<Vec<Part>> {
        self.close()?;
        Ok(self.parts)
    }

    fn close(&mut self) -> std::io::Result<()> {
        if let Some(mut part) = self.open.take() {
            part.file.flush()?;
            let sha256 = hexadecimal(&part.digest.finalize());
            self.parts.push(Part { name: part.name, bytes: part.bytes, sha256 });
        }
        Ok(())
    }
}

impl Write for Splitter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut part = match self.open.take() {
            Some(part) => part,
            None => self.start()?,
        };
        let room = usize::try_from(self.part_bytes - part.bytes).unwrap_or(usize::MAX);
        let taken = &bytes[..bytes.len().min(room)];
        part.file.write_all(taken)?;
        part.digest.update(taken);
        part.bytes += taken.len() as u64;
        let full = part.bytes == self.part_bytes;
        self.open = Some(part);
        if full {
            self.close()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.open.as_mut().map_or(Ok(()), |part| part.file.flush())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Output};

    /// A folder with a program in it, packed in parts of 1 KiB.
    fn packed(folder: &Path) -> (PathBuf, Vec<Part>) {
        let source = folder.join("source");
        let content = Folder::at(&source);
        content.script("run.sh", "#!/bin/sh\necho it runs\n").unwrap();
        // Bytes without a pattern, so that they need several parts even when compressed.
        let noise: String =
            (0_u64..100).map(|seed| hexadecimal(&Sha256::digest(seed.to_le_bytes()))).collect();
        content.text("deep/noise", &noise).unwrap();
        folder::write_sums(&source).unwrap();
        let target = folder.join("parts");
        let parts = write(&source, "made", 1024, &target).unwrap();
        (target, parts)
    }

    /// As another machine would run it: nothing of this one's environment.
    fn assemble(parts: &Path, destination: &Path) -> Output {
        let mut command = Command::new("sh");
        command.arg(parts.join("assemble.sh")).arg(destination);
        command.env_clear().env("PATH", "/usr/bin:/bin").current_dir("/").output().unwrap()
    }

    fn entries(folder: &Path) -> usize {
        std::fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn parts_have_the_size_asked_for_and_give_the_folder_back() {
        let folder = tempfile::tempdir().unwrap();
        let (target, parts) = packed(folder.path());
        assert!(parts.len() > 3, "{parts:?}");
        let (last, others) = parts.split_last().unwrap();
        assert!(others.iter().all(|part| part.bytes == 1024) && last.bytes <= 1024, "{parts:?}");
        let destination = folder.path().join("there");
        std::fs::create_dir(&destination).unwrap();
        let output = assemble(&target, &destination);
        assert!(output.status.success(), "{output:?}");
        let ran = Command::new(destination.join("made/run.sh")).output().unwrap();
        assert_eq!(ran.stdout, b"it runs\n");
        let read = |path: &Path| std::fs::read(path.join("deep/noise")).unwrap();
        assert_eq!(read(&destination.join("made")), read(&folder.path().join("source")));
        assert_eq!(entries(&destination), 1, "the scratch folder stayed");
        assert!(!assemble(&target, &destination).status.success(), "it replaced what was there");
    }

    #[test]
    fn a_missing_and_a_damaged_part_are_named_and_nothing_is_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let (target, parts) = packed(folder.path());
        std::fs::remove_file(target.join(&parts[0].name)).unwrap();
        let damaged = target.join(&parts[2].name);
        let mut bytes = std::fs::read(&damaged).unwrap();
        bytes[512] ^= 1;
        std::fs::write(&damaged, bytes).unwrap();
        let destination = folder.path().join("there");
        std::fs::create_dir(&destination).unwrap();
        let output = assemble(&target, &destination);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success());
        assert!(said.contains(&format!("{} is missing", parts[0].name)), "{said}");
        assert!(said.contains(&format!("{} is damaged", parts[2].name)), "{said}");
        assert_eq!(entries(&destination), 0);
    }

    #[test]
    fn equal_folders_give_equal_parts() {
        let folders = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert_eq!(packed(folders.0.path()).1, packed(folders.1.path()).1);
    }
}
