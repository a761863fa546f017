//! How many datagrams have waited behind the one being decided, on average.
//!
//! Three averages, each of which forgets at its own pace: over about the last 10, 100 and 1000 datagrams. They are
//! what Kea shows as `packet-queue-statistics`, by its arithmetic: each datagram taken moves an average by its part
//! towards what it leaves behind.

/// Averages over about the last 10, 100 and 1000 datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct QueueAverages(pub [f64; 3]);

/// What is kept of an average with each datagram: e to the power of -1/10, -1/100 and -1/1000.
const KEPT: [f64; 3] = [0.904_837_418_035_959_6, 0.990_049_833_749_168, 0.999_000_499_833_375];

impl QueueAverages {
    /// A batch of `taken` datagrams is decided one after the other, and nothing is known of what waits behind it.
    pub fn take_batch(&mut self, taken: usize) {
        for left in (0..taken).rev() {
            for (average, kept) in self.0.iter_mut().zip(KEPT) {
                *average = *average * kept + left as f64 * (1.0 - kept);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_come_to_what_is_left_behind_each_at_its_own_pace() {
        let mut averages = QueueAverages::default();
        averages.take_batch(1);
        assert_eq!(averages, QueueAverages::default(), "nobody waits behind a datagram that comes alone");
        // Batches of three leave one behind on average.
        let mut counts = [0; 3];
        for batches in 1..3000 {
            averages.take_batch(3);
            for (count, average) in counts.iter_mut().zip(averages.0) {
                if average < 0.6 {
                    *count = batches;
                }
            }
        }
        assert!(averages.0.iter().all(|average| (average - 1.0).abs() < 0.15), "{averages:?}");
        assert!(
            counts[0] < 6 && (20..60).contains(&counts[1]) && (200..600).contains(&counts[2]),
            "{counts:?}"
        );
        for _ in 0..10_000 {
            averages.take_batch(1);
        }
        assert!(averages.0.iter().all(|average| *average < 0.001), "{averages:?}");
    }
}
