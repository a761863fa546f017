//! Knobs that Kea has no name for, under `Dhcp4.user-context.tandem`.
//!
//! They stand in a user context so that a file stays loadable by Kea itself. An unknown knob is an error.

use crate::diagnostics::Diagnostics;
use crate::reader::Reader;
use crate::schema::{Default, Row, Support, Table, Type, Wording, check};
use crate::value::{Kind, Located, Value};

/// The knobs; every one has a default.
#[derive(Clone, Debug, PartialEq)]
pub struct Tandem {
    /// `durability`: what an ACK waits for; `synced` by default.
    pub durability: Located<Durability>,
    /// `cores`: processors the shards are pinned to, one each in order; empty leaves the choice to the
    /// server.
    pub cores: Located<Vec<u32>>,
    /// `spin-us`: microseconds a shard polls before it sleeps; 0 by default, at most 1000.
    pub spin_us: Located<u32>,
    /// `check-partner-name`: whether the partner's certificate must carry the address of its URL or, in its
    /// common name or alternative names, its peer name; false by default, as in Kea.
    pub check_partner_name: Located<bool>,
    /// `accept-unauthenticated-partners`: whether a partner that sends no credentials is let in where the own peer
    /// entry demands some; false by default. For partners that were never given any, because their release does
    /// not check them (before 3.3.1); wrong credentials are refused either way.
    pub accept_unauthenticated_partners: Located<bool>,
    /// `allow-plain-http`: whether an unprotected http control socket may listen beyond loopback; false by
    /// default.
    pub allow_plain_http: Located<bool>,
}

/// What an ACK waits for on its own host.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Durability {
    /// `synced`: the row is on stable storage.
    Synced,
    /// `written`: the kernel has the row, which is what Kea's memfile gives.
    Written,
}

/// The map under `user-context.tandem`.
pub static TANDEM: Table = Table {
    name: "tandem",
    groups: &[&[
        knob("durability", Type::OneOf(&["synced", "written"]), Default::Text("synced")),
        knob("cores", Type::List(&Type::Integer(0, 65_535)), Default::Empty),
        knob("spin-us", Type::Integer(0, 1000), Default::Integer(0)),
        knob("check-partner-name", Type::Bool, Default::Bool(false)),
        knob("accept-unauthenticated-partners", Type::Bool, Default::Bool(false)),
        knob("allow-plain-http", Type::Bool, Default::Bool(false)),
    ]],
    required: &[],
    exclusive: &[],
    nonempty: false,
};

const fn knob(key: &'static str, kind: Type, default: Default) -> Row {
    Row { key, kind, default, support: Support::Built }
}

impl Tandem {
    /// Reads the knobs of `Dhcp4`.
    pub(crate) fn read(dhcp4: &Value, diagnostics: &mut Diagnostics) -> Tandem {
        let nothing = Value { kind: Kind::Map(Vec::new()), position: dhcp4.position.clone(), end: dhcp4.end };
        let written = dhcp4.get("user-context").and_then(|context| context.get("tandem"));
        let sound = written.is_some_and(|map| check(map, &TANDEM, Wording::Grammar, diagnostics));
        // Knobs that are not sound have been reported; the defaults then serve to find further errors.
        let map = written.filter(|_| sound).unwrap_or(&nothing);
        let mut reader = Reader { map, diagnostics };
        Tandem {
            durability: read_durability(&mut reader),
            cores: read_cores(&mut reader),
            spin_us: reader.number("spin-us", 0),
            check_partner_name: reader.bool("check-partner-name", false),
            accept_unauthenticated_partners: reader.bool("accept-unauthenticated-partners", false),
            allow_plain_http: reader.bool("allow-plain-http", false),
        }
    }
}

fn read_durability(reader: &mut Reader<'_, '_>) -> Located<Durability> {
    match reader.optional_text("durability") {
        None => reader.default(Durability::Synced),
        Some(word) => {
            // The table lets these two words through and no other.
            let durability = if *word == "written" { Durability::Written } else { Durability::Synced };
            Located::written(durability, word.position)
        }
    }
}

fn read_cores(reader: &mut Reader<'_, '_>) -> Located<Vec<u32>> {
    let Some(list) = reader.get("cores") else { return reader.default(Vec::new()) };
    let cores = list.items().iter().filter_map(Value::as_integer);
    // The table bounds each number, so none is lost here.
    let cores = cores.filter_map(|core| u32::try_from(core).ok()).collect();
    Located::written(cores, list.position.clone())
}
