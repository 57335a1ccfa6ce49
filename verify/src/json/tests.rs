use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Result<Value<'_>, Denial> {
    parse("file", text.as_bytes())
}

fn refused(text: &str) {
    let denial = read(text).expect_err(text);
    assert_eq!(denial.code(), "MalformedMetadata", "{denial}");
}

#[test]
fn docker_s_canonical_form() {
    let text = r#" { "b" : [ 1 , -2, true, false, null ], "a": "\u0026<\"\\\/\n\u00e9\ud83d\ude00", "": {}, "B": [] } "#;
    let canonical = canonical(&read(text).expect("sound"));
    let expected =
        "{\"\":{},\"B\":[],\"a\":\"&<\\\"\\\\/\n\u{e9}\u{1f600}\",\"b\":[1,-2,true,false,null]}";
    assert_eq!(String::from_utf8(canonical).expect("UTF-8"), expected);
}

#[test]
fn t15_duplicate_members_are_refused_at_any_depth_and_in_any_spelling() {
    refused(r#"{"a":1,"a":1}"#);
    refused(r#"{"a":1,"\u0061":2}"#);
    refused(r#"[{"x":{"a":1,"b":2,"a":3}}]"#);
    assert!(read(r#"{"a":{"a":1},"A":{"a":2}}"#).is_ok());
}

#[test]
fn t15_only_integers_of_64_bits_are_numbers() {
    for text in [
        "1.0",
        "1e3",
        "1E0",
        "-0",
        "-0.0",
        "NaN",
        "Infinity",
        "-Infinity",
        "01",
        "+1",
        "0x10",
        "1_0",
        "18446744073709551616",
        "-9223372036854775809",
        "1e400",
        ".5",
        "-",
    ] {
        refused(text);
    }
    let denial = read("1.0").expect_err("a fraction").to_string();
    assert!(denial.contains("expected a JSON value without fractions"), "{denial}");
    assert_eq!(read("18446744073709551615").expect("fits"), Value::Unsigned(u64::MAX));
    assert_eq!(read("-9223372036854775808").expect("fits"), Value::Negative(i64::MIN));
    assert_eq!(read("0").expect("fits"), Value::Unsigned(0));
}

#[test]
fn t15_strings_that_are_no_text_are_refused() {
    for text in [
        r#""\ud800""#,
        r#""\udc00""#,
        r#""\ud800\ud800""#,
        r#""\ud800x""#,
        r#"{"\ud800":1}"#,
        r#""\x41""#,
        r#""\u12""#,
        "\"\n\"",
        "\"\u{0}\"",
        "\"a",
        "'a'",
    ] {
        refused(text);
    }
    for bytes in [&b"\"\xff\""[..], b"\"\xc0\x80\"", b"\"\xed\xa0\x80\"", b"{\"\xff\":1}", b"1\xff"]
    {
        assert!(parse("file", bytes).is_err(), "{bytes:?}");
    }
}

#[test]
fn t15_anything_around_the_value_is_refused() {
    for text in
        ["", " ", "1 1", "{}{}", "{},", "\u{feff}{}", "[1,]", "{\"a\":1,}", "// x\n{}", "{a:1}"]
    {
        refused(text);
    }
}

#[test]
fn t15_ten_thousand_levels_of_nesting_are_refused() {
    for depth in [130, 10_000, 1_000_000] {
        refused(&"[".repeat(depth));
        refused(&format!("{}{}", "[".repeat(depth), "]".repeat(depth)));
        refused(&format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth)));
    }
    assert!(read(&format!("{}{}", "[".repeat(100), "]".repeat(100))).is_ok());
}

#[test]
fn t2_more_memory_than_the_limit() {
    // The list itself takes as much as an allocation.
    let list = |values: usize| format!("[{}0]", "0,".repeat(values - 1));
    let most = (1..100_000).rev().find(|values| {
        let taken = ALLOCATION + values * size_of::<Value<'_>>();
        taken as u64 <= limits::json_bytes(1 + 2 * *values as u64)
    });
    let most = most.expect("some");
    assert!(read(&list(most)).is_ok());
    let denial = read(&list(most + 1)).expect_err("too much");
    assert_eq!(denial.code(), "LimitExceeded");
}

#[test]
fn the_densest_ordinary_files_are_far_from_the_limit() {
    let hash = "0".repeat(64);
    let tag =
        |n: u32| format!("\"{n}\":{{\"hashes\":{{\"sha256\":\"{}\"}},\"length\":1}}", &hash[20..]);
    let tags: Vec<String> = (0..180_000).map(tag).collect();
    let listed: Vec<String> =
        (0..32_768).map(|n| format!("\"{n:x}.json\":{{\"version\":1}}")).collect();
    let bin = |n: u32| {
        let prefixes: Vec<String> = (0..8).map(|m| format!("\"{:04x}\"", n * 8 + m)).collect();
        let prefixes = prefixes.join(",");
        format!(
            "{{\"keyids\":[\"{hash}\"],\"name\":\"{n:x}\",\"path_hash_prefixes\":[{prefixes}],\"terminating\":false,\"threshold\":1}}"
        )
    };
    let bins: Vec<String> = (0..16_384).map(bin).collect();
    let prefixes: Vec<String> = (0..4_096).map(|n| format!("\"{n:03x}\"")).collect();
    for text in [
        format!("{{{}}}", tags.join(",")),
        format!("{{{}}}", listed.join(",")),
        format!("[{}]", bins.join(",")),
        format!("[{}]", prefixes.join(",")),
    ] {
        assert!(read(&text).is_ok(), "{}", &text[..100]);
    }
}

#[test]
fn a_value_is_small() {
    assert_eq!(size_of::<Value<'_>>(), 24);
}

fn values() -> impl Strategy<Value = Value<'static>> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (i64::MIN..0).prop_map(Value::Negative),
        any::<u64>().prop_map(Value::Unsigned),
        any::<String>().prop_map(|text| Value::String(text.into())),
        "[\"\\\\{}:,\u{0}-\u{20}]{0,4}".prop_map(|text| Value::String(text.into())),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5)
                .prop_map(|values| Value::Array(values.into())),
            prop::collection::btree_map(".{0,3}|[\"\\\\,:]{0,2}", inner, 0..5).prop_map(object),
        ]
    })
}

