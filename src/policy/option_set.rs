//! Options of a scope, encoded once at compile time.
//!
//! The packet path reads sets and never builds one. Invariants: options are in ascending code, at most one for each
//! code; vendor options are in ascending enterprise number, at most one entry for each.

use crate::wire::option::CodeSet;

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

/// What is configured for option 125 and one enterprise (OPT-32).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VendorOptions {
    /// Enterprise number (RFC 3925).
    pub enterprise: u32,
    /// Whether option 125 itself is configured with this number, so that it can be asked for by its code.
    pub container: bool,
    /// `always-send` of the container: sent to clients that name no enterprise (OPT-33).
    pub always_send: bool,
    /// `never-send` of the container.
    pub never_send: bool,
    /// Sub-options in ascending code, at most one for each.
    pub options: Vec<ConfiguredOption>,
}

/// Options in ascending code, at most one for each code.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OptionSet {
    options: Vec<ConfiguredOption>,
    vendors: Vec<VendorOptions>,
    /// Codes of the options that may be sent, and of those among them that always are.
    sendable: CodeSet,
    always_sent: CodeSet,
}

impl OptionSet {
    /// Builds a set; where a code is listed twice the first one counts (OPT-13).
    pub fn new(listed: impl IntoIterator<Item = ConfiguredOption>) -> Self {
        Self::of(first_of_each(listed), Vec::new())
    }

    fn of(options: Vec<ConfiguredOption>, vendors: Vec<VendorOptions>) -> Self {
        let codes = |wanted: fn(&ConfiguredOption) -> bool| {
            options.iter().filter(|option| wanted(option)).map(|option| option.code).collect()
        };
        let sendable = codes(|option| !option.never_send);
        let always_sent = codes(|option| !option.never_send && option.always_send);
        Self { options, vendors, sendable, always_sent }
    }

    /// Codes of the options that a client gets which asks for `requested`: those, and what is always sent; never
    /// what is never sent.
    pub fn sent(&self, requested: CodeSet) -> CodeSet {
        self.sendable.within(requested).with(self.always_sent)
    }

    /// The same set with options for enterprises; where an enterprise is listed twice its entries are joined.
    #[must_use]
    pub fn with_vendors(mut self, listed: impl IntoIterator<Item = VendorOptions>) -> Self {
        for vendor in listed {
            match self.vendors.binary_search_by_key(&vendor.enterprise, |known| known.enterprise) {
                Ok(place) => self.vendors[place] = merge_vendor(&self.vendors[place], &vendor),
                Err(place) => {
                    let options = first_of_each(vendor.options);
                    self.vendors.insert(place, VendorOptions { options, ..vendor });
                }
            }
        }
        self
    }

    /// The option with `code`.
    pub fn get(&self, code: u8) -> Option<&ConfiguredOption> {
        self.options.binary_search_by_key(&code, |option| option.code).ok().map(|index| &self.options[index])
    }

    /// All options in ascending code.
    pub fn iter(&self) -> impl Iterator<Item = &ConfiguredOption> {
        self.options.iter()
    }

    /// Options for enterprises, sent in option 125 (OPT-33), in ascending number.
    pub fn vendors(&self) -> &[VendorOptions] {
        &self.vendors
    }

    /// This set over `outer`: values of this one win; `always-send` and `never-send` of either count (OPT-20).
    #[must_use]
    pub fn over(&self, outer: &Self) -> Self {
        let mut vendors = self.vendors.clone();
        for vendor in &outer.vendors {
            match vendors.binary_search_by_key(&vendor.enterprise, |known| known.enterprise) {
                Ok(place) => vendors[place] = merge_vendor(&vendors[place], vendor),
                Err(place) => vendors.insert(place, vendor.clone()),
            }
        }
        Self::of(merge(&self.options, &outer.options), vendors)
    }
}

