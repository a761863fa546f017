//! When a log file is full, and which renames make room (CFG-43).

/// Below this `maxsize` Kea does not rotate.
const MAX_SIZE_OCTETS_LEAST: u64 = 204_800;

/// Rotation of one file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rotation {
    /// A file that would grow beyond this many octets is rotated; below 204,800 there is no rotation.
    pub max_size_octets: u64,
    /// How many rotated files are kept, at least 1.
    pub max_versions: u32,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { max_size_octets: 10_240_000, max_versions: 1 }
    }
}

/// One step of a rotation, in order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// Remove this file if it is there.
    Remove(String),
    /// Rename the first to the second if the first is there.
    Rename(String, String),
}

impl Rotation {
    /// Whether a file of `size` octets is to be rotated before `more` octets are written to it.
    pub fn is_due(&self, size: u64, more: u64) -> bool {
        self.max_size_octets >= MAX_SIZE_OCTETS_LEAST && size > 0 && size + more > self.max_size_octets
    }

    /// The steps that turn `path` into `path.1`, `path.1` into `path.2`, and drop the oldest.
    pub fn steps(&self, path: &str) -> Vec<Step> {
        let mut steps = vec![Step::Remove(format!("{path}.{}", self.max_versions))];
        for version in (1..self.max_versions).rev() {
            steps.push(Step::Rename(format!("{path}.{version}"), format!("{path}.{}", version + 1)));
        }
        steps.push(Step::Rename(path.to_owned(), format!("{path}.1")));
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_version_goes_and_the_others_move_up() {
        let rotation = Rotation { max_size_octets: 204_800, max_versions: 3 };
        let rename = |from: &str, to: &str| Step::Rename(from.into(), to.into());
        assert_eq!(
            rotation.steps("x"),
            [Step::Remove("x.3".into()), rename("x.2", "x.3"), rename("x.1", "x.2"), rename("x", "x.1")]
        );
    }

    #[test]
    fn a_small_maxsize_never_rotates() {
        assert!(!Rotation { max_size_octets: 204_799, max_versions: 1 }.is_due(1 << 40, 1));
        assert!(Rotation { max_size_octets: 204_800, max_versions: 1 }.is_due(204_800, 1));
        assert!(
            !Rotation { max_size_octets: 204_800, max_versions: 1 }.is_due(0, 1 << 40),
            "an empty file stays"
        );
    }
}
