//! Long texts in every place of a file, and what refusals may make of them.

use std::fmt::{Debug, Display};

use serde_json::{Value, json};

/// Longest refusal, in bytes, as it is told and as it is logged.
pub const SHORT: usize = 4 << 10;

/// Texts that are longer than [`SHORT`], and of which two fit into the smallest limit of a file: a
/// plain one, and one that takes more room when it is escaped.
pub fn long_texts() -> [String; 2] {
    ["A".repeat(6_000), "\u{e000}".repeat(2_000)]
}

/// The value with the text in one place of it, for every place: as the value itself, twice as the
/// elements of a list, and as a member's name, with its value and with another.
pub fn changes(value: &Value, text: &str) -> Vec<Value> {
    let mut changes = vec![json!(text)];
    match value {
        Value::Array(elements) => {
            changes.push(json!([text, text]));
            for (at, element) in elements.iter().enumerate() {
                changes.extend(self::changes(element, text).into_iter().map(|changed| {
                    let mut elements = elements.clone();
                    elements[at] = changed;
                    Value::Array(elements)
                }));
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                for value in [member.clone(), json!(text)] {
                    let mut renamed = members.clone();
                    renamed.remove(name);
                    renamed.insert(text.to_owned(), value);
                    changes.push(Value::Object(renamed));
                }
                changes.extend(self::changes(member, text).into_iter().map(|changed| {
                    let mut members = members.clone();
                    members.insert(name.clone(), changed);
                    Value::Object(members)
                }));
            }
        }
        _ => {}
    }
    changes
}

/// A file with a member that is there twice, of this name.
pub fn with_twice(file: &[u8], name: &str) -> Vec<u8> {
    let member = format!("{}:1,", json!(name));
    [b"{", member.as_bytes(), member.as_bytes(), &file[1..]].concat()
}

/// A file with two signatures by a key of this id.
pub fn signed_by(file: &[u8], id: &str) -> Vec<u8> {
    let mut file: Value = serde_json::from_slice(file).unwrap();
    let mut signature = file["signatures"][0].clone();
    signature["keyid"] = json!(id);
    file["signatures"] = json!([signature, signature]);
    serde_json::to_vec(&file).unwrap()
}

pub fn is_short<T: Display + Debug>(refusal: &T) {
    for text in [format!("{refusal}"), format!("{refusal:?}")] {
        let start: String = text.chars().take(200).collect();
        assert!(text.len() <= SHORT, "{} bytes: {start}", text.len());
    }
}
