//! Options of a scope, encoded once at compile time.

/// One configured option, payload already on the wire format (without code and length).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfiguredOption {
    /// Option code, 1..=254.
    pub code: u8,
    /// Sent even when not asked for.
    pub always_send: bool,
    /// Never sent (OPT-20).
    pub never_send: bool,
    /// Payload; longer than 255 octets is split on sending (RFC 3396).
    pub payload: Box<[u8]>,
}

/// Options in ascending code, at most one for each code.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OptionSet {
    options: Vec<ConfiguredOption>,
}

impl OptionSet {
    /// Builds a set; where a code is listed twice the first one counts (OPT-13).
    pub fn new(listed: impl IntoIterator<Item = ConfiguredOption>) -> Self {
        let mut options: Vec<ConfiguredOption> = Vec::new();
        for option in listed {
            if let Err(place) = options.binary_search_by_key(&option.code, |known| known.code) {
                options.insert(place, option);
            }
        }
        Self { options }
    }

    /// The option with `code`.
    pub fn get(&self, code: u8) -> Option<&ConfiguredOption> {
        self.options.binary_search_by_key(&code, |option| option.code).ok().map(|index| &self.options[index])
    }

    /// All options in ascending code.
    pub fn iter(&self) -> impl Iterator<Item = &ConfiguredOption> {
        self.options.iter()
    }
}
