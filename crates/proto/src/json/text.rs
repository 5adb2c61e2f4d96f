//! JSON text of single values.

use base64::{Engine as _, engine::general_purpose::STANDARD};

pub(crate) fn boolean(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

pub(crate) fn integer(out: &mut Vec<u8>, value: impl serde::Serialize) {
    serde_json::to_writer(out, &value).expect("writing to memory cannot fail");
}

/// JSON has no infinities; as strings the reader takes them back.
pub(crate) fn double(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        serde_json::to_writer(out, &value).expect("writing to memory cannot fail");
    } else if value.is_nan() {
        out.extend_from_slice(b"\"NaN\"");
    } else {
        out.extend_from_slice(if value > 0.0 { b"\"Infinity\"" } else { b"\"-Infinity\"" });
    }
}

pub(crate) fn string(out: &mut Vec<u8>, value: &str) {
    quoted(out, value.as_bytes());
}

/// Writes text that is known to be UTF-8.
pub(crate) fn quoted(out: &mut Vec<u8>, value: &[u8]) {
    out.push(b'"');
    let mut plain = 0;
    for (place, byte) in value.iter().enumerate() {
        if *byte >= b' ' && *byte != b'"' && *byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&value[plain..place]);
        plain = place + 1;
        escape(out, *byte);
    }
    out.extend_from_slice(&value[plain..]);
    out.push(b'"');
}

fn escape(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        0x0c => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => {
            out.extend_from_slice(b"\\u00");
            out.extend([HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            return;
        }
    };
    out.extend([b'\\', short]);
}

pub(crate) fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    out.push(b'"');
    let start = out.len();
    // Three bytes become four characters, the last group padded.
    out.resize(start + value.len().div_ceil(3) * 4, 0);
    let written = STANDARD.encode_slice(value, &mut out[start..]).expect("the space was measured");
    out.truncate(start + written);
    out.push(b'"');
}
