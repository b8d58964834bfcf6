//! What a program asks of the machine that it is carried to, read from the program itself.

use std::fmt;

use object::elf::{DT_NEEDED, FileHeader64, SHT_DYNSYM};
use object::read::elf::{FileHeader, SectionHeader, SectionTable};
use object::{Endianness, elf};

/// A version of the C library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Glibc {
    /// The number in front of the point.
    pub major: u32,
    /// The number behind it; a third one never carries symbols of its own.
    pub minor: u32,
}

impl fmt::Display for Glibc {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.major, self.minor)
    }
}

/// The newest version of the C library that one file wants, and what it wants it for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// That version.
    pub glibc: Glibc,
    /// A symbol that asks for it; the version's own name where no symbol does.
    pub symbol: String,
}

/// What one program or library needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The processor, by its number in the file format.
    pub machine: u16,
    /// `None` for a file that wants no version of the C library.
    pub need: Option<Need>,
    /// Libraries that the loader has to find, by name.
    pub libraries: Vec<String>,
}

type Header = FileHeader64<Endianness>;

/// Whether `bytes` begin like a program or a library.
pub fn is_elf(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x7fELF")
}

/// Reads what the file needs.
///
/// # Errors
/// What of the format could not be read.
pub fn examine(bytes: &[u8]) -> Result<Facts, object::read::Error> {
    let header = Header::parse(bytes)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, bytes)?;
    let machine = header.e_machine(endian).0;
    let newest = newest(&sections, endian, bytes)?;
    let need = match newest {
        None => None,
        Some((glibc, version)) => {
            let symbol = asking(&sections, endian, bytes, &version)?;
            Some(Need { glibc, symbol: symbol.unwrap_or(version) })
        }
    };
    Ok(Facts { machine, need, libraries: libraries(&sections, endian, bytes)? })
}

/// Whether the constants of the file hold `text`: a path that was compiled in.
///
/// # Errors
/// What of the format could not be read.
pub fn holds(bytes: &[u8], text: &str) -> Result<bool, object::read::Error> {
    let header = Header::parse(bytes)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, bytes)?;
    // Only constants count: the line tables of an unstripped program name every source file.
    let Some((_, section)) = sections.section_by_name(endian, b".rodata") else { return Ok(false) };
    let constants = section.data(endian, bytes)?;
    Ok(!text.is_empty() && constants.windows(text.len()).any(|window| window == text.as_bytes()))
}

/// The newest version of the C library in the table of needed versions, with its name there.
fn newest<'data>(
    sections: &SectionTable<'data, Header>,
    endian: Endianness,
    bytes: &'data [u8],
) -> Result<Option<(Glibc, String)>, object::read::Error> {
    let Some((mut libraries, link)) = sections.gnu_verneed(endian, bytes)? else { return Ok(None) };
    let strings = sections.strings(endian, bytes, link)?;
    let mut newest: Option<(Glibc, String)> = None;
    while let Some((_, mut versions)) = libraries.next()? {
        while let Some(version) = versions.next()? {
            let name = String::from_utf8_lossy(version.name(endian, strings)?).into_owned();
            let glibc = glibc(&name);
            if newest.as_ref().map(|(newest, _)| *newest) < glibc {
                newest = glibc.map(|glibc| (glibc, name));
            }
        }
    }
    Ok(newest)
}

/// The first symbol that wants the version of this name.
fn asking<'data>(
    sections: &SectionTable<'data, Header>,
    endian: Endianness,
    bytes: &'data [u8],
    wanted: &str,
) -> Result<Option<String>, object::read::Error> {
    let Some(versions) = sections.versions(endian, bytes)? else { return Ok(None) };
    let symbols = sections.symbols(endian, bytes, SHT_DYNSYM)?;
    for (index, symbol) in symbols.enumerate() {
        let version = versions.version(versions.version_index(endian, index).index())?;
        if version.is_some_and(|version| version.file().is_some() && version.name() == wanted.as_bytes()) {
            let name = String::from_utf8_lossy(symbols.symbol_name(endian, symbol)?).into_owned();
            return Ok(Some(format!("{name}@{wanted}")));
        }
    }
    Ok(None)
}

fn libraries<'data>(
    sections: &SectionTable<'data, Header>,
    endian: Endianness,
    bytes: &'data [u8],
) -> Result<Vec<String>, object::read::Error> {
    let table = sections.dynamic_table(endian, bytes)?;
    let needed = table.iter().filter(|entry| entry.tag == DT_NEEDED);
    needed.map(|entry| Ok(String::from_utf8_lossy(table.string(entry)?).into_owned())).collect()
}

/// The version that a name such as `GLIBC_2.34` or `GLIBC_2.2.5` stands for; `None` for other libraries.
fn glibc(name: &str) -> Option<Glibc> {
    // Relative relocations in packed form: a promise of the loader that came with this version.
    if name == "GLIBC_ABI_DT_RELR" {
        return Some(Glibc { major: 2, minor: 36 });
    }
    let mut numbers = name.strip_prefix("GLIBC_")?.split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Some(Glibc { major, minor }),
        _ => None,
    }
}

/// How the processor of a file is called in a target triple.
pub fn processor(machine: u16) -> String {
    match elf::Machine(machine) {
        elf::EM_X86_64 => "x86_64".to_owned(),
        elf::EM_AARCH64 => "aarch64".to_owned(),
        other => format!("machine {}", other.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(glibc("GLIBC_2.4") < glibc("GLIBC_2.34"));
        assert_eq!(glibc("GLIBC_2.2.5"), Some(Glibc { major: 2, minor: 2 }));
        assert_eq!(glibc("GLIBC_ABI_DT_RELR"), Some(Glibc { major: 2, minor: 36 }));
        for other in ["GLIBC_PRIVATE", "GLIBCXX_3.4", "GCC_3.0", ""] {
            assert_eq!(glibc(other), None, "{other}");
        }
    }

    /// The program of this very test is a program of the kind that bundles carry.
    #[test]
    fn the_needs_of_a_program_are_read_from_it() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(is_elf(&bytes));
        let facts = examine(&bytes).unwrap();
        assert_eq!(processor(facts.machine), std::env::consts::ARCH);
        assert!(facts.libraries.iter().any(|library| library == "libc.so.6"), "{facts:?}");
        let need = facts.need.unwrap();
        assert!(need.glibc >= Glibc { major: 2, minor: 17 }, "{need:?}");
        let named = format!("@GLIBC_{}", need.glibc);
        assert!(need.symbol.len() > named.len() && need.symbol.contains(&named), "{need:?}");
    }

    #[test]
    fn a_path_that_was_compiled_in_is_found_and_another_is_not() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(holds(&bytes, env!("CARGO_MANIFEST_DIR")).unwrap());
        // Reversed, so that the constant itself is not what is found.
        let absent: String = "erehwon sdnats taht htap a".chars().rev().collect();
        assert!(!holds(&bytes, &absent).unwrap());
    }

    #[test]
    fn a_file_that_is_cut_short_is_an_error() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(examine(&bytes[..100]).is_err());
        assert!(examine(b"\x7fELF").is_err());
        assert!(!is_elf(b"#!/bin/sh"));
    }
}
