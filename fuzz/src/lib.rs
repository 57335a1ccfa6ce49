//! How the bytes of a fuzzer become changes of sound metadata.

use serde_json::{Map, Value};

/// Changes `bytes` where the input says: position (two bytes), how many bytes go, how many come,
/// and those; as often as there is input left.
pub fn edit(bytes: &mut Vec<u8>, mut input: &[u8]) {
    while let [high, low, gone, come, rest @ ..] = input {
        let at = usize::from(u16::from_be_bytes([*high, *low])) % (bytes.len() + 1);
        let end = bytes.len().min(at + usize::from(*gone));
        let (new, rest) = rest.split_at(rest.len().min(usize::from(*come)));
        bytes.splice(at..end, new.iter().copied());
        input = rest;
    }
}

/// Changes `value` as a merge patch says (RFC 7396), but that `null` is a value.
pub fn patch(value: &mut Value, patch: Value) {
    let Value::Object(members) = patch else {
        *value = patch;
        return;
    };
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    for (name, new) in members {
        self::patch(&mut value[&name], new);
    }
}

/// The first line, and what follows it.
pub fn line(input: &[u8]) -> (&[u8], &[u8]) {
    match input.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&input[..end], &input[end + 1..]),
        None => (input, &[]),
    }
}

/// Whether two metadata files have the same `signed`.
pub fn says_the_same(one: &[u8], other: &[u8]) -> bool {
    let signed = |bytes: &[u8]| {
        let file: Option<Value> = serde_json::from_slice(bytes).ok();
        file.map(|file| file["signed"].to_string())
    };
    signed(one).is_some() && signed(one) == signed(other)
}
