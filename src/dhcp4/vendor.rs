//! Option 125, vendor-identifying options (RFC 3925): which are sent to whom (OPT-33).
//!
//! An enterprise is answered when the query names it in option 124 or 125, or when its configured container is
//! asked for or always sent. Of its sub-options those go that are always sent or, for CableLabs, asked for.

use crate::policy::{ConfiguredOption, OptionSet, VendorOptions};
use crate::wire::Query;
use crate::wire::codes;
use crate::wire::option::{CodeSet, SubOptionWalk};
use crate::wire::reply::{MessageWriter, WriteError};

/// The only enterprise whose option request sub-option is understood, as in Kea.
const ENTERPRISE_CABLELABS: u32 = 4491;
/// Sub-option of CableLabs that lists what the client asks for.
const CABLELABS_REQUEST_LIST: u8 = 1;
/// Octets of sub-options under one enterprise number: the length before them is one octet.
const BLOCK_OCTETS_MAX: usize = 255;

/// Whether option 125 of `configured` is to be written for `query`.
pub(super) fn is_sent(configured: &OptionSet, query: &Query, requested: &CodeSet) -> bool {
    configured.vendors().iter().any(|vendor| answer(vendor, query, requested).is_some())
}

/// Writes option 125, one instance for each enterprise.
///
/// # Errors
/// [`WriteError::TooLong`] when it does not fit.
pub(super) fn write(
    configured: &OptionSet,
    query: &Query,
    requested: &CodeSet,
    writer: &mut MessageWriter,
) -> Result<(), WriteError> {
    for vendor in configured.vendors() {
        let Some(asked) = answer(vendor, query, requested) else { continue };
        let mut block = Block::new(vendor.enterprise);
        for option in vendor.options.iter().filter(|option| is_chosen(option, &asked)) {
            block.add(option, writer)?;
        }
        block.flush(writer)?;
    }
    Ok(())
}

/// The sub-options `query` asks for where `vendor` is to be answered, `None` where it is not.
fn answer(vendor: &VendorOptions, query: &Query, requested: &CodeSet) -> Option<CodeSet> {
    let listed = vendor.container && (vendor.always_send || requested.contains(codes::VIVSO_SUBOPTIONS));
    let named = names_enterprise(query, codes::VIVSO_SUBOPTIONS, vendor.enterprise);
    let class = names_enterprise(query, codes::VIVCO_SUBOPTIONS, vendor.enterprise);
    let asked = match named {
        Some(data) if vendor.enterprise == ENTERPRISE_CABLELABS => SubOptionWalk::new(data)
            .filter(|(code, _)| *code == CABLELABS_REQUEST_LIST)
            .flat_map(|(_, codes)| codes.iter().copied())
            .collect(),
        _ => CodeSet::EMPTY,
    };
    if vendor.never_send {
        return None;
    }
    // A container asked for is sent even when it comes out empty; one that is only named is not.
    let any = vendor.options.iter().any(|option| is_chosen(option, &asked));
    (listed || (named.or(class).is_some() && any)).then_some(asked)
}

fn is_chosen(option: &ConfiguredOption, asked: &CodeSet) -> bool {
    (option.always_send || asked.contains(option.code)) && !option.never_send
}

/// The data of `enterprise` in option `code` of `query`: enterprise number, length, data, once for each.
fn names_enterprise<'q>(query: &'q Query, code: u8, enterprise: u32) -> Option<&'q [u8]> {
    let mut rest = query.option(code)?;
    while let Some((&[a, b, c, d, len], after)) = rest.split_first_chunk::<5>() {
        // A length that runs past the end ends the list with what is there.
        let (data, next) = after.split_at_checked(usize::from(len)).unwrap_or((after, &[]));
        if u32::from_be_bytes([a, b, c, d]) == enterprise {
            return Some(data);
        }
        rest = next;
    }
    None
}

/// Sub-options of one enterprise on their way into option 125.
struct Block {
    octets: [u8; 5 + BLOCK_OCTETS_MAX],
    used: usize,
}

impl Block {
    fn new(enterprise: u32) -> Self {
        let mut octets = [0; 5 + BLOCK_OCTETS_MAX];
        octets[..4].copy_from_slice(&enterprise.to_be_bytes());
        Self { octets, used: 0 }
    }

    /// Adds a sub-option; where it does not fit, a further option 125 of the same enterprise carries it.
    fn add(&mut self, option: &ConfiguredOption, writer: &mut MessageWriter) -> Result<(), WriteError> {
        let parts = option.payload.chunks(BLOCK_OCTETS_MAX - 2);
        let empty: Option<&[u8]> = option.payload.is_empty().then_some(&[]);
        for part in parts.chain(empty) {
            if self.used + 2 + part.len() > BLOCK_OCTETS_MAX {
                self.flush(writer)?;
                self.used = 0;
            }
            let start = 5 + self.used;
            self.octets[start] = option.code;
            // A part has at most 253 octets, so the cast loses nothing and the slices lie inside the block.
            self.octets[start + 1] = part.len() as u8;
            self.octets[start + 2..start + 2 + part.len()].copy_from_slice(part);
            self.used += 2 + part.len();
        }
        Ok(())
    }

    fn flush(&mut self, writer: &mut MessageWriter) -> Result<(), WriteError> {
        // `add` keeps `used` at or below 255.
        self.octets[4] = self.used as u8;
        writer.option(codes::VIVSO_SUBOPTIONS, &self.octets[..5 + self.used])
    }
}
