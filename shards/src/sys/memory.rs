//! What the allocator keeps.

/// Gives memory that was freed back to the system. To be called after work that needed much for a short time: the
/// allocator would keep what lies between blocks that are in use.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call takes no memory from us and may be made at any time, by any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_in_use_stays_what_it_was() {
        let blocks: Vec<Vec<u8>> = (0..1000).map(|octet| vec![octet as u8; 3000]).collect();
        let kept: Vec<Vec<u8>> = blocks.into_iter().step_by(2).collect();
        give_back();
        assert!(
            kept.iter().zip((0_usize..).step_by(2)).all(|(block, octet)| *block == vec![octet as u8; 3000])
        );
    }
}
