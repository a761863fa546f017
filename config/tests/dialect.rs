//! The dialect: what Kea's tools write is read, and what is wrong is said in Kea's words (CFG-1 to CFG-6).

use std::fs;

use config::Value;
use config::value::Kind;
use proptest::prelude::*;

fn parse(text: &str) -> Value {
    config::parse_value(text.as_bytes(), "f").unwrap_or_else(|error| panic!("{text}: {error}")).document
}

fn error(text: &[u8]) -> String {
    match config::parse_value(text, "f") {
        Ok(_) => panic!("accepted: {}", String::from_utf8_lossy(text)),
        Err(error) => error.to_string(),
    }
}

#[test]
fn values_are_read_as_kea_reads_them() {
    let rows: [(&str, Kind); 18] = [
        ("1", Kind::Integer(1)),
        ("-9223372036854775808", Kind::Integer(i64::MIN)),
        ("0", Kind::Integer(0)),
        ("007", Kind::Integer(7)),
        (".5", Kind::Float(0.5)),
        ("5.", Kind::Float(5.0)),
        ("-1.25e2", Kind::Float(-125.0)),
        ("1e3", Kind::Float(1000.0)),
        ("+7", Kind::Float(7.0)),
        ("true", Kind::Bool(true)),
        ("null", Kind::Null),
        (r#""""#, Kind::String(Vec::new())),
        (r#""a\"\\\/\b\f\n\r\t\u00e9""#, Kind::String(b"a\"\\/\x08\x0c\n\r\t\xe9".to_vec())),
        ("\"é\"", Kind::String("é".as_bytes().to_vec())),
        ("\"# // /* <?include\"", Kind::String(b"# // /* <?include".to_vec())),
        ("[]", Kind::List(Vec::new())),
        ("[ ]# comment", Kind::List(Vec::new())),
        ("/* a * / */ {} // to the end", Kind::Map(Vec::new())),
    ];
    for (text, expected) in rows {
        let tree = parse(&format!("{{ \"k\": {text}\n}}"));
        assert_eq!(tree.get("k").map(|value| value.kind.clone()), Some(expected), "{text}");
    }
}

#[test]
fn places_count_lines_columns_and_octets() {
    let tree = parse("# é\n{ \"a\":\n\t[ 1,\r\n  { \"b\": \"é\", \"c\": 2 } ]\n}");
    let inner = &tree.get("a").unwrap().items()[1];
    let at = |value: &Value| (value.position.line, value.position.column, value.position.byte);
    assert_eq!(at(&tree), (2, 1, 5));
    assert_eq!(at(inner), (4, 3, 21));
    assert_eq!(at(inner.get("c").unwrap()), (4, 21, 39));
    assert_eq!((inner.end, tree.end), ((4, 23), (5, 1)));
    assert_eq!(inner.position.to_string(), "f:4.3");
}

#[test]
fn faults_are_named_with_their_place() {
    let rows: [(&[u8], &str); 37] = [
        (b"", "f:1.1: syntax error, unexpected end of file, expecting {"),
        (b"[]", "f:1.1: syntax error, unexpected [, expecting {"),
        (b"{", "f:1.2: syntax error, unexpected end of file, expecting constant string or }"),
        (b"{} x", "f:1.4: Invalid character: x"),
        (b"{} {}", "f:1.4: syntax error, unexpected {, expecting end of file"),
        (b"{ 'a': 1 }", "f:1.3: Invalid character: '"),
        (b"{ a: 1 }", "f:1.3: Invalid character: a"),
        (b"{ 1: 1 }", "f:1.3: syntax error, unexpected integer, expecting constant string or }"),
        (b"{ \"a\" 1 }", "f:1.7: syntax error, unexpected integer, expecting :"),
        (b"{ \"a\": }", "f:1.8: syntax error, unexpected }, expecting a value"),
        (b"{ \"a\": 1 \"b\": 2 }", "f:1.10: syntax error, unexpected constant string, expecting \",\" or }"),
        (b"{ \"a\": [1 2] }", "f:1.11: syntax error, unexpected integer, expecting \",\" or ]"),
        (b"{ \"a\": 1,, }", "f:1.10: syntax error, unexpected \",\", expecting constant string or }"),
        (b"{ , }", "f:1.3: syntax error, unexpected \",\", expecting constant string or }"),
        (b"{ \"a\": [,] }", "f:1.9: syntax error, unexpected \",\", expecting a value"),
        (b"{\n\"a\": 1,\n\"a\": 2 }", "f:3.1: duplicate a entries in toplevel map (previous at f:2.1)"),
        (b"{ \"m\": { \"a\": 1, \"a\": 2 } }", "f:1.18: duplicate a entries in m map (previous at f:1.10)"),
        (b"{ \"a\": True }", "f:1.8: JSON true reserved keyword is lower case only"),
        (b"{ \"a\": FALSE }", "f:1.8: JSON false reserved keyword is lower case only"),
        (b"{ \"a\": Null }", "f:1.8: JSON null reserved keyword is lower case only"),
        (b"{ \"a\": nil }", "f:1.8: Invalid character: n"),
        (b"{ \"a\": truely }", "f:1.8: Invalid character: t"),
        (b"{ \"a\": 9223372036854775808 }", "f:1.8: Failed to convert 9223372036854775808 to an integer."),
        (b"{ \"a\": 1e999 }", "f:1.8: Failed to convert 1e999 to a floating point."),
        (b"{ \"a\": - }", "f:1.8: Failed to convert - to a floating point."),
        (b"{ \"a\": 1.2.3 }", "f:1.8: Failed to convert 1.2.3 to a floating point."),
        (b"{ \"a\": \"x }", "f:1.8: String not closed: its second quote (\") is missing"),
        (b"{ \"a\": \"x\\", "f:1.8: String not closed: its second quote (\") is missing"),
        (b"{ \"a\": \"x\ny\" }", "f:1.10: Invalid control in \"x\ny\""),
        (b"{ \"a\": \"x\\q\" }", "f:1.10: Bad escape in \"x\\q\""),
        (b"{ \"a\": \"\\u0100\" }", "f:1.9: Unsupported unicode escape in \"\\u0100\""),
        (b"{ \"a\": \"\\u00\" }", "f:1.9: Unsupported unicode escape in \"\\u00\""),
        (b"{ \"a\": \"\\u+0ff\" }", "f:1.9: Unsupported unicode escape in \"\\u+0ff\""),
        (b"{ \xff }", "f:1.3: Invalid character: 0xff"),
        (b"{ \"\xff\": 1 }", "f:1.3: a key must be valid UTF-8"),
        (b"{ / }", "f:1.3: Invalid character: /"),
        (b"{\n /* open", "f:2.2: Comment not closed. (/* in line 2"),
    ];
    for (text, expected) in rows {
        assert_eq!(error(text), expected, "{}", String::from_utf8_lossy(text));
    }
}

#[test]
fn extraneous_commas_and_leading_zeros_are_warnings() {
    let loaded = config::parse_value(b"{ \"a\": [ 1, ], \"b\": 010, }", "f").unwrap();
    let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "f:1.11: Extraneous comma. A piece of configuration may have been omitted. (and in 1 more place)",
            "f:1.21: 010 has leading zeros; it is read as a decimal number",
        ]
    );
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| format!("{{ \"a\": {}{} }}", "[".repeat(depth), "]".repeat(depth));
    parse(&nested(99));
    let message = error(nested(100).as_bytes());
    assert!(message.ends_with("maps and lists are nested more than 100 deep"), "{message}");
    let message = error(format!("{{ \"a\": {}", "[".repeat(1_000_000)).as_bytes());
    assert!(message.ends_with("nested more than 100 deep"), "{message}");
}

