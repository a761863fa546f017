//! The table of counts that is kept: instructions of one unit of each case, and what may differ from them.

use std::fmt;

/// Part by which a count may exceed the one that is kept. The same code gives the same count to some tenths of a
/// percent; what is left is room for a compiler that lays things out a little differently.
pub const TOLERANCE: f64 = 0.03;

/// Part by which the first case of each of [`FLAT`] may exceed the second.
pub const SLOPE: f64 = 0.15;

/// Pairs that differ in the number of leases alone: a large table may not make an exchange longer.
pub const FLAT: &[(&str, &str)] = &[
    ("exchange/new-among-1000000", "exchange/new-among-1000"),
    ("exchange/renew-among-1000000", "exchange/renew-among-1000"),
];

/// Counts by case.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Table(Vec<(String, u64)>);

/// One thing that is wrong with new counts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fault {
    /// A case costs more than it may.
    Dearer {
        /// The case.
        name: String,
        /// Instructions kept.
        kept: u64,
        /// Instructions counted now.
        counted: u64,
    },
    /// A case the table does not have.
    Unknown {
        /// The case.
        name: String,
        /// Instructions counted now.
        counted: u64,
    },
    /// The table has a case that is no more.
    Gone {
        /// The case.
        name: String,
    },
    /// Many leases make an exchange longer.
    Slope {
        /// The case with many.
        name: String,
        /// Its count.
        counted: u64,
        /// The case with few.
        among_few: String,
        /// The count of that.
        few: u64,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dearer { name, kept, counted } => {
                let percent = (*counted as f64 / *kept as f64 - 1.0) * 100.0;
                let allowed = TOLERANCE * 100.0;
                write!(
                    f,
                    "{name}: {counted} instructions, {kept} before: {percent:+.1} %, {allowed:.0} % is allowed"
                )
            }
            Self::Unknown { name, counted } => {
                write!(f, "{name}: {counted} instructions, and none are on record")
            }
            Self::Gone { name } => write!(f, "{name}: on record, but there is no such case"),
            Self::Slope { name, counted, among_few, few } => {
                let ratio = *counted as f64 / *few as f64;
                write!(f, "{name}: {counted} instructions, {ratio:.2} times the {few} of {among_few}")?;
                write!(f, "; {:.2} is allowed", 1.0 + SLOPE)
            }
        }
    }
}

impl Table {
    /// Reads `name count` lines; empty ones and those that begin with `#` say nothing.
    ///
    /// # Errors
    /// The first line that is neither.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut table = Self::default();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (name, count) = line.split_once(' ').ok_or_else(|| line.to_owned())?;
            table.insert(name, count.trim().parse().map_err(|_| line.to_owned())?);
        }
        Ok(table)
    }

    /// The text [`Table::parse`] reads, below `heading`.
    pub fn render(&self, heading: &str) -> String {
        let width = self.0.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        let lines = self.0.iter().map(|(name, count)| format!("{name:width$} {count:>7}\n"));
        heading.lines().map(|line| format!("# {line}\n")).chain(["\n".to_owned()]).chain(lines).collect()
    }

    /// Sets the count of `name`.
    pub fn insert(&mut self, name: &str, count: u64) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some(entry) => entry.1 = count,
            None => self.0.push((name.to_owned(), count)),
        }
    }

    /// The count of `name`.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, count)| *count)
    }

    /// Names and counts in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, count)| (name.as_str(), *count))
    }

    /// What is wrong with `counted` where this table is kept.
    pub fn faults(&self, counted: &Self) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (name, counted) in counted.iter() {
            let name = name.to_owned();
            match self.get(&name) {
                None => faults.push(Fault::Unknown { name, counted }),
                Some(kept) if counted as f64 > kept as f64 * (1.0 + TOLERANCE) => {
                    faults.push(Fault::Dearer { name, kept, counted });
                }
                Some(_) => {}
            }
        }
        let gone = self.iter().filter(|(name, _)| counted.get(name).is_none());
        faults.extend(gone.map(|(name, _)| Fault::Gone { name: name.to_owned() }));
        for (many, few) in FLAT {
            if let (Some(count), Some(few_count)) = (counted.get(many), counted.get(few))
                && count as f64 > few_count as f64 * (1.0 + SLOPE)
            {
                let (name, among_few) = ((*many).to_owned(), (*few).to_owned());
                faults.push(Fault::Slope { name, counted: count, among_few, few: few_count });
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(entries: &[(&str, u64)]) -> Table {
        let mut table = Table::default();
        entries.iter().for_each(|(name, count)| table.insert(name, *count));
        table
    }

    #[test]
    fn only_more_than_the_tolerance_is_a_fault() {
        let kept = table(&[("a", 1000), ("b", 100)]);
        type Row<'a> = (&'a [(&'a str, u64)], &'a [&'a str]);
        let rows: [Row; 5] = [
            (&[("a", 1000), ("b", 100)], &[]),
            (&[("a", 1030), ("b", 1)], &[]),
            (&[("a", 1031), ("b", 100)], &["a: 1031 instructions, 1000 before: +3.1 %, 3 % is allowed"]),
            (&[("a", 1000), ("b", 100), ("c", 5)], &["c: 5 instructions, and none are on record"]),
            (&[("a", 1000)], &["b: on record, but there is no such case"]),
        ];
        for (counted, expected) in rows {
            let faults = kept.faults(&table(counted));
            let texts: Vec<String> = faults.iter().map(Fault::to_string).collect();
            assert_eq!(texts, expected, "{counted:?}");
        }
    }

    #[test]
    fn many_leases_may_cost_a_little_more_than_few() {
        let (many, few) = FLAT[0];
        for (count, faults) in [(1150, 0), (1151, 1)] {
            let counted = table(&[(many, count), (few, 1000)]);
            assert_eq!(counted.clone().faults(&counted).len(), faults, "{count}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let written = table(&[("a", 1), ("longer/name", 22_222)]);
        assert_eq!(Table::parse(&written.render("Heading\nof two lines")), Ok(written));
        for text in ["a", "a b", "a -1"] {
            assert_eq!(Table::parse(text), Err(text.to_owned()));
        }
    }
}
