//! Constants that a model keeps in other files, brought into it before anything else looks at it.
//!
//! Exporters put the data of large constants into a file beside the model. A model is one piece of bytes everywhere else
//! here: it is hashed, described, cut and loaded as a whole, and what lies in another file could change in between. So what a
//! constant names is copied to where it would stand otherwise, and the rest of the model is left as it is, known to this crate
//! or not.

use std::collections::BTreeMap;

use aegis_cuda::{BackendError, Beside};
use prost::Message as _;

use crate::proto::EXTERNAL_DATA;
use crate::wire::{Field, fields, put};

/// No message holds more, and the library opens none that does.
const MODEL_MOST: usize = i32::MAX as usize;
/// As deep as the decoder goes into messages; it says so itself of what is deeper.
const DEEPEST: u32 = 100;

/// Whatever is wrong with a file beside a model, the answer is the same.
const LEGAL: &str = "; legal is a file in the model's folder that holds the data";

const RAW_DATA: u32 = 9;
const ENTRIES: u32 = 13;
const LOCATION: u32 = 14;

/// Messages in which constants are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Model,
    Graph,
    Function,
    Node,
    Attribute,
    Sparse,
    Tensor,
}

impl Kind {
    /// What the field of that number holds, if constants may be in it.
    const fn below(self, number: u32) -> Option<Self> {
        match (self, number) {
            (Self::Model, 7) | (Self::Attribute, 6 | 11) => Some(Self::Graph),
            (Self::Model, 25) => Some(Self::Function),
            (Self::Graph, 1) | (Self::Function, 7) => Some(Self::Node),
            (Self::Node, 5) | (Self::Function, 11) => Some(Self::Attribute),
            (Self::Graph, 15) | (Self::Attribute, 22 | 23) => Some(Self::Sparse),
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) | (Self::Sparse, 1 | 2) => Some(Self::Tensor),
            _ => None,
        }
    }
}

/// What of a constant says where its data is.
#[derive(Clone, PartialEq, prost::Message)]
struct Place {
    #[prost(string, tag = "8")]
    name: String,
    #[prost(message, repeated, tag = "13")]
    entries: Vec<Entry>,
    #[prost(int32, tag = "14")]
    location: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Entry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// The model with every constant in it. Bytes that are no model come back as they are: who inspects them says so.
///
/// # Errors
/// [`BackendError::InvalidModel`] naming the constant and the file that cannot be read or does not hold its data, or that the
/// whole is larger than a model may be.
pub(crate) fn complete(model: &str, artifact: Vec<u8>, beside: Beside<'_>) -> Result<Vec<u8>, BackendError> {
    let mut gathered = Gathered { beside, files: BTreeMap::new() };
    let whole = gathered.rewritten(Kind::Model, &artifact, 0);
    let invalid = |reason| BackendError::InvalidModel { model: model.to_owned(), reason };
    let Some(whole) = whole.map_err(invalid)? else { return Ok(artifact) };
    if whole.len() > MODEL_MOST {
        return Err(invalid(format!(
            "it has {} B with its data; legal is at most {MODEL_MOST} B",
            whole.len()
        )));
    }
    Ok(whole)
}

/// Files beside a model, each read once.
struct Gathered<'a> {
    beside: Beside<'a>,
    files: BTreeMap<String, Vec<u8>>,
}

impl Gathered<'_> {
    /// A message with the data of its constants; `None` where nothing is missing, or it is none that can be read.
    fn rewritten(&mut self, kind: Kind, message: &[u8], depth: u32) -> Result<Option<Vec<u8>>, String> {
        let Some(parts) = fields(message).filter(|_| depth < DEEPEST) else { return Ok(None) };
        if kind == Kind::Tensor {
            return self.tensor(message, &parts);
        }
        let mut changed: Vec<Option<Vec<u8>>> = Vec::with_capacity(parts.len());
        for part in &parts {
            changed.push(match kind.below(part.number) {
                Some(below) => self.rewritten(below, part.payload, depth + 1)?,
                None => None,
            });
        }
        if changed.iter().all(Option::is_none) {
            return Ok(None);
        }
        let mut whole = Vec::new();
        for (part, changed) in parts.iter().zip(changed) {
            match changed {
                Some(payload) => put(&mut whole, part.number, &payload),
                None => whole.extend_from_slice(part.whole),
            }
        }
        Ok(Some(whole))
    }

    fn tensor(&mut self, message: &[u8], parts: &[Field<'_>]) -> Result<Option<Vec<u8>>, String> {
        let Ok(place) = Place::decode(message) else { return Ok(None) };
        if place.location != EXTERNAL_DATA {
            return Ok(None);
        }
        let data = self.data(&place).map_err(|reason| format!("constant `{}` {reason}", place.name))?;
        let kept = parts.iter().filter(|part| ![RAW_DATA, ENTRIES, LOCATION].contains(&part.number));
        let mut whole: Vec<u8> = kept.flat_map(|part| part.whole.iter().copied()).collect();
        put(&mut whole, RAW_DATA, &data);
        Ok(Some(whole))
    }

    fn data(&mut self, place: &Place) -> Result<Vec<u8>, String> {
        let entry = |key: &str| place.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value);
        let number = |key: &str| {
            let read = |text: &String| {
                text.parse::<usize>()
                    .map_err(|_| format!("has `{text}` as its {key}; legal is a whole number"))
            };
            entry(key).map(read).transpose()
        };
        let location =
            entry("location").ok_or("lies in another file that is not named; legal is a location")?;
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
        if !self.files.contains_key(location) {
            let file = (self.beside)(location)
                .map_err(|error| format!("lies in `{location}`, which cannot be read: {error}{LEGAL}"))?;
            self.files.insert(location.clone(), file);
        }
        let file = &self.files[location];
        let end = length.map_or(Some(file.len()), |length| offset.checked_add(length));
        let found = end.and_then(|end| file.get(offset..end));
        found.map(<[u8]>::to_vec).ok_or_else(|| {
            let length = length.map_or_else(|| "the rest".to_owned(), |length| format!("{length} B"));
            format!("takes {length} from {offset} on of `{location}`, which has {} B{LEGAL}", file.len())
        })
    }
}

