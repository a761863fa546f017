//! The answer to a command in the forms the channels give it.

use serde_json::Value;

use crate::ha::command::{Reply, result};
use crate::ha::json;

/// One answer: a reply, or leases that are rendered already, because a dump of a million leases must not exist
/// twice.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    reply: Reply,
    /// Rendered `arguments`; where present, `reply.arguments` is not.
    rendered: Option<Vec<u8>>,
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
    pub fn leases(objects: &[u8], count: usize, with_count: bool) -> Self {
        let mut rendered = Vec::with_capacity(objects.len() + 64);
        rendered.extend_from_slice(b"{ ");
        if with_count {
            rendered.extend_from_slice(format!("\"count\": {count}, ").as_bytes());
        }
        rendered.extend_from_slice(b"\"leases\": [ ");
        rendered.extend_from_slice(objects);
        rendered.extend_from_slice(b" ] }");
        let code = if count == 0 { result::EMPTY } else { result::SUCCESS };
        let reply = Reply::new(code, format!("{count} IPv4 lease(s) found."));
        Self { reply, rendered: Some(rendered) }
    }

    /// The one lease asked for, as a JSON object.
    pub fn lease(object: Vec<u8>) -> Self {
        Self { reply: Reply::success("IPv4 lease found."), rendered: Some(object) }
    }

    /// Result code.
    pub fn result(&self) -> i64 {
        self.reply.result
    }

    /// Text for people.
    pub fn text(&self) -> Option<&str> {
        self.reply.text.as_deref()
    }

    /// Appends the answer as the unix socket gives it: a bare map (API-2).
    pub fn render(&self, output: &mut Vec<u8>) {
        let Some(rendered) = &self.rendered else {
            json::encode(&self.reply.to_value(), output);
            return;
        };
        output.extend_from_slice(b"{ \"arguments\": ");
        output.extend_from_slice(rendered);
        output.extend_from_slice(format!(", \"result\": {}", self.reply.result).as_bytes());
        if let Some(text) = &self.reply.text {
            output.extend_from_slice(b", \"text\": ");
            json::encode_octets(text.as_bytes(), output);
        }
        output.extend_from_slice(b" }");
    }

    /// The answer as every HTTP channel gives it: a list of one (API-21, ha-protocol 0.3 rule 1).
    pub fn render_list(&self) -> Vec<u8> {
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
                Answer::leases(b"", 0, true),
                r#"[ { "arguments": { "count": 0, "leases": [  ] }, "result": 3, "text": "0 IPv4 lease(s) found." } ]"#,
            ),
            (
                Answer::leases(b"{ 1 }, { 2 }", 2, false),
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