#[test]
fn a_map_with_many_keys_still_finds_the_duplicate() {
    let keys: Vec<String> = (0..5000).map(|number| format!("\"k{number}\": {number}")).collect();
    let tree = parse(&format!("{{ {} }}", keys.join(", ")));
    assert_eq!(tree.get("k4999").and_then(Value::as_integer), Some(4999));
    for twice in [0, 20, 31, 32, 33, 4998] {
        let message = error(format!("{{ {}, \"k{twice}\": 1 }}", keys.join(", ")).as_bytes());
        assert!(message.contains(&format!("duplicate k{twice} entries")), "{message}");
    }
}

#[test]
fn includes_are_spliced_in_and_keep_their_own_places() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("timers"), "\"renew-timer\": 10, # no newline").unwrap();
    fs::write(path("value"), format!("<?include \"{}\"?> [ ]", path("empty"))).unwrap();
    fs::write(path("empty"), "").unwrap();
    let main = format!(
        "{{ \"Dhcp4\": {{ <?include \"{}\" ?>\n \"valid-lifetime\": 30, \"subnet4\": <?include \"{}\"?> }} }}",
        path("timers"),
        path("value")
    );
    fs::write(path("main"), main).unwrap();
    let document = config::load_dhcp4(&path("main")).unwrap().document;
    let renew = document.scope.renew_timer_s.unwrap();
    assert_eq!((*renew, renew.position.to_string()), (10, format!("{}:1.16", path("timers"))));
    let valid = document.scope.valid_lifetime_s.unwrap();
    assert_eq!((*valid, valid.position.to_string()), (30, format!("{}:2.20", path("main"))));
}

