//! One hash, and the kernel programs that compute it.
