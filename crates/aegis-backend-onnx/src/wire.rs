//! Fields of an encoded Protocol Buffers message, as bytes.
//!
//! A piece of a model must keep whatever the file says of its nodes, known to this crate or not. So messages are taken
//! apart into whole fields, and a new message is made of old fields copied as they are.

use prost::encoding::{decode_varint, encode_varint};

/// One field as it stands in its message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field<'a> {
    /// Its number.
    pub number: u32,
    /// Number, length and payload.
    pub whole: &'a [u8],
    /// The payload of a length-delimited field; empty for numbers.
    pub payload: &'a [u8],
}

/// The wire type of fields that carry their length.
const DELIMITED: u64 = 2;

/// The fields of a message in their order; `None` if the message is cut or has groups, which no model file has.
pub(crate) fn fields(message: &[u8]) -> Option<Vec<Field<'_>>> {
    let mut rest = message;
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let start = rest;
        let key = decode_varint(&mut rest).ok()?;
        let number = u32::try_from(key >> 3).ok()?;
        let length = match key & 7 {
            0 => {
                decode_varint(&mut rest).ok()?;
                0
            }
            1 => 8,
            DELIMITED => usize::try_from(decode_varint(&mut rest).ok()?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (payload, behind) = rest.split_at_checked(length)?;
        let whole = &start[..start.len() - behind.len()];
        let payload = if key & 7 == DELIMITED { payload } else { &[] };
        fields.push(Field { number, whole, payload });
        rest = behind;
    }
    Some(fields)
}

/// Appends a length-delimited field to a message.
pub(crate) fn put(message: &mut Vec<u8>, number: u32, payload: &[u8]) {
    encode_varint(u64::from(number) << 3 | DELIMITED, message);
    encode_varint(payload.len() as u64, message);
    message.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_and_put_back_as_they_were() {
        // A number, eight bytes, a text and four bytes.
        let mut message = vec![0x08, 0x96, 0x01, 0x11, 1, 2, 3, 4, 5, 6, 7, 8];
        put(&mut message, 300, b"text");
        message.extend_from_slice(&[0x1D, 9, 9, 9, 9]);
        let found = fields(&message).expect("whole");
        let numbers: Vec<u32> = found.iter().map(|field| field.number).collect();
        assert_eq!(numbers, [1, 2, 300, 3]);
        assert_eq!(found[2].payload, b"text");
        let again: Vec<u8> = found.iter().flat_map(|field| field.whole.iter().copied()).collect();
        assert_eq!(again, message);
    }

    #[test]
    fn a_cut_message_has_no_fields() {
        let mut message = Vec::new();
        put(&mut message, 1, &[7; 200]);
        for length in 1..message.len() {
            assert!(fields(&message[..length]).is_none(), "cut at {length}");
        }
        assert!(fields(&[0x0B]).is_none(), "a group");
    }
}