#[test]
fn faulty_includes_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let rows = [
        (
            "<?include \"/nowhere/nope.json\"?>",
            "1.1: Can't open include file /nowhere/nope.json: No such file",
        ),
        ("<?include nope?>", "1.1: syntax error, expecting <?include \"FILE\"?>"),
        ("<?include \"\"?>", "1.1: syntax error, expecting <?include \"FILE\"?>"),
        ("{ <? ?> }", "1.3: syntax error, expecting <?include \"FILE\"?>"),
    ];
    for (text, expected) in rows {
        fs::write(path("main"), text).unwrap();
        let message = config::load_dhcp4(&path("main")).unwrap_err().to_string();
        assert!(message.starts_with(&format!("{}:{expected}", path("main"))), "{message}");
    }
    fs::write(path("main"), format!("{{ <?include \"{}\"?> }}", path("main"))).unwrap();
    let message = config::load_dhcp4(&path("main")).unwrap_err().to_string();
    assert!(message.contains("syntax error, unexpected {"), "{message}");
    fs::write(path("loop"), format!("<?include \"{}\"?>", path("loop"))).unwrap();
    let message = config::load_dhcp4(&path("loop")).unwrap_err().to_string();
    assert!(message.ends_with("Too many nested include."), "{message}");
    assert!(error(b"{ <?include \"x\"?> }").starts_with("f:1.3: Can't open include file x"));
    let message = config::load_dhcp4(&path("absent")).unwrap_err().to_string();
    assert_eq!(message, format!("{0}:1.1: Unable to open file {0}: no such file", path("absent")));
}

/// What a mutation starts from: a file that uses most of the tables.
fn sample() -> Vec<u8> {
    fs::read(format!("{}/examples/hot-standby-primary.conf", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

proptest! {
    #[test]
    fn arbitrary_octets_never_panic(text in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = config::parse_value(&text, "f");
        let _ = config::parse_dhcp4(&text, "f");
    }

    #[test]
    fn arbitrary_tokens_never_panic(tokens in proptest::collection::vec(
        proptest::sample::select(&[
            "{", "}", "[", "]", ":", ",", "\"Dhcp4\"", "\"subnet4\"", "\"id\"", "\"pools\"", "1", "-1", "1.5",
            "true", "null", "\"\"", "# x\n", "/* */", "<?include \"/\"?>", "\"hooks-libraries\"",
        ][..]), 0..60)) {
        let _ = config::parse_dhcp4(tokens.concat().as_bytes(), "f");
    }

    #[test]
    fn mutated_files_never_panic_and_errors_have_places(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..6)
    ) {
        let mut text = sample();
        for (place, octet, edit) in edits {
            let at = place.index(text.len());
            match edit {
                0 => { text.remove(at); }
                1 => text.insert(at, octet),
                _ => text[at] = octet,
            }
        }
        if let Err(error) = config::parse_dhcp4(&text, "f") {
            for diagnostic in error.errors() {
                prop_assert!(diagnostic.position.line > 0, "{diagnostic}");
            }
        }
    }

    #[test]
    fn what_is_read_survives_the_way_through_json(number in any::<i64>(), octets in proptest::collection::vec(any::<u8>(), 0..20)) {
        let escaped: String = octets.iter().map(|octet| format!("\\u{octet:04x}")).collect();
        let tree = parse(&format!("{{ \"a\": [ {number}, \"{escaped}\", true, null, 0.5 ] }}"));
        prop_assert_eq!(tree.get("a").unwrap().items()[1].as_bytes(), Some(&octets[..]));
        let back = Value::from_json(&tree.to_json(), "f");
        let kinds = |tree: &Value| tree.get("a").unwrap().items().iter().map(|item| item.kind.clone()).collect::<Vec<_>>();
        prop_assert_eq!(kinds(&back), kinds(&tree));
    }
}
