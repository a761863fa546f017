//! The answer to a command in the forms the channels give it.

use serde_json::Value;

use crate::ha::command::{Reply, result};
use crate::ha::json;

/// What may follow an answer in a list.
const LIST_OCTETS: usize = 2;

/// One answer: a reply, or leases that are rendered already, because a dump of a million leases must not exist
/// twice.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    reply: Reply,
    /// Where present, `reply.arguments` is not.
    rendered: Option<Rendered>,
}

/// Rendered `arguments`.
#[derive(Clone, Debug, PartialEq)]
struct Rendered {
    /// What comes before the leases.
    head: String,
    /// Hundreds of megabytes, maybe: to copy them takes time in which nothing else is done on the control node.
    leases: Vec<u8>,
    tail: &'static str,
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Self { reply, rendered: None }
    }
}

impl Answer {
    /// Arguments and no text, as `status-get` and the statistics answer.
    pub fn data(arguments: Value) -> Self {
        Reply { result: result::SUCCESS, text: None, arguments: Some(arguments) }.into()
    }

    /// A list of leases: objects separated by `, `, and how many there are; `lease4-get-page` gives the count
    /// among the arguments too. None found is result 3 (API-52).
    pub fn leases(objects: Vec<u8>, count: usize, with_count: bool) -> Self {
        let counted = if with_count { format!("\"count\": {count}, ") } else { String::new() };
        let head = format!("{{ {counted}\"leases\": [ ");
        let code = if count == 0 { result::EMPTY } else { result::SUCCESS };
        let reply = Reply::new(code, format!("{count} IPv4 lease(s) found."));
        Self { reply, rendered: Some(Rendered { head, leases: objects, tail: " ] }" }) }
    }

    /// The one lease asked for, as a JSON object.
    pub fn lease(object: Vec<u8>) -> Self {
        let rendered = Rendered { head: String::new(), leases: object, tail: "" };
        Self { reply: Reply::success("IPv4 lease found."), rendered: Some(rendered) }
    }

    /// Result code.
    pub fn result(&self) -> i64 {
        self.reply.result
    }

    /// Text for people.
    pub fn text(&self) -> Option<&str> {
        self.reply.text.as_deref()
    }

    /// The answer as the unix socket gives it: a bare map (API-2), in parts that follow one another.
    pub fn into_parts(self) -> [Vec<u8>; 3] {
        let mut parts = [Vec::new(), Vec::new(), Vec::new()];
        let [before, leases, after] = &mut parts;
        let Some(rendered) = self.rendered else {
            json::encode(&self.reply.to_value(), before);
            return parts;
        };
        before.extend_from_slice(format!("{{ \"arguments\": {}", rendered.head).as_bytes());
        *leases = rendered.leases;
        after.extend_from_slice(format!("{}, \"result\": {}", rendered.tail, self.reply.result).as_bytes());
        if let Some(text) = &self.reply.text {
            after.extend_from_slice(b", \"text\": ");
            json::encode_octets(text.as_bytes(), after);
        }
        after.extend_from_slice(b" }");
        parts
    }

    /// Appends the parts of the answer.
    pub fn render(self, output: &mut Vec<u8>) {
        let parts = self.into_parts();
        output.reserve(parts.iter().map(Vec::len).sum::<usize>() + LIST_OCTETS);
        parts.iter().for_each(|part| output.extend_from_slice(part));
    }

    /// The answer as every HTTP channel gives it: a list of one (API-21, ha-protocol 0.3 rule 1).
    pub fn render_list(self) -> Vec<u8> {
        let mut output = b"[ ".to_vec();
        self.render(&mut output);
        output.extend_from_slice(b" ]");
        output
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_keas_shape() {
        for (answer, expected) in [
            (Reply::success("Done.").into(), r#"[ { "result": 0, "text": "Done." } ]"#),
            (Answer::data(serde_json::json!({"a": 1})), r#"[ { "arguments": { "a": 1 }, "result": 0 } ]"#),
            (
                Answer::leases(Vec::new(), 0, true),
                r#"[ { "arguments": { "count": 0, "leases": [  ] }, "result": 3, "text": "0 IPv4 lease(s) found." } ]"#,
            ),
            (
                Answer::leases(b"{ 1 }, { 2 }".to_vec(), 2, false),
                r#"[ { "arguments": { "leases": [ { 1 }, { 2 } ] }, "result": 0, "text": "2 IPv4 lease(s) found." } ]"#,
            ),
            (
                Answer::lease(b"{ 1 }".to_vec()),
                r#"[ { "arguments": { 1 }, "result": 0, "text": "IPv4 lease found." } ]"#,
            ),
        ] {
            assert_eq!(String::from_utf8(answer.render_list()).unwrap(), expected);
        }
    }
}