#[cfg(test)]
mod tests {
    use prost::encoding::encode_varint;

    use super::*;
    use crate::proto::{GraphProto, ModelProto};

    /// A tensor of two numbers that names its place by these entries, and a field that nobody here knows.
    fn tensor(name: &str, entries: &[(&str, &str)]) -> Vec<u8> {
        let mut tensor = vec![0x08, 2, 0x10, 1];
        put(&mut tensor, 8, name.as_bytes());
        for (key, value) in entries {
            let mut entry = Vec::new();
            put(&mut entry, 1, key.as_bytes());
            put(&mut entry, 2, value.as_bytes());
            put(&mut tensor, ENTRIES, &entry);
        }
        encode_varint(u64::from(LOCATION) << 3, &mut tensor);
        encode_varint(u64::from(!entries.is_empty()), &mut tensor);
        put(&mut tensor, 99, b"unknown");
        tensor
    }

    fn within(numbers: &[u32], payload: &[u8]) -> Vec<u8> {
        numbers.iter().rev().fold(payload.to_vec(), |payload, number| {
            let mut message = Vec::new();
            put(&mut message, *number, &payload);
            message
        })
    }

    fn completed(artifact: &[u8]) -> Result<(Vec<u8>, usize), String> {
        let mut reads = 0;
        let mut beside = |path: &str| {
            reads += 1;
            match path {
                "w.data" => Ok((0..32).collect()),
                _ => Err(std::io::ErrorKind::NotFound.into()),
            }
        };
        let whole = complete("m", artifact.to_vec(), &mut beside).map_err(|error| error.to_string())?;
        Ok((whole, reads))
    }

    #[test]
    fn constants_are_brought_in_wherever_they_stand() {
        let far = [("location", "w.data"), ("offset", "4"), ("length", "8")];
        // Initializers, sparse ones, attributes of nodes, of bodies of control flow and of functions.
        let places: [&[u32]; 7] = [
            &[7, 5],
            &[7, 15, 2],
            &[7, 1, 5, 5],
            &[7, 1, 5, 10],
            &[7, 1, 5, 22, 1],
            &[7, 1, 5, 6, 5],
            &[25, 7, 5, 5],
        ];
        for place in places {
            let artifact = within(place, &tensor("w", &far));
            let (whole, reads) = completed(&artifact).expect("it is there");
            let found = place.iter().fold(whole, |message, number| {
                let parts = fields(&message).expect("whole");
                parts.iter().find(|part| part.number == *number).expect("as before").payload.to_vec()
            });
            let parts = fields(&found).expect("whole");
            let of = |number| parts.iter().find(|part| part.number == number).map(|part| part.payload);
            assert_eq!(of(RAW_DATA), Some(&[4, 5, 6, 7, 8, 9, 10, 11][..]), "{place:?}");
            assert_eq!((of(ENTRIES), of(LOCATION), of(99)), (None, None, Some(&b"unknown"[..])), "{place:?}");
            assert_eq!(reads, 1);
        }
    }

    #[test]
    fn a_file_is_read_once_and_a_whole_model_stays_as_it_is() {
        let mut graph = Vec::new();
        for name in ["a", "b"] {
            put(&mut graph, 5, &tensor(name, &[("location", "w.data"), ("length", "8")]));
        }
        let (whole, reads) = completed(&within(&[7], &graph)).expect("they are there");
        let model = ModelProto::decode(whole.as_slice()).expect("a model");
        let data: Vec<_> = model.graph.unwrap_or_else(GraphProto::default).initializer;
        assert_eq!(
            data.iter().filter(|tensor| tensor.raw_data.as_ref().is_some_and(|it| it.len() == 8)).count(),
            2
        );
        assert_eq!(reads, 1);
        for artifact in [within(&[7, 5], &tensor("w", &[])), vec![0xFF, 0xFF], Vec::new()] {
            assert_eq!(completed(&artifact), Ok((artifact.clone(), 0)));
        }
    }

    /// What a tensor says of its place, and words of the refusal.
    type Case = (&'static [(&'static str, &'static str)], &'static [&'static str]);

    #[test]
    fn what_is_not_there_is_named() {
        let cases: [Case; 6] = [
            (&[("location", "x.data")], &["`w`", "`x.data`", "cannot be read"]),
            (&[("offset", "4")], &["`w`", "not named"]),
            (&[("location", "w.data"), ("offset", "-1")], &["`w`", "`-1` as its offset", "whole number"]),
            (&[("location", "w.data"), ("length", "many")], &["`many` as its length"]),
            (&[("location", "w.data"), ("offset", "30"), ("length", "8")], &["8 B from 30", "has 32 B"]),
            (&[("location", "w.data"), ("offset", "33")], &["the rest from 33", "has 32 B"]),
        ];
        for (entries, words) in cases {
            let error = completed(&within(&[7, 5], &tensor("w", entries))).expect_err("it is not there");
            assert!(words.iter().all(|word| error.contains(word)), "{entries:?}: {error}");
        }
    }
}
