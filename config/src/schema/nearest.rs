//! The known key that an unknown one was probably meant to be.

use super::{Table, Type};

/// The key of `table` nearest to `key`, if it is near enough to be a slip.
pub fn nearest(table: &Table, key: &str) -> Option<&'static str> {
    nearest_of(table.rows().map(|row| row.key), key)
}

/// The name among `names` nearest to `name`, if it is near enough to be a slip.
pub fn nearest_of<'a>(names: impl Iterator<Item = &'a str>, name: &str) -> Option<&'a str> {
    let folded = fold(name);
    let allowed = (folded.chars().count() / 4).clamp(1, 4);
    names
        .map(|known| (distance(&folded, &fold(known), allowed), known))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// The first map below `root` that has `key`, for a key that is known but stands in the wrong place.
pub fn home_of(root: &'static Table, key: &str) -> Option<&'static Table> {
    let inner = root.rows().filter_map(|row| match row.kind {
        Type::Map(table) | Type::Maps(table) => Some(table),
        _ => None,
    });
    if root.row(key).is_some() {
        return Some(root);
    }
    inner.into_iter().find_map(|table| home_of(table, key))
}

/// Case and the kind of dash are the commonest slips and cost nothing.
fn fold(key: &str) -> String {
    key.to_ascii_lowercase().replace(['_', ' '], "-")
}

/// Edits between two keys, a swap of neighbours counting as one. Keys that differ in length by more than
/// `limit` are not compared, so a long key from a hostile file costs nothing.
fn distance(one: &str, other: &str, limit: usize) -> usize {
    let one: Vec<char> = one.chars().collect();
    let other: Vec<char> = other.chars().collect();
    if one.len().abs_diff(other.len()) > limit {
        return usize::MAX;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=other.len()).collect();
    for (row, &left) in one.iter().enumerate() {
        let mut line = vec![row + 1];
        for (column, &right) in other.iter().enumerate() {
            let mut best = above[column] + usize::from(left != right);
            best = best.min(above[column + 1] + 1).min(line[column] + 1);
            if row > 0 && column > 0 && left == other[column - 1] && one[row - 1] == right {
                best = best.min(before[column - 1] + 1);
            }
            line.push(best);
        }
        before = std::mem::replace(&mut above, line);
    }
    above[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::dhcp4::DHCP4;

    #[test]
    fn a_slip_finds_its_key_and_a_stranger_none() {
        let rows = [
            ("valid-lifetme", Some("valid-lifetime")),
            ("valid_lifetime", Some("valid-lifetime")),
            ("Valid-Lifetime", Some("valid-lifetime")),
            ("subent4", Some("subnet4")),
            ("subnets4", Some("subnet4")),
            ("renew-timers", Some("renew-timer")),
            ("bananas", None),
            ("", None),
        ];
        for (key, expected) in rows {
            assert_eq!(nearest(&DHCP4, key), expected, "{key}");
        }
    }
}