fn first_of_each(listed: impl IntoIterator<Item = ConfiguredOption>) -> Vec<ConfiguredOption> {
    let mut options: Vec<ConfiguredOption> = Vec::new();
    for option in listed {
        if let Err(place) = options.binary_search_by_key(&option.code, |known| known.code) {
            options.insert(place, option);
        }
    }
    options
}

fn merge(inner: &[ConfiguredOption], outer: &[ConfiguredOption]) -> Vec<ConfiguredOption> {
    let mut merged = inner.to_vec();
    for option in outer {
        match merged.binary_search_by_key(&option.code, |known| known.code) {
            Ok(place) => {
                merged[place].always_send |= option.always_send;
                merged[place].never_send |= option.never_send;
            }
            Err(place) => merged.insert(place, option.clone()),
        }
    }
    merged
}

fn merge_vendor(inner: &VendorOptions, outer: &VendorOptions) -> VendorOptions {
    VendorOptions {
        enterprise: inner.enterprise,
        container: inner.container || outer.container,
        always_send: inner.always_send || outer.always_send,
        never_send: inner.never_send || outer.never_send,
        options: merge(&inner.options, &first_of_each(outer.options.iter().cloned())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_set() -> impl Strategy<Value = OptionSet> {
        let option = (1u8..8, any::<bool>(), any::<bool>(), prop::collection::vec(any::<u8>(), 0..3))
            .prop_map(|(code, always_send, never_send, payload)| ConfiguredOption {
                code,
                always_send,
                never_send,
                payload: payload.into(),
            });
        let options = prop::collection::vec(option, 0..6).boxed();
        let vendor =
            (1u32..4, any::<bool>(), options.clone()).prop_map(|(enterprise, container, options)| {
                VendorOptions { enterprise, container, always_send: false, never_send: false, options }
            });
        (options, prop::collection::vec(vendor, 0..3))
            .prop_map(|(options, vendors)| OptionSet::new(options).with_vendors(vendors))
    }

    proptest! {
        #[test]
        fn merged_set_takes_inner_values_and_flags_of_both(inner in any_set(), outer in any_set()) {
            let merged = inner.over(&outer);
            for code in 0..=255 {
                let (a, b) = (inner.get(code), outer.get(code));
                let expected = a.or(b).map(|winner| &winner.payload);
                prop_assert_eq!(expected, merged.get(code).map(|option| &option.payload));
                let flag = |option: Option<&ConfiguredOption>| option.is_some_and(|option| option.never_send);
                prop_assert_eq!(flag(a) || flag(b), flag(merged.get(code)));
                let flag = |option: Option<&ConfiguredOption>| option.is_some_and(|option| option.always_send);
                prop_assert_eq!(flag(a) || flag(b), flag(merged.get(code)));
            }
        }

        #[test]
        fn what_is_sent_follows_request_and_flags(set in any_set(), requested in prop::collection::vec(1u8..8, 0..4)) {
            let sent = set.sent(requested.iter().copied().collect());
            for code in 0..=255 {
                let expected = set.get(code).is_some_and(|option| {
                    !option.never_send && (option.always_send || requested.contains(&code))
                });
                prop_assert_eq!(sent.contains(code), expected, "{}", code);
            }
        }

        #[test]
        fn merging_is_associative_with_the_empty_set_as_neutral(a in any_set(), b in any_set(), c in any_set()) {
            prop_assert_eq!(a.over(&b).over(&c), a.over(&b.over(&c)));
            prop_assert_eq!(a.over(&OptionSet::default()), a.clone());
            prop_assert_eq!(OptionSet::default().over(&a), a);
        }

        #[test]
        fn order_is_ascending_after_every_operation(a in any_set(), b in any_set()) {
            let merged = a.over(&b);
            let codes: Vec<u8> = merged.iter().map(|option| option.code).collect();
            prop_assert!(codes.is_sorted_by(|left, right| left < right));
            prop_assert!(merged.vendors().is_sorted_by(|left, right| left.enterprise < right.enterprise));
        }
    }
}
