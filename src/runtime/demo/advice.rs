//! What to do where a machine does not let two servers run.

use std::fs;

/// Locked memory for both servers of the demo, KiB: 26 executors with a ring and buffers each.
const LOCKED_KIB: u64 = 8192;

/// Advice for somebody whose server ended with these words; none where they speak for themselves.
pub(super) fn lines(said: &str) -> Vec<String> {
    if !said.contains("locked memory") {
        return Vec::new();
    }
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let limit = match locked_limit_kib(&limits) {
        Some(kib) => format!("is {kib} KiB"),
        None => "is too small".to_owned(),
    };
    vec![
        format!("The demo runs two servers, which lock up to {LOCKED_KIB} KiB of memory together;"),
        format!("the limit of this user {limit}, other programs of this user included. To raise it:"),
        format!("  for one shell, as root:   prlimit --pid <its process id> --memlock={}", LOCKED_KIB << 10),
        format!(
            "  for good:                 a line \"* - memlock {LOCKED_KIB}\" in /etc/security/limits.conf"
        ),
    ]
}

/// The soft limit of locked memory in the text of `/proc/self/limits`, KiB; `None` without a limit.
fn locked_limit_kib(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|octets| octets >> 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_given_for_what_the_words_do_not_say() {
        assert_eq!(
            lines("io_uring is forbidden here; set kernel.io_uring_disabled to 0"),
            Vec::<String>::new()
        );
        let lines = lines("executor shard-0: not enough locked memory");
        assert!(lines.len() == 4 && lines[2].contains("--memlock=8388608"), "{lines:?}");
    }

    #[test]
    fn the_limit_is_read_as_the_kernel_writes_it() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max processes             1000                 1000                 processes \n\
                    Max locked memory         65536                8388608              bytes     \n";
        assert_eq!(locked_limit_kib(text), Some(64));
        assert_eq!(
            locked_limit_kib("Max locked memory         unlimited            unlimited   bytes"),
            None
        );
        assert_eq!(locked_limit_kib(""), None);
    }
}
