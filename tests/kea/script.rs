//! The text form of a conversation (its grammar is told at the top of `conversations.txt`).

use std::net::Ipv4Addr;

/// One line of the table.
#[derive(Debug)]
pub struct Conversation {
    pub name: String,
    pub rule: String,
    pub steps: Vec<Step>,
}

/// One message and the reply it gets.
#[derive(Clone, Debug)]
pub struct Step {
    pub text: String,
    pub message_type: u8,
    pub giaddr: Option<Ipv4Addr>,
    /// On the link that no subnet is for.
    pub elsewhere: bool,
    pub mac: u8,
    pub ciaddr: Option<Address>,
    pub requested: Option<Address>,
    pub server_identifier: Option<Ipv4Addr>,
    pub source: Option<Address>,
    pub broadcast: bool,
    pub no_end: bool,
    pub secs: u16,
    pub hops: u8,
    /// Further options in the order written: code and payload.
    pub options: Vec<(u8, Vec<u8>)>,
    pub expected_of_kea: Expected,
    pub expected_of_tandem: Expected,
}

/// An address as written: literally, or the n-th (from 1) that a server has chosen in this conversation.
#[derive(Clone, Copy, Debug)]
pub enum Address {
    Chosen(usize),
    Literal(Ipv4Addr),
}

/// What comes back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Expected {
    Ack,
    Nak,
    Nothing,
    Offer,
}

/// Reads the whole table.
pub fn parse(table: &str, server: Ipv4Addr) -> Vec<Conversation> {
    let lines = table.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| conversation(line, server)).collect()
}

fn conversation(line: &str, server: Ipv4Addr) -> Conversation {
    let parts: Vec<&str> = line.split('|').map(str::trim).collect();
    let [name, rule, way, steps] = parts[..] else { panic!("four columns: {line}") };
    let steps = steps.split(';').map(|text| step(text.trim(), way, server)).collect();
    Conversation { name: name.to_owned(), rule: rule.to_owned(), steps }
}

fn giaddr(way: &str) -> Option<Ipv4Addr> {
    (way != "direct" && way != "elsewhere").then(|| way.parse().expect("direct or a giaddr"))
}

fn step(text: &str, way: &str, server: Ipv4Addr) -> Step {
    let (message, reply) = text.split_once('>').unwrap_or_else(|| panic!("no reply: {text}"));
    let (of_kea, of_tandem) = reply.trim().split_once('/').unwrap_or((reply.trim(), reply.trim()));
    let mut step = Step {
        text: text.to_owned(),
        message_type: 0,
        giaddr: giaddr(way),
        elsewhere: way == "elsewhere",
        mac: 1,
        ciaddr: None,
        requested: None,
        server_identifier: None,
        source: None,
        broadcast: false,
        no_end: false,
        secs: 0,
        hops: 0,
        options: Vec::new(),
        expected_of_kea: expected(of_kea),
        expected_of_tandem: expected(of_tandem),
    };
    for (index, word) in message.split_whitespace().enumerate() {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match (index, key) {
            (0, "d") => step.message_type = 1,
            (0, "r") => step.message_type = 3,
            (0, "dec") => step.message_type = 4,
            (0, "rel") => step.message_type = 7,
            (0, "inf") => step.message_type = 8,
            (0, "q") => step.message_type = value.parse().expect("a message type"),
            (_, "b") => step.broadcast = true,
            (_, "noend") => step.no_end = true,
            (_, "mac") => step.mac = value.parse().expect("a number"),
            (_, "secs") => step.secs = value.parse().expect("a number"),
            (_, "hops") => step.hops = value.parse().expect("a number"),
            (_, "ci") => step.ciaddr = Some(address(value)),
            (_, "req") => step.requested = Some(address(value)),
            (_, "src") => step.source = Some(address(value)),
            (_, "via") => step.giaddr = giaddr(value),
            (_, "sid") => {
                step.server_identifier =
                    Some(if value == "ours" { server } else { value.parse().expect("an address") });
            }
            (_, "lt") => {
                let seconds: u32 = value.parse().expect("seconds");
                step.options.push((51, seconds.to_be_bytes().to_vec()));
            }
            (_, "prl") => {
                step.options.push((55, value.split(',').map(|code| code.parse().expect("a code")).collect()));
            }
            (_, "cid") => step.options.push((61, hex(value))),
            (_, "host") => step.options.push((12, value.as_bytes().to_vec())),
            (_, "rai") => step.options.push((82, hex(value))),
            (_, "opt") => {
                let (code, payload) = value.split_once(':').expect("CODE:HEX");
                step.options.push((code.parse().expect("a code"), hex(payload)));
            }
            _ => panic!("unknown word {word:?} in {text:?}"),
        }
    }
    step
}

fn expected(word: &str) -> Expected {
    match word {
        "ack" => Expected::Ack,
        "nak" => Expected::Nak,
        "none" => Expected::Nothing,
        "offer" => Expected::Offer,
        _ => panic!("unknown reply {word:?}"),
    }
}

fn address(text: &str) -> Address {
    match text.strip_prefix('$') {
        Some(number) => Address::Chosen(number.parse().expect("a number")),
        None => Address::Literal(text.parse().expect("an address")),
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digit = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
    (0..text.len()).step_by(2).map(digit).collect()
}
