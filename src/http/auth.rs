//! Basic authentication (ha-protocol 2.8).
//!
//! The header is made once from user and password and compared in time that does not depend on where it
//! differs.

/// Credentials of one direction.
#[derive(Clone, Eq, PartialEq)]
pub struct BasicAuth {
    header: String,
}

impl BasicAuth {
    /// The credentials of `user` (which has no colon; the configuration refuses one) and `password`.
    pub fn new(user: &str, password: &str) -> Self {
        Self { header: format!("Basic {}", base64(format!("{user}:{password}").as_bytes())) }
    }

    /// Value of the `Authorization` header.
    pub fn header(&self) -> &str {
        &self.header
    }

    /// Whether an `Authorization` header presents these credentials. The scheme's letter case is free (RFC
    /// 7617).
    pub fn permits(&self, authorization: Option<&[u8]>) -> bool {
        let Some((scheme, token)) = authorization.and_then(|value| value.split_at_checked(6)) else {
            return false;
        };
        let expected = &self.header.as_bytes()[6..];
        let same_length = token.len() == expected.len();
        let difference = token.iter().zip(expected).fold(0, |difference, (a, b)| difference | (a ^ b));
        scheme.eq_ignore_ascii_case(b"basic ") && same_length && difference == 0
    }
}

impl std::fmt::Debug for BasicAuth {
    /// Never shows the credentials.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BasicAuth(…)")
    }
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0u32, |word, octet| word << 8 | u32::from(*octet)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            if place <= chunk.len() {
                text.push(char::from(ALPHABET[(word >> (18 - 6 * place)) as usize & 63]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads_as_rfc_4648_says() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
            ("\u{ff}", "w78="),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn only_the_right_credentials_are_permitted() {
        let auth = BasicAuth::new("hauser", "secret");
        assert_eq!(auth.header(), "Basic aGF1c2VyOnNlY3JldA==");
        for (header, permitted) in [
            (Some("Basic aGF1c2VyOnNlY3JldA=="), true),
            (Some("basic aGF1c2VyOnNlY3JldA=="), true),
            (Some("Basic aGF1c2VyOnNlY3JldA="), false),
            (Some("Basic AGF1c2VyOnNlY3JldA=="), false),
            (Some("Bearer aGF1c2VyOnNlY3JldA=="), false),
            (Some("Basic "), false),
            (Some(""), false),
            (None, false),
        ] {
            assert_eq!(auth.permits(header.map(str::as_bytes)), permitted, "{header:?}");
        }
        assert!(!format!("{auth:?}").contains("aGF"));
    }
}
