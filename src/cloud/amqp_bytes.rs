//! The few AMQP encodings that an inner message needs (AMQP 1.0 part 1, section 1.6), written into a buffer.

/// What an inner message of `length` bytes takes in the outer one: a data section around it.
pub fn in_batch(length: usize) -> usize {
    3 + sized_len(length)
}

/// The descriptor of a message section: a small ulong.
pub fn section(out: &mut Vec<u8>, code: u8) {
    out.extend_from_slice(&[0x00, 0x53, code]);
}

/// `list8`, or `list32` where ids are long.
pub fn list_head(out: &mut Vec<u8>, fields: usize, count: u8) {
    match u8::try_from(fields + 1) {
        Ok(size) => out.extend_from_slice(&[0xc0, size, count]),
        Err(_) => {
            let size = u32::try_from(fields + 4).expect("far below 4 GiB");
            out.push(0xd0);
            out.extend_from_slice(&size.to_be_bytes());
            out.extend_from_slice(&u32::from(count).to_be_bytes());
        }
    }
}

/// A variable-width value: `code` is the one-byte form's (str8 a1, sym8 a3, vbin8 a0); the four-byte form's is
/// 0x10 higher.
pub fn sized(out: &mut Vec<u8>, code: u8, bytes: &[u8]) {
    match u8::try_from(bytes.len()) {
        Ok(length) => out.extend_from_slice(&[code, length]),
        Err(_) => {
            out.push(code + 0x10);
            out.extend_from_slice(&u32::try_from(bytes.len()).expect("far below 4 GiB").to_be_bytes());
        }
    }
    out.extend_from_slice(bytes);
}

/// The bytes of such a value: code, length and content.
pub fn sized_len(length: usize) -> usize {
    length + if length < 256 { 2 } else { 5 }
}
