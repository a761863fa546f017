//! Typed access to one map of a tree that the tables have found sound.
//!
//! The tables guarantee types and ranges. Where a value still does not fit its Rust type, that is reported
//! like any other error, so a table and a type that disagree cannot change a setting unseen.

use std::fmt::Display;
use std::net::Ipv4Addr;

use crate::diagnostics::Diagnostics;
use crate::value::{Located, Position, Value};

pub(crate) struct Reader<'v, 'd> {
    pub map: &'v Value,
    pub diagnostics: &'d mut Diagnostics,
}

impl<'v> Reader<'v, '_> {
    /// A reader for a map inside this one.
    pub fn inside<'s>(&'s mut self, map: &'v Value) -> Reader<'v, 's> {
        Reader { map, diagnostics: self.diagnostics }
    }

    pub fn get(&self, key: &str) -> Option<&'v Value> {
        self.map.get(key)
    }

    /// The items of the list `key`.
    pub fn items(&self, key: &str) -> &'v [Value] {
        self.map.get(key).map(Value::items).unwrap_or_default()
    }

    /// `user-context`.
    pub fn user_context(&self) -> Option<Value> {
        self.get("user-context").cloned()
    }

    pub fn error(&mut self, position: &Position, key: &str, message: impl Into<String>) {
        self.diagnostics.error(position, key, message);
    }

    pub fn warn(&mut self, position: &Position, key: &str, message: impl Into<String>) {
        self.diagnostics.warn(position, key, message);
    }

    pub fn optional_bool(&self, key: &str) -> Option<Located<bool>> {
        let value = self.get(key)?;
        value.as_bool().map(|flag| Located::written(flag, value.position.clone()))
    }

    pub fn bool(&self, key: &str, default: bool) -> Located<bool> {
        self.optional_bool(key).unwrap_or_else(|| self.default(default))
    }

    pub fn optional_number<T: TryFrom<i64>>(&mut self, key: &str) -> Option<Located<T>> {
        let value = self.get(key)?;
        let number = value.as_integer()?;
        match T::try_from(number) {
            Ok(number) => Some(Located::written(number, value.position.clone())),
            Err(_) => {
                self.error(
                    &value.position,
                    key,
                    format!("out of range value '{number}' for parameter '{key}'"),
                );
                None
            }
        }
    }

    pub fn number<T: TryFrom<i64>>(&mut self, key: &str, default: T) -> Located<T> {
        self.optional_number(key).unwrap_or_else(|| self.default(default))
    }

    pub fn optional_float(&self, key: &str) -> Option<Located<f64>> {
        let value = self.get(key)?;
        value.as_float().map(|number| Located::written(number, value.position.clone()))
    }

    /// The octets of a string; `None` also for "".
    pub fn nonempty_bytes(&self, key: &str) -> Option<Located<Vec<u8>>> {
        let value = self.get(key)?;
        let bytes = value.as_bytes().filter(|bytes| !bytes.is_empty())?;
        Some(Located::written(bytes.to_vec(), value.position.clone()))
    }

    pub fn optional_text(&mut self, key: &str) -> Option<Located<String>> {
        let value = self.get(key)?;
        self.text_of(value, key)
    }

    /// A string; `None` also for "".
    pub fn nonempty_text(&mut self, key: &str) -> Option<Located<String>> {
        self.optional_text(key).filter(|text| !text.is_empty())
    }

    /// A string that must be there and must not be empty; `None` after an error.
    pub fn required_text(&mut self, key: &str) -> Option<Located<String>> {
        let text = self.optional_text(key)?;
        if text.trim().is_empty() {
            self.error(&text.position, key, format!("parameter '{key}' must not be empty"));
            return None;
        }
        Some(text)
    }

    pub fn text(&mut self, key: &str, default: &str) -> Located<String> {
        self.optional_text(key).unwrap_or_else(|| self.default(default.to_owned()))
    }

    /// The text of a string value; `None` after an error.
    pub fn text_of(&mut self, value: &Value, key: &str) -> Option<Located<String>> {
        value.as_bytes()?;
        match value.as_text() {
            Some(text) => Some(Located::written(text.to_owned(), value.position.clone())),
            None => {
                self.error(&value.position, key, format!("the value of '{key}' is not valid UTF-8"));
                None
            }
        }
    }

    /// The IPv4 address a string value holds; `None` after an error.
    pub fn address_of(&mut self, value: &Value, key: &str) -> Option<Located<Ipv4Addr>> {
        let text = self.text_of(value, key)?;
        match text.parse() {
            Ok(address) => Some(Located::written(address, text.position)),
            Err(_) => {
                let message = format!("invalid parameter {key} : {}, expected an IPv4 address", *text);
                self.error(&text.position, key, message);
                None
            }
        }
    }

    /// Reports a share that is not between 0 and 1.
    pub fn check_share(&mut self, key: &str, share: &Option<Located<f64>>, zero_is_fine: bool) {
        let Some(share) = share else { return };
        let above = **share > 0.0 || (zero_is_fine && **share == 0.0);
        if !above || **share >= 1.0 {
            let shown = **share;
            self.error(
                &share.position,
                key,
                format!("{key}: {shown} is invalid, it must be greater than 0.0 and less than 1.0"),
            );
        }
    }

    /// The default of a key that is not written.
    pub fn default<T>(&self, value: T) -> Located<T> {
        Located::default_at(value, self.map.position.clone())
    }
}

/// `value` in single quotes, shortened.
pub(crate) fn quoted(value: impl Display) -> String {
    let text = value.to_string();
    let shown: String = text.chars().take(100).collect();
    format!("'{shown}'")
}
