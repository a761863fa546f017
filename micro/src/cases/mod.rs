//! The cases: a name, how much one step does, and the step.

mod exchange;
mod partner;
mod pieces;
mod table;

/// Does the next step; every step has inputs of its own, made beforehand.
pub type Step = Box<dyn FnMut()>;

/// One case.
pub struct Case {
    /// `piece/what`.
    pub name: &'static str,
    /// How many times a step does what the name says.
    pub units: u32,
    /// Steps before anything is measured, until tables and buffers have their size.
    pub warm: u32,
    /// Steps that are measured; there are inputs for these and no more.
    pub steps: u32,
    /// The step.
    pub step: Step,
}

/// Makes cases that share what is costly to make.
pub type Group = fn() -> Vec<Case>;

/// Every group, with the names of its cases in the order they are run in.
pub const GROUPS: &[(&[&str], Group)] = &[
    (pieces::DECODE, pieces::decode),
    (exchange::DECIDE, exchange::decide),
    (pieces::ENCODE, pieces::encode),
    (table::THOUSAND, table::thousand),
    (table::MILLION, table::million),
    (pieces::ROW, pieces::row),
    (pieces::PAGE, pieces::page),
    (pieces::STEER, pieces::steer),
    (exchange::THOUSAND, exchange::thousand),
    (exchange::MILLION, exchange::million),
    (exchange::RELAYED, exchange::relayed),
    (exchange::FORWARDED, exchange::forwarded),
    (partner::PARTNER, partner::partner),
];

/// Names of all cases.
pub fn names() -> impl Iterator<Item = &'static str> {
    GROUPS.iter().flat_map(|(names, _)| names.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_make_the_cases_they_name_and_every_case_runs() {
        let small = |names: &&(&[&str], Group)| !names.0.iter().any(|name| name.ends_with("1000000"));
        for (names, make) in GROUPS.iter().filter(small) {
            let cases = make();
            assert_eq!(cases.iter().map(|case| case.name).collect::<Vec<_>>(), *names);
            for mut case in cases {
                (0..case.warm + case.steps).for_each(|_| (case.step)());
            }
        }
    }
}
