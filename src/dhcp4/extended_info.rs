//! What a lease keeps of the relay agent's option (PKT-92).

use std::fmt::Write;

use crate::wire::Query;

/// The user context that keeps option 82 of `query`, as Kea 3 writes it; `None` without the option.
pub fn of(query: &Query) -> Option<Box<[u8]>> {
    let info = query.relay_info()?;
    let mut text = String::from("{ \"ISC\": { \"relay-agent-info\": { ");
    for (name, value) in [("relay-id", info.relay_id()), ("remote-id", info.remote_id())] {
        if let Some(value) = value {
            text.push('"');
            text.push_str(name);
            text.push_str("\": \"");
            push_hex(&mut text, value);
            text.push_str("\", ");
        }
    }
    text.push_str("\"sub-options\": \"0x");
    push_hex(&mut text, info.payload());
    text.push_str("\" } } }");
    Some(text.into_bytes().into_boxed_slice())
}

fn push_hex(text: &mut String, octets: &[u8]) {
    for octet in octets {
        // Writing to a string cannot fail.
        let _ = write!(text, "{octet:02X}");
    }
}