fn object(members: BTreeMap<String, Value<'static>>) -> Value<'static> {
    let members = members.into_iter().map(|(name, value)| (name.into(), value));
    Value::Object(Object::new(members.collect()).expect("each once"))
}

/// JSON for a value, spelled by `choices`: white space, escapes, members in reverse order.
fn spell(value: &Value<'_>, choices: &mut impl Iterator<Item = u8>, out: &mut String) {
    let mut space = |out: &mut String| {
        out.push_str(["", " ", "\n", "\t\r "][usize::from(choices.next().unwrap_or(0) % 4)]);
    };
    space(out);
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(truth) => out.push_str(&truth.to_string()),
        Value::Unsigned(number) => out.push_str(&number.to_string()),
        Value::Negative(number) => out.push_str(&number.to_string()),
        Value::String(text) => spell_string(text, choices, out),
        Value::Array(values) => {
            out.push('[');
            for (index, value) in values.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                spell(value, choices, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            for (index, (name, value)) in members.iter().rev().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                spell_string(name, choices, out);
                out.push(':');
                spell(value, choices, out);
            }
            out.push('}');
        }
    }
}

fn spell_string(text: &str, choices: &mut impl Iterator<Item = u8>, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        let plain = character >= ' ' && character != '"' && character != '\\';
        if plain && choices.next().unwrap_or(0).is_multiple_of(2) {
            out.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out.push('"');
}

proptest! {
    #[test]
    fn however_a_value_is_spelled_it_reads_the_same(
        value in values(),
        choices in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut text = String::new();
        spell(&value, &mut choices.into_iter().cycle(), &mut text);
        prop_assert_eq!(read(&text).expect("sound JSON"), value);
    }

    #[test]
    fn canonical_forms_are_equal_only_for_equal_values(a in values(), b in values()) {
        prop_assert_eq!(canonical(&a) == canonical(&b), a == b);
    }

    #[test]
    fn a_canonical_form_is_read_back_where_it_is_json(value in values()) {
        let canonical = canonical(&value);
        // Docker leaves control characters as they are, which JSON forbids.
        prop_assume!(!canonical.iter().any(|byte| *byte < 0x20));
        prop_assert_eq!(parse("file", &canonical).expect("sound JSON"), value);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse("file", &bytes);
    }

    #[test]
    fn any_near_json_is_read_or_refused(text in "[\\[\\]{}\":,0-9a-f\\\\u.eE+ -]{0,80}") {
        if let Ok(value) = read(&text) {
            let canonical = canonical(&value);
            // `\b`, which Docker leaves as it is.
            prop_assume!(!canonical.iter().any(|byte| *byte < 0x20));
            prop_assert_eq!(parse("file", &canonical).expect("sound JSON"), value);
        }
    }
}
