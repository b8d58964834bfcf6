//! Where a model is cut, written in the model file itself.
//!
//! The file stays a valid model that any other program runs whole: the cuts are one entry of its metadata, named
//! [`KEY`], that lists tensors, one a line. Each cut lies right behind the node that makes the tensor, in the order in
//! which the file lists its nodes.

use aegis_cuda::BackendError;
use prost::Message;

use crate::wire::{self, Field};

/// The name of the metadata entry.
pub(super) const KEY: &str = "aegis.cuts";

/// The field of a model that holds metadata.
const METADATA: u32 = 14;

/// An entry of the metadata.
#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// Whether a field of a model is the entry that lists cuts.
pub(super) fn is_cuts(field: &Field<'_>) -> bool {
    field.number == METADATA && Entry::decode(field.payload).is_ok_and(|entry| entry.key == KEY)
}

/// The tensors behind which a model file says that it is cut; none for a model that runs whole.
///
/// # Errors
/// [`BackendError::InvalidModel`] if it says so twice.
pub(super) fn read(model: &str, artifact: &[u8]) -> Result<Vec<String>, BackendError> {
    let entries = wire::fields(artifact).unwrap_or_default();
    let mut found = entries.iter().filter(|field| is_cuts(field));
    let (first, second) = (found.next(), found.next());
    if second.is_some() {
        let reason = format!("its metadata has `{KEY}` more than once; legal is once");
        return Err(BackendError::InvalidModel { model: model.to_owned(), reason });
    }
    let entry = first.and_then(|field| Entry::decode(field.payload).ok());
    Ok(entry.map_or_else(Vec::new, |entry| entry.value.lines().map(str::to_owned).collect()))
}

/// The same file with these cuts and no others. Everything else stays byte for byte.
pub(super) fn write(artifact: &[u8], tensors: &[String]) -> Vec<u8> {
    let mut written = without(artifact);
    if !tensors.is_empty() {
        let entry = Entry { key: KEY.to_owned(), value: tensors.join("\n") };
        wire::put(&mut written, METADATA, &entry.encode_to_vec());
    }
    written
}

/// The same file without cuts.
fn without(artifact: &[u8]) -> Vec<u8> {
    let Some(fields) = wire::fields(artifact) else { return artifact.to_vec() };
    let kept = fields.iter().filter(|field| !is_cuts(field));
    kept.flat_map(|field| field.whole.iter().copied()).collect()
}

/// Whether a tensor's name can stand in a list of one a line.
pub(super) fn is_writable(tensor: &str) -> bool {
    !tensor.is_empty() && !tensor.contains(['\n', '\r'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_replaced() {
        let mut model = vec![0x08, 8];
        wire::put(&mut model, METADATA, &Entry { key: "author".into(), value: "x".into() }.encode_to_vec());
        let tensors = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(read("m", &model), Ok(vec![]));
        let cut = write(&model, &tensors(&["a", "b/c"]));
        assert_eq!(read("m", &cut), Ok(tensors(&["a", "b/c"])));
        assert_eq!(read("m", &write(&cut, &tensors(&["z"]))), Ok(tensors(&["z"])));
        assert_eq!(write(&cut, &[]), model, "the rest is as it was");
        let twice = [cut.as_slice(), &cut[model.len()..]].concat();
        assert!(read("m", &twice).unwrap_err().to_string().contains("more than once"));
    }
}
