//! Every row of every table: its key is accepted with a value of its type, refused with one of another type,
//! and said not to be built where the row says so. The texts are generated from the tables.

use config::schema::{Default, Row, Support, Table, Type, agent::CONTROL_AGENT, dhcp4::DHCP4};
use config::{ConfigError, Diagnostic};

/// What a file with one more key comes to.
struct Outcome {
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    syntax: bool,
}

type Wrap<'w> = &'w dyn Fn(String) -> String;

#[test]
fn keys_of_the_server_follow_their_rows() {
    let judge =
        |text: String| outcome(config::parse_dhcp4(text.as_bytes(), "f").map(|loaded| loaded.warnings));
    let mut rows = 0;
    walk(&DHCP4, &|map| format!("{{\"Dhcp4\": {map}}}"), true, &judge, &mut rows);
    assert!(rows > 400, "{rows} rows were tried");
}

#[test]
fn keys_of_the_agent_follow_their_rows() {
    let judge = |text: String| {
        outcome(config::parse_control_agent(text.as_bytes(), "f").map(|loaded| loaded.warnings))
    };
    let mut rows = 0;
    walk(&CONTROL_AGENT, &|map| format!("{{\"Control-agent\": {map}}}"), true, &judge, &mut rows);
    assert!(rows > 40, "{rows} rows were tried");
}

fn outcome(result: Result<Vec<Diagnostic>, ConfigError>) -> Outcome {
    match result {
        Ok(warnings) => Outcome { errors: Vec::new(), warnings, syntax: false },
        Err(error) => Outcome {
            errors: error.errors().cloned().collect(),
            warnings: error.warnings().to_vec(),
            syntax: error.is_syntax(),
        },
    }
}

/// Tries each row of `table` in a map that has nothing else but what is required. `plain` is false below a
/// key that is itself not built, where nothing further is said.
fn walk(
    table: &'static Table,
    wrap: Wrap<'_>,
    plain: bool,
    judge: &dyn Fn(String) -> Outcome,
    rows: &mut usize,
) {
    for row in table.rows() {
        *rows += 1;
        let text = wrap(map_with(table, row, &sample(row.kind, row.default)));
        let right = judge(text.clone());
        assert!(!right.syntax, "{text}: {}", right.errors[0]);
        if plain {
            check_support(row, &right, &text);
        }
        if !matches!(row.kind, Type::Any) {
            let text = wrap(map_with(table, row, wrong(row.kind)));
            let wrong = judge(text.clone());
            let about_it = wrong.errors.iter().any(|error| error.key == row.key && error.position.line == 1);
            assert!(wrong.syntax && about_it, "{text}");
        }
        let below = plain && matches!(row.support, Support::Built);
        match row.kind {
            Type::Map(inner) => walk(inner, &|map| wrap(map_with(table, row, &map)), below, judge, rows),
            Type::Maps(inner) => {
                walk(inner, &|map| wrap(map_with(table, row, &format!("[{map}]"))), below, judge, rows);
            }
            _ => {}
        }
    }
}

fn check_support(row: &Row, outcome: &Outcome, text: &str) {
    let unbuilt = |list: &[Diagnostic], words: &str| {
        list.iter().any(|diagnostic| diagnostic.key == row.key && diagnostic.message.contains(words))
    };
    let refused = unbuilt(&outcome.errors, "not built yet");
    let warned = unbuilt(&outcome.warnings, "has no effect");
    match row.support {
        Support::Partly | Support::Refused(_) => assert!(refused, "{text}"),
        Support::Warned(_) => assert!(warned && !refused, "{text}"),
        Support::Built | Support::Idle(_) => assert!(!refused, "{text}"),
    }
}

/// A map with the required keys of `table` and `row`.
fn map_with(table: &Table, row: &Row, value: &str) -> String {
    let mut members = vec![format!("\"{}\": {value}", row.key)];
    for key in table.required.iter().filter(|key| **key != row.key) {
        let required = table.row(key).expect("required keys have rows");
        members.push(format!("\"{key}\": {}", sample(required.kind, Default::None)));
    }
    format!("{{{}}}", members.join(", "))
}

/// A value of the type that is not the default.
fn sample(kind: Type, default: Default) -> String {
    match (kind, default) {
        (Type::Any, _) => "{\"x\": 1}".to_owned(),
        (Type::Bool, Default::Bool(value)) => (!value).to_string(),
        (Type::Bool, _) => "true".to_owned(),
        (Type::Float, _) => "0.3".to_owned(),
        (Type::Integer(min, max), Default::Integer(value)) if value == max => min.to_string(),
        (Type::Integer(_, max), _) => max.to_string(),
        (Type::List(item), _) => format!("[{}]", sample(*item, Default::None)),
        (Type::Map(table), _) => minimal(table),
        (Type::Maps(table), _) => format!("[{}]", minimal(table)),
        (Type::OneOf(words), Default::Text(value)) => {
            let other = words.iter().find(|word| **word != value).unwrap_or(&value);
            format!("\"{other}\"")
        }
        (Type::OneOf(words), _) => format!("\"{}\"", words[0]),
        (Type::Text, _) => "\"10.0.0.0/8\"".to_owned(),
    }
}

/// A map of the table that says something: a required key, or the first one.
fn minimal(table: &Table) -> String {
    let required = table.required.first().and_then(|key| table.row(key));
    let row = required.or_else(|| table.rows().next()).expect("tables have rows");
    map_with(table, row, &sample(row.kind, row.default))
}

fn wrong(kind: Type) -> &'static str {
    match kind {
        Type::Text | Type::OneOf(_) => "1",
        _ => "\"1\"",
    }
}
